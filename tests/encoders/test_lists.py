"""Videos by list, table and URL: ids, places, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tideo.encoders.lists import is_list, videos_at
from tideo.types import UserError


def places(source: str | Path) -> dict[str, str]:
    return {video.id: video.path for video in videos_at(str(source))}


def test_a_list_names_paths_from_its_folder_and_urls(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    lines = ["a.mp4", "", "  [2020] b.mkv  ", "/abs/c.mp4", "s3://bucket/d.mp4", "same.mp4", "same.mkv"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    assert places(tmp_path / "list.txt") == {
        "a": f"{tmp_path}/a.mp4",
        "[2020] b": f"{tmp_path}/[2020] b.mkv",
        "/abs/c": "/abs/c.mp4",
        "s3://bucket/d": "s3://bucket/d.mp4",
        "same.mp4": f"{tmp_path}/same.mp4",
        "same.mkv": f"{tmp_path}/same.mkv",
    }


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "a.mp4\nb.mp4\n", True),
        ("a.txt", "[2020] a.mp4\n", True),
        ("a.txt", '[{"idx": 1}]', False),
        ("a.txt", "[\n {", False),
        ("a", '{"idx": 1}\n', False),
        ("a.jsonl", "a.mp4\n", False),
        ("a.json", "[", False),
        ("a.txt", "", False),
    ],
)
def test_text_that_is_no_json_is_a_list(name: str, text: str, expected: bool, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert is_list(tmp_path / name) is expected


def test_text_without_a_path_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Remember the milk.\nAnd the eggs.\n")
    with pytest.raises(UserError, match=r"none of 2 lines is one, the first is 'Remember the milk\.'"):
        places(tmp_path / "notes.txt")


def table(path: Path, columns: dict[str, list[Any]]) -> Path:
    arrow = pytest.importorskip("pyarrow", reason="the extra `ray` is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(arrow.table(columns), path)
    return path


def test_a_table_has_paths_and_may_have_ids(tmp_path: Path) -> None:
    rows = {"path": ["a.mp4", "s3://b/c.mp4"], "size": [1, 2]}
    assert places(table(tmp_path / "t.parquet", rows)) == {
        "a": f"{tmp_path}/a.mp4",
        "s3://b/c": "s3://b/c.mp4",
    }
    named = table(tmp_path / "n.parquet", rows | {"id": ["x", "y"]})
    assert places(named) == {"x": f"{tmp_path}/a.mp4", "y": "s3://b/c.mp4"}
    assert list(places(named.as_uri())) == ["x", "y"]
    table(tmp_path / "parts.parquet" / "0.parquet", {"path": ["a.mp4"]})
    table(tmp_path / "parts.parquet" / "1.parquet", {"path": ["b.mp4"]})
    assert list(places(tmp_path / "parts.parquet")) == ["a", "b"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"file": ["a.mp4"]}, "has no column `path`"),
        ({"path": ["a.mp4", None]}, r"row 1: the path is None; expected a text"),
        ({"path": [7]}, r"row 0: the path is 7; expected a text"),
        ({"path": ["a.mp4"], "id": [""]}, r"row 0: the id is ''; expected a text"),
        ({"path": []}, "has no rows"),
    ],
)
def test_a_wrong_table_is_refused(columns: dict[str, list[Any]], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        videos_at(str(table(tmp_path / "t.parquet", columns)))


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="the extra `ray` is not installed")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        videos_at(str(tmp_path / "t.parquet"))


def test_below_a_url_names_decide(caplog: pytest.LogCaptureFixture) -> None:
    system = fsspec.filesystem("memory")
    files = {
        "/l/v/a.mp4": b"",
        "/l/v/sub/b.MKV": b"",
        "/l/v/n.md": b"",
        "/l/e/n.md": b"",
        "/l/p.txt": b"v/a.mp4\n",
    }
    system.pipe(files)
    try:
        with caplog.at_level(logging.WARNING):
            assert places("memory://l/v") == {"a": "memory:///l/v/a.mp4", "sub/b": "memory:///l/v/sub/b.MKV"}
        assert "1 files are not named as videos and are left out" in caplog.text
        assert places("memory://l/v/a.mp4") == {"a": "memory://l/v/a.mp4"}
        assert places("memory://l/p.txt") == {"v/a": "memory://l/v/a.mp4"}
        with pytest.raises(UserError, match=r"memory://l/e holds no video: none of its 1 files"):
            places("memory://l/e")
    finally:
        system.rm("/l", recursive=True)
