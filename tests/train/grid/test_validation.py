"""Validation while training: loss, choices, the best step, and sets that share videos."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from grid_training import GRID, SIDE, batch_of, config_for, damage, nextqa_in
from tideo.config import override
from tideo.models.load import load_model
from tideo.registry import load
from tideo.scoring import decide
from tideo.train.grid.config import FinetuneConfig
from tideo.train.grid.conversations import Conversation, annotated
from tideo.train.grid.examples import ChatExamples
from tideo.train.grid.finetune import finetune
from tideo.train.grid.validation import Validation, check_apart
from tideo.types import UserError
from tiny_vlms import made
from videos import encode


def validated(folder: Path) -> FinetuneConfig:
    """A recipe with a validation set of three videos, which are longer than those of the training set."""
    nextqa_in(folder / "val", num=3)
    for k in range(3):
        encode(folder / "val" / "videos" / f"{k}.mp4", num=40 + k)
    val = folder / "val"
    return config_for(folder, val_path=str(val / "train.csv"), val_videos=str(val / "videos"))


def rewritten(path: Path, *, answer: int) -> None:
    """The file with one right answer to all questions."""
    table = pd.read_csv(path)
    table["answer"] = answer
    table.to_csv(path, index=False)


def history(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("packed", [1, 4])
def test_loss_and_choices_are_those_of_training_and_evaluation(packed: int, tmp_path: Path) -> None:
    config = validated(tmp_path)
    model, processor = made("llava")
    asked = annotated("nextqa", data=str(config.val_path), videos=str(config.val_videos), settings=GRID)
    examples = ChatExamples(asked, processor=processor, image_size=SIDE, num=0)
    validation = Validation(examples, packed=packed, batch=2, reduction="mean", pad_id=0)
    scores = validation.score(model, device=torch.device("cpu"))
    with torch.no_grad():
        assert scores["eval_loss"] == pytest.approx(model(**batch_of(processor, asked)).loss.item(), abs=1e-4)
    model.save_pretrained(tmp_path / "m")
    processor.save_pretrained(tmp_path / "m")
    GRID.save(tmp_path / "m")
    vlm = load_model(str(tmp_path / "m"))
    right = 0
    for sample in load("benchmarks", "nextqa")(config.val_path, videos=config.val_videos):
        (answer,) = vlm.answer(sample.video, [sample], seen=vlm.look(sample.video))
        right += decide(answer, reduction="mean").choice == sample.answer
    assert (scores["eval_accuracy"], scores["eval_questions"]) == (right / 6, 6)


@pytest.mark.slow
def test_an_unreadable_video_counts_as_wrong(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = validated(tmp_path)
    model, processor = made("llava")
    asked = annotated("nextqa", data=str(config.val_path), videos=str(config.val_videos), settings=GRID)

    def scores(conversations: Sequence[Conversation], **changes: Any) -> dict[str, float]:
        examples = ChatExamples(conversations, processor=processor, image_size=SIDE, num=0)
        validation = Validation(examples, packed=2, batch=2, reduction="mean", pad_id=0, **changes)
        return validation.score(model, device=torch.device("cpu"))

    read = scores(asked[1:])
    damage(Path(asked[0].pictures.segment.path))
    for found in (scores(asked), scores(asked[1:], unread=[(asked[0], "no frames")])):
        assert found["eval_questions"] == 6
        assert found["eval_accuracy"] == pytest.approx(read["eval_accuracy"] * 4 / 6)
        assert found["eval_loss"] == pytest.approx(read["eval_loss"], abs=1e-4)
    assert caplog.text.count("cannot be read and counts as wrong") == 2


@pytest.mark.slow
def test_it_is_scored_each_epoch_and_changes_no_loss(tmp_path: Path) -> None:
    config = override(validated(tmp_path), ["train.steps=none", "train.epochs=2"])
    out = finetune(config, out=tmp_path / "a")
    lines = history(out)
    assert [line["step"] for line in lines if "eval_loss" in line] == [4, 8]
    plain = finetune(replace(config, val_path=None, val_videos=None), out=tmp_path / "b")
    trained = [line["loss"] for line in lines if "loss" in line]
    assert trained == [line["loss"] for line in history(plain)]
    often = finetune(override(config, ["train.eval_steps=3"]), out=tmp_path / "c")
    assert [line["step"] for line in history(often) if "eval_loss" in line] == [3, 6, 8]


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"lora_rank": 4}], ids=["full", "lora"])
def test_the_best_step_is_kept(changes: dict[str, int], tmp_path: Path) -> None:
    config = override(validated(tmp_path), ["train.lr=0.05", "train.steps=12", "train.eval_steps=2"])
    for path in (
        config.path,
        config.val_path,
    ):  # what is learnt is wrong in validation: it becomes worse and worse
        rewritten(Path(str(path)), answer=0 if path == config.path else 4)
    config = replace(config, keep_best=True, **changes)  # type: ignore[arg-type]
    out = finetune(config, out=tmp_path / "a")
    evals = [line for line in history(out) if "eval_loss" in line]
    best = max(evals, key=lambda line: (line["eval_accuracy"], -line["eval_loss"]))
    assert best is not evals[-1], "the test needs a run that becomes worse"
    vlm = load_model(str(out))
    asked = annotated("nextqa", data=str(config.val_path), videos=str(config.val_videos), settings=GRID)
    examples = ChatExamples(asked, processor=made("llava")[1], image_size=SIDE, num=0)
    validation = Validation(examples, packed=1, batch=4, reduction="mean", pad_id=0)
    scores = validation.score(vlm.model, device=torch.device("cpu"))  # type: ignore[attr-defined]
    assert scores["eval_loss"] == pytest.approx(best["eval_loss"], rel=1e-3)


def test_sets_that_share_a_video_are_refused(tmp_path: Path) -> None:
    config = validated(tmp_path)
    shutil.copy(tmp_path / "videos" / "1.mp4", tmp_path / "val" / "videos" / "2.mp4")  # under another name
    with pytest.raises(
        UserError, match=r"1 videos of the validation set are in the training set too, as .*2\.mp4"
    ):
        finetune(config, out=tmp_path / "a")
    (asked, *_) = annotated("nextqa", data=str(config.path), videos=str(config.videos), settings=GRID)
    segment = asked.pictures.segment
    assert segment is not None
    parts = [
        replace(asked, pictures=replace(asked.pictures, segment=replace(segment, start_s=start, end_s=end)))
        for start, end in ((0.0, 1.0), (1.0, 2.0), (0.5, 1.5))
    ]
    check_apart(parts[:1], parts[1:2])
    with pytest.raises(UserError, match="measures memory"):
        check_apart(parts[:1], parts[2:])


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("keep_best=true", "there is no validation set"),
        ("val_num=3", "there is no val_path"),
        ("train.eval_steps=3", "there is no validation set"),
        ("train.eval_steps=0", "eval_steps=0: expected at least 1"),
    ],
)
def test_settings_without_a_validation_set_are_refused(setting: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        override(config_for(tmp_path), [setting])
    with pytest.raises(UserError, match=r"val_path=gone\.csv: there is no such file"):
        override(config_for(tmp_path / "b"), ["val_path=gone.csv"]).check_inputs()
