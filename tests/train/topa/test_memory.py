"""Texts moved onto the memory before training, as image features will be at inference."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tideo.encoders.dual import load_encoder
from tideo.encoders.features import unit_rows
from tideo.encoders.memory import Memory, project
from tideo.processes import Processes
from tideo.train.topa.config import PrealignConfig, PrealignTraining
from tideo.train.topa.features import StoredFeatures, fill_store
from tideo.train.topa.memory import caption_rows, memory_rows, projected_texts
from tideo.types import TextFrame, Tideo, UserError
from tiny import save_clip

THREE = [
    np.array(rows, dtype=np.float32) for rows in ([[1, 0, 0], [0, 1, 0]], [[0.9, 0.1, 0]], [[0, 0.2, 1]])
]


@pytest.fixture
def three(tmp_path: Path) -> StoredFeatures:
    return stored({str(i): unit_rows(rows) for i, rows in enumerate(THREE)}, tmp_path / "three")


def stored(rows: dict[str, np.ndarray], folder: Path) -> StoredFeatures:
    dim = next(iter(rows.values())).shape[1]
    about = {"encoder": "e", "modality": "text"}
    store = fill_store(folder, rows, lambda some: some, dim=dim, about=about, shard=2, what="storing")
    return StoredFeatures(store, list(rows))


def test_a_tideo_is_moved_onto_the_others_only(three: StoredFeatures, tmp_path: Path) -> None:
    moved = projected_texts(
        three, num_rows=100, temperature=1000.0, noise_std=0.0, seed=0, folder=tmp_path / "moved"
    )
    # The nearest row of another Tideo takes all the weight.
    np.testing.assert_allclose(moved[1].values_TD, three[0].values_TD[:1], atol=1e-3)
    np.testing.assert_allclose(moved[0].values_TD[0], three[1].values_TD[0], atol=1e-3)
    assert all(np.allclose(np.linalg.norm(m.values_TD, axis=1), 1, atol=1e-5) for m in moved)


def test_the_weights_are_those_of_the_projection(three: StoredFeatures, tmp_path: Path) -> None:
    others = torch.from_numpy(np.concatenate([three[1].values_TD, three[2].values_TD]))
    expected = project(three[0], Memory(values_MD=others, encoder="e"), temperature=7.0)
    moved = projected_texts(three, num_rows=100, temperature=7.0, noise_std=0.0, seed=0, folder=tmp_path)[0]
    np.testing.assert_allclose(moved.values_TD, expected.values_TD, atol=1e-3)


def test_noise_is_drawn_from_the_seed_whoever_projects(
    three: StoredFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def once(seed: int, name: str) -> list[np.ndarray]:
        moved = projected_texts(
            three, num_rows=100, temperature=5.0, noise_std=0.3, seed=seed, folder=tmp_path / name
        )
        return [features.values_TD for features in moved]

    whole = once(1, "a")
    np.testing.assert_array_equal(whole[0], once(1, "b")[0])
    assert not np.allclose(whole[0], once(2, "c")[0])
    monkeypatch.setattr(Processes, "wait", lambda self: None)
    monkeypatch.setattr("tideo.train.topa.memory.PROJECTED", 1)
    with monkeypatch.context() as second:
        second.setenv("WORLD_SIZE", "2")
        second.setenv("RANK", "1")
        with pytest.raises(UserError, match="holds no features of '0'"):
            once(1, "d")  # its share is Tideo 1
    both = once(1, "d")
    assert all(np.array_equal(x, y) for x, y in zip(whole, both, strict=True))


@pytest.mark.parametrize("num_rows", [2, 3, 4, 100])
def test_the_memory_has_evenly_spaced_rows(num_rows: int, three: StoredFeatures, tmp_path: Path) -> None:
    every = np.concatenate([features.values_TD for features in three])
    num, blocks = memory_rows("frames", three, num_rows=num_rows)
    rows = np.concatenate(list(blocks))
    assert num == len(rows) == min(num_rows, 4)
    np.testing.assert_array_equal(rows, every[[j * 4 // num for j in range(num)]])


def test_a_memory_of_captions_is_shared_out_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder(str(save_clip(tmp_path / "clip")))
    frames = tuple(TextFrame(main=f"a man {i // 2}") for i in range(20))
    tideos = [Tideo(id="t", frames=frames, summary="")]
    monkeypatch.setattr("tideo.train.topa.memory.CAPTIONS", 3)
    rows = caption_rows(tideos, encoder, num_rows=8, folder=tmp_path / "store")
    num, blocks = memory_rows("captions", rows, num_rows=8)
    values = np.concatenate(list(blocks))
    expected = encoder.encode_text([f"a man {j * 10 // 8}" for j in range(8)])
    assert num == 8
    np.testing.assert_allclose(values, expected, atol=1e-3)


def test_a_share_of_moved_texts_needs_a_memory_of_frames() -> None:
    plain = PrealignConfig(llm="l", encoder="e", tideos="t", train=PrealignTraining(steps=1))
    with pytest.raises(UserError, match=r"projected=0\.5 with memory=captions"):
        replace(plain, projected=0.5)
    with pytest.raises(UserError, match="from 0 to 1"):
        replace(plain, projected=2.0, memory="frames")
