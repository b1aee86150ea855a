"""A SmolVLM of the dollhouse: every look has the same number of visual tokens, and all are trained."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tideo.bundled import ASSETS
from tideo.models.grid.template import ChatTemplate
from tideo.models.grid.vlm import GridVLM
from tideo.models.load import load_model
from tideo.models.topa.model import ZeroShot
from tideo.models.topa.prefix_lm import PrefixLM
from tideo.tiny.grid_episodes import grid_conversations, grids_with_frames
from tideo.tiny.looks import (
    LOOKS,
    SHAPES,
    LooksConfig,
    LooksDistillation,
    LooksExamples,
    frame_of_tokens,
    train_looks,
)
from tideo.tiny.smolvlm import processor_of, tiny_smolvlm
from tideo.train.grid.config import FinetuneConfig, GridTraining
from tideo.train.grid.examples import ChatExamples
from tideo.train.grid.finetune import finetune
from tideo.train.grid.trainer import GridTrainer
from tideo.types import UserError

TRAINING = GridTraining(steps=3, batch=2, lr=1e-3, bf16=False, save_steps=1, log_steps=1)
CONFIG = LooksConfig(num=3, train=TRAINING)
needs_vlm = pytest.mark.usefixtures("with_vlm")


@pytest.fixture
def with_vlm() -> None:
    for module in ("torchvision", "num2words"):
        pytest.importorskip(module, reason=f"its processor needs {module}: pip install 'tideo[vlm]'")


def smolvlm(**changes: Any) -> tuple[Any, Any]:
    plain: dict[str, Any] = {
        "clip": ASSETS / "dollhouse-clip",
        "llm": ASSETS / "dollhouse-topa",
        "image_size": 192,
    }
    return tiny_smolvlm(**plain | changes)


def processor(look: str, tokenizer: Any) -> Any:
    side, tokens = {"grid": (192, 64), "panels": (96, 16)}.get(look, (48, 4))
    return processor_of(tokenizer, side=side, tokens=tokens, longest=LOOKS[look].image_size)


@pytest.fixture(scope="module")
def teacher() -> ZeroShot:
    model = load_model("dollhouse-topa")
    assert isinstance(model, ZeroShot)
    return model


def test_the_language_model_is_the_teachers() -> None:
    model, tokenizer = smolvlm()
    prealigned = PrefixLM.from_pretrained(ASSETS / "dollhouse-topa")
    ids = tokenizer("what is the man doing?", return_tensors="pt").input_ids
    with torch.no_grad():
        expected = prealigned.llm(input_ids=ids).logits
        got = model(input_ids=ids).logits[..., : expected.shape[-1]]
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=0)


def test_patches_that_fit_no_image_are_an_error() -> None:
    with pytest.raises(UserError, match=r"patches of 18 pixels, 2 x 2 merged: expected a multiple of 12"):
        smolvlm(patch_size=18)
    with pytest.raises(UserError, match=r"patches of 24 pixels, 3 x 3 merged: .* divide 192"):
        smolvlm(patch_size=24, merged=3)


def test_every_token_has_the_frame_that_it_is_of() -> None:
    grid, panels, frames = (
        frame_of_tokens(LOOKS[look], side=side) for look, side in (("grid", 8), ("panels", 4), ("frames", 2))
    )
    assert grid[:8].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert grid[-8:].tolist() == [12, 12, 13, 13, 14, 14, 15, 15]
    assert panels[:8].tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    assert panels[16:20].tolist() == [4, 4, 5, 5]
    assert frames.tolist() == [k for k in range(16) for _ in range(4)]
    assert {tuple(Counter(look.tolist()).values()) for look in (grid, panels, frames)} == {(4,) * 16}


@needs_vlm
@pytest.mark.parametrize("look", LOOKS)
def test_every_look_has_64_visual_tokens(look: str) -> None:
    model, tokenizer = smolvlm()
    conversations = grid_conversations(num=1, settings=LOOKS[look], retrieval_tasks=0)
    examples = ChatExamples(
        conversations,
        processor=processor(look, tokenizer),
        image_size=LOOKS[look].image_size,
        settings=LOOKS[look],
        num=1,
    )
    example = examples[0]
    assert example["input_ids"].count(model.config.image_token_id) == 64
    side = {"grid": 192, "panels": 96}.get(look, 48)
    images = {"grid": 1, "panels": 4}.get(look, 16)
    assert example["pixel_values"].shape == (1, images, 3, side, side)


@needs_vlm
def test_chats_about_images_have_the_plain_wording_and_videos_smolvlms() -> None:
    _, tokenizer = smolvlm()
    made = processor("frames", tokenizer)
    images = ChatTemplate(made, name="frames")
    assert images.opening("\nQuestion: why?\nAnswer: ", num_images=2) == (
        "Video:<image><image>\nQuestion: why?\nAnswer: "
    )
    assert images.end_ids == [tokenizer.eos_token_id]
    video = ChatTemplate(made, name="video", kind="video")
    assert video.opening("\nQuestion: why?\nAnswer: ", num_images=1) == (
        "<|im_start|>User: <video>\nQuestion: why?\nAnswer: <end_of_utterance>\nAssistant: "
    )
    assert video.end_ids == tokenizer.convert_tokens_to_ids(["<end_of_utterance>"])


@needs_vlm
def test_the_looks_of_steps_take_turns_without_a_period(teacher: ZeroShot) -> None:
    _, tokenizer = smolvlm()
    examples = LooksExamples(
        grids_with_frames(num=2, settings=LOOKS["grid"]),
        teacher=teacher,
        processors={look: processor(look, tokenizer) for look in SHAPES},
        num=600,
        batch=2,
    )
    looks = [examples.look_of(index) for index in range(600)]
    assert looks[::2] == looks[1::2]  # a batch has one look
    steps = looks[::2]
    assert Counter(steps) == dict.fromkeys(SHAPES, 100)
    for period in (2, 3, 4, 5, 6):  # a pass over so many batches meets all looks at each of its places
        for place in range(period):
            met = Counter(steps[place::period])
            assert max(met.values()) - min(met.values()) < 0.5 * len(steps[place::period])
    shapes = {look: examples[looks.index(look)]["pixel_values"].shape for look in SHAPES}
    assert shapes == {"grid": (1, 3, 192, 192), "panels": (4, 3, 96, 96), "frames": (16, 3, 48, 48)}


@needs_vlm
def test_tower_and_connector_come_nearer_in_every_look(teacher: ZeroShot) -> None:
    torch.manual_seed(0)
    model, tokenizer = smolvlm()
    examples = LooksExamples(
        grids_with_frames(num=2, settings=LOOKS["grid"]),
        teacher=teacher,
        processors={look: processor(look, tokenizer) for look in SHAPES},
        num=12,
        batch=2,
    )
    batches = {}
    for index in range(0, 6, 2):
        pair = [examples[index], examples[index + 1]]
        batches[examples.look_of(index)] = {name: torch.stack([e[name] for e in pair]) for name in pair[0]}
    assert set(batches) == set(SHAPES)
    distillation = LooksDistillation(model)
    optimizer = torch.optim.AdamW(distillation.parameters(), lr=2e-3)
    losses: dict[str, list[float]] = {look: [] for look in SHAPES}
    for _ in range(12):
        for look, batch in batches.items():
            loss = distillation(**batch)["loss"]
            losses[look].append(float(loss.detach()))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert all(of_look[-1] < 0.7 * of_look[0] for of_look in losses.values())


@needs_vlm
@pytest.mark.slow
def test_a_finetuning_of_every_look_starts_from_its_folder(tmp_path: Path) -> None:
    start = train_looks(CONFIG, out=tmp_path / "start")
    assert not (start / "steps").exists()
    weights = load_file(start / "grid" / "model.safetensors")
    for look, settings in LOOKS.items():
        same = load_file(start / look / "model.safetensors")
        assert all(torch.equal(same[name], weights[name]) for name in weights)
        assert GridVLM.load(start / look).settings == settings
        config = FinetuneConfig(
            model=str(start / look), data="dollhouse", num=2, grid=settings, keep_features=False, packed=4,
            modules=("projector", "llm"), train=TRAINING,
        )  # fmt: skip
        tuned = load_file(finetune(config, out=tmp_path / look) / "model.safetensors")
        moved = {name for name, value in tuned.items() if not torch.equal(value, weights[name])}
        assert any("connector" in name for name in moved)
        assert any("text_model" in name for name in moved)
        assert not any("vision_model" in name for name in moved)


@needs_vlm
@pytest.mark.slow
def test_a_stopped_distillation_resumes_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load_file(train_looks(CONFIG, out=tmp_path / "whole") / "video" / "model.safetensors")

    def stop(self: Any, *args: Any, **kwargs: Any) -> None:
        save(self, *args, **kwargs)
        raise KeyboardInterrupt

    save = GridTrainer._save_checkpoint
    with monkeypatch.context() as patched:
        patched.setattr(GridTrainer, "_save_checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            train_looks(CONFIG, out=tmp_path / "part")
    rest = load_file(train_looks(CONFIG, out=tmp_path / "part", resume=True) / "video" / "model.safetensors")
    assert all(torch.equal(whole[name], rest[name]) for name in whole)
    train_looks(CONFIG, out=tmp_path / "part", resume=True)  # finished: nothing is done
    with pytest.raises(UserError, match="another recipe"):
        train_looks(replace(CONFIG, num=2), out=tmp_path / "part", resume=True)


def test_a_step_of_several_batches_is_refused() -> None:
    with pytest.raises(UserError, match="accumulate=2: every step shows one shape; expected 1"):
        replace(CONFIG, train=replace(TRAINING, accumulate=2))
    with pytest.raises(UserError, match="num=0: expected at least 1"):
        replace(CONFIG, num=0)
