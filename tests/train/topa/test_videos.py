"""Finetuning after pre-alignment: a benchmark's training videos, with and without a start."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from grid_training import damage, nextqa_in
from tideo.encoders.dual import load_encoder
from tideo.encoders.encode import encode_videos
from tideo.encoders.memory import Memory
from tideo.encoders.sources import videos_in
from tideo.models.load import load_model
from tideo.models.topa.model import ZeroShot
from tideo.models.topa.settings import Settings
from tideo.train.topa.config import PrealignConfig, PrealignTraining, TaskWeights
from tideo.train.topa.features import StoredFeatures
from tideo.train.topa.prealign import prealign
from tideo.train.topa.videos import annotated_questions, image_features, projected_images
from tideo.types import UserError, Video
from tideo.video.samplers import sample_frames
from tiny import save_clip, save_llm

TRAIN = PrealignTraining(steps=3, batch=2, lr=1e-2, bf16=False, log_steps=1)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    save_clip(folder / "clip")
    save_llm(folder / "llm", max_tokens=2048)
    nextqa_in(folder)
    rows = [
        {
            "idx": str(k),
            "frames": [{"main": f"a cup {k}"}],
            "global_video_caption": "tea",
            "QAs": [{"question": "what", "options": ["tea", "cup"], "answer": "A"}],
        }
        for k in range(4)
    ]
    (folder / "textvid.json").write_text(json.dumps(rows))
    return folder


def recipe(parts: Path, **changes: object) -> PrealignConfig:
    return replace(
        PrealignConfig(
            llm=str(parts / "llm"),
            encoder=str(parts / "clip"),
            data="nextqa",
            path=str(parts / "train.csv"),
            videos=str(parts / "videos"),
            prompt_style="plain",
            adapter="lora",
            lora_rank=2,
            form="text",
            train=TRAIN,
        ),
        **changes,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def start(parts: Path) -> Path:
    texts = recipe(parts, data=None, path=None, videos=None, tideos=str(parts / "textvid.json"))
    return prealign(texts, out=parts / "runs" / "start")


def test_a_smaller_share_is_part_of_a_larger_one_and_seeds_differ(parts: Path) -> None:
    def drawn(share: float, seed: int = 0) -> set[str]:
        return {video.id for video, _ in annotated_questions(recipe(parts, share=share, seed=seed))}

    assert len(drawn(0.01)) == 1  # at least one
    assert drawn(0.01) < drawn(0.5) < drawn(1.0) == {"0", "1", "2", "3"}
    assert len({frozenset(drawn(0.5, seed)) for seed in range(8)}) > 1


def test_a_video_is_drawn_with_all_its_segments(parts: Path, tmp_path: Path) -> None:
    rows = [
        {
            "question_id": f"Interaction_T1_{video}{segment}",
            "question": "What was taken?",
            "video_id": str(video),
            "start": float(segment),
            "end": segment + 0.5,
            "answer": "the cup",
            "choices": [{"choice": "the cup"}, {"choice": "the book"}],
        }
        for video in range(4)
        for segment in (0, 1)
    ]
    (tmp_path / "star.json").write_text(json.dumps(rows))
    for seed in range(4):
        config = recipe(parts, data="star", path=str(tmp_path / "star.json"), share=0.5, seed=seed)
        drawn = annotated_questions(config)
        assert len(drawn) == 4
        assert len({video.path for video, _ in drawn}) == 2


def test_every_question_of_a_drawn_video_is_an_example(parts: Path) -> None:
    examples = annotated_questions(recipe(parts, share=0.5))
    assert len(examples) == 2 * 2
    for video, tideo in examples:
        assert tideo.questions[0].question.startswith("what is it number")
        assert tideo.questions[0].options[tideo.questions[0].answer or 0]
        assert tideo.id.startswith(video.id)


@pytest.mark.slow
def test_without_a_start_the_model_takes_image_features_as_they_are(parts: Path, tmp_path: Path) -> None:
    out = prealign(recipe(parts), out=tmp_path / "out")
    model = load_model(str(out))
    assert isinstance(model, ZeroShot)
    assert model.memory is None
    assert "project" not in model.controls
    assert not (out / "memory.safetensors").exists()
    video = Video(id="0", path=str(parts / "videos" / "0.mp4"))
    frames = sample_frames(video, 10)
    shown = model.features(frames, video=video)
    assert shown is not None
    assert shown.modality == "image"
    assert model.out_of_distribution(frames) is None


@pytest.mark.slow
def test_it_goes_on_from_the_weights_and_the_memory_of_a_start(
    parts: Path, start: Path, tmp_path: Path
) -> None:
    slow = replace(TRAIN, lr=1e-9, steps=1)  # so that the weights are still those of the start
    out = prealign(recipe(parts, start=str(start), project=True, train=slow), out=tmp_path / "out")
    before, after = load_file(start / "model.safetensors"), load_file(out / "model.safetensors")
    for name, tensor in before.items():
        np.testing.assert_allclose(tensor, after[name], atol=1e-6)
    assert (out / "memory.safetensors").read_bytes() == (start / "memory.safetensors").read_bytes()
    model = load_model(str(out))
    assert isinstance(model, ZeroShot)
    assert model.settings.project
    learned = prealign(recipe(parts, start=str(start)), out=tmp_path / "learned")
    assert not load_file(learned / "model.safetensors")["visual_proj.weight"].equal(
        before["visual_proj.weight"]
    )
    assert load_model(str(learned)).settings.project is False


@pytest.mark.slow
def test_projected_training_features_are_those_of_an_answer(parts: Path, start: Path, tmp_path: Path) -> None:
    config = recipe(parts, start=str(start), project=True)
    out = prealign(config, out=tmp_path / "out")
    model = load_model(str(out))
    assert isinstance(model, ZeroShot)
    encoder = load_encoder(config.encoder)
    tideos, features = image_features(config, annotated_questions(config), encoder, out=tmp_path / "out")
    projected = projected_images(
        features, start=start, temperature=config.temperature, folder=tmp_path / "p", device=encoder.device
    )
    video = Video(id="0", path=str(parts / "videos" / "0.mp4"))
    shown = model.features(sample_frames(video, 10), video=video)
    assert shown is not None
    first = next(k for k, tideo in enumerate(tideos) if tideo.id.startswith("0"))
    np.testing.assert_allclose(
        projected[first].values_TD, shown.values_TD, atol=2e-3
    )  # kept in half precision


def test_features_of_tideo_encode_are_read_and_what_they_lack_is_left_out(
    parts: Path, tmp_path: Path
) -> None:
    videos = videos_in(parts / "videos")[:3]
    encode_videos(videos, encoder=str(parts / "clip"), out=tmp_path / "features")
    config = recipe(parts, features=str(tmp_path / "features"), max_unreadable=0.5)
    encoder = load_encoder(config.encoder)
    tideos, features = image_features(config, annotated_questions(config), encoder, out=tmp_path)
    assert len(tideos) == len(features) == 6
    (row,) = (tmp_path / "skipped.jsonl").read_text().splitlines()
    assert json.loads(row)["id"] == "3"
    assert "run tideo encode again" in json.loads(row)["reason"]
    with pytest.raises(UserError, match=r"1 of 4 .*max_unreadable"):
        image_features(
            replace(config, max_unreadable=0.1), annotated_questions(config), encoder, out=tmp_path
        )


def test_a_damaged_video_is_listed_with_its_reason(parts: Path, tmp_path: Path) -> None:
    nextqa_in(tmp_path)
    damage(tmp_path / "videos" / "1.mp4")
    config = recipe(
        parts, path=str(tmp_path / "train.csv"), videos=str(tmp_path / "videos"), max_unreadable=0.3
    )
    encoder = load_encoder(config.encoder)
    tideos, _ = image_features(config, annotated_questions(config), encoder, out=tmp_path / "out")
    assert len(tideos) == 6
    assert '"id": "1"' in (tmp_path / "out" / "skipped.jsonl").read_text()
    assert "run tideo encode again" not in (tmp_path / "out" / "skipped.jsonl").read_text()


def test_a_start_without_a_memory_cannot_project(parts: Path, tmp_path: Path) -> None:
    Settings(encoder=str(parts / "clip"), project=False).save(tmp_path)
    with pytest.raises(
        UserError, match=r"which has no memory\.safetensors: start from a pre-alignment on texts"
    ):
        recipe(parts, start=str(tmp_path), project=True).check_inputs()


def test_checkpoints_go_on_with_the_memory_that_they_learned_from(parts: Path, tmp_path: Path) -> None:
    config = recipe(parts)
    encoder = load_encoder(config.encoder)
    _, features = image_features(config, annotated_questions(config), encoder, out=tmp_path / "out")
    steps = tmp_path / "out" / "steps"

    def projected() -> StoredFeatures:
        return projected_images(
            features, start=tmp_path, temperature=100.0, folder=steps, device=torch.device("cpu")
        )

    def remember(seed: int) -> None:
        rows = torch.randn(4, encoder.dim, generator=torch.Generator().manual_seed(seed))
        Memory(values_MD=torch.nn.functional.normalize(rows), encoder=encoder.id).save(
            tmp_path / "memory.safetensors"
        )

    remember(0)
    first = projected()[0].values_TD
    (steps / "checkpoint-1").mkdir()
    (steps / "checkpoint-1" / "trainer_state.json").write_text("{}")
    np.testing.assert_array_equal(projected()[0].values_TD, first)
    remember(1)
    with pytest.raises(UserError, match=r"the memory of .* have changed: undo that, or give another --out"):
        projected()


@pytest.mark.slow
def test_what_cannot_be_meant_is_refused(parts: Path, start: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="set tideos to what it learns from, or data"):
        recipe(parts, data=None)
    with pytest.raises(UserError, match="set path to its training file"):
        recipe(parts, path=None)
    with pytest.raises(UserError, match=r"share=0.*above 0"):
        recipe(parts, share=0.0)
    with pytest.raises(UserError, match="set start to its folder"):
        recipe(parts, project=True)
    with pytest.raises(UserError, match="questions alone"):
        recipe(parts, tasks=TaskWeights(choose=0, answer=0, summarise=1))
    with pytest.raises(UserError, match=r"is no folder that .tideo prealign. wrote"):
        recipe(parts, start=str(parts / "llm")).check_inputs()
    with pytest.raises(UserError, match=r"trained with lora_rank=2, and this recipe has lora_rank=4"):
        prealign(recipe(parts, start=str(start), lora_rank=4), out=tmp_path / "a")
    save_llm(tmp_path / "other", max_tokens=1024)
    with pytest.raises(UserError, match="trained on the language model"):
        prealign(recipe(parts, start=str(start), llm=str(tmp_path / "other")), out=tmp_path / "b")


def test_settings_that_change_nothing_say_so(parts: Path) -> None:
    assert "noise_std" in recipe(parts).unused
    assert "temperature" in recipe(parts).unused
    assert "share" in recipe(parts, data=None, tideos="x").unused
    assert "init_std" in recipe(parts, start="x").unused
