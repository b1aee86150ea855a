"""Accuracies, intervals and paired tests against numbers worked out by hand or by simulation; scoring."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideo.evaluate.metrics import accuracy, difference, mcnemar, mean_of_kinds, t975
from tideo.scoring import REDUCTIONS, decide, scores
from tideo.types import Answer, UserError


def test_independent_questions_have_the_binomial_error() -> None:
    found = accuracy([True, False] * 50, clusters=range(100))
    assert (found.n, found.accuracy) == (100, 0.5)
    assert found.stderr == pytest.approx(0.5 / math.sqrt(99))
    assert found.ci95 == pytest.approx((0.402, 0.598), abs=2e-3)


def test_questions_that_stand_and_fall_with_their_video_count_once() -> None:
    # 10 videos of 10 questions each, all right or all wrong: as 10 independent questions.
    correct = [video < 6 for video in range(10) for _ in range(10)]
    clustered = accuracy(correct, clusters=[video for video in range(10) for _ in range(10)])
    assert clustered.stderr == pytest.approx(accuracy([v < 6 for v in range(10)], clusters=range(10)).stderr)
    assert clustered.stderr > 3 * accuracy(correct, clusters=range(100)).stderr


def test_all_right_keeps_a_width() -> None:
    found = accuracy([True] * 20, clusters=range(20))
    assert (found.accuracy, found.stderr) == (1.0, 0.0)
    assert 0.8 < found.ci95[0] < 0.9
    assert found.ci95[1] == pytest.approx(1.0)


def test_one_video_tells_nothing_about_others() -> None:
    assert accuracy([True, False], clusters=["a", "a"]).ci95 == (0.0, 1.0)
    assert difference([True, False], [True, True], clusters=["a", "a"]).ci95 == (-1.0, 1.0)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):  # 30 videos of 6 questions, each video with an accuracy of its own around 0.6
        of_video = rng.beta(3, 2, size=30)
        correct = (rng.random((30, 6)) < of_video[:, None]).ravel()
        low, high = accuracy(correct.tolist(), clusters=np.repeat(np.arange(30), 6).tolist()).ci95
        covered += low <= 0.6 <= high
    assert 0.92 <= covered / 1000 <= 0.97


def test_a_rare_kind_counts_as_much_as_a_common_one() -> None:
    correct, kinds = [True] * 80 + [False] * 20, ["common"] * 80 + ["rare"] * 20
    found = mean_of_kinds(correct, kinds=kinds, clusters=range(100))
    assert (found.n, found.accuracy) == (100, 0.5)


def test_the_mean_of_equal_kinds_is_the_accuracy_without_what_parts_them() -> None:
    correct, kinds = [True, False, True, True] * 25, ["a", "a", "b", "b"] * 25
    found, plain = (
        mean_of_kinds(correct, kinds=kinds, clusters=range(100)),
        accuracy(correct, clusters=range(100)),
    )
    assert found.accuracy == plain.accuracy == 0.75
    # ((1/2)² (1/4) / 50) of kind a alone: kind b has no error
    assert found.stderr == pytest.approx(math.sqrt(0.25 * 0.25 / 50), rel=0.02)
    one = mean_of_kinds(correct, kinds=["a"] * 100, clusters=range(100))
    assert (one.stderr, *one.ci95) == pytest.approx((plain.stderr, *plain.ci95))


def test_a_paired_difference_ignores_what_both_answer_alike() -> None:
    first = [True, True, True, False] * 25
    other = [True, True, False, False] * 25
    found = difference(first, other, clusters=range(100))
    assert found.difference == pytest.approx(0.25)
    assert found.stderr == pytest.approx(math.sqrt(0.25 * 0.75 / 99))
    assert found.p == pytest.approx(2 / 2**25)
    assert difference(other, first, clusters=range(100)).difference == pytest.approx(-0.25)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 5, 1.0), (6, 0, 2 / 64), (10, 2, 2 * (1 + 12 + 66) / 4096)],
)
def test_mcnemar_is_exact(only_first: int, only_second: int, p: float) -> None:
    assert mcnemar(only_first, only_second) == pytest.approx(p)
    assert mcnemar(only_second, only_first) == pytest.approx(p)


def test_mcnemar_of_many() -> None:
    assert mcnemar(3000, 1500) < 1e-100


@pytest.mark.parametrize(("df", "t"), [(1, 12.706), (2, 4.303), (4, 2.776), (10, 2.228), (30, 2.042)])
def test_t_quantile(df: int, t: float) -> None:  # a printed table
    assert t975(df) == pytest.approx(t, rel=4e-3)


def test_no_answers_have_no_accuracy() -> None:
    with pytest.raises(ValueError, match="no answers to average"):
        accuracy([], clusters=[])
    with pytest.raises(ValueError, match="2 answers with 1 clusters"):
        accuracy([True, True], clusters=["a"])
    with pytest.raises(ValueError, match="1 and 2 answers are not paired"):
        difference([True], [True, False], clusters=["a"])


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=60))
def test_intervals_hold_the_accuracy(rows: list[tuple[bool, int]]) -> None:
    found = accuracy([right for right, _ in rows], clusters=[video for _, video in rows])
    low, high = found.ci95
    assert 0 <= low <= found.accuracy + 1e-12
    assert found.accuracy - 1e-12 <= high <= 1


# --- scoring ---------------------------------------------------------------------------------------


def test_the_mean_does_not_favour_short_options() -> None:
    answer = Answer(sample_id="a", loglikelihoods=(-3.0, -4.0), num_tokens=(1, 4))
    assert decide(answer, reduction="mean").choice == 1
    assert decide(answer, reduction="sum").choice == 0
    assert scores((-3.0, -4.0), (1, 4), reduction="mean") == (-3.0, -1.0)


def test_a_failure_stays_a_failure() -> None:
    failed = Answer(sample_id="a", error="no frame")
    assert decide(failed, reduction="mean") is failed
    generated = Answer(sample_id="a", text="a cat")
    assert decide(generated, reduction="mean").choice is None


def test_an_unknown_reduction_is_told() -> None:
    with pytest.raises(UserError, match=f"unknown reduction 'max'; expected one of {', '.join(REDUCTIONS)}"):
        decide(Answer(sample_id="a", loglikelihoods=(0.0,), num_tokens=(1,)), reduction="max")
