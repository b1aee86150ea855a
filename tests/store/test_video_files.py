"""The one way from a name to a video."""

from __future__ import annotations

import os
import time
from pathlib import Path
from unicodedata import normalize

import pytest

from tideo.store.video_files import VideoFolder
from tideo.types import UserError

BINARY = b"\x00\x00\x00\x18ftypmp42\xff"


def folder_of(root: Path, *names: str) -> VideoFolder:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"words" if name.endswith((".srt", ".txt")) else BINARY)
    return VideoFolder(root)


@pytest.mark.parametrize(
    ("name", "files", "found"),
    [
        ("v", ["v.mp4"], "v.mp4"),
        ("v", ["v.webm"], "v.webm"),
        ("v", ["v.MKV"], "v.MKV"),
        ("v", ["v.strange"], "v.strange"),
        ("v", ["v"], "v"),
        ("v", ["v", "v.mp4"], "v"),
        ("v.mkv", ["v.mkv", "v.mp4"], "v.mkv"),
        ("v", ["v.flv", "v.srt", "v.txt"], "v.flv"),
        ("v", ["v.mp4", "v.jpg", "v.mp3"], "v.mp4"),
        ("v", ["v.strange", "v.srt"], "v.strange"),
        ("AB12C_11.1_19.6", ["AB12C_11.1_19.6.mp4", "AB12C_11.1.mp4"], "AB12C_11.1_19.6.mp4"),
        ("S01E02.1080p", ["S01E02.1080p.avi"], "S01E02.1080p.avi"),
        ("1164/24", ["1164/24.mp4", "24.mp4"], "1164/24.mp4"),
        ("clip", ["clip/00001.jpg", "clip/00002.jpg"], "clip"),
        ("1164", ["1164/24.mp4", "1164.mp4"], "1164.mp4"),
        ("http://a/b", ["http:/a/b.mp4"], "http:/a/b.mp4"),
        ("concat:a|b", ["concat:a|b.ts"], "concat:a|b.ts"),
        ("c:\\x.mp4", ["c:\\x.mp4"], "c:\\x.mp4"),
        ("-i", ["-i.mp4"], "-i.mp4"),
        ("%05d", ["%05d.gif"], "%05d.gif"),
        (normalize("NFC", "Käse"), [normalize("NFD", "Käse") + ".mp4"], normalize("NFD", "Käse") + ".mp4"),
    ],
)
def test_a_name_finds_its_video(name: str, files: list[str], found: str, tmp_path: Path) -> None:
    path = folder_of(tmp_path, *files).find(name)
    assert path == os.path.join(tmp_path, found)
    assert os.path.exists(path)


@pytest.mark.parametrize(
    ("name", "files", "expected"),
    [
        ("v", [], "v.mp4"),
        ("v", ["v.srt"], "v.mp4"),
        ("v.mkv", ["v.mp4"], "v.mkv"),
        ("http://a/b.mp4", ["b.mp4"], "http:/a/b.mp4"),
        ("n" * 300, [], "n" * 300 + ".mp4"),
        ("clip", ["clip/notes.txt"], "clip.mp4"),
    ],
)
def test_a_missing_video_is_expected_somewhere(
    name: str, files: list[str], expected: str, tmp_path: Path
) -> None:
    path = folder_of(tmp_path, *files).find(name)
    assert path == str(tmp_path / expected)
    assert not os.path.exists(path)


@pytest.mark.parametrize("files", [["v.mp4", "v.webm"], ["v/00001.png", "v.mp4"], ["v.one", "v.two"]])
def test_two_videos_of_a_name_are_both_named(files: list[str], tmp_path: Path) -> None:
    first, second = sorted(name.partition("/")[0] for name in files)
    with pytest.raises(
        UserError, match=rf"'v' may be {first} or {second} in .*: give the name with its ending"
    ):
        folder_of(tmp_path, *files).find("v")


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../v", "a/../../v", "v\0.mp4"])
def test_a_name_that_leads_out_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a place below the folder of videos"):
        folder_of(tmp_path).find(name)


def test_the_first_place_that_is_there_counts(tmp_path: Path) -> None:
    videos = folder_of(tmp_path, "a/1.mp4", "2.mp4")
    assert videos.find("a/1", "1") == str(tmp_path / "a" / "1.mp4")
    assert videos.find("a/2", "2") == str(tmp_path / "2.mp4")
    assert videos.find("a/3", "3") == str(tmp_path / "3.mp4")


def test_a_folder_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = folder_of(tmp_path, *(f"{k}.mp4" for k in range(50)))
    listed = []
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or real(path))
    assert len({videos.find(str(k)) for k in range(50)}) == 50
    assert len(listed) == 1


@pytest.mark.slow
def test_a_hundred_thousand_names(tmp_path: Path) -> None:
    for k in range(100_000):
        (tmp_path / f"{k}.webm").touch()
    videos = VideoFolder(tmp_path)
    begun = time.monotonic()
    assert all(videos.find(str(k)).endswith(".webm") for k in range(100_000))
    assert time.monotonic() - begun < 20
