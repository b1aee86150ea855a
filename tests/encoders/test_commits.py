"""What a run leaves: each row once, whatever was killed; a list of failures; where the rows lie."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tideo.encoders.commits import (
    Commits,
    DeadLetter,
    read_letters,
    write_letters,
    write_manifest,
)
from tideo.encoders.stages import Rows
from tideo.store.features import FeatureStore

LETTER = DeadLetter(id="a", path="a.mp4", key="k", reason="no frame", attempts=3)


def rows(*values: float) -> Rows:
    return Rows(values_TD=np.array([[v, 0] for v in values], np.float16), pts_s_T=np.array(values))


def written(folder: Path) -> list[list[str]]:
    return [json.loads(path.read_text())["ids"] for path in folder.glob("shard-*.json")]


def test_rows_are_written_by_number_by_time_and_in_the_end(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, dim=2, about={})
    commits = Commits(store, rows=3, seconds=1000)
    assert [commits.add("a", rows(1, 2)), commits.add("b", rows(3))] == [False, True]
    assert written(tmp_path) == [["a", "b"]]
    commits.seconds = 0
    assert commits.add("c", rows(4))
    commits.seconds = 1000
    assert not commits.add("d", rows(5))
    commits.flush()
    commits.flush()
    assert sorted(written(tmp_path)) == [["a", "b"], ["c"], ["d"]]
    assert store["a"].tolist() == [[1, 0], [2, 0]]


def test_a_key_comes_once_whoever_brings_it_again(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, dim=2, about={})
    commits = Commits(store, rows=2, seconds=1000)
    for key in ("a", "a", "b", "a", "b", "c"):
        commits.add(key, rows(1))
    commits.flush()
    again = Commits(FeatureStore(tmp_path), rows=2, seconds=1000)
    for key in ("c", "a", "d"):
        again.add(key, rows(1))
    again.flush()
    assert sorted(key for ids in written(tmp_path) for key in ids) == ["a", "b", "c", "d"]


def test_half_a_shard_of_a_killed_writer_does_not_count(tmp_path: Path) -> None:
    commits = Commits(FeatureStore(tmp_path, dim=2, about={}), rows=1, seconds=1000)
    commits.add("a", rows(1))
    commits.add("b", rows(2))
    index = next(p for p in tmp_path.glob("shard-*.json") if json.loads(p.read_text())["ids"] == ["a"])
    index.unlink()
    (tmp_path / ".0123.tmp").write_bytes(b"half")
    store = FeatureStore(tmp_path)
    assert list(store) == ["b"]
    commits = Commits(store, rows=1, seconds=1000)
    commits.add("a", rows(1))
    assert sorted(FeatureStore(tmp_path)) == ["a", "b"]
    assert sorted(written(tmp_path)) == [["a"], ["b"]]


def test_letters_are_read_as_they_were_written_and_go_with_the_last(tmp_path: Path) -> None:
    assert read_letters(tmp_path) == []
    write_letters(tmp_path, [LETTER, DeadLetter(id="ü", path=None, key=None, reason="gone", attempts=1)])
    assert [json.loads(line) for line in (tmp_path / "dead-letters.jsonl").read_text().splitlines()] == [
        {"id": "a", "path": "a.mp4", "key": "k", "reason": "no frame", "attempts": 3},
        {"id": "ü", "path": None, "key": None, "reason": "gone", "attempts": 1},
    ]
    assert read_letters(tmp_path)[0] == LETTER
    write_letters(tmp_path, [])
    assert not (tmp_path / "dead-letters.jsonl").exists()


def test_the_manifest_says_where_the_rows_lie(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra `ray` is not installed")
    store = FeatureStore(tmp_path, dim=2, about={})
    store.write(
        {"k1": np.ones((2, 2)), "k2": np.ones((1, 2))},
        pts_s={"k1": np.array([0.5, 1]), "k2": np.array([2.0])},
    )
    [shard] = (path.name for path in tmp_path.glob("*.safetensors"))
    keys = {"caf\udce9": "k1", "b": "k2", "copy": "k2", "failed": "k3"}  # a name that is no UTF-8
    paths = {"caf\udce9": "caf\udce9.mp4", "b": "b.mp4", "copy": None, "failed": "f.mp4"}
    write_manifest(tmp_path, paths, keys, store)
    assert parquet.read_table(tmp_path / "manifest.parquet").to_pylist() == [
        {
            "id": "caf?",
            "path": "caf?.mp4",
            "key": "k1",
            "shard": shard,
            "first_row": 0,
            "num_rows": 2,
            "pts_s": [0.5, 1.0],
        },
        {
            "id": "b",
            "path": "b.mp4",
            "key": "k2",
            "shard": shard,
            "first_row": 2,
            "num_rows": 1,
            "pts_s": [2.0],
        },
        {
            "id": "copy",
            "path": None,
            "key": "k2",
            "shard": shard,
            "first_row": 2,
            "num_rows": 1,
            "pts_s": [2.0],
        },
    ]


def test_without_pyarrow_an_old_manifest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tideo.encoders.commits.find_spec", lambda name: None)
    (tmp_path / "manifest.parquet").touch()
    write_manifest(tmp_path, {}, {}, FeatureStore(tmp_path, dim=2, about={}))
    assert not (tmp_path / "manifest.parquet").exists()
