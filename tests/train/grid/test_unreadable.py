"""Videos and images that turn out unreadable in the middle of a finetuning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import Tideo as Cli
from grid_training import GRID, SIDE, config_for, damage, losses, nextqa_in
from tideo.config import override
from tideo.train.grid.conversations import adapted, annotated
from tideo.train.grid.examples import ChatExamples, collate_chats
from tideo.train.grid.finetune import finetune
from tideo.train.grid.llava_json import write_llava
from tideo.types import UserError
from tiny_vlms import made
from videos import encode


def conversations_in(folder: Path) -> Any:
    data = str(folder / "train.csv")
    return annotated("nextqa", data=data, videos=str(folder / "videos"), settings=GRID)


def test_no_frame_is_decoded_before_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nextqa_in(tmp_path, num=3)

    def decode(*args: Any) -> None:
        raise AssertionError("a frame was decoded")

    monkeypatch.setattr("tideo.video.demux.Demuxer.decode", decode)
    assert [c.pictures.num for c in conversations_in(tmp_path)] == [1, 1, 1]


def test_an_example_that_cannot_be_read_learns_nothing_in_its_place(tmp_path: Path) -> None:
    nextqa_in(tmp_path, num=3)
    damage(tmp_path / "videos" / "1.mp4")
    asked = conversations_in(tmp_path)
    _, processor = made("llava")
    examples = ChatExamples(asked, processor=processor, image_size=SIDE, num=6)
    batch = collate_chats([examples[i] for i in range(6)], pad_id=0)
    assert {id for id, _ in batch["skipped"]} == {"1_0"}
    assert "none of the frames could be decoded" in batch["skipped"][0][1]
    empty = (batch["labels"] == -100).all(dim=1).tolist()
    assert [examples.name_of(i) for i in range(6) if empty[i]] == ["conversation 1_0"] * 2


def test_a_video_of_fewer_frames_than_it_promises_is_described_as_it_is(tmp_path: Path) -> None:
    nextqa_in(tmp_path, num=1)
    damage(tmp_path / "videos" / "0.mp4", whole=False)
    (asked,) = conversations_in(tmp_path)
    assert "shows 4 frames" in asked.turns[0].user
    told, (image,) = adapted(asked, lambda pictures: pictures.open())
    assert image.size == (SIDE, SIDE)
    assert "shows 4 frames" not in told.turns[0].user
    assert told.pictures.key != asked.pictures.key
    out = write_llava([asked], tmp_path / "out")
    assert told.turns[0].user in json.loads(out.read_text())[0]["conversations"][0]["value"]


@pytest.mark.parametrize("keep_features", [True, False])
def test_a_training_leaves_it_out_and_says_so(
    keep_features: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_for(tmp_path, keep_features=keep_features, max_unreadable=0.5)
    damage(tmp_path / "videos" / "2.mp4")
    (tmp_path / "videos" / "3.mp4").write_bytes(b"no video at all")
    out = finetune(config, out=tmp_path / "a")
    rows = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["3_0", "2_0"]
    assert "3.mp4: it cannot be read as a video" in rows[0]["reason"]
    assert "2 of 4 examples were left out: " in caplog.text
    assert len(losses(capsys.readouterr().err)) == 6
    assert "nan" not in (out / "history.jsonl").read_text().lower()


@pytest.mark.slow
def test_too_many_of_them_stop_it(tmp_path: Path) -> None:
    config = config_for(tmp_path, keep_features=False)
    damage(tmp_path / "videos" / "2.mp4")
    with pytest.raises(UserError, match=r"1 of 4 examples cannot be read, the first: .*set max_unreadable"):
        finetune(override(config, ["train.steps=4", "train.batch=4"]), out=tmp_path / "a")
    with pytest.raises(UserError, match="expected a share from 0 to 1"):
        override(config, ["max_unreadable=5"])


@pytest.mark.slow
def test_a_damaged_image_is_left_out_too(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    data = write_llava(conversations_in(tmp_path), tmp_path / "llava")
    image = next((tmp_path / "llava" / "images").iterdir())
    image.write_bytes(b"no image")
    config = override(config, ["data=llava", f"path={data}", f"videos={image.parent}", "max_unreadable=0.5"])
    out = finetune(config, out=tmp_path / "a")
    rows = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    assert len(rows) == 2  # each question is a conversation of its own in this format
    assert all("cannot be read as an image" in row["reason"] for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("keep_features", [True, False])
def test_the_command_names_it_and_trains_on(keep_features: bool, tmp_path: Path, tideo: Cli) -> None:
    config = config_for(tmp_path)
    damage(tmp_path / "videos" / "2.mp4")
    val = nextqa_in(tmp_path / "val", num=2).with_name("train.csv")
    for k in (0, 1):
        encode(tmp_path / "val" / "videos" / f"{k}.mp4", num=30 + k)
    damage(tmp_path / "val" / "videos" / "1.mp4")
    (tmp_path / "own.yaml").write_text(
        f"""base: llava_1_5_7b_nextqa_lora
model: {config.model}
path: {config.path}
videos: {config.videos}
val_path: {val}
val_videos: {val.parent / "videos"}
max_unreadable: 0.5
keep_features: {keep_features}
lora_rank: 4
lora_alpha: 8
packed: 1
grid: {{rows: 2, cols: 2, image_size: {SIDE}}}
train: {{steps: 4, epochs: none, batch: 2, accumulate: 1, bf16: false, log_steps: 1, gradient_checkpointing: false}}
"""
    )
    done = tideo("finetune", str(tmp_path / "own.yaml"), "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "out")), done.stderr
    assert done.stderr.count("2_0 is left out: ") == 1
    assert "1 of 4 examples were left out: " in done.stderr
    assert done.stderr.count("validation: 1_0 cannot be read and counts as wrong: ") == 1
    rows = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["2_0"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "history.jsonl").read_text().splitlines()]
    assert {line["eval_questions"] for line in lines if "eval_loss" in line} == {4}
