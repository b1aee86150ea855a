"""Storage that survives being killed."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from tideo.store.features import FeatureStore
from tideo.store.files import atomic_path, atomic_write_text, content_key, key_of
from tideo.store.records import RecordStore, read_records
from tideo.types import UserError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@dataclass(frozen=True)
class Made:
    by: str
    sizes: tuple[int, ...]


# --- keys ---


def test_a_key_is_the_same_on_every_machine() -> None:
    # printf '{"a":"\\u00e9","b":[1,2.5]}' | sha256sum
    expected = "1d5aa48ef9cd2b6be14efd77e6aa32fc7767713b66a7abf3c772a7863e7c199a"
    assert key_of({"b": [1, 2.5], "a": "é"}) == expected


def test_a_key_follows_the_content_only() -> None:
    assert key_of({"a": 1, "b": (2, 3)}) == key_of({"b": [2, 3], "a": 1})
    assert key_of(Made("clip", (1, 2))) == key_of({"sizes": [1, 2], "by": "clip"})
    assert key_of(np.int64(3)) == key_of(3)
    assert len({key_of(value) for value in (1, 1.5, "1", True, None, [1], {"1": 1})}) == 7


@given(JSON)
def test_a_key_survives_a_round_trip_through_json(value: object) -> None:
    assert key_of(json.loads(json.dumps(value))) == key_of(value)


@pytest.mark.parametrize("value", [{1, 2}, Path("a"), b"a", object(), np.zeros(2)])
def test_what_has_no_canonical_json_has_no_key(value: object) -> None:
    with pytest.raises(TypeError, match="has no canonical JSON"):
        key_of(value)


def test_a_nan_has_no_key() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        key_of(float("nan"))


# --- files ---


def test_what_a_file_manager_leaves_is_no_content(tmp_path: Path) -> None:
    for name in ("00001.jpg", "00002.jpg"):
        (tmp_path / name).write_bytes(b"picture")
    key = content_key(tmp_path)
    for name in (".DS_Store", "._00001.jpg", "Thumbs.db", "desktop.ini"):
        (tmp_path / name).write_bytes(b"of another program")
        assert content_key(tmp_path) == key
    (tmp_path / "00003.jpg").write_bytes(b"picture")
    assert content_key(tmp_path) != key


def test_a_name_as_long_as_a_name_may_be_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 125 + ".html")  # 255 bytes
    atomic_write_text(path, "page")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_text_that_utf8_lacks_is_written(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / "text", "half \ud83d of an emoji")
    assert (tmp_path / "text").read_text(encoding="utf-8") == "half ? of an emoji"


def test_an_atomic_file_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    atomic_write_text(path, "é\n")
    assert path.read_bytes() == "é\n".encode()

    def write_half() -> None:
        with atomic_path(path) as tmp:
            tmp.write_text("half")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert path.read_text() == "é\n"
    assert os.listdir(path.parent) == ["file.txt"], "no temporary file stays"


# --- records ---


def test_records_continue_where_they_stopped(tmp_path: Path) -> None:
    path = tmp_path / "run" / "answers.jsonl"
    with RecordStore(path, id_field="sample_id") as store:
        store.append({"sample_id": "a", "pts_s": (0.5, 1.0), "text": "tea\u2028\né"})
    with RecordStore(path, id_field="sample_id") as store:
        assert store.ids == {"a"}
        assert "a" in store
        store.append({"sample_id": "b", "made": Made("clip", (1,))})
        assert len(store) == 2
    assert read_records(path) == [
        {"sample_id": "a", "pts_s": [0.5, 1.0], "text": "tea\u2028\né"},
        {"sample_id": "b", "made": {"by": "clip", "sizes": [1]}},
    ]


def test_an_id_is_written_once(tmp_path: Path) -> None:
    with RecordStore(tmp_path / "a.jsonl") as store:
        store.append({"id": "a"})
        with pytest.raises(ValueError, match="already holds id 'a'"):
            store.append({"id": "a"})
    assert read_records(tmp_path / "a.jsonl") == [{"id": "a"}]


@given(cut=st.integers(min_value=1, max_value=40))
def test_a_record_cut_at_any_byte_is_dropped_or_whole(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.jsonl"
    first, last = b'{"id": "a", "n": 1}\n', '{"id": "é", "text": "{\\"x\\": 2}"}\n'.encode()
    kept = last[: min(cut, len(last) - 1)]
    path.write_bytes(first + kept)
    whole = kept == last[:-1]  # only the newline is missing
    if whole:
        store = RecordStore(path)
    else:
        with pytest.warns(
            UserWarning, match=rf"removed a last line that was cut short \({len(kept)} bytes\)"
        ):
            store = RecordStore(path)
    with store:
        assert store.ids == ({"a", "é"} if whole else {"a"})
        store.append({"id": "next"})
    assert [r["id"] for r in read_records(path)] == (["a", "é", "next"] if whole else ["a", "next"])


def test_reading_warns_of_a_torn_line_and_leaves_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"id": "a"}\n{"id": "b')
    with pytest.warns(UserWarning, match=r"the last line was cut short \(9 bytes\) and is left out"):
        assert read_records(tmp_path / "a.jsonl") == [{"id": "a"}]
    assert (tmp_path / "a.jsonl").read_bytes().endswith(b'{"id": "b')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "a"}\n{"id": \n{"id": "b"}\n', "line 2 is not JSON"),
        ('{"id": "a"}\n{"id": "b\n', "line 2 is not JSON"),
        ('{"id": "a"}\n[1]\n', "line 2 holds a list, not a JSON object"),
        ('{"id": "a"}\n{"id": "a"}\n', "line 2: id 'a' occurs twice"),
        ('{"id": "a"}\n{"x": 1}\n', "line 2: a record needs a text in 'id', not None"),
        ('{"id": 7}\n', "line 1: a record needs a text in 'id', not 7"),
    ],
)
def test_a_broken_line_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(UserError, match=message):
        RecordStore(tmp_path / "a.jsonl")
    assert (tmp_path / "a.jsonl").read_text() == text


def test_a_missing_file_of_records_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read records from .*: No such file"):
        read_records(tmp_path / "a.jsonl")


def test_a_second_writer_is_an_error(tmp_path: Path) -> None:
    with (
        RecordStore(tmp_path / "a.jsonl"),
        pytest.raises(UserError, match="another process writes to it"),
    ):
        RecordStore(tmp_path / "a.jsonl")
    RecordStore(tmp_path / "a.jsonl").close()


def test_a_record_that_json_cannot_say_leaves_no_trace(tmp_path: Path) -> None:
    with RecordStore(tmp_path / "a.jsonl") as store:
        with pytest.raises(ValueError, match="JSON compliant"):
            store.append({"id": "a", "loglikelihood": float("-inf")})
        store.append({"id": "a"})
    assert read_records(tmp_path / "a.jsonl") == [{"id": "a"}]


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, calls = os.write, []

    def fails_half_way(fd: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return write(fd, data[:5])

    with RecordStore(tmp_path / "a.jsonl") as store:
        store.append({"id": "a"})
        monkeypatch.setattr(os, "write", fails_half_way)
        with pytest.raises(OSError, match="No space left"):
            store.append({"id": "b"})
        monkeypatch.setattr(os, "write", write)
        store.append({"id": "b"})
    assert [record["id"] for record in read_records(tmp_path / "a.jsonl")] == ["a", "b"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_leaves_no_shard_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    store = FeatureStore(tmp_path, dim=2)
    monkeypatch.setattr("tideo.store.features.save_file", full)
    with pytest.raises(OSError, match=r"No space left on device: .*shard-[0-9a-f]+\.safetensors'$") as caught:
        store.write({"a": np.ones((1, 2), np.float32)})
    assert caught.value.errno == errno.ENOSPC
    assert [path.name for path in tmp_path.iterdir()] == ["store.json"]


WRITER = """
import sys
from tideo.store.records import RecordStore
store = RecordStore(sys.argv[1], fsync_s=float("inf"))
for number in range(len(store), 10**9):
    store.append({"id": str(number), "text": "x" * 200})
    print(number, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_it_appended(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    written = 0
    for _ in range(2):
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, env=env)
        assert writer.stdout is not None
        for line in writer.stdout:
            written = int(line) + 1
            if written % 200 == 0:
                writer.send_signal(signal.SIGKILL)
                break
        writer.wait()
        writer.stdout.close()
    ids = [int(record["id"]) for record in read_records(path)]
    assert ids == list(range(len(ids)))
    assert len(ids) >= written >= 400


# --- features ---


def rows(num: int, *, seed: int = 0, dim: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num, dim)).astype(np.float32)


def test_features_come_back_by_id(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, dim=6, about={"encoder": "clip"})
    items = {f"v{n}": rows(n, seed=n) for n in range(1, 6)}
    store.write({"v1": items["v1"], "v4": items["v4"]})
    store.write({name: items[name] for name in ("v2", "v3", "v5")})
    for opened in (store, FeatureStore(tmp_path), FeatureStore(tmp_path, dim=6, about={"encoder": "clip"})):
        assert set(opened) == set(items)
        assert len(opened) == 5
        for name, values in items.items():
            assert opened[name].dtype == np.float16
            np.testing.assert_array_equal(opened[name], values.astype(np.float16))
            assert opened.pts_s(name) is None
    assert "v9" not in store
    with pytest.raises(KeyError):
        store["v9"]
    with pytest.raises(ValueError, match="read-only"):
        store["v1"][0, 0] = 1


def test_features_keep_their_times(tmp_path: Path) -> None:
    times = {"a": np.array([0.1, 1 / 3]), "b": np.array([2.0])}
    FeatureStore(tmp_path, dim=6).write({"a": rows(2), "b": rows(1)}, pts_s=times)
    store = FeatureStore(tmp_path)
    np.testing.assert_array_equal(store.pts_s("a"), times["a"])
    np.testing.assert_array_equal(store.pts_s("b"), times["b"])


def test_a_shard_without_its_index_does_not_count(tmp_path: Path) -> None:
    """As a kill between the two leaves it; writing the same items again completes it."""
    FeatureStore(tmp_path, dim=6).write({"a": rows(2)})
    (index,) = tmp_path.glob("shard-*.json")
    index.unlink()
    store = FeatureStore(tmp_path)
    assert len(store) == 0
    store.write({"a": rows(2)})
    assert len(list(tmp_path.glob("shard-*.safetensors"))) == 1
    assert len(FeatureStore(tmp_path)) == 1


def test_two_writers_share_a_directory(tmp_path: Path) -> None:
    one, two = FeatureStore(tmp_path, dim=6), FeatureStore(tmp_path, dim=6)
    one.write({"a": rows(2), "b": rows(1)})
    two.write({"a": rows(2, seed=1), "c": rows(3)})
    assert set(FeatureStore(tmp_path)) == {"a", "b", "c"}
    np.testing.assert_array_equal(FeatureStore(tmp_path)["c"], rows(3).astype(np.float16))


def test_many_shards_keep_no_file_open(tmp_path: Path) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("counts open files in /proc")
    store = FeatureStore(tmp_path, dim=6)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        store.write({str(number): rows(1, seed=number)})
    assert len(os.listdir("/proc/self/fd")) == before
    np.testing.assert_array_equal(store["19"], rows(1, seed=19).astype(np.float16))


def test_other_features_are_not_mixed_in(tmp_path: Path) -> None:
    FeatureStore(tmp_path, dim=6, about={"encoder": "clip-1"})
    with pytest.raises(UserError, match=r'features of width 6 made by {"encoder":"clip-1"}, not .*clip-2'):
        FeatureStore(tmp_path, dim=6, about={"encoder": "clip-2"})
    with pytest.raises(UserError, match=r"features of width 6 .*, not width 8"):
        FeatureStore(tmp_path, dim=8)


def test_an_empty_directory_has_no_features(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no features in .*: store.json is missing"):
        FeatureStore(tmp_path)


def test_a_broken_shard_is_an_error(tmp_path: Path) -> None:
    FeatureStore(tmp_path, dim=6).write({"a": rows(20)})
    (shard,) = tmp_path.glob("shard-*.safetensors")
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-10])
    with pytest.raises(UserError, match=r"shard-.* cannot be read .* encode again"):
        FeatureStore(tmp_path)
    shard.unlink()
    with pytest.raises(UserError, match=r"shard-.* cannot be read .* encode again"):
        FeatureStore(tmp_path)
    shard.write_bytes(whole)
    (index,) = tmp_path.glob("shard-*.json")
    index.write_text('{"ids": ["a"], "num_rows": [19]}')
    with pytest.raises(UserError, match=r"does not match its \.json"):
        FeatureStore(tmp_path)


@pytest.mark.parametrize(
    ("items", "pts_s", "message"),
    [
        ({"old": rows(1)}, None, "already holds the features of 'old'"),
        ({"a": rows(1, dim=5)}, None, r"must be \[T, 6\], not \[1, 5\]"),
        ({"a": rows(1)[0]}, None, r"must be \[T, 6\], not \[6\]"),
        ({"a": rows(2)}, {"a": np.zeros(3)}, r"pts_s of 'a' must be \[2\], not \[3\]"),
        ({"a": rows(1), "b": np.full((1, 6), 1e6, np.float32)}, None, "not finite in float16"),
        ({"a": np.full((1, 6), np.nan, np.float32)}, None, "not finite in float16"),
    ],
)
def test_wrong_rows_are_refused(
    tmp_path: Path, items: dict[str, np.ndarray], pts_s: dict[str, np.ndarray] | None, message: str
) -> None:
    store = FeatureStore(tmp_path, dim=6)
    store.write({"old": rows(1)})
    with pytest.raises(ValueError, match=message):
        store.write(items, pts_s=pts_s)
    assert set(FeatureStore(tmp_path)) == {"old"}


def test_writing_nothing_makes_no_shard(tmp_path: Path) -> None:
    FeatureStore(tmp_path, dim=6).write({})
    assert os.listdir(tmp_path) == ["store.json"]
