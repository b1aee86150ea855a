"""Questions about segments → answers, for any model that scores options and writes replies."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tideo.models.listener import Listener
from tideo.models.prompts import FORMS, open_prompt, style
from tideo.replies import without_thoughts
from tideo.types import Answer, Sample, Stopped, UserError

if TYPE_CHECKING:
    from tideo.models.likelihood import OptionScores

Prompts = Sequence[tuple[str, Sequence[str]]]  # each with its options, as the form writes them


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """`what` a model is shown, in whatever form it takes it, and the questions about it in a form of FORMS.

    `listeners`: as of `Asked`.
    """

    what: Any
    samples: Sequence[Sample]
    form: str
    listeners: Mapping[str, Listener] = field(default_factory=dict)


def answers_to(
    shown: Sequence[Shown],
    *,
    prompt_style: str,
    score: Callable[[Sequence[tuple[Any, Prompts]]], list[list[OptionScores]]],
    generate: Callable[[Any, str, Listener], str],
    count: Callable[[Any, str], int],
) -> list[list[Answer]]:
    """One Answer a sample: its options' log-likelihoods in this form, or generated text if it has none.

    `generate` gets what is shown, the prompt and who waits for the reply. `score` gets all questions at once. If it
    raises UserError, it gets half of them, in the end each alone, and a question that the model cannot take (too long,
    no text) becomes an Answer with its error. `count` gives a prompt's tokens to a listener. Raises UserError for an
    unknown form, and Stopped if one of these functions does.
    """
    for form in {s.form for s in shown} - set(FORMS):
        raise UserError(f"unknown scoring form {form!r}; expected one of {', '.join(FORMS)}")
    words = style(prompt_style)

    def prompts(form: str, samples: Sequence[Sample]) -> Prompts:
        return [FORMS[form](s.question, s.options, words) for s in samples]

    def answer(of: Shown, sample: Sample, found: OptionScores | None) -> Answer:
        listener = of.listeners.get(sample.id) or Listener()
        try:
            if not sample.options:
                prompt = open_prompt(sample.question, style=words)
                text = without_thoughts(generate(of.what, prompt, listener))
                error = (
                    "the reply ends within a thought: set a higher max_new_tokens" if text is None else None
                )
                return Answer(sample_id=sample.id, text=text or "", error=error)
            if found is None:
                [[found]] = score([(of.what, prompts(of.form, [sample]))])
            if sample.id in of.listeners:
                listener.option_tokens = found.counts
                listener.prompt_tokens = count(
                    of.what, FORMS[of.form](sample.question, sample.options, words)[0]
                )
            return Answer(sample_id=sample.id, loglikelihoods=found.sums, num_tokens=found.counts)
        except Stopped:
            raise
        except UserError as error:
            return Answer(sample_id=sample.id, error=str(error))

    closed = [[s for s in of.samples if s.options] for of in shown]
    try:
        scored: Sequence[Sequence[OptionScores | None]] = score(
            [(of.what, prompts(of.form, samples)) for of, samples in zip(shown, closed, strict=True)]
        )
    except Stopped:
        raise
    except UserError:
        if (half := len(shown) // 2) > 0:  # the error is about one question: scoring it alone finds it
            parts = partial(
                answers_to, prompt_style=prompt_style, score=score, generate=generate, count=count
            )
            return [*parts(shown[:half]), *parts(shown[half:])]
        scored = [[None] * len(closed[0])]
    answers = []
    for of, found in zip(shown, map(iter, scored), strict=True):
        answers.append([answer(of, s, next(found) if s.options else None) for s in of.samples])
    return answers


def timed(answers: Sequence[Sequence[Answer]], *, started_s: float) -> list[list[Answer]]:
    """The answers, each with an equal share of the seconds since `started_s`, a time of `time.perf_counter`."""
    seconds = (time.perf_counter() - started_s) / max(1, sum(map(len, answers)))
    return [[replace(a, seconds=seconds) for a in of] for of in answers]
