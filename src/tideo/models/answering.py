"""Questions about one segment → answers, for any model that scores options and writes replies."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tideo.models.prompts import FORMS, open_prompt, style
from tideo.replies import without_thoughts
from tideo.types import Answer, Sample, UserError

if TYPE_CHECKING:
    from tideo.models.likelihood import OptionScores

Prompts = Sequence[tuple[str, Sequence[str]]]  # each with its options, as the form writes them


def answers_to(
    samples: Sequence[Sample],
    *,
    form: str,
    prompt_style: str,
    score: Callable[[Prompts], list[OptionScores]],
    generate: Callable[[str], str],
) -> list[Answer]:
    """One Answer a sample: its options' log-likelihoods in this form, or generated text if it has none.

    `score` gets all questions at once. If it raises UserError, it gets each alone, and a question that the model cannot
    take (too long, no text) becomes an Answer with its error. Raises UserError for an unknown form.
    """
    if form not in FORMS:
        raise UserError(f"unknown scoring form {form!r}; expected one of {', '.join(FORMS)}")
    words = style(prompt_style)

    def scores_of(*about: Sample) -> list[OptionScores]:
        return score([FORMS[form](s.question, s.options, words) for s in about])

    with_options = [s for s in samples if s.options]
    try:
        scored = dict(zip((s.id for s in with_options), scores_of(*with_options), strict=True))
    except UserError:  # about one question: scoring each alone finds it
        scored = {}

    def answer(sample: Sample) -> Answer:
        try:
            if not sample.options:
                text = without_thoughts(generate(open_prompt(sample.question, style=words)))
                error = (
                    "the reply ends within a thought: set a higher max_new_tokens" if text is None else None
                )
                return Answer(sample_id=sample.id, text=text or "", error=error)
            found = scored.get(sample.id) or scores_of(sample)[0]
            return Answer(sample_id=sample.id, loglikelihoods=found.sums, num_tokens=found.counts)
        except UserError as error:
            return Answer(sample_id=sample.id, error=str(error))

    return [answer(s) for s in samples]


def timed(answers: Sequence[Answer], *, started_s: float) -> list[Answer]:
    """The answers, each with an equal share of the seconds since `started_s`, a time of `time.perf_counter`."""
    seconds = (time.perf_counter() - started_s) / max(1, len(answers))
    return [replace(a, seconds=seconds) for a in answers]
