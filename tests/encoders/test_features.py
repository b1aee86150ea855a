"""Tideos and frames become features, on a tiny CLIP that is built here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tideo.encoders import features as extract
from tideo.encoders.dual import DualEncoder, load_encoder
from tideo.encoders.features import (
    caption_memory,
    frame_features,
    open_features,
    read_features,
    sampled,
    text_vectors,
    tideo_features,
)
from tideo.loading import Loading
from tideo.types import Features, Frames, TextFrame, Tideo, UserError
from tiny_encoders import save_tiny_clip

RED = TextFrame(main="a man in the red kitchen", foreground="a cup", background="the kitchen")
DOG = TextFrame(main="a dog in the garden")
CAT = TextFrame(main="a cat", foreground="a cup")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> DualEncoder:
    return load_encoder(str(save_tiny_clip(tmp_path_factory.mktemp("clip"))))


@pytest.fixture
def encoded(clip: DualEncoder, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that the encoder really encodes, in order."""
    texts: list[str] = []
    encode = clip.encode_text

    def recording(batch: list[str]) -> np.ndarray:
        texts.extend(batch)
        return encode(batch)

    monkeypatch.setattr(clip, "encode_text", recording)
    return texts


def tideo(*frames: TextFrame, name: str = "t") -> Tideo:
    return Tideo(id=name, frames=frames, summary="")


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def test_a_textual_frame_is_the_mean_of_its_unit_captions(clip: DualEncoder) -> None:
    (features,) = tideo_features([tideo(RED, DOG)], clip)
    captions = clip.encode_text([*RED.captions, *DOG.captions])
    expected = [unit(captions[:3].mean(axis=0)), captions[3]]
    np.testing.assert_allclose(features.values_TD, expected, atol=1e-6)
    assert (features.modality, features.encoder, features.pts_s_T) == ("text", clip.id, None)


def test_frames_become_image_features_at_their_times(clip: DualEncoder) -> None:
    rgb_THWC = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    frames = Frames(rgb_THWC=rgb_THWC, pts_s_T=np.array([0.0, 0.5, 2.0]), video_id="v")
    features = frame_features(frames, clip)
    np.testing.assert_array_equal(features.values_TD, clip.encode_images(rgb_THWC))
    np.testing.assert_array_equal(features.pts_s_T, frames.pts_s_T)
    assert (features.modality, features.encoder) == ("image", clip.id)


@pytest.mark.parametrize(
    ("num_available", "num", "expected"),
    [
        (5, 10, [0, 1, 2, 3, 4]),
        (10, 10, list(range(10))),
        (15, 10, [0, 1, 3, 4, 6, 7, 9, 10, 12, 13]),
        (11, 10, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (7, 1, [0]),
        (7, 3, [0, 2, 4]),
    ],
)
def test_topa_s_rule_of_sampling(num_available: int, num: int, expected: list[int]) -> None:
    assert list(sampled(range(num_available), num)) == expected


def test_a_long_tideo_is_sampled_and_a_short_one_stays_short(clip: DualEncoder, encoded: list[str]) -> None:
    words = ["man", "woman", "dog", "cat", "kettle"]
    long = tideo(*(TextFrame(main=word) for word in words))
    features, short = tideo_features([long, tideo(DOG)], clip, num_frames=3)
    assert sorted(encoded) == ["a dog in the garden", "cat", "man", "woman"], (
        "what no frame needs is not encoded"
    )
    np.testing.assert_allclose(features.values_TD, clip.encode_text(["man", "woman", "cat"]), atol=1e-6)
    assert len(short) == 1


def test_each_caption_is_encoded_once(clip: DualEncoder, encoded: list[str]) -> None:
    corpus = [tideo(RED, CAT), tideo(CAT, RED, DOG)]
    list(tideo_features(corpus, clip))
    assert sorted(encoded) == sorted({*RED.captions, *CAT.captions, *DOG.captions})


def test_the_cache_serves_later_runs(clip: DualEncoder, encoded: list[str], tmp_path: Path) -> None:
    (cold,) = tideo_features([tideo(RED, CAT)], clip, cache_dir=tmp_path)
    encoded.clear()
    warm, more = tideo_features([tideo(RED, CAT), tideo(CAT, DOG)], clip, cache_dir=tmp_path)
    assert encoded == ["a dog in the garden"]
    np.testing.assert_array_equal(cold.values_TD, warm.values_TD)
    (exact, _) = tideo_features([tideo(RED, CAT), tideo(CAT, DOG)], clip)
    np.testing.assert_allclose(warm.values_TD, exact.values_TD, atol=5e-4)  # float16
    np.testing.assert_allclose(np.linalg.norm(warm.values_TD, axis=1), 1, atol=1e-6)
    assert len(more) == 2


def test_the_cache_keeps_encoders_and_dtypes_apart(clip: DualEncoder, tmp_path: Path) -> None:
    other = load_encoder(str(save_tiny_clip(tmp_path / "other", seed=5)))
    half = load_encoder(str(tmp_path / "other"), loading=Loading(dtype="bf16"))
    for encoder in (clip, other, half):
        vector = text_vectors(["a dog"], encoder, cache_dir=tmp_path / "cache")("a dog")
        np.testing.assert_allclose(vector, encoder.encode_text(["a dog"])[0], atol=5e-4)
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_a_killed_encoding_continues(
    clip: DualEncoder, encoded: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "CAPTIONS_PER_SHARD", 2)
    texts = ["a dog", "a cat", "a man", "a cup", "a kettle"]
    recording = clip.encode_text

    def killed(batch: list[str]) -> np.ndarray:
        if "a man" in batch:
            raise KeyboardInterrupt
        return recording(batch)

    monkeypatch.setattr(clip, "encode_text", killed)
    with pytest.raises(KeyboardInterrupt):
        text_vectors(texts, clip, cache_dir=tmp_path)
    assert encoded == ["a dog", "a cat"]
    monkeypatch.setattr(clip, "encode_text", recording)
    vector_of = text_vectors(texts, clip, cache_dir=tmp_path)
    assert encoded == texts
    expected = recording(texts)
    np.testing.assert_allclose([vector_of(text) for text in texts], expected, atol=5e-4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (tideo(name="empty"), "tideo empty: every Tideo needs a frame, and every frame a caption"),
        (tideo(DOG, TextFrame(main=""), name="mute"), "tideo mute: every Tideo needs a frame"),
    ],
)
def test_a_tideo_without_features_is_an_error_at_once(clip: DualEncoder, wrong: Tideo, message: str) -> None:
    with pytest.raises(UserError, match=message):
        tideo_features([tideo(DOG), wrong], clip)


def test_no_frame_a_tideo_is_an_error(clip: DualEncoder) -> None:
    with pytest.raises(UserError, match="num_frames must be at least 1, not 0"):
        tideo_features([tideo(DOG)], clip, num_frames=0)


def test_the_memory_holds_the_distinct_captions(clip: DualEncoder, tmp_path: Path) -> None:
    memory = caption_memory([tideo(RED, CAT), tideo(CAT, DOG)], clip, cache_dir=tmp_path)
    distinct = [*RED.captions, "a cat", *DOG.captions]  # "a cup" came with RED
    assert memory.values_MD.dtype == torch.float16
    np.testing.assert_allclose(memory.values_MD.float(), clip.encode_text(distinct), atol=5e-4)
    assert (memory.encoder, memory.threshold) == (clip.id, None)


def test_a_memory_that_is_too_large_is_thinned_evenly(clip: DualEncoder) -> None:
    words = ["man", "woman", "dog", "cat", "kettle", "cup"]
    corpus = [tideo(*(TextFrame(main=word) for word in words))]
    memory = caption_memory(corpus, clip, max_captions=3, dtype="float32")
    np.testing.assert_allclose(memory.values_MD, clip.encode_text(["man", "dog", "kettle"]), atol=1e-6)


def image_features(num: int, encoder: str, seed: int = 0) -> Features:
    values = np.random.default_rng(seed).standard_normal((num, 24)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return Features(values_TD=values, pts_s_T=np.arange(num) / 3, modality="image", encoder=encoder)


def test_features_come_back_from_their_store(clip: DualEncoder, tmp_path: Path) -> None:
    items = {"v1": image_features(3, clip.id), "v2": image_features(5, clip.id, seed=1)}
    values = {name: item.values_TD for name, item in items.items()}
    times = {name: item.pts_s_T for name, item in items.items() if item.pts_s_T is not None}
    open_features(tmp_path, clip, modality="image").write(values, pts_s=times)
    store = open_features(tmp_path, clip, modality="image")
    for name, written in items.items():
        read = read_features(store, name)
        np.testing.assert_allclose(read.values_TD, written.values_TD, atol=5e-4)
        np.testing.assert_allclose(np.linalg.norm(read.values_TD, axis=1), 1, atol=1e-6)
        np.testing.assert_array_equal(read.pts_s_T, written.pts_s_T)
        assert (read.modality, read.encoder) == ("image", clip.id)
    with pytest.raises(UserError, match="holds no features of 'v3': encode it first"):
        read_features(store, "v3")
    with pytest.raises(UserError, match="use another directory"):
        open_features(tmp_path, clip, modality="text")
