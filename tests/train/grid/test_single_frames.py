"""Finetuning on single frames and on videos: what is trained is what is scored."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Tideo
from grid_training import damage, nextqa_in
from tideo.config import override
from tideo.models.grid.settings import GridSettings
from tideo.models.grid.vlm import GridVLM
from tideo.models.interface import Asked
from tideo.registry import load
from tideo.train.grid.config import FinetuneConfig, GridTraining
from tideo.train.grid.conversations import Conversation, annotated
from tideo.train.grid.examples import ChatExamples, collate_chats
from tideo.train.grid.finetune import finetune
from tideo.train.grid.llava_json import write_llava
from tideo.train.grid.single_frames import check_alike
from tideo.types import UserError
from tiny_vlms import FAMILIES, SEEN, made, saved

VIDEO_FAMILIES = ("llava_onevision", "qwen2_5_vl", "qwen3_vl", "smolvlm")
LOOKS = [(family, "frames") for family in FAMILIES] + [(family, "video") for family in VIDEO_FAMILIES]


def settings_for(family: str, look: str) -> GridSettings:
    side = SEEN[family]
    return GridSettings(look=look, frames=3, image_size=side, rows=2, cols=2)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nextqa_in(tmp_path_factory.mktemp("data"), num=3)


def conversations(data: Path, settings: GridSettings) -> list[Conversation]:
    return annotated("nextqa", data=str(data), videos=str(data.parent / "videos"), settings=settings)


@pytest.mark.parametrize(("family", "look"), LOOKS)
def test_a_reply_is_as_likely_in_training_as_in_scoring(family: str, look: str, data: Path) -> None:
    model, processor = made(family)
    settings = settings_for(family, look)
    vlm = GridVLM(model, processor=processor, settings=settings, name=family, key="key")
    samples = load("benchmarks", "nextqa")(str(data), videos=str(data.parent / "videos"))
    read = conversations(data, settings)
    examples = ChatExamples(
        read, processor=processor, image_size=SEEN[family], num=6, settings=settings, packed=1
    )
    num_end = len(examples.chat.template.end_ids)
    for number, conversation in enumerate(read):
        asked = [s for s in samples if s.video.id == conversation.id.partition("_")[0]]
        video = asked[0].video
        (answers,) = vlm.answer_many([Asked(video=video, samples=asked, seen=vlm.look(video))], at_once=1)
        batch = collate_chats(
            [examples.replies(number, [(turn, option)]) for turn in (0, 1) for option in (0, 1)], pad_id=0
        )
        labels = batch.pop("labels")
        with torch.no_grad():
            logprobs = model(**batch).logits.log_softmax(-1)
        for row, (turn, option) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
            at = [i for i, n in enumerate(labels[row].tolist()) if n != -100][:-num_end]
            found = sum(logprobs[row, i - 1, labels[row, i]].item() for i in at)
            assert found == pytest.approx(answers[turn].loglikelihoods[option], abs=1e-3)
            assert answers[turn].prompt_tokens == at[0]


@pytest.mark.parametrize(("family", "look"), [("llava", "frames"), ("smolvlm", "video")])
def test_packed_questions_about_frames_have_the_losses_of_separate_ones(
    family: str, look: str, data: Path
) -> None:
    model, processor = made(family)
    settings = settings_for(family, look)
    batches = [
        ChatExamples(
            conversations(data, settings)[:2], processor=processor, image_size=SEEN[family], num=9,
            settings=settings, packed=packed,
        )
        for packed in (2, 1)
    ]  # fmt: skip
    losses = []
    for examples in batches:
        batch = collate_chats([examples[i] for i in range(len(examples.pieces))], pad_id=0)
        with torch.no_grad():
            losses.append(model(**batch).loss.item())
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_the_times_are_those_of_the_decoded_frames(data: Path) -> None:
    settings = settings_for("llava", "frames")
    (first, *_) = conversations(data, settings)
    assert "0:00.3, 0:01.0, 0:01.6" in first.turns[0].user
    _, processor = made("llava")
    examples = ChatExamples([first], processor=processor, image_size=28, num=1, settings=settings)
    words = processor.tokenizer.decode(examples[0]["input_ids"])
    assert "The 3 images are frames of one video in the order of time, at 0:00.3, 0:01.0, 0:01.6." in words


def test_frames_that_cannot_be_read_are_black_and_teach_nothing(tmp_path: Path) -> None:
    path = nextqa_in(tmp_path, num=2)
    settings = settings_for("llava", "frames")
    read = conversations(path, settings)
    damage(tmp_path / "videos" / "0.mp4")
    _, processor = made("llava")
    examples = ChatExamples(read, processor=processor, image_size=28, num=4, settings=settings)
    skipped = [e for e in (examples[i] for i in range(4)) if "skipped" in e]
    assert {e["skipped"][0][0] for e in skipped} == {"0_0"}
    assert all(n == -100 for e in skipped for n in e["labels"])
    batch = collate_chats([examples[i] for i in range(4)], pad_id=0)
    assert len(batch["skipped"]) == len(skipped) == 2
    assert len(batch["pixel_values"]) == 4 * 3


def test_what_does_not_go_with_single_frames_is_said(data: Path, tmp_path: Path) -> None:
    settings = settings_for("llava", "frames")
    with pytest.raises(UserError, match=r"has images, not frames or videos: set grid\.look=grid"):
        write_llava(conversations(data, settings), tmp_path)
    read = [c for look in ("video",) for c in conversations(data, settings_for("llava", look))]
    fewer = replace(read[0], pictures=replace(read[0].pictures, num=2))
    check = partial(check_alike, [fewer, *read[1:]], name="m")
    check(batch=1, alike=True)
    check(batch=2, alike=False)
    line = "the videos have 2 to 3 frames, and m needs one number in a batch: set train.batch=1"
    with pytest.raises(UserError, match=line):
        check(batch=2, alike=True)
    training = GridTraining(steps=1)
    plain: dict[str, Any] = {"model": "m", "data": "nextqa", "path": "p", "videos": "v", "train": training}
    with pytest.raises(UserError, match="set paste_captions=false"):
        FinetuneConfig(**plain, grid=settings, captions_path="c", paste_captions=True)
    with pytest.raises(UserError, match="keep_features=false: it changes nothing"):
        override(FinetuneConfig(**plain, grid=settings), ["keep_features=false"])


# Of Qwen2-VL the tiny processor is saved without its video processor; Qwen2.5-VL stands for both.
SAVED = [case for case in LOOKS if case[0] != "qwen2_vl"]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "look"), [*SAVED, *((f, "grid") for f in VIDEO_FAMILIES)])
def test_ten_steps_give_a_folder_that_answers(
    family: str, look: str, data: Path, tmp_path: Path, tideo: Tideo
) -> None:
    model = saved(family, tmp_path / "model")
    recipe = {
        "llava": "llava_1_5_7b_nextqa", "llava_next": "llava_1_6_34b_nextqa", "smolvlm": "smolvlm2_500m_nextqa",
        "llava_onevision": "llava_onevision_7b_nextqa", "qwen3_vl": "qwen3_vl_8b_nextqa",
        "qwen2_5_vl": "qwen3_vl_8b_nextqa", "idefics3": "smolvlm2_500m_nextqa",
    }[family]  # fmt: skip
    config = override(
        load("recipes", recipe)(),
        [
            f"model={model}", f"path={data}", f"videos={data.parent / 'videos'}", f"grid.look={look}",
            f"grid.image_size={SEEN[family]}", *(["grid.frames=3"] if look != "grid" else []),
            "train.steps=10", "train.epochs=none", "train.batch=2", "train.accumulate=1", "train.bf16=false",
            "train.parallel=none", "train.log_steps=5",
            *(["lora_rank=2", "lora_alpha=4"] if "qwen" in family else []),
        ],
    )  # fmt: skip
    from tideo.train.grid.memory_plan import plan

    assert "10 in all" in plan(config, gpus=1)
    out = finetune(config, out=tmp_path / "out")
    assert len((out / "history.jsonl").read_text().splitlines()) == 2
    video = str(data.parent / "videos" / "0.mp4")
    asked = tideo(
        "ask", video, "what is it", "--option", "tea", "--option", "book", "--json", "--model", str(out)
    )
    assert asked.returncode == 0, asked.stderr
    assert len(json.loads(asked.stdout)["pts_s"]) == (4**2 if look == "grid" else 3)
    run = tmp_path / "run"
    done = tideo(
        "eval", "nextqa", "--data", str(data), "--videos", str(data.parent / "videos"), "--model", str(out),
        "--out", str(run), "--control", "none",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    took = json.loads((run / "report.json").read_text())["per_question"]
    assert took["prompt_tokens"] > took["visual_tokens"] > 0
    assert took["seconds"] > 0
    assert "prompt tokens a question" in done.stdout
