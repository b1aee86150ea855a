"""The tiny CLIP: its pairs, its loss, a training that goes on exactly, and the model that ships."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, CLIPModel

from tideo.config import override
from tideo.dollhouse import world
from tideo.dollhouse.captions import caption
from tideo.dollhouse.script import FrameState, is_held_out
from tideo.tiny import clip as pretrain_clip
from tideo.tiny import clip_groups as groups
from tideo.tiny import clip_probe as measure_clip
from tideo.tiny.clip import ClipRecipe, ClipSize, ClipTraining
from tideo.tiny.clip_groups import PARTS, VARY, ContrastiveGroups, GroupsConfig, group_states
from tideo.train.optim import muon_adamw
from tideo.types import UserError

NUISANCE = {"progress": 0.0, "time_s": 0.0, "distractor_progress": 0.0, "camera": 0}
TINY = ClipRecipe(
    size=ClipSize(
        image_px=24, patch_px=12, vision_width=32, vision_layers=1, text_width=32, text_layers=1, vocab=400
    ),
    data=GroupsConfig(groups=3, group=2, image_px=24),
    train=ClipTraining(steps=4, groups_per_step=2, warmup_steps=1, save_steps=2, bf16=False),
    workers=1,
)


def facts(state: FrameState) -> FrameState:
    return replace(state, **NUISANCE)


def changed(first: FrameState, second: FrameState) -> set[str]:
    return {
        f for f in FrameState.__dataclass_fields__ if getattr(facts(first), f) != getattr(facts(second), f)
    }


@pytest.mark.parametrize("index", range(20))
def test_variants_differ_from_the_scene_in_one_fact(index: int) -> None:
    first, *variants = group_states(index, GroupsConfig(group=12))
    for variant in variants:
        difference = changed(first, variant)
        assert len(difference - {"tool"}) == 1 or difference == {"tool"}
        assert difference <= set(VARY)
        assert (
            (variant.tool in world.TOOLS[variant.action])
            if variant.action in world.TOOLS
            else not variant.tool
        )


def test_every_fact_is_varied() -> None:
    seen = set()
    for index in range(60):
        first, *variants = group_states(index, GroupsConfig())
        seen |= {name for variant in variants for name in changed(first, variant)}
    assert seen == set(VARY)


def test_no_image_shows_only_held_out_combinations() -> None:
    for index in range(150):
        for state in group_states(index, GroupsConfig(group=8)):
            scripts = [
                a
                for a in world.ACTIVITIES.values()
                if state.room in a.rooms and state.action in (a.opening, a.closing, *a.free)
            ]
            assert any(not is_held_out(a.id, state.room, state.actor.id) for a in scripts)


@pytest.mark.slow
def test_images_are_drawn_once_and_the_same_by_any_number_of_workers(tmp_path: Path) -> None:
    config = GroupsConfig(groups=18, group=2, image_px=16)
    rgb = groups.images(config, tmp_path, workers=2)
    assert rgb.shape == (18, 2, 16, 16, 3)
    assert (rgb[17] == groups.draw_group(17, config)).all()
    before = (tmp_path / "images.npy").stat().st_mtime_ns
    groups.images(config, tmp_path)
    assert (tmp_path / "images.npy").stat().st_mtime_ns == before
    again = groups.images(replace(config, seed=1), tmp_path)
    assert (again[0] == groups.draw_group(0, replace(config, seed=1))).all()


def test_an_item_depends_on_its_index_alone() -> None:
    config = GroupsConfig(groups=5, group=2, image_px=4)
    rgb = np.arange(5 * 2 * 48, dtype=np.uint16).astype(np.uint8).reshape(5, 2, 4, 4, 3)
    data, other = ContrastiveGroups(rgb, config, passes=3), ContrastiveGroups(rgb, config, passes=3)
    assert len(data) == 15
    assert data[7].texts == other[7].texts
    for start in (0, 5, 10):  # every pass sees each group once
        assert sorted(data[i].rgb_GPPC[0, 0, 0, 0] for i in range(start, start + 5)) == sorted(
            rgb[:, 0, 0, 0, 0]
        )


def test_part_labels_name_what_the_state_shows() -> None:
    state = replace(group_states(0, GroupsConfig(group=1))[0], action="wipe", tool="a cloth", distractor=None)
    labels = dict(zip(PARTS, groups.part_labels(state), strict=True))
    assert PARTS["tool"].values[labels["tool"]] == ("wipe", "a cloth")
    assert PARTS["room"].values[labels["room"]] == state.room
    assert labels["distractor"] == -100
    assert PARTS["shelf"].words((1, "cups"), random.Random(0)).count("one cup") == 1


def test_parts_losses_are_the_cross_entropies_within_each_fact() -> None:
    num = sum(len(part.values) for part in PARTS.values())
    labels = torch.full((2, len(PARTS)), -100)
    labels[0, list(PARTS).index("room")] = 3
    losses = pretrain_clip.parts_losses(torch.zeros(2, num), labels)
    assert set(losses) == {"room"}
    assert losses["room"].item() == pytest.approx(np.log(len(world.ROOMS)))


def test_the_text_vector_is_read_at_the_end_token() -> None:
    tokenizer = pretrain_clip.clip_tokenizer(groups.caption_texts(5), vocab=300)
    ids = tokenizer("a girl is pouring tea")["input_ids"]
    assert ids[-1] == tokenizer.eos_token_id == max(range(len(tokenizer)))
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a girl is pouring tea"
    model = pretrain_clip.build_clip(TINY.size, tokenizer).eval()
    padded = torch.tensor([ids + [tokenizer.pad_token_id] * 3])
    short, long = (model.get_text_features(i).pooler_output for i in (torch.tensor([ids]), padded))
    assert torch.allclose(short, long, atol=1e-6)


def test_a_rate_set_on_the_pair_of_optimisers_reaches_both_and_survives_saving() -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(4, 8), torch.nn.Linear(8, 8), torch.nn.LayerNorm(8))
    optimiser = muon_adamw(model, muon_lr=0.1, adamw_lr=0.01, pace={"1.": 0.5})
    muon, adamw = optimiser.parts
    assert [(g["lr"], [p.shape for p in g["params"]]) for g in muon.param_groups] == [(0.05, [(8, 8)])]
    assert [(g["lr"], len(g["params"])) for g in adamw.param_groups] == [(0.01, 3), (0.005, 1)]
    model(torch.tensor([1, 2])).square().sum().backward()
    optimiser.step()
    saved = optimiser.state_dict()
    optimiser.load_state_dict(saved)
    for group in optimiser.param_groups:
        group["lr"] = 0.0
    before = [p.clone() for p in model.parameters()]
    optimiser.step()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_muon_moves_a_convolution_and_its_gradient_is_cleared() -> None:
    model = torch.nn.Conv2d(3, 4, 2, bias=False)
    optimiser = muon_adamw(torch.nn.Sequential(model, torch.nn.Linear(1, 1)), muon_lr=0.1)
    before = model.weight.clone()
    model(torch.ones(1, 3, 2, 2)).sum().backward()
    optimiser.step()
    assert (model.weight != before).all()
    optimiser.zero_grad()
    assert model.weight.grad is None


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain_clip.pretrain_clip(TINY, out=tmp_path_factory.mktemp("whole"))


@pytest.mark.slow
def test_a_resumed_training_ends_the_same(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "steps" / "checkpoint-2", tmp_path / "steps" / "checkpoint-2")
    shutil.copy(trained / "run.json", tmp_path)
    resumed = pretrain_clip.pretrain_clip(TINY, out=tmp_path, resume=True)
    assert (resumed / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_progress_is_told_on_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = override(TINY, ["train.log_steps=1", "train.steps=2"])
    pretrain_clip.pretrain_clip(recipe, out=tmp_path)
    assert "step 2/2 loss " in capsys.readouterr().err


@pytest.mark.slow
def test_the_saved_folder_loads_with_the_auto_classes(trained: Path) -> None:
    model, processor = CLIPModel.from_pretrained(trained), AutoProcessor.from_pretrained(trained)
    frame = np.zeros((30, 50, 3), np.uint8)
    frame[:, :10] = 255  # a centre crop would lose it
    pixels = processor(images=frame, return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 24, 24)
    assert pixels[..., 0].mean() > 0.9
    ids = processor(text=["a girl", "a boy"], padding=True, return_tensors="pt")["input_ids"]
    assert model.get_text_features(ids).pooler_output.shape == (2, TINY.size.projection)


def test_the_training_images_are_squeezed_as_the_processor_does(trained: Path) -> None:
    processor = AutoProcessor.from_pretrained(trained)
    rgb = np.random.default_rng(0).integers(0, 255, (30, 50, 3), dtype=np.uint8)
    ours = torch.tensor(groups.squared(rgb, 24)).permute(2, 0, 1) / 127.5 - 1
    assert torch.allclose(processor(images=rgb, return_tensors="pt")["pixel_values"][0], ours, atol=1e-5)


def test_sizes_that_do_not_match_are_refused() -> None:
    with pytest.raises(UserError, match=r"data\.image_px=32 and size\.image_px=96 must be the same"):
        override(ClipRecipe(), ["data.image_px=32"])


@pytest.mark.slow
def test_the_measure_tells_every_fact_of_a_model(trained: Path) -> None:
    model, processor = CLIPModel.from_pretrained(trained).eval(), AutoProcessor.from_pretrained(trained)
    scores = measure_clip.measure_clip(model, processor, num=12)
    assert set(scores) == {f"part/{p}" for p in PARTS} | {f"frame/{f}" for f in VARY} | {
        "retrieval",
        "cosine",
        "gap",
    }
    assert all(0 <= scores[name] <= 1 for name in scores if "/" in name or name == "retrieval")
    assert scores["gap"] > 0


def test_a_textual_frame_is_the_mean_of_its_unit_captions(trained: Path) -> None:
    model, processor = CLIPModel.from_pretrained(trained).eval(), AutoProcessor.from_pretrained(trained)
    state = group_states(0, GroupsConfig(group=1))[0]
    texts = caption(state, random.Random(0)).captions
    single = measure_clip.text_vectors(model, processor, texts)
    frame = measure_clip.frame_vectors(model, processor, [texts])[0]
    assert torch.allclose(frame, torch.nn.functional.normalize(single.mean(0), dim=0), atol=1e-6)
