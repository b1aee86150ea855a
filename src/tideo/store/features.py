"""Feature vectors on disk, in shards of safetensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tideo.store.files import atomic_path, atomic_write_text, canonical_json, jsonable, key_of
from tideo.types import UserError


class FeatureStore:
    """The feature rows of many items: read at random through memory maps, added one shard at a time.

        DIR/store.json              the width D, and `about`: what made the features (encoder, modality, …)
        DIR/shard-KEY.safetensors   "values" float16 [sum_T, D], and "pts_s" float64 [sum_T] if the items have times
        DIR/shard-KEY.json          the ids and the number of rows of each, in the order of the rows

    KEY hashes the shard's content, so several writers may share a directory. A shard counts once its JSON exists, so
    a kill leaves no half shard. An id in several shards is read from the first by name. Without an existing store,
    `dim` makes one. With one, `dim` and `about` must match it if given; UserError otherwise.
    """

    def __init__(
        self, directory: str | Path, *, dim: int | None = None, about: Mapping[str, Any] | None = None
    ) -> None:
        self.directory = Path(directory)
        head_path = self.directory / "store.json"
        if not head_path.exists():
            if dim is None:
                raise UserError(
                    f"no features in {directory}: store.json is missing; make them with tideo encode"
                )
            atomic_write_text(
                head_path, json.dumps({"dim": dim, "about": dict(about or {})}, default=jsonable)
            )
        try:
            head = json.loads(head_path.read_text())
            self.dim: int = head["dim"]
            self.about: dict[str, Any] = head["about"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{head_path} is damaged ({error!r}): encode into another directory") from error
        if dim not in (None, self.dim) or (about is not None and key_of(about) != key_of(self.about)):
            raise UserError(
                f"{directory} holds features of width {self.dim} made by {canonical_json(self.about)}, "
                f"not width {dim} by {canonical_json(about)}: use another directory"
            )
        self._shards: list[str] = []
        self._values: list[np.ndarray] = []
        self._pts_s: list[np.ndarray | None] = []
        self._spans: dict[str, tuple[int, int, int]] = {}  # id → shard, first row, row after the last
        for index_path in sorted(self.directory.glob("shard-*.json")):
            self._open_shard(index_path)

    def write(self, rows: Mapping[str, np.ndarray], *, pts_s: Mapping[str, np.ndarray] | None = None) -> None:
        """Add one shard of items: id → rows [T, D], stored as float16, and id → times [T] for items with a clock.

        Raises ValueError for an id that exists, another width, a wrong number of times, or a value that float16
        cannot hold. A few thousand rows are a good size for a shard.
        """
        if not rows:
            return
        for item_id, values in rows.items():
            if item_id in self._spans:
                raise ValueError(f"{self.directory} already holds the features of {item_id!r}")
            if values.ndim != 2 or values.shape[1] != self.dim:
                raise ValueError(f"features of {item_id!r} must be [T, {self.dim}], not {list(values.shape)}")
            if pts_s is not None and pts_s[item_id].shape != values.shape[:1]:
                raise ValueError(
                    f"pts_s of {item_id!r} must be [{len(values)}], not {list(pts_s[item_id].shape)}"
                )
        with np.errstate(over="ignore"):  # an overflow raises below
            tensors = {"values": np.concatenate(list(rows.values())).astype(np.float16)}
        if not np.isfinite(tensors["values"]).all():
            raise ValueError(f"a value in {next(iter(rows))!r} or after it is not finite in float16")
        if pts_s is not None:
            tensors["pts_s"] = np.concatenate([pts_s[item_id] for item_id in rows]).astype(np.float64)
        index = json.dumps({"ids": list(rows), "num_rows": [len(values) for values in rows.values()]})
        digest = hashlib.sha256(index.encode())
        for tensor in tensors.values():
            digest.update(tensor.data)
        stem = self.directory / f"shard-{digest.hexdigest()[:16]}"
        with atomic_path(stem.with_suffix(".safetensors")) as tmp:
            save_file(tensors, tmp)
        atomic_write_text(stem.with_suffix(".json"), index)
        self._open_shard(stem.with_suffix(".json"))

    def _open_shard(self, index_path: Path) -> None:
        shard_path = index_path.with_suffix(".safetensors")
        try:
            index = json.loads(index_path.read_text())
            ids, ends = index["ids"], np.cumsum([0, *index["num_rows"]]).tolist()
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{index_path} is damaged ({error!r}): remove it and {shard_path.name}, and encode again"
            ) from error
        try:
            # The torch back end maps the file and keeps no descriptor open; the numpy one would copy it.
            with safe_open(shard_path, framework="pt") as shard:
                arrays = {name: shard.get_tensor(name).numpy() for name in shard.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{shard_path} cannot be read ({error}): remove it and its .json, and encode again"
            ) from error
        if (
            len(ids) + 1 != len(ends)
            or {len(array) for array in arrays.values()} != {ends[-1]}
            or (arrays.get("values", np.empty(0)).shape != (ends[-1], self.dim))
        ):
            raise UserError(f"{shard_path} does not match its .json: remove both, and encode again")
        for array in arrays.values():
            array.flags.writeable = False
        for item_id, start, end in zip(ids, ends, ends[1:], strict=False):
            self._spans.setdefault(item_id, (len(self._values), start, end))
        self._shards.append(shard_path.name)
        self._values.append(arrays["values"])
        self._pts_s.append(arrays.get("pts_s"))

    def __getitem__(self, item_id: str) -> np.ndarray:
        """The rows of one item, float16 [T, D]: a read-only view of the file. Raises KeyError for an unknown id."""
        shard, start, end = self._spans[item_id]
        return self._values[shard][start:end]

    def pts_s(self, item_id: str) -> np.ndarray | None:
        """The times of one item's rows, float64 [T], or None without a clock. Raises KeyError for an unknown id."""
        shard, start, end = self._spans[item_id]
        pts_s = self._pts_s[shard]
        return None if pts_s is None else pts_s[start:end]

    def place(self, item_id: str) -> tuple[str, int, int]:
        """The file of one item's rows, the first of them there, and their number. Raises KeyError for an unknown id."""
        shard, start, end = self._spans[item_id]
        return self._shards[shard], start, end - start

    def shards(self) -> Iterator[tuple[str, np.ndarray]]:
        """The file and all rows of each shard, float16 [N, D], read-only: for one pass over everything."""
        return zip(self._shards, self._values, strict=True)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._spans

    def __len__(self) -> int:
        return len(self._spans)

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)
