"""Folders of numbered pictures as videos: right frames at right times, one clear line for a folder that is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tideo.registry import BUILTIN
from tideo.store.files import content_key
from tideo.types import Video, VideoError
from tideo.video.decode import decode_at, probe
from tideo.video.samplers import sample_frames
from tideo.video.selectors import is_selector
from videos import read_all

NUM = 30


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (24, 32, 3), dtype=np.uint8)


def folder_of(parent: Path, *, first: int = 1, ending: str = "png", num: int = NUM) -> Path:
    folder = parent / "clip 100%d"  # a name that FFmpeg would take for a pattern
    folder.mkdir(parents=True)
    for k in range(num):
        Image.fromarray(picture(k)).save(folder / f"{first + k:05d}.{ending}")
    return folder


@pytest.mark.parametrize("first", [0, 1, 96])
def test_every_frame_is_its_picture_at_its_time(first: int, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "frames_fps3_hq", first=first)
    every = read_all(str(folder))
    assert every.pts_s_T.tolist() == pytest.approx([k / 3 for k in range(NUM)])
    assert all(np.array_equal(rgb, picture(k)) for k, rgb in enumerate(every.rgb_THWC))
    times = [9.5, 0.0, 3.34, 3.32, 100.0]
    found = decode_at(str(folder), times)
    assert all(
        np.array_equal(rgb, picture(k)) for rgb, k in zip(found.rgb_THWC, (28, 0, 10, 9, 29), strict=True)
    )
    info = probe(str(folder))
    assert (info.fps, info.duration_s, info.width, info.height) == (3.0, pytest.approx(10.0), 32, 24)


@pytest.mark.parametrize("sampler", [s for s in BUILTIN["samplers"] if s != "scenes" and not is_selector(s)])
def test_it_is_sampled_as_a_video(sampler: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "fps2.5", ending="jpg")
    frames = sample_frames(Video(id="c", path=str(folder), start_s=2.0, end_s=8.0), 4, sampler=sampler)
    assert len(frames) == 4
    assert all(2.0 <= t <= 8.0 for t in frames.pts_s_T)


@pytest.mark.parametrize(
    ("names", "parent", "message"),
    [
        (
            ["00001.png", "00002.png"],
            "frames",
            "it is a folder; give a video file, or numbered pictures with their rate",
        ),
        (["cover.png"], "fps3", "holds no numbered pictures"),
        ([], "fps3", "holds no numbered pictures"),
        (["00001.png", "00003.png"], "fps3", "picture 2 is missing between 1 and 3"),
        (["00001.png", "00002.jpg"], "fps3", "the names of its pictures differ in form"),
        (["9.png", "10.png"], "fps3", "the names of its pictures differ in form"),
    ],
)
def test_a_folder_that_is_no_video_is_an_error(
    names: list[str], parent: str, message: str, tmp_path: Path
) -> None:
    folder = tmp_path / parent / "clip"
    folder.mkdir(parents=True)
    for name in names:
        Image.fromarray(picture(0)).save(folder / name)
    with pytest.raises(VideoError, match=message):
        read_all(str(folder))


def test_a_damaged_picture_is_reported(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "fps3")
    (folder / "00004.png").write_bytes(b"no picture")
    with pytest.warns(
        UserWarning, match=r"of 2 frames, 1 could not be decoded \(damaged or cut off: 1\.000 s\)"
    ):
        frames = decode_at(str(folder), [0.0, 1.0])
    assert frames.missing_s == (1.0,)


def test_its_content_has_a_key(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "fps3")
    before = content_key(str(folder))
    (folder / "00030.png").unlink()
    assert before is not None
    assert content_key(str(folder)) not in (None, before)
