"""Cross-modal projection, against the published formula written out in float64."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tideo.device import has_bfloat16
from tideo.encoders import memory as memory_module
from tideo.encoders.familiarity import calibrated, familiarity, video_familiarity
from tideo.encoders.memory import CHUNK, Memory, project, write_memory
from tideo.types import Features, UserError

BFLOAT16 = has_bfloat16(torch.device("cpu"))


def unit_rows(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def cone(num: int, *, dim: int = 64, seed: int = 0) -> np.ndarray:
    """Unit rows that share a direction, as the vectors of CLIP do."""
    rng = np.random.default_rng(seed)
    shared = np.random.default_rng(99).standard_normal(dim)
    return unit_rows(rng.standard_normal((num, dim)) + 0.7 * shared)


def features(num: int, *, dim: int = 64, seed: int = 1, encoder: str = "clip") -> Features:
    return Features(
        values_TD=cone(num, dim=dim, seed=seed), pts_s_T=np.arange(num) / 2, modality="image", encoder=encoder
    )


def memory(num: int, *, dim: int = 64, dtype: torch.dtype = torch.float32) -> Memory:
    return Memory(values_MD=torch.from_numpy(cone(num, dim=dim)).to(dtype), encoder="clip")


def published(query_QD: np.ndarray, values_MD: np.ndarray, *, temperature: float = 100.0) -> np.ndarray:
    """softmax(100 · q · Mᵀ) · M, normalised, with the whole matrix, in float64."""
    scores_QM = temperature * (query_QD.astype(np.float64) @ values_MD.astype(np.float64).T)
    weights_QM = np.exp(scores_QM - scores_QM.max(axis=1, keepdims=True))
    out_QD = weights_QM / weights_QM.sum(axis=1, keepdims=True) @ values_MD.astype(np.float64)
    return out_QD / np.linalg.norm(out_QD, axis=1, keepdims=True)


def test_two_captions_by_hand() -> None:
    """cos 0.6 and 0.8 at temperature 5 weigh 1 : e."""
    pair = Memory(values_MD=torch.eye(2), encoder="clip")
    frame = Features(
        values_TD=np.array([[0.6, 0.8]], np.float32), pts_s_T=None, modality="image", encoder="clip"
    )
    expected = np.array([1, np.e]) / np.hypot(1, np.e)
    np.testing.assert_allclose(project(frame, pair, temperature=5).values_TD[0], expected, rtol=1e-6)


@given(
    num_captions=st.integers(1, 3 * CHUNK + 1),
    num_frames=st.integers(0, 40),
    temperature=st.floats(0.01, 1e4),
)
@settings(max_examples=25)
def test_any_size_and_temperature_is_exact(num_captions: int, num_frames: int, temperature: float) -> None:
    frames, captions = features(num_frames, dim=16), memory(num_captions, dim=16)
    expected = published(frames.values_TD, captions.values_MD.numpy(), temperature=temperature)
    projected = project(frames, captions, temperature=temperature).values_TD
    # float32 scores are temperature × 1e-7 off, and so, relatively, are the weights
    np.testing.assert_allclose(projected, expected, atol=1e-6 + 3e-7 * temperature)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-9), (torch.float16, 1e-6), (torch.bfloat16, 1e-4)],
    ids=["float32", "float16", "bfloat16"],
)
@pytest.mark.parametrize("num_frames", [1, 10, 33])
def test_dtypes_stay_within_what_the_docs_say(dtype: torch.dtype, tolerance: float, num_frames: int) -> None:
    frames = features(num_frames, dim=768)
    expected = published(frames.values_TD, cone(4 * CHUNK + 5, dim=768))
    projected = project(frames, memory(4 * CHUNK + 5, dim=768, dtype=dtype)).values_TD
    assert 1 - (projected * expected).sum(axis=1).min() < tolerance + 2e-7


@pytest.mark.parametrize("rising", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_the_best_caption_may_come_first_or_last(rising: bool, dtype: torch.dtype) -> None:
    """The running maximum rises in every chunk, or in none."""
    frames, captions = features(1, dim=256), cone(8 * CHUNK, dim=256)
    order = np.argsort(captions @ frames.values_TD[0])
    captions = captions[order if rising else order[::-1]]
    sorted_memory = Memory(values_MD=torch.from_numpy(captions.copy()).to(dtype), encoder="clip")
    expected = published(frames.values_TD, captions)
    assert 1 - (project(frames, sorted_memory).values_TD * expected).sum() < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_captions_opposite_to_the_frame_still_give_their_mean(dtype: torch.dtype) -> None:
    """All cosines near -1: without a running maximum every weight would underflow to 0."""
    frames = features(2, dim=32)
    opposite = Memory(values_MD=-torch.from_numpy(cone(3000, dim=32)).to(dtype), encoder="clip")
    expected = published(frames.values_TD, -cone(3000, dim=32))
    projected = project(frames, opposite).values_TD
    assert 1 - (projected * expected).sum(axis=1).min() < 1e-4


def test_without_onednn_or_bfloat16_instructions_the_result_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames, exact, half = features(5), memory(3000), memory(3000, dtype=torch.bfloat16)
    expected = project(frames, exact).values_TD
    monkeypatch.setattr(memory_module, "_has_onednn", lambda device: False)
    np.testing.assert_allclose(project(frames, exact).values_TD, expected, atol=1e-5)
    monkeypatch.setattr(memory_module, "has_bfloat16", lambda device: False)
    assert (project(frames, half).values_TD * expected).sum(axis=1).min() > 1 - 1e-4


def test_projected_features_keep_their_times_and_say_so() -> None:
    frames = features(4)
    projected = project(frames, memory(50))
    assert projected.modality == "projected"
    assert projected.encoder == "clip"
    assert projected.pts_s_T is frames.pts_s_T
    np.testing.assert_allclose(np.linalg.norm(projected.values_TD, axis=1), 1, atol=1e-6)
    assert frames.modality == "image", "the input stays as it was"


def test_a_memory_of_one_caption_is_all_there_is() -> None:
    only = memory(1)
    np.testing.assert_allclose(project(features(3), only).values_TD, only.values_MD.expand(3, -1), atol=1e-6)


# --- top k ---


@pytest.mark.parametrize("k", [1, 7, CHUNK + 3, 2 * CHUNK + 9])
def test_top_k_is_the_softmax_over_the_k_nearest(k: int) -> None:
    frames, captions = features(6), memory(2 * CHUNK + 9)
    values = captions.values_MD.numpy()
    for query, row in zip(frames.values_TD, project(frames, captions, top_k=k).values_TD, strict=True):
        nearest = values[np.argsort(values @ query)[::-1][:k]]
        np.testing.assert_allclose(row, published(query[None], nearest)[0], atol=1e-5)


def test_top_k_of_all_is_exact() -> None:
    frames, captions = features(3), memory(500)
    np.testing.assert_allclose(
        project(frames, captions, top_k=500).values_TD, project(frames, captions).values_TD, atol=1e-5
    )


# --- familiarity ---


def test_familiarity_is_the_cosine_with_the_projection() -> None:
    frames, captions = features(5), memory(2 * CHUNK + 1)
    expected = (frames.values_TD * project(frames, captions, temperature=30).values_TD).sum(axis=1)
    np.testing.assert_allclose(familiarity(frames, captions, temperature=30), expected, atol=1e-6)
    assert video_familiarity(frames, captions, temperature=30) == pytest.approx(np.median(expected), abs=1e-6)


def test_a_calibrated_memory_knows_what_it_has_seen(tmp_path: Path) -> None:
    held_in = [features(8, seed=seed) for seed in range(10, 60)]
    captions = calibrated(memory(2000), held_in, percentile=10)
    captions.save(tmp_path / "memory.safetensors")
    captions = Memory.load(tmp_path / "memory.safetensors")
    assert captions.threshold is not None
    assert sum(video_familiarity(video, captions) < captions.threshold for video in held_in) == 5
    unlike = Features(values_TD=-cone(8, seed=3), pts_s_T=None, modality="image", encoder="clip")
    assert video_familiarity(unlike, captions) < captions.threshold


def test_familiarity_needs_frames() -> None:
    with pytest.raises(UserError, match="no frame to compare"):
        video_familiarity(features(0), memory(5))
    with pytest.raises(UserError, match="a threshold needs the features of at least one video"):
        calibrated(memory(5), [])


# --- the file ---


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_memory_comes_back_from_its_file(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "deep" / "memory.safetensors"
    saved = memory(20, dtype=memory_module.DTYPES[dtype])
    saved.save(path)
    loaded = Memory.load(path)
    assert torch.equal(loaded.values_MD, saved.values_MD)
    assert (loaded.encoder, loaded.threshold, len(loaded)) == ("clip", None, 20)
    assert Memory.load(path, dtype="float32").values_MD.dtype == torch.float32
    np.testing.assert_allclose(project(features(2), loaded).values_TD, project(features(2), saved).values_TD)


def test_what_is_no_memory_is_an_error(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "memory.safetensors"
    with pytest.raises(UserError, match="is not a memory of caption features"):
        Memory.load(path)
    path.write_bytes(b"text")
    with pytest.raises(UserError, match="is not a memory of caption features"):
        Memory.load(path)
    save_file({"values": torch.eye(3)}, path)
    with pytest.raises(UserError, match="is not a memory of caption features"):
        Memory.load(path)
    memory(3).save(path)
    with pytest.raises(UserError, match="unknown memory dtype 'int8'; expected one of float32, float16"):
        Memory.load(path, dtype="int8")


def test_other_encoders_do_not_fit() -> None:
    with pytest.raises(UserError, match=r"features of siglip \(width 64\) do not fit a memory of clip"):
        project(features(2, encoder="siglip"), memory(5))
    with pytest.raises(UserError, match=r"features of clip \(width 32\) do not fit .* \(width 64\)"):
        familiarity(features(2, dim=32), memory(5))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_is_positive(temperature: float) -> None:
    with pytest.raises(UserError, match="temperature must be a finite number above 0"):
        project(features(2), memory(5), temperature=temperature)


@pytest.mark.parametrize("top_k", [0, 6, -1])
def test_top_k_is_within_the_memory(top_k: int) -> None:
    with pytest.raises(UserError, match=rf"top_k must be within 1\.\.5, the size of the memory, not {top_k}"):
        project(features(2), memory(5), top_k=top_k)


def test_a_memory_is_a_matrix_of_captions() -> None:
    with pytest.raises(UserError, match="needs at least one caption"):
        Memory(values_MD=torch.empty(0, 4), encoder="clip")
    with pytest.raises(ValueError, match=r"must be float \[M, D\], not torch.int64 \[3\]"):
        Memory(values_MD=torch.arange(3), encoder="clip")


@pytest.mark.slow
def test_projection_makes_no_second_copy_of_the_memory() -> None:
    """92 MB of memory, within 30 MB; the full matrix would take 19 MB, three times."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("measures the peak of resident memory through /proc")
    captions, frames = Memory(values_MD=torch.rand(30_000, 768), encoder="clip"), features(160, dim=768)
    project(features(160, dim=768), memory(2000, dim=768))  # libraries and their buffers

    def kilobytes(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name))

    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = kilobytes("VmRSS")
    project(frames, captions)
    assert kilobytes("VmHWM") - before < 30_000


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_blocks_make_the_file_that_safetensors_writes(dtype: torch.dtype, tmp_path: Path) -> None:
    values = torch.randn(5, 3).to(dtype)
    write_memory(tmp_path / "a", values.split(2), shape=(5, 3), dtype=dtype, encoder="e", threshold=0.25)
    about = {"encoder": "e", "num_captions": 5, "threshold": 0.25}
    save_file({"values": values}, tmp_path / "b", metadata={"tideo_memory": json.dumps(about)})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    loaded = Memory.load(tmp_path / "a")
    assert torch.equal(loaded.values_MD, values)
    assert loaded.threshold == 0.25
