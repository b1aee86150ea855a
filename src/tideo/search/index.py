"""An index over the frames of a library, so that a search need not compare a text with all of them.

    FEATURES/index-KEY.faiss   FAISS: an inverted file of 8-bit rows; KEY hashes the shards and which rows are of videos
    FEATURES/index-KEY.json    the frames in it, and its recall

It only finds the videos; their frames are then compared exactly. So scores and moments are those of an exact search,
except that a moment may be missing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from tideo.registry import require
from tideo.search.library import Library
from tideo.search.moments import Moment, best_moments
from tideo.store.files import atomic_path, atomic_write_text, check_writable, key_of
from tideo.tally import Tally, staged
from tideo.types import UserError

NEAREST = 1024  # frames that the index is asked for
PER_LIST = 64  # frames of each list that train it
PROBED = 64  # lists that a search reads
ADDED = 65536  # frames at a time
RECALL = 10  # moments
# Texts whose exact results the index is measured against.
TEXTS = tuple(
    f"{who} {does}"
    for who, does in product(
        ("a man", "a woman", "a child", "two people"),
        (
            "cooks",
            "opens a door",
            "drives a car",
            "speaks",
            "walks outside",
            "reads",
            "runs",
            "eats at a table",
        ),
    )
)


class FrameIndex:
    """The index of a library, which is built if the folder has none of this content; older ones are removed."""

    def __init__(self, library: Library, encode: Callable[[list[str]], np.ndarray]) -> None:
        """`encode`: texts → unit vectors [Q, D], to measure the recall. Raises UserError without FAISS."""
        self.library = library
        self._faiss: Any = require("faiss")
        self._spans = sorted({(item.first, item.last) for item in library.items})
        self._firsts = np.array([first for first, _ in self._spans])
        shards = [name for name, _ in library.store.shards()]
        key = key_of([shards, self._spans])[:16]
        self.path = library.folder / f"index-{key}.faiss"
        if not self.path.exists() or not self.path.with_suffix(".json").exists():
            self._build(encode)
        try:
            self._index: Any = self._faiss.read_index(str(self.path), self._faiss.IO_FLAG_MMAP)
        except RuntimeError as error:
            raise UserError(f"{self.path} is damaged: remove it, and it is built again") from error
        about_it = self.path.with_suffix(".json")
        try:
            about = json.loads(about_it.read_text(encoding="utf-8"))
            self.about = {name: float(about[name]) for name in ("frames", "recall")}
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{about_it} is damaged: remove it, and the index is built again") from error
        self._probe()

    @property
    def summary(self) -> str:
        """A line about the frames in it and its recall."""
        return (
            f"index of {self.about['frames']:,.0f} frames: it finds {self.about['recall']:.1%} of the {RECALL} best "
            f"moments of an exact search (over {len(TEXTS)} texts)"
        )

    def _probe(self) -> None:
        self._index.nprobe = min(PROBED, self._index.nlist)

    def _build(self, encode: Callable[[list[str]], np.ndarray]) -> None:
        check_writable(self.library.folder)
        rows = np.concatenate([np.arange(first, last) for first, last in self._spans])
        lists = max(1, min(math.isqrt(len(rows)), len(rows) // 40))
        dim, faiss = self.library.store.dim, self._faiss
        quantizer = faiss.IndexFlatIP(dim)
        index = faiss.IndexIVFScalarQuantizer(
            quantizer, dim, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        tally = Tally("index")
        with staged(tally, total=len(rows)):
            sample = np.random.default_rng(0).choice(rows, min(len(rows), PER_LIST * lists), replace=False)
            index.train(self._values(np.sort(sample)))
            for start in range(0, len(rows), ADDED):
                part = rows[start : start + ADDED]
                values = self._values(part)
                frames = values.any(axis=1)  # a frame that is lost is none
                index.add_with_ids(values[frames], part[frames])
                tally.add("index", len(part))
        self._index = index
        self._probe()
        recall = self.recall(encode(list(TEXTS)))
        for old in self.library.folder.glob("index-*"):
            if old.stem != self.path.stem:  # else another process has just built the same
                old.unlink(missing_ok=True)
        with atomic_path(self.path) as tmp:
            faiss.write_index(index, str(tmp))
        about = {"frames": index.ntotal, "recall": round(recall, 4)}
        atomic_write_text(self.path.with_suffix(".json"), json.dumps(about))

    def _values(self, rows: np.ndarray) -> np.ndarray:
        """float32 [n, D] of ascending rows."""
        out = np.empty((len(rows), self.library.store.dim), np.float32)
        first = 0
        for shard, values in self.library.store.shards():
            start, end = np.searchsorted(rows, (first, first + len(values)))
            out[start:end] = values[rows[start:end] - first]
            if not np.isfinite(out[start:end]).all():
                raise self.library.damaged(shard)
            first += len(values)
        return out

    def recall(self, vectors_QD: np.ndarray) -> float:
        """The share of the ten best moments of an exact search that the index finds, over these texts."""
        found = total = 0
        for start in range(0, len(vectors_QD), 8):
            part_QD = vectors_QD[start : start + 8]
            for vector_D, scores_N in zip(part_QD, self.library.scores(part_QD), strict=True):
                exact = best_moments(self.library.items, scores_N, num=RECALL)
                here = {(m.item.first, m.shown_s) for m in self.search(vector_D, num=RECALL)}
                found += sum((m.item.first, m.shown_s) in here for m in exact)
                total += len(exact)
        return found / max(total, 1)

    def search(self, vector_D: np.ndarray, *, num: int) -> list[Moment]:
        """As `best_moments` of the exact scores, among the videos of the nearest frames."""
        nearest = min(self._index.ntotal, max(NEAREST, 64 * num))
        _, rows = self._index.search(vector_D[None].astype(np.float32), nearest)
        spans: dict[int, None] = {}  # the first rows of their videos, three times as many as are needed
        for row in rows[0][rows[0] >= 0]:
            spans[int(self._firsts[np.searchsorted(self._firsts, row, side="right") - 1])] = None
            if len(spans) == 3 * num:
                break
        items = [item for item in self.library.items if item.first in spans]
        scores_N = np.full(self.library.num, -np.inf, np.float32)
        for item in items:
            scores_N[item.first : item.last] = self.library.scores_of(item, vector_D)
        return best_moments(items, scores_N, num=num) if items else []
