"""The options of a question in every cyclic order: is the answer right in all of them, and does a place attract it?

Rotated by k, place p shows option (p + k) mod n. Answers are stored for the options in their own order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tideo.evaluate.metrics import accuracy
from tideo.models.interface import Controls
from tideo.types import Answer, Sample

ORDER = "order_"


def option_orders(samples: Sequence[Sample]) -> dict[str, Controls]:
    """name → the control that rotates the options: every order except the questions' own."""
    most = max((len(s.options) for s in samples), default=0)
    return {f"{ORDER}{k}": Controls(rotated=k) for k in range(1, most)}


def rotated(sample: Sample, by: int) -> Sample:
    """The question with its options rotated."""
    if not sample.options:
        return sample
    k = by % len(sample.options)
    answer = None if sample.answer is None else (sample.answer - k) % len(sample.options)
    return dataclasses.replace(sample, options=sample.options[k:] + sample.options[:k], answer=answer)


def rotated_back(answer: Answer, by: int, num: int) -> Answer:
    """The answer to a rotated question of `num` options, as an answer to the question itself."""
    if not num:
        return answer
    k = by % num
    return dataclasses.replace(
        answer,
        choice=None if answer.choice is None else (answer.choice + k) % num,
        loglikelihoods=answer.loglikelihoods[num - k :] + answer.loglikelihoods[: num - k],
        num_tokens=answer.num_tokens[num - k :] + answer.num_tokens[: num - k],
    )


def order_figures(samples: Sequence[Sample], answers: Mapping[int, Mapping[str, Answer]]) -> dict[str, Any]:
    """What the orders show; `answers` by rotation, 0 included, and sample id.

    `n`, `accuracy`, `ci95`: right in every order. `by_place`: for each place the share of answers that chose it, and
    the accuracy where the right option stands there, over questions of the most options.
    """
    known = [(s, s.answer) for s in samples if s.answer is not None]
    right = [all(of[s.id].choice == answer for of in answers.values()) for s, answer in known]
    most = max(len(s.options) for s, _ in known)
    chosen, correct, shown = [0] * most, [0] * most, [0] * most
    for k, of in answers.items():
        for sample, answer in ((s, a) for s, a in known if len(s.options) == most):
            choice, place = of[sample.id].choice, (answer - k) % most
            shown[place] += 1
            correct[place] += choice == answer
            if choice is not None:
                chosen[(choice - k) % most] += 1
    total = max(1, sum(chosen))
    return dataclasses.asdict(accuracy(right, clusters=[s.video.id for s, _ in known])) | {
        "num_orders": len(answers),
        "by_place": [
            {"chosen": c / total, "accuracy": r / max(1, n)}
            for c, r, n in zip(chosen, correct, shown, strict=True)
        ],
    }
