"""Batches that grow, that memory halves, and that one faulty unit breaks: no unit is lost."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tideo.models.batching import ON_CPU, START, Batching, BatchSize, in_batches
from tideo.types import Stopped, UserError

Results = list[tuple[int, str]]


class Machine:
    """Answers units, which are their own numbers of questions; has memory for `room` questions in a forward pass."""

    no_memory: RuntimeError = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def __init__(self, *, room: int = 1000, faulty: Sequence[int] = ()) -> None:
        self.room, self.faulty, self.batches = room, faulty, list[list[int]]()

    def answer(self, units: Sequence[int], at_once: int) -> list[str]:
        self.batches.append(list(units))
        if min(at_once, sum(units)) > self.room:
            raise self.no_memory
        if bad := set(units) & set(self.faulty):
            raise UserError(f"{bad.pop()} is too long")
        return [f"answer {unit}" for unit in units]


def results(machine: Machine, units: Sequence[int], size: BatchSize) -> Results:
    batches = in_batches(units, machine.answer, size=size, weight=lambda unit: unit)
    return [(unit, str(result)) for batch in batches for unit, result in batch]


def test_batches_hold_as_many_questions_as_the_size_or_one_unit() -> None:
    machine = Machine()
    results(machine, [2, 2, 3, 5, 1, 1], BatchSize(4))
    assert machine.batches == [[2, 2], [3], [5], [1, 1]]


def test_a_batch_that_does_not_fit_is_closed_early() -> None:
    machine = Machine()
    list(
        in_batches([1] * 5, machine.answer, size=BatchSize(4), weight=int, fits=lambda units: len(units) < 3)
    )
    assert machine.batches == [[1, 1], [1, 1], [1]]


def test_too_little_memory_halves_the_batch_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    machine, size = Machine(room=2), BatchSize(8)
    with caplog.at_level(logging.WARNING):
        assert results(machine, [1] * 20, size) == [(1, "answer 1")] * 20
    assert size.now == 2
    assert [len(units) for units in machine.batches] == [8, 4, *[2] * 10]
    assert [r.getMessage() for r in caplog.records] == [
        "the memory is not enough for 8 questions a batch: 2 from here on"
    ]


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "MPS backend out of memory (MPS allocated: 17.5 GB, other allocations: 1.1 GB, max allowed: 18.1 GB).",
    ],
)
def test_too_little_memory_in_the_words_of_libraries(words: str) -> None:
    machine, size = Machine(room=2), BatchSize(8)
    machine.no_memory = RuntimeError(words)
    assert results(machine, [1] * 9, size) == [(1, "answer 1")] * 9
    assert size.now == 2
    machine.no_memory = RuntimeError("CUDA error: device-side assert triggered")
    with pytest.raises(RuntimeError, match="device-side assert"):
        results(machine, [1] * 9, BatchSize(8))


def test_units_without_questions_do_not_pile_up() -> None:
    """As those of a benchmark whose videos are missing: their errors are stored while the others are looked for."""
    taken = iter(range(3_000))
    batches = in_batches((0 for _ in taken), Machine().answer, size=BatchSize(4), weight=lambda unit: unit)
    assert len(next(batches)) == 256
    assert next(taken) == 256
    assert sum(map(len, batches)) == 3_000 - 257


def test_a_unit_that_is_too_large_by_itself_is_its_own_error() -> None:
    """Its questions are tried in ever smaller parts; the others keep their batches."""

    class OneLong(Machine):
        def answer(self, units: Sequence[int], at_once: int) -> list[str]:
            if 3 in units:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().answer(units, at_once)

    machine, size = OneLong(), BatchSize(4)
    found = dict(results(machine, [2, 2, 3, 1, 4], size))
    assert found.pop(3).startswith("the GPU's memory is not enough: take fewer or smaller frames")
    assert found == {2: "answer 2", 1: "answer 1", 4: "answer 4"}
    assert size.now == 4


def test_a_faulty_unit_fails_alone() -> None:
    found = dict(results(Machine(faulty=[5]), [1, 2, 5, 3, 4], BatchSize(100)))
    assert found == {1: "answer 1", 2: "answer 2", 5: "5 is too long", 3: "answer 3", 4: "answer 4"}


def test_what_ends_a_run_ends_it() -> None:
    def answer(units: Sequence[int], at_once: int) -> list[str]:
        raise Stopped("the key is wrong")

    with pytest.raises(Stopped, match="the key is wrong"):
        list(in_batches([1, 1], answer, size=BatchSize(2), weight=int))


@given(
    st.lists(st.integers(1, 9), max_size=30),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sets(st.integers(1, 9)),
    st.booleans(),
)
def test_no_unit_is_lost_or_answered_twice(
    units: list[int], now: int, room: int, faulty: set[int], grows: bool
) -> None:
    machine = Machine(room=room, faulty=list(faulty))
    found = results(machine, units, BatchSize(now, most=256 if grows else None))
    assert [unit for unit, _ in found] == units
    assert all((result == f"answer {unit}") == (unit not in faulty) for unit, result in found)


@pytest.mark.parametrize(
    ("seconds_of", "expected"),
    [
        (lambda num: 1.0, 256),  # the time is that of the weights: every doubling is worth it
        (lambda num: float(num), 4),  # the time is that of the questions: none is
        (lambda num: max(16.0, float(num)), 16),
        (lambda num: 1.0 if num <= 8 else 100.0, 8),  # worse: back to the size before
    ],
)
def test_a_size_grows_while_that_is_faster(seconds_of: object, expected: int) -> None:
    size = BatchSize(START, most=256)
    for _ in range(60):
        size.learn(size.now, seconds_of(size.now))  # type: ignore[operator]
    assert size.now == expected


def test_after_too_little_memory_a_size_does_not_grow_again() -> None:
    size = BatchSize(16, most=256)
    size.halve()
    for _ in range(60):
        size.learn(8, 1.0)
    assert size.now == 8


def test_a_size_by_the_settings_and_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    small = torch.nn.Linear(2, 2)
    with torch.device("meta"):  # as an accelerator: no CPU
        on_accelerator = torch.nn.Linear(2, 2)
    assert Batching().size(small).now == ON_CPU
    assert (Batching().size(on_accelerator).now, Batching().size(on_accelerator).most) == (START, 256)
    assert (Batching(batch=3).size(small).now, Batching(batch=3).size(small).most) == (3, 3)
    monkeypatch.setattr("tideo.models.batching.LARGE", 5)
    assert Batching().size(small).now == 1
    assert Batching().size(small, alone="flash takes no mask").now == 1
    with pytest.raises(
        UserError, match="batch=4: flash takes no mask, so questions are answered one by one; leave it"
    ):
        Batching(batch=4).size(small, alone="flash takes no mask")
    with pytest.raises(UserError, match="batch=0: expected auto, or how many questions share a forward pass"):
        Batching(batch=0)
