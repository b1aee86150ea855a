"""How many questions share a forward pass. It knows no model: units of work, and a function that answers several."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from tideo.types import Stopped, UserError

if TYPE_CHECKING:  # a model of another package may need no torch
    from torch import nn

log = logging.getLogger(__name__)
Unit = TypeVar("Unit")
Result = TypeVar("Result")

START, MOST = 4, 256  # of `auto` on an accelerator
ON_CPU = 16  # of `auto` (docs/benchmarks.md, Batches)
LARGE = (
    1_000_000_000  # parameters; on a CPU `auto` is 1 for them, as no exception says that memory ends there
)
TRIALS = 3  # batches of one size before the next is tried
GAIN = 1.05  # what a size twice as large must be worth


@dataclass(frozen=True, kw_only=True)
class Batching:
    """`batch`: how many questions share a forward pass, a number or `auto`.

    It is no setting of the model: it does not change what is answered, so the keys of answers leave it out.
    """

    batch: Literal["auto"] | int = "auto"

    def __post_init__(self) -> None:
        if self.batch != "auto" and self.batch < 1:
            raise UserError(f"batch={self.batch}: expected auto, or how many questions share a forward pass")

    def check(self, alone: str | None) -> None:
        """Raise UserError if more questions are to share a forward pass than can; `alone` is the reason."""
        if alone is not None and self.batch not in ("auto", 1):
            raise UserError(
                f"batch={self.batch}: {alone}, so questions are answered one by one; leave it out"
            )

    def size(self, model: nn.Module, *, alone: str | None = None) -> BatchSize:
        """The sizes for this model, where it lies.

        `auto` on an accelerator starts small and grows as long as that makes it faster; on a CPU it is fixed, so that
        a run gives the same numbers again. `alone` is the reason if the model takes one question at a time. Raises
        UserError if it was set to take more.
        """
        self.check(alone)
        if alone is not None:
            return BatchSize(1)
        if self.batch != "auto":
            return BatchSize(self.batch)
        if {p.device.type for p in model.parameters()} <= {"cpu"}:
            return BatchSize(1 if sum(p.numel() for p in model.parameters()) > LARGE else ON_CPU)
        return BatchSize(START, most=MOST)


def unmasked(attention: str) -> str | None:
    """Why no two questions can share a forward pass with this attention of transformers; None if they can."""
    return f"{attention} takes no mask" if attention.startswith(("flash", "flex")) else None


class BatchSize:
    """`now` is the size of the next batch, `most` the largest one to try, `busy_s` what all batches took."""

    def __init__(self, now: int, *, most: int | None = None) -> None:
        self.now, self.most, self.busy_s = now, most or now, 0.0
        self._rate, self._rates = (
            0.0,
            [0.0, 0.0, 0],
        )  # of the size before; questions, seconds and batches of this one

    def learn(self, num: int, seconds: float) -> None:
        """Note that a batch of `num` questions took so long; grow if the last step was worth it."""
        self.busy_s += seconds
        if self.now >= self.most or num <= self.now // 2:  # a batch that was not full says nothing
            return
        self._rates = [a + b for a, b in zip(self._rates, (num, seconds, 1), strict=True)]
        if self._rates[2] < TRIALS:
            return
        rate = self._rates[0] / self._rates[1]
        if rate >= GAIN * self._rate:
            self._rate, self.now = rate, min(2 * self.now, self.most)
        else:
            self.now = self.most = self.now if rate > self._rate else self.now // 2
        self._rates = [0.0, 0.0, 0]

    def halve(self) -> None:
        """After memory was not enough: this size is not tried again."""
        self.now = self.most = max(1, self.now // 2)


def in_batches(
    units: Iterable[Unit],
    answer: Callable[[Sequence[Unit], int], Sequence[Result]],
    *,
    size: BatchSize,
    weight: Callable[[Unit], int],
    fits: Callable[[Sequence[Unit]], bool] = lambda _: True,
) -> Iterator[list[tuple[Unit, Result | UserError]]]:
    """`answer(units, size)` for batches of units: each unit with its result, a finished batch at a time.

    A batch holds units of at most `size` questions together (`weight` of each), or a single one, and `fits`. One that
    needs more memory than there is is answered again with half the size; one that raises UserError, in halves. So a
    unit gets an error for its result only if it fails by itself.
    """
    for batch in _batches(units, size=size, weight=weight, fits=fits):
        yield from _answered(batch, answer, size=size, weight=weight)


def _batches(
    units: Iterable[Unit],
    *,
    size: BatchSize,
    weight: Callable[[Unit], int],
    fits: Callable[[Sequence[Unit]], bool],
) -> Iterator[list[Unit]]:
    batch: list[Unit] = []
    total = 0
    for unit in units:
        num = weight(unit)
        if batch and (total + num > size.now or not fits([*batch, unit])):
            yield batch
            batch, total = [], 0
        batch.append(unit)
        total += num
        if total >= size.now or len(batch) >= MOST:  # units that weigh nothing, as those of missing videos
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def _answered(
    units: list[Unit],
    answer: Callable[[Sequence[Unit], int], Sequence[Result]],
    *,
    size: BatchSize,
    weight: Callable[[Unit], int],
) -> Iterator[list[tuple[Unit, Result | UserError]]]:
    from tideo.device import OUT_OF_MEMORY, free_memory, is_out_of_memory

    before, waiting = (size.now, size.most), [units]
    while waiting:
        batch, *smaller = _batches(waiting.pop(0), size=size, weight=weight, fits=lambda _: True)
        waiting[:0] = smaller  # if the size has become less
        started_s = time.perf_counter()
        failure: UserError | None = None
        try:
            results = answer(batch, size.now)
        except Stopped:
            raise
        except UserError as error:
            failure = error
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            failure = UserError(OUT_OF_MEMORY)
        if failure is None:
            size.learn(sum(map(weight, batch)), time.perf_counter() - started_s)
            yield list(zip(batch, results, strict=True))
        elif str(failure) == OUT_OF_MEMORY and size.now > 1:
            free_memory()
            size.halve()
            waiting.insert(0, batch)
        elif len(batch) > 1:
            waiting[:0] = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
        else:
            free_memory()
            if (
                str(failure) == OUT_OF_MEMORY
            ):  # this unit alone is too large, which says nothing of the others
                size.now, size.most = before
            yield [(batch[0], failure)]
    if size.now < before[0]:
        log.warning("the memory is not enough for %d questions a batch: %d from here on", before[0], size.now)
