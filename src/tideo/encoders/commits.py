"""What a run of `tideo encode` leaves in its folder beside the features: commits, dead letters, a manifest.

OUT/dead-letters.jsonl   the items that failed: id, path, key, reason, attempts
OUT/manifest.parquet     id, path, key, shard, first_row, num_rows and pts_s of each item; where pyarrow is installed

One process writes, whatever the number of workers; so each row is written once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from tideo.cluster import Cluster
from tideo.encoders.dual import DualEncoder
from tideo.encoders.stages import Rows, Stages, passed
from tideo.parallel import Failure
from tideo.registry import require
from tideo.store.features import FeatureStore
from tideo.store.files import atomic_path
from tideo.store.records import read_records, write_records
from tideo.tally import Tally, staged

LETTERS_FILE, MANIFEST_FILE = "dead-letters.jsonl", "manifest.parquet"
SHARD = 4096  # rows of a shard
COMMIT_S = 30.0  # after which a shard is written with fewer
MANIFEST_ROWS = 65536  # of a row group


class Commits:
    """Rows into a store, a shard when there are `rows` of them or `seconds` after the first: no kill loses more.

    A shard counts once its index is there. What a killed writer left without one is never read.
    """

    def __init__(self, store: FeatureStore, *, rows: int, seconds: float) -> None:
        self.store, self.rows, self.seconds = store, rows, seconds
        self._waiting: dict[str, Rows] = {}
        self._num, self._since_s = 0, 0.0

    def add(self, key: str, rows: Rows) -> bool:
        """Take a unit's rows, unless the store has them. Returns whether a shard was written."""
        if key in self.store or key in self._waiting:
            return False
        if not self._waiting:
            self._since_s = time.monotonic()
        self._waiting[key] = rows
        self._num += len(rows.values_TD)
        if self._num < self.rows and time.monotonic() - self._since_s < self.seconds:
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting, self._num = self._waiting, {}, 0
        times = {key: rows.pts_s_T for key, rows in waiting.items() if rows.pts_s_T is not None}
        self.store.write({key: rows.values_TD for key, rows in waiting.items()}, pts_s=times or None)


def committed(
    units: Mapping[str, Any],
    store: FeatureStore,
    *,
    stages: Stages,
    load: Callable[[], DualEncoder],
    cluster: Cluster | None,
    report: Callable[[Mapping[str, Failure]], object] = len,
    seconds: float = COMMIT_S,
) -> dict[str, Failure]:
    """Pass the units through the stages into the store, and return the failures. `report` gets them as they grow.

    `seconds` as of `Commits`.
    """
    found: dict[str, Failure] = {}
    if not units:
        return found
    commits, tally = Commits(store, rows=SHARD, seconds=seconds), Tally(*stages.names)
    encoder_id = store.about["encoder"]
    results = passed(units, stages, load=load, encoder_id=encoder_id, cluster=cluster, tally=tally)
    with staged(tally, total=len(units)), closing(results):
        try:
            for key, result in results:
                if isinstance(result, Failure):
                    found[key] = result
                elif commits.add(key, result):
                    report(found)
                tally.add("write", 1)
        finally:
            commits.flush()
            report(found)
    return found


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """An item that failed as often as it may. `key` is None if its content could not be read."""

    id: str
    path: str | None
    key: str | None
    reason: str
    attempts: int


def read_letters(out: str | Path) -> list[DeadLetter]:
    path = Path(out) / LETTERS_FILE
    return [DeadLetter(**record) for record in read_records(path)] if path.exists() else []


def write_letters(out: str | Path, letters: Sequence[DeadLetter]) -> None:
    """Write the list; without letters, remove it."""
    path = Path(out) / LETTERS_FILE
    if letters:
        write_records(path, map(asdict, letters), ensure_ascii=False)
    else:
        path.unlink(missing_ok=True)


def write_manifest(
    out: str | Path, paths: Mapping[str, str | None], keys: Mapping[str, str], store: FeatureStore
) -> None:
    """Write where each item's rows lie. Without pyarrow an older manifest, which would be wrong now, is removed."""
    path = Path(out) / MANIFEST_FILE
    if find_spec("pyarrow") is None:
        path.unlink(missing_ok=True)
        return
    arrow: Any = require("pyarrow")
    parquet: Any = require("pyarrow.parquet")
    schema = arrow.schema(
        {
            "id": arrow.string(), "path": arrow.string(), "key": arrow.string(), "shard": arrow.string(),
            "first_row": arrow.int64(), "num_rows": arrow.int64(), "pts_s": arrow.list_(arrow.float64()),
        }
    )  # fmt: skip

    def rows() -> Iterator[dict[str, Any]]:
        for name, key in keys.items():
            if key in store:
                shard, first, num = store.place(key)
                pts_s = store.pts_s(key)
                yield {
                    "id": _text(name), "path": _text(paths[name]), "key": key, "shard": shard, "first_row": first,
                    "num_rows": num, "pts_s": None if pts_s is None else pts_s.tolist(),
                }  # fmt: skip

    with atomic_path(path) as tmp, parquet.ParquetWriter(tmp, schema) as writer:
        left = rows()
        while part := list(islice(left, MANIFEST_ROWS)):
            writer.write_table(arrow.Table.from_pylist(part, schema=schema))


def _text(name: str | None) -> str | None:
    """Without the bytes of a file's name that are no text: Parquet has no place for them, so they become "?"."""
    return None if name is None else name.encode(errors="replace").decode()
