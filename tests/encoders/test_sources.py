"""What a folder holds to encode: content decides, and what is left out is named."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Tideo
from tideo.encoders.encode import EncodedFolder
from tideo.encoders.sources import segments_of, videos_in
from tideo.types import Sample, UserError, Video
from videos import encode, encode_audio

# ending → codec, pixel format, container
FORMS = {
    "mp4": ("libx264", "yuv420p", "mp4"),
    "mkv": ("libx264", "yuv420p", "matroska"),
    "flv": ("flv", "yuv420p", "flv"),
    "ts": ("mpeg2video", "yuv420p", "mpegts"),
    "mpg": ("mpeg2video", "yuv420p", "mpeg"),
    "wmv": ("wmv2", "yuv420p", "asf"),
    "gif": ("gif", "rgb8", "gif"),
    "3gp": ("mpeg4", "yuv420p", "3gp"),
    "webm": ("libvpx", "yuv420p", "webm"),
    "dat": ("libx264", "yuv420p", "mp4"),  # names that promise nothing
    "": ("libx264", "yuv420p", "matroska"),
}


def video_of(folder: Path, ending: str, *, name: str = "of_") -> Path:
    codec, pix_fmt, container = FORMS[ending]
    path = folder / (f"{name}{ending}.{ending}" if ending else f"{name}none")
    folder.mkdir(parents=True, exist_ok=True)
    fps = 25 if container == "mpeg" or codec == "mpeg2video" else 10
    encode(path, num=6, codec=codec, pix_fmt=pix_fmt, container_format=container, fps=fps)
    return path


def pictures_in(folder: Path, *, num: int = 4) -> Path:
    folder.mkdir(parents=True)
    for k in range(1, num + 1):
        Image.fromarray(np.full((24, 32, 3), 40 * k, dtype=np.uint8)).save(folder / f"{k:05d}.jpg")
    return folder


def test_every_container_is_taken_by_its_content(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for ending in FORMS:
        video_of(tmp_path, ending)
    assert [v.id for v in videos_in(tmp_path)] == sorted(f"of_{ending or 'none'}" for ending in FORMS)
    assert caplog.text == ""


def test_what_is_no_video_is_left_out_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = video_of(tmp_path / "deep" / "er", "mp4")
    clip = pictures_in(tmp_path / "frames_fps3" / "clip")
    pictures_in(tmp_path / "photos")
    (tmp_path / "of.srt").write_text("1\n00:00:00,500 --> 00:00:02,000\nIt is late.\n")
    Image.new("RGB", (32, 24)).save(tmp_path / "cover.png")
    encode_audio(tmp_path / "talk.aac.bin")
    (tmp_path / ".hidden.mp4").write_bytes(b"\0")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x.mp4").write_bytes(b"\0")
    with caplog.at_level(logging.WARNING):
        found = videos_in(tmp_path)
    assert found == [
        Video(id="deep/er/of_mp4", path=str(kept)),
        Video(id="frames_fps3/clip", path=str(clip)),
    ]
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path}: left out as no videos: cover.png (it cannot be read as a video")
    assert "of.srt (text)" in line
    assert "photos/ (it is a folder; give a video file, or numbered pictures with their rate" in line
    assert "talk.aac.bin (it holds no video stream, only audio" in line
    assert "hidden" not in line


def test_ids_stay_apart_and_a_broken_video_is_an_item(tmp_path: Path) -> None:
    for ending in ("mp4", "mkv"):
        video_of(tmp_path, ending).rename(tmp_path / f"same.{ending}")
    (tmp_path / "broken.mov").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert [v.id for v in videos_in(tmp_path)] == ["broken", "same.mkv", "same.mp4"]


def test_a_file_and_a_folder_of_pictures_are_one_video(tmp_path: Path) -> None:
    path = video_of(tmp_path, "mkv")
    assert videos_in(path) == [Video(id="of_mkv", path=str(path))]
    clip = pictures_in(tmp_path / "fps3" / "clip")
    assert videos_in(clip) == [Video(id="clip", path=str(clip))]


def test_links_are_followed_once(tmp_path: Path) -> None:
    video_of(tmp_path / "store", "mp4")
    (tmp_path / "data").mkdir()
    os.symlink(tmp_path / "store", tmp_path / "data" / "linked")
    os.symlink(tmp_path / "data", tmp_path / "data" / "back")
    assert [v.id for v in videos_in(tmp_path / "data")] == ["linked/of_mp4"]


def test_a_folder_without_videos_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UserError, match="holds no video: expected video files, or folders of numbered"):
        videos_in(tmp_path)


def test_segments_are_items_of_their_own() -> None:
    whole = Video(id="v", path="v.mp4")
    parts = [Video(id="v", path="v.mp4", start_s=s, end_s=e) for s, e in ((2.5, 7.0), (2.5, None))]
    samples = [Sample(id=str(k), video=v, question="") for k, v in enumerate([whole, *parts, whole])]
    assert [(v.id, v.start_s, v.end_s) for v in segments_of(samples)] == [
        ("v", None, None), ("v#t=2.5,7.0", 2.5, 7.0), ("v#t=2.5,", 2.5, None),
    ]  # fmt: skip


def test_the_command_encodes_all_and_names_the_rest(tmp_path: Path, tideo: Tideo) -> None:
    for ending in ("mp4", "flv", ""):
        video_of(tmp_path / "v", ending)
    (tmp_path / "v" / "a.srt").write_text("words")
    command = ("encode", str(tmp_path / "v"), "--encoder", "dollhouse-clip", "--out", str(tmp_path / "out"))
    done = tideo(*command)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'out'}\n"
    assert f"3 items in {tmp_path / 'out'}, 3 of them encoded now" in done.stderr
    assert "left out as no videos: a.srt (text)" in done.stderr
    (tmp_path / "v" / "broken.webm").write_bytes(b"\x1a\x45\xdf\xa3")
    again = tideo(*command)
    assert again.returncode == 3
    assert "broken: video" in again.stderr


def test_the_command_takes_a_benchmarks_videos(tmp_path: Path, tideo: Tideo) -> None:
    video_of(tmp_path / "v", "mkv")
    rows = [
        {"video_name": name, "question_id": k, "question": "q", "a0": "x", "a1": "y", **span}
        for k, (name, span) in enumerate(
            [("of_mkv", {}), ("of_mkv", {"start_s": 0.2, "end_s": 0.4}), ("gone", {}), ("of_mkv", {})]
        )
    ]
    data = tmp_path / "q.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    options = ("--encoder", "dollhouse-clip", "--out", str(out))
    done = tideo("encode", f"csv={data}", "--videos", str(tmp_path / "v"), *options)
    assert (done.returncode, done.stdout) == (3, f"{out}\n"), done.stderr
    assert f"2 items in {out}, 2 of them encoded now" in done.stderr
    assert "gone: there is no such file" in done.stderr
    features = EncodedFolder(out)
    assert sorted(features) == ["of_mkv", "of_mkv#t=0.2,0.4"]
    times = features["of_mkv#t=0.2,0.4"].pts_s_T
    assert times is not None
    assert all(0.1 < t <= 0.4 for t in times)
    for source, message in (
        (f"csv={data}", "--videos goes with the videos of a benchmark"),
        (str(tmp_path / "none"), "there is no such file or folder, or no BENCHMARK of that name"),
    ):
        wrong = tideo("encode", source, *options)
        assert wrong.returncode == 2
        assert message in wrong.stderr


def test_a_pipe_is_left_out_unread(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    encode(tmp_path / "a.mp4")
    os.mkfifo(tmp_path / "pipe")
    assert [video.id for video in videos_in(tmp_path)] == ["a"]
    assert "pipe (no file)" in caplog.text
