from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from tideo.serve.budget import NoRoom
from tideo.serve.media import Media, Spool, decoded
from tideo.types import UserError


@pytest.fixture
def spool(tmp_path):
    (tmp_path / "spool").mkdir()
    return Spool(tmp_path / "spool", max_bytes=10)


def media(spool, **settings) -> Media:
    return Media(spool, max_bytes=1000, **settings)


def data_url(content: bytes) -> str:
    return "data:video/mp4;base64," + base64.b64encode(content).decode()


def test_a_data_url_is_a_file_with_its_content(spool):
    with media(spool).file(data_url(b"1234")) as path:
        assert path.read_bytes() == b"1234"


def test_the_same_content_is_one_file(spool):
    with media(spool).file(data_url(b"1234")) as one, media(spool).file(data_url(b"1234")) as other:
        assert one == other
    assert len(list(spool.folder.iterdir())) == 1


def test_the_spool_removes_what_was_used_longest_ago(spool):
    for content in (b"aaaa", b"bbbb", b"aaaa", b"cccc"):
        with media(spool).file(data_url(content)):
            pass
    assert sorted(path.read_bytes() for path in spool.folder.iterdir()) == [b"aaaa", b"cccc"]


def test_the_spool_keeps_what_is_in_use_and_takes_no_more_than_it_has_room_for(spool):
    with media(spool).file(data_url(b"a" * 8)) as first:
        with pytest.raises(NoRoom, match="ask again later"), media(spool).file(data_url(b"b" * 8)):
            pass
        assert first.read_bytes() == b"a" * 8
    with media(spool).file(data_url(b"b" * 8)) as second:
        assert [path.read_bytes() for path in spool.folder.iterdir()] == [b"b" * 8]
        assert second.exists()


def test_the_spool_counts_what_is_being_written(spool):
    with spool.writing() as slow:
        slow.write(b"a" * 8)
        with pytest.raises(NoRoom), spool.writing() as other:
            other.write(b"b" * 8)
    with spool.writing() as later:  # what was not taken up is gone
        later.write(b"c" * 8)
        assert len(list(spool.folder.iterdir())) == 1


def test_a_full_disk_is_no_fault(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    spool = Spool(tmp_path, max_bytes=100)
    with spool.writing() as written, open("/dev/full", "wb", buffering=0) as full:
        written.file = full
        with pytest.raises(NoRoom, match="No space left"):
            written.write(b"a")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("data:video/mp4;base64,%%%%", "not base64"),
        ("data:video/mp4;base64", "has a comma"),
        ("data:video/mp4;base64,", "is empty"),
        ("data:video/mp4;base64,AAA", "not base64"),
    ],
)
def test_a_data_url_that_is_none(url, message):
    with pytest.raises(UserError, match=message):
        decoded(url)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "media" / "sub").mkdir(parents=True)
    (tmp_path / "media" / "v.mp4").write_bytes(b"video")
    (tmp_path / "media" / "sub" / "a b.mp4").write_bytes(b"other")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "media" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "media" / "round").symlink_to(tmp_path / "media" / "round")
    os.mkfifo(tmp_path / "media" / "pipe")
    (tmp_path / "media" / "frames_fps3").mkdir()
    (tmp_path / "media" / "frames_fps3" / "00001.jpg").symlink_to(tmp_path / "secret")
    (tmp_path / "media-2").mkdir()
    (tmp_path / "media-2" / "v.mp4").write_bytes(b"secret")
    return tmp_path / "media"


@pytest.mark.parametrize(
    ("url", "content"),
    [("file:v.mp4", b"video"), ("file:sub/a%20b.mp4", b"other"), ("file:///{media}/v.mp4", b"video")],
)
def test_opens_files_of_the_media_folder(spool, folder, url, content):
    with media(spool, media_dir=folder).file(url.replace("/{media}", str(folder))) as path:
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    "url",
    [
        "file:../secret",
        "file:%2e%2e/secret",
        "file:sub/../../secret",
        "file:link",
        "file:../media-2/v.mp4",
        "file:///etc/passwd",
        "file://elsewhere/v.mp4",
        "file:none.mp4",
        "file:v.mp4%00",
        "file:round",
        "file:pipe",
        "file:",
        "file:frames_fps3",
        "file://[::1",
        "file:" + "x" * 5000,
    ],
)
def test_opens_nothing_outside_of_it(spool, folder, url):
    with (
        pytest.raises(UserError, match="no such file in this server's media folder"),
        media(spool, media_dir=folder).file(url),
    ):
        pass


def test_opens_no_file_without_a_media_folder(spool):
    with pytest.raises(UserError, match="--media-dir"), media(spool).file("file:v.mp4"):
        pass


@pytest.mark.parametrize("url", ["/etc/passwd", "v.mp4", "ftp://host/v.mp4", "pipe:0", ""])
def test_opens_no_other_url(spool, url):
    with pytest.raises(UserError, match="expected data:"), media(spool).file(url):
        pass
