"""The frames of all videos that `tideo encode` wrote into a folder, and how similar each is to a text.

Shapes: N rows of all shards, one after the other, Q texts, D width.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tideo.encoders.encode import ENCODER_FILE, ITEMS_FILE
from tideo.parallel import threads
from tideo.store.features import FeatureStore
from tideo.store.records import read_records
from tideo.tally import Tally, staged
from tideo.types import UserError

BLOCK = 512  # rows in float32 at a time, which stay in a processor's cache
DECIMALS = 6  # of a score; float16 rows hold no more, and equal rows of different blocks agree to so many


@dataclass(frozen=True, kw_only=True, eq=False)
class Item:
    """A video or segment: its rows of all N, their times, its path and its content's key if the folder has them."""

    id: str
    key: str  # in the store
    first: int
    last: int
    pts_s_T: np.ndarray  # float64
    path: str | None
    content: str | None


class Library:
    """The videos of a folder, in its order. Raises UserError for a folder that holds no frames of videos."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        _check_folder(self.folder)
        self.store = FeatureStore(self.folder)
        if self.store.about.get("modality") != "image":
            raise UserError(
                f"{folder} holds features of texts, which have no times: search the folder of encoded videos"
            )
        firsts: dict[str, int] = {}
        self.num = 0
        for shard, values in self.store.shards():
            firsts[shard] = self.num
            self.num += len(values)
        self.items: list[Item] = []
        for record in read_records(self.folder / ITEMS_FILE):
            item = self._item(record, firsts)
            if item is not None:
                self.items.append(item)
        if not self.items:
            raise UserError(f"{folder} holds no frames of any video: encode some with tideo encode")

    def _item(self, record: dict[str, str], firsts: dict[str, int]) -> Item | None:
        """None for a video that failed."""
        if not {"id", "key"} <= set(record):
            raise UserError(f"{self.folder / ITEMS_FILE} is damaged: run tideo encode again, which writes it")
        if (key := record["key"]) not in self.store:
            return None
        pts_s_T = self.store.pts_s(key)
        if pts_s_T is None:
            raise UserError(
                f"{self.folder} holds features without times, as of {record['id']!r}: encode again"
            )
        shard, first, num = self.store.place(key)
        if num == 0:
            return None
        first += firsts[shard]
        return Item(
            id=record["id"], key=key, first=first, last=first + num, pts_s_T=pts_s_T, path=record.get("path"),
            content=record.get("content"),
        )  # fmt: skip

    @property
    def encoder_id(self) -> str:
        return str(self.store.about["encoder"])

    @property
    def encoder_name(self) -> str:
        """The name that the encoder was loaded by. Raises UserError for a folder that does not say it."""
        path = self.folder / ENCODER_FILE
        try:
            return str(json.loads(path.read_text(encoding="utf-8"))["name"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.folder} does not name its encoder ({ENCODER_FILE} is missing or damaged): give --encoder "
                f"E, the one with the id {self.encoder_id}"
            ) from error

    def scores(self, vectors_QD: np.ndarray) -> np.ndarray:
        """float32 [Q, N]: the products of unit vectors with all rows; -inf for a frame that is lost (a row of zeros).

        Exact, for rows as they are stored, in float16. Beside the result, a block for each thread is in memory; the
        rows are read through maps. Raises UserError for a damaged shard.
        """
        vectors_DQ = torch.from_numpy(np.ascontiguousarray(vectors_QD.T))
        scores_NQ = torch.empty(self.num, len(vectors_QD))
        shards, num_threads = list(self.store.shards()), torch.get_num_threads()
        rows = _tensors([values for _, values in shards])
        parts = scores_NQ.split([len(values) for _, values in shards])
        with staged(tally := Tally("search"), total=self.num), threads(num_threads) as pool:

            def work(place: int) -> None:
                # A shard for each thread: to divide each small product, threads would wait for each other.
                torch.set_num_threads(1)
                _products(rows[place], vectors_DQ, out=parts[place])
                tally.add("search", len(parts[place]))

            try:
                list(pool.map(work, range(len(shards))))
            finally:
                torch.set_num_threads(num_threads)  # for MKL it was set for all threads
        for (shard, values), part in zip(shards, parts, strict=True):
            if not part.isfinite().all():
                raise self.damaged(shard)
            zero = (part[:, 0] == 0).nonzero()[:, 0].numpy()
            part[zero[~values[zero].any(axis=1)]] = -torch.inf
        scores_QN: np.ndarray = scores_NQ.numpy().T.round(DECIMALS)
        return scores_QN

    def damaged(self, shard: str) -> UserError:
        """The error of a shard with values that are not finite."""
        return UserError(
            f"{self.folder / shard} is damaged (it holds values that are no numbers): remove it and its .json, and "
            "encode again"
        )

    def scores_of(self, item: Item, vector_D: np.ndarray) -> np.ndarray:
        """float32 [T]: the scores of one video."""
        values_TD = self.store[item.key]
        scores_T: np.ndarray = (values_TD.astype(np.float32) @ vector_D).round(DECIMALS)
        for zero in np.flatnonzero(scores_T == 0):
            scores_T[zero] = 0 if values_TD[zero].any() else -np.inf
        return scores_T


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; give one that tideo encode wrote")
    if not (folder / "store.json").exists():
        below = sorted(str(path.parent) for path in folder.glob("*/store.json"))
        if below:
            raise UserError(
                f"{folder} holds no features itself, but {', '.join(below[:5])} do: search one of them"
            )
    elif not (folder / ITEMS_FILE).exists():
        raise UserError(
            f"{folder} does not say of which videos its features are ({ITEMS_FILE} is missing): write them with "
            "tideo encode; a pool that is there already is not made again"
        )


def _products(rows_ND: torch.Tensor, vectors_DQ: torch.Tensor, *, out: torch.Tensor) -> None:
    """Into `out` [N, Q], a block of rows after the other."""
    block_BD = torch.empty(min(BLOCK, len(rows_ND)), rows_ND.shape[1])
    for start in range(0, len(rows_ND), BLOCK):
        part = rows_ND[start : start + BLOCK]
        torch.mm(block_BD[: len(part)].copy_(part), vectors_DQ, out=out[start : start + len(part)])


def _tensors(arrays: Sequence[np.ndarray]) -> list[torch.Tensor]:
    """Over the same memory, which is only read; torch warns of an array that cannot be written."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [torch.from_numpy(array) for array in arrays]
