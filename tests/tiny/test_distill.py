"""Feature distillation: a LLaVA with the language model of a text-only model learns to see as that does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from tideo.bundled import ASSETS
from tideo.dollhouse.render import draw_frame
from tideo.models.grid.settings import GridSettings
from tideo.models.load import load_model
from tideo.models.topa.model import ZeroShot
from tideo.models.topa.prefix_lm import PrefixLM
from tideo.tiny.distill import Distillation, DistillConfig, DistillExamples, distill, frame_vectors
from tideo.tiny.grid_episodes import grids_with_frames
from tideo.tiny.llava import tiny_llava
from tideo.train.grid.config import FinetuneConfig, GridTraining
from tideo.train.grid.examples import Chat
from tideo.train.grid.finetune import finetune
from tideo.train.grid.trainer import GridTrainer
from tideo.types import Frames, UserError, Video

GRID = GridSettings(rows=2, cols=2, image_size=96, prompt_style="plain", form="text", intro="")
TRAINING = GridTraining(steps=2, batch=2, lr=1e-3, bf16=False, save_steps=1, log_steps=1)
CONFIG = DistillConfig(num=3, grid=GRID, train=TRAINING)


def llava(**changes: Any) -> tuple[Any, Any]:
    plain = {
        "clip": ASSETS / "dollhouse-clip",
        "llm": ASSETS / "dollhouse-topa",
        "image_size": 96,
        "cells": (2, 2),
    }
    return tiny_llava(**plain | changes)


@pytest.fixture(scope="module")
def teacher() -> ZeroShot:
    model = load_model("dollhouse-topa")
    assert isinstance(model, ZeroShot)
    return model


def test_the_language_model_is_the_teachers() -> None:
    model, processor = llava()
    prealigned = PrefixLM.from_pretrained(ASSETS / "dollhouse-topa")
    ids = processor.tokenizer("what is the man doing?", return_tensors="pt").input_ids
    with torch.no_grad():
        expected = prealigned.llm(input_ids=ids).logits
        got = model(input_ids=ids).logits[..., : expected.shape[-1]]
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=0)


def test_the_images_stand_where_the_video_stood() -> None:
    _, processor = llava()

    def chat(text: str, *, images: int) -> str:
        content = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": text}]
        return str(processor.apply_chat_template([{"role": "user", "content": content}]))

    assert chat("Video:\nQuestion: why?\nAnswer: ", images=1) == "Video:<image>\nQuestion: why?\nAnswer: "
    assert chat("Video:\nSummary: ", images=2) == "Video:<image><image>\nSummary: "
    assert chat("Video:\nSummary: ", images=0) == "Video:\nSummary: "
    assert chat("Picture 2: what?", images=1) == "Video:<image>Picture 2: what?"


@given(rows=st.integers(1, 5), cols=st.integers(1, 5))
def test_every_patch_has_the_cell_it_begins_in(rows: int, cols: int) -> None:
    side = 8
    cell = Distillation.cells(side, rows=rows, cols=cols).reshape(side, side)
    for r in range(side):
        for c in range(side):
            row, col = divmod(int(cell[r, c]), cols)
            assert row * side <= r * rows < (row + 1) * side
            assert col * side <= c * cols < (col + 1) * side


@pytest.mark.slow
def test_a_larger_patch_starts_as_the_mean_of_what_it_covers() -> None:
    pixels = torch.randn(1, 3, 96, 96)
    small, large = (llava(patch_size=size)[0].model.vision_tower.embeddings for size in (12, 24))
    with torch.no_grad():
        fine, coarse = small.patch_embedding(pixels), large.patch_embedding(pixels)
    torch.testing.assert_close(coarse, torch.nn.functional.avg_pool2d(fine, 2), atol=1e-4, rtol=0)
    assert large.position_embedding.weight.shape[0] == 17
    for size in (18, 36):
        with pytest.raises(
            UserError, match=f"patches of {size} pixels: expected a multiple of 12 that divides 96"
        ):
            llava(patch_size=size)


def test_a_frames_vector_is_what_the_teacher_reads(teacher: ZeroShot) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (3, 48, 64, 3), dtype=np.uint8)
    frames = Frames(rgb_THWC=rgb, pts_s_T=np.arange(3.0), video_id="v")
    vectors = frame_vectors(teacher, frames)
    seen = teacher.features(frames, video=Video(id="v", path="v.mp4"))
    assert seen is not None
    with torch.no_grad():
        own, _ = teacher.lm.video_vectors(torch.from_numpy(seen.values_TD)[None], torch.tensor([3]))
    temporal = teacher.lm.temporal_emb.weight
    expected = own[0, :3].float() - temporal[:3] + temporal.mean(0)
    torch.testing.assert_close(vectors, expected, atol=1e-4, rtol=0)


def test_tower_and_projector_come_nearer(teacher: ZeroShot) -> None:
    model, processor = llava()
    chat = Chat(processor, image_size=GRID.image_size)
    grids = grids_with_frames(num=2, settings=GRID)
    examples = DistillExamples(grids, teacher=teacher, chat=chat, num=8)
    assert len(examples) == 8
    batch = {name: torch.stack([examples[i][name] for i in range(2)]) for name in examples[0]}
    assert batch["vectors_BKH"].shape == (2, 4, 192)
    distillation = Distillation(model, rows=2, cols=2)
    optimizer = torch.optim.AdamW(distillation.parameters(), lr=2e-3)
    losses = []
    for _ in range(15):
        loss = distillation(**batch)["loss"]
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.slow
def test_a_finetuning_starts_from_the_folder(tmp_path: Path) -> None:
    start = distill(CONFIG, out=tmp_path / "distilled")
    assert load_model(str(start)).settings == GRID
    assert not (start / "steps").exists()
    assert json.loads((start / "run.json").read_text())["recipe"]["teacher"] == "dollhouse-topa"
    still = replace(TRAINING, steps=1, lr=0.0)
    config = FinetuneConfig(model=str(start), data="dollhouse", num=3, grid=GRID, packed=8, train=still)
    out = finetune(config, out=tmp_path / "grid")
    before, after = (load_file(folder / "model.safetensors") for folder in (start, out))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_a_finetuning_needs_no_drawing_of_the_same_grids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = distill(CONFIG, out=tmp_path / "distilled")
    drawn = []

    def draw(*args: Any, **kwargs: Any) -> Any:
        drawn.append(1)
        return draw_frame(*args, **kwargs)

    monkeypatch.setattr("tideo.tiny.grid_episodes.draw_frame", draw)
    config = FinetuneConfig(model=str(start), data="dollhouse", num=3, grid=GRID, packed=8, train=TRAINING)
    finetune(config, out=tmp_path / "grid")
    assert not drawn  # the outputs of the tower lie in the store
    finetune(replace(config, num=4), out=tmp_path / "more")
    assert drawn  # the fourth has none


def test_a_distillation_that_is_done_is_left_as_it_is(tmp_path: Path) -> None:
    out = distill(replace(CONFIG, train=None), out=tmp_path / "a")
    written = (out / "model.safetensors").stat().st_mtime_ns
    distill(replace(CONFIG, train=None), out=out, resume=True)
    assert (out / "model.safetensors").stat().st_mtime_ns == written
    with pytest.raises(UserError, match="another recipe"):
        distill(replace(CONFIG, train=None, num=2), out=out, resume=True)


@pytest.mark.slow
def test_a_stopped_distillation_resumes_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load_file(distill(CONFIG, out=tmp_path / "whole") / "model.safetensors")

    def stop(self: Any, *args: Any, **kwargs: Any) -> None:
        save(self, *args, **kwargs)
        raise KeyboardInterrupt

    save = GridTrainer._save_checkpoint
    with monkeypatch.context() as patched:
        patched.setattr(GridTrainer, "_save_checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            distill(CONFIG, out=tmp_path / "part")
    rest = load_file(distill(CONFIG, out=tmp_path / "part", resume=True) / "model.safetensors")
    assert all(torch.equal(whole[name], rest[name]) for name in whole)


def test_what_cannot_be_put_into_a_llava_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="distillation needs a teacher"):
        replace(CONFIG, teacher=None)
    folder = tmp_path / "gated"
    folder.mkdir()
    for path in (ASSETS / "dollhouse-topa").iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config |= {"adapter": "none", "llm": str(ASSETS / "dollhouse-lm")}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="adapter none cannot be put into a LLaVA"):
        tiny_llava(clip=ASSETS / "dollhouse-clip", llm=folder, image_size=96)
