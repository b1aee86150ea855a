"""LLaVA's training format, read and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from grid_training import (
    GRID,
    TURNS,
    conversation,
    picture,
)
from tideo.train.grid.llava_json import open_square, read_llava, write_llava
from tideo.types import UserError
from videos import encode


def test_llavas_format_goes_out_and_comes_back(tmp_path: Path) -> None:
    asked = [conversation(0), conversation(3)]
    path = write_llava(asked, tmp_path / "out")
    row = json.loads(path.read_text())[0]
    assert row["conversations"][0] == {"from": "human", "value": "<image>\nwhat is the man doing?"}
    assert row["conversations"][1] == {"from": "gpt", "value": "washing dishes"}
    back = read_llava(path, images=tmp_path / "out" / "images", settings=GRID)
    assert [c.turns for c in back] == [(turn,) for c in asked for turn in c.turns]
    assert np.array_equal(back[3].pictures.open()[0], picture(3))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image": None}, "expected either an image or a video"),
        ({"video": "v.mp4"}, "expected either an image or a video"),
        ({"image": None, "video": "gone"}, r"element 1: expected a video below .*, found no gone"),
        ({"image": None, "video": "../v"}, r"element 1: expected a place below the folder of videos"),
        ({"image": "gone.png"}, r"element 1: expected an image below"),
        ({"image": "../x.png"}, r"element 1: expected an image below"),
        (
            {"conversations": [{"from": "gpt", "value": "a"}, {"from": "human", "value": "b"}]},
            "one after the other",
        ),
        ({"conversations": [{"from": "human", "value": "a"}]}, "conversations"),
        ({"conversations": [{"from": "bot", "value": "a"}] * 2}, r"conversations\.0\.from"),
    ],
)
def test_a_malformed_row_of_llavas_format_is_named(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    path = write_llava([conversation(turns=TURNS[:1])], tmp_path)
    (row,) = json.loads(path.read_text())
    path.write_text(json.dumps([row | change]))
    with pytest.raises(UserError, match=told):
        read_llava(path, images=tmp_path / "images", settings=GRID)


def test_a_row_may_be_about_a_video(tmp_path: Path) -> None:
    encode(tmp_path / "a.b.mkv", num=20)
    human = {"from": "human", "value": "<video>\nwhat is he doing?"}
    row = {"id": 7, "video": "a.b", "conversations": [human, {"from": "gpt", "value": "washing dishes"}]}
    path = tmp_path / "train.json"
    path.write_text(json.dumps([row, row]))
    (only,) = read_llava(path, images=tmp_path, settings=GRID, num=1)
    assert only.turns[0].user.endswith("what is he doing?")
    assert "2 rows of 2" in only.turns[0].user
    assert (only.turns[0].reply, only.pictures.num) == ("washing dishes", 1)
    assert only.pictures.open()[0].size == (GRID.image_size, GRID.image_size)


def test_a_video_without_frames_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    encode(tmp_path / "good.mp4", num=4)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    turns = [
        {"from": "human", "value": "<video>\nwhat is he doing?"},
        {"from": "gpt", "value": "washing dishes"},
    ]
    rows = [{"id": k, "video": name, "conversations": turns} for k, name in enumerate(("good", "bad"))]
    path = tmp_path / "train.json"
    path.write_text(json.dumps(rows))
    (only,) = read_llava(path, images=tmp_path, settings=GRID)
    assert only.id == "0"
    assert "1 of 2 videos are left out, the first: " in caplog.text
    assert "bad.mp4: it cannot be read as a video" in caplog.text


def test_an_image_stands_upright_as_its_tag_says(tmp_path: Path) -> None:
    image = Image.new("RGB", (80, 40), "red")
    image.paste("blue", (40, 0, 80, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter: what is on the left comes to the top
    image.save(tmp_path / "phone.png", exif=exif)
    shown = np.asarray(open_square(tmp_path / "phone.png", 32))
    assert shown[2, 16].tolist() == [255, 0, 0]
    assert shown[-3, 16].tolist() == [0, 0, 255]


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_sixteen_bits_keep_their_shades(dtype: str, tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    name = "ramp.png" if dtype == "<u2" else "ramp.tif"
    Image.fromarray(ramp.astype(dtype)).save(tmp_path / name)
    shown = np.asarray(open_square(tmp_path / name, 64))
    assert shown[10, :, 0].tolist() == (ramp[0] >> 8).tolist()


@pytest.mark.parametrize("mode", ["CMYK", "L", "LA", "P", "1", "RGBA", "YCbCr"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "white").convert(mode).save(tmp_path / "white.tif")
    assert np.asarray(open_square(tmp_path / "white.tif", 4)).tolist() == [[[255] * 3] * 4] * 4


def test_what_is_no_image_for_a_model_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.zeros((8, 8), dtype=np.float32)).save(tmp_path / "depth.tif")
    with pytest.raises(UserError, match=r"depth\.tif cannot be read as an image \(its pixels have 32 bits"):
        open_square(tmp_path / "depth.tif", 4)
    Image.new("L", (100, 100)).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match=r"huge\.png cannot be read as an image \(Image size \(10000 pixels"):
        open_square(tmp_path / "huge.png", 4)
