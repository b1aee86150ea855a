"""The stages that every unit passes on its way into a store: decoded on a CPU, encoded in batches, written.

A unit is a video, a Tideo or a text; each has its `Stages`. They run in threads of this process, or on a Ray cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from itertools import islice
from socket import gethostname
from typing import Any

import numpy as np

from tideo.cluster import Cluster, streamed
from tideo.encoders.dual import DualEncoder
from tideo.parallel import Failure, attempted, threads
from tideo.tally import Tally
from tideo.types import Features, UserError

HOPELESS = 8  # items in a row that an encoder fails on before it is the encoder that is broken
AHEAD = 4  # units that are decoded beside the encoder


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The features of a unit as they are stored."""

    values_TD: np.ndarray  # float16
    pts_s_T: np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class Stages:
    """`decode` prepares one unit on a CPU (None: nothing to prepare), `encode` takes up to `size` prepared ones."""

    decode: Callable[[Any], Any] | None
    encode: Callable[[Sequence[Any], DualEncoder], Iterable[Features]]
    size: int

    @property
    def names(self) -> tuple[str, ...]:
        return (*(("decode",) if self.decode else ()), "encode", "write")


class Encoding:
    """Batches of decoded units → their rows, or a Failure in place of what failed, here or before.

    If a batch fails, its units are encoded one by one, each up to three times. Raises UserError if `load` returns
    another encoder than that of `encoder_id`, and if nothing can be encoded any more.
    """

    def __init__(
        self,
        encode: Callable[[Sequence[Any], DualEncoder], Iterable[Features]],
        load: Callable[[], DualEncoder],
        encoder_id: str,
    ) -> None:
        self.encode, self.encoder = encode, load()
        self._in_a_row = 0
        if self.encoder.id != encoder_id:
            raise UserError(
                f"the encoder of the name given is {self.encoder.id} on {gethostname()}, and {encoder_id} where the "
                "run was started: give all machines the same files"
            )

    def __call__(self, decoded: Sequence[Any]) -> list[Rows | Failure]:
        rows = iter(self._encoded([unit for unit in decoded if not isinstance(unit, Failure)]))
        return [unit if isinstance(unit, Failure) else next(rows) for unit in decoded]

    def _encoded(self, units: list[Any]) -> Sequence[Rows | Failure]:
        if len(units) > 1:
            try:
                found: Sequence[Rows | Failure] = self._rows(units)
            except Exception:  # noqa: BLE001 - those that fail alone too are reported
                return [one for unit in units for one in self._encoded([unit])]
        else:
            found = [attempted(lambda unit: self._rows([unit])[0], unit) for unit in units]
        for result in found:
            if not isinstance(result, Failure):
                self._in_a_row = 0
            elif (failed := self._in_a_row + 1) < HOPELESS:
                self._in_a_row = failed
            else:
                raise UserError(
                    f"the encoder fails on every item, on the last {failed} of them: {result.reason}"
                )
        return found

    def _rows(self, units: Sequence[Any]) -> list[Rows]:
        return [_stored(features) for features in self.encode(units, self.encoder)]


def _stored(features: Features) -> Rows:
    with np.errstate(over="ignore"):  # an overflow raises below
        values_TD = features.values_TD.astype(np.float16)
    if not np.isfinite(values_TD).all():
        raise ValueError("a feature is not finite in float16")
    return Rows(values_TD=values_TD, pts_s_T=features.pts_s_T)


def passed(
    units: Mapping[str, Any],
    stages: Stages,
    *,
    load: Callable[[], DualEncoder],
    encoder_id: str,
    cluster: Cluster | None,
    tally: Tally,
) -> Generator[tuple[str, Rows | Failure], None, None]:
    """The key and the rows of each unit, or its Failure, each once, in the order in which they come."""
    encoder = partial(Encoding, stages.encode, load, encoder_id)
    if cluster is not None:
        yield from streamed(
            units, decode=stages.decode, encoder=encoder, size=stages.size, cluster=cluster, tally=tally
        )
        return
    encode, decoded = encoder(), _decoded(units, stages.decode, tally=tally)
    while part := list(islice(decoded, stages.size)):
        results = encode([unit for _, unit in part])
        tally.add("encode", len(part))
        yield from zip((key for key, _ in part), results, strict=True)


def _decoded(
    units: Mapping[str, Any], decode: Callable[[Any], Any] | None, *, tally: Tally
) -> Iterator[tuple[str, Any]]:
    """Each unit decoded, or its Failure, in order. Two threads work on some units ahead, under this one's limits."""
    if decode is None:
        yield from units.items()
        return
    work, left = partial(attempted, decode), iter(units.items())
    with threads(2) as pool:

        def begin(num: int) -> list[tuple[str, Future[Any]]]:
            return [(key, pool.submit(copy_context().run, work, unit)) for key, unit in islice(left, num)]

        begun = begin(AHEAD)
        while begun:
            key, future = begun.pop(0)
            yield key, future.result()
            tally.add("decode", 1)
            begun += begin(1)
