"""Files by URL: what is there, what identifies a content, copies that are gone afterwards."""

from __future__ import annotations

import http.server
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import fsspec
import pytest

from tideo.store.files import content_key
from tideo.store.remote import content_of, files_below, is_url, local_copy
from tideo.types import UserError, VideoError

DATA = bytes(range(256)) * 1000  # 256,000 bytes: more than the blocks that identify a content


@pytest.fixture
def memory() -> Iterator[str]:
    system = fsspec.filesystem("memory")
    system.pipe({"/r/a.mp4": DATA, "/r/sub/b.mkv": DATA[:-1], "/r/notes.md": b"# notes"})
    yield "memory://r"
    system.rm("/r", recursive=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Python's own server, which cannot send a part of a file."""
    (tmp_path / "a.mp4").write_bytes(DATA)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))
    ) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize(
    ("source", "expected"),
    [("s3://b/a.mp4", True), ("memory://a", True), ("C://a", False), ("a://b", False), ("/x/s3://b", False)],
)
def test_a_url_begins_with_its_protocol(source: str, expected: bool) -> None:
    assert is_url(source) is expected


def test_files_below_a_url_have_places_and_urls(memory: str) -> None:
    assert files_below(memory) == {
        "a.mp4": "memory:///r/a.mp4",
        "notes.md": "memory:///r/notes.md",
        "sub/b.mkv": "memory:///r/sub/b.mkv",
    }
    assert files_below("memory://r/a.mp4") == {"": "memory:///r/a.mp4"}
    with pytest.raises(UserError, match=r"memory://nothing: there is no such file or folder"):
        files_below("memory://nothing")


def test_a_content_has_one_key_wherever_it_lies(memory: str, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(DATA)
    expected = content_key(tmp_path / "a.mp4")
    assert content_of(str(tmp_path / "a.mp4")) == content_of("memory://r/a.mp4") == expected
    assert content_of((tmp_path / "a.mp4").as_uri()) == expected
    assert content_of("memory://r/sub/b.mkv") != expected
    for gone in ("memory://r/gone.mp4", str(tmp_path / "gone.mp4")):
        with pytest.raises(VideoError, match="there is no such file"):
            content_of(gone)


def test_a_copy_is_whole_and_removed(memory: str) -> None:
    with local_copy("memory://r/a.mp4") as path:
        assert Path(path).suffix == ".mp4"
        assert Path(path).read_bytes() == DATA
    assert not Path(path).exists()
    with local_copy("/here/a.mp4") as path:
        assert path == "/here/a.mp4"


def test_a_web_server_without_ranges(server: str, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="the extra `cloud` is not installed")
    assert content_of(f"{server}/a.mp4") == content_key(tmp_path / "a.mp4")
    with pytest.raises(VideoError, match="there is no such file"):
        content_of(f"{server}/gone.mp4")


def test_an_unknown_protocol_is_an_error() -> None:
    with pytest.raises(UserError, match=r"Protocol not known: nowhere\): expected a path, or s3://, gs://"):
        files_below("nowhere://a")


@pytest.mark.parametrize(("url", "module"), [("s3://bucket/a.mp4", "s3fs"), ("gs://bucket/a.mp4", "gcsfs")])
def test_a_cloud_needs_its_extra(url: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(UserError, match=rf"{module} is not installed: run pip install 'tideo\[cloud\]'"):
        files_below(url)


def test_a_signed_url_may_be_long(memory: str) -> None:
    signed = f"/r/a.mp4?signature={'0' * 200}.{'a' * 300}"
    fsspec.filesystem("memory").pipe({signed: DATA})
    with local_copy(f"memory:/{signed}") as path:
        assert Path(path).name == "copy.mp4"
        assert Path(path).read_bytes() == DATA


def test_a_path_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File name too long"):
        content_of(str(tmp_path / ("a" * 300)))
    with pytest.raises(ValueError, match="null byte"):
        content_of("a\0.mp4")
