"""All questions of a report as plain data: what was asked, and what each run and each control answered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tideo.scoring import scores
from tideo.types import Answer, Sample

MAX_TEXT = (
    500  # characters of a reply or an error: thousands of long thoughts make a page that no browser opens
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A run's result, or one of its controls. `answers` are by sample id, their choices made."""

    name: str
    samples: Sequence[Sample]
    answers: Mapping[str, Answer]
    reduction: str
    is_control: bool = False


def all_questions(conditions: Sequence[Condition]) -> list[dict[str, Any]]:
    """Every question that a condition answered, once, with one reply, or None, of each condition in their order."""
    asked: dict[Any, dict[str, Any]] = {}
    for place, condition in enumerate(conditions):
        for sample in condition.samples:
            if sample.id in condition.answers:
                key = (sample.id, sample.question, sample.options)
                entry = asked.setdefault(key, _asked(sample) | {"replies": [None] * len(conditions)})
                entry["replies"][place] = _reply(sample, condition)
    return list(asked.values())


def question(sample: Sample, condition: Condition) -> dict[str, Any]:
    """One question with the reply of one condition."""
    return _asked(sample) | {"replies": [_reply(sample, condition)]}


def _asked(sample: Sample) -> dict[str, Any]:
    video, segment = sample.video, ""
    if video.end_s is not None:
        segment = f", {video.start_s or 0:g} to {video.end_s:g} s"
    return {
        "id": sample.id,
        "kind": sample.kind,
        "video": video.id + segment,
        "question": sample.question,
        "options": sample.options,
        "answer": sample.answer,
    }


def _reply(sample: Sample, condition: Condition) -> dict[str, Any]:
    """`outcome` and `choice`; of a result, where they exist, `text`, `error`, each option's `scores` and `bars` too."""
    answer = condition.answers[sample.id]
    reply: dict[str, Any] = {"outcome": _outcome(sample, answer), "choice": answer.choice}
    if condition.is_control:
        return reply
    scored = scores(answer.loglikelihoods, answer.num_tokens, reduction=condition.reduction)
    if scored and all(map(math.isfinite, scored)):
        reply["scores"] = [round(s, 2) for s in scored]
        reply["bars"] = [round(math.exp(s - max(scored)), 3) for s in scored]
    texts = {"text": answer.text, "error": answer.error or ""}
    return reply | {name: _cut(text) for name, text in texts.items() if text}


def _outcome(sample: Sample, answer: Answer) -> str:
    if answer.error is not None:
        return "failed"
    if sample.answer is None:
        return "not scored"
    return "right" if answer.choice == sample.answer else "wrong"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + " …"
