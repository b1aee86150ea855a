"""A language model that reads a video as text and scores the options of questions about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tideo.device import threads_for
from tideo.loading import Loading
from tideo.models.likelihood import question_loglikelihoods
from tideo.models.prompts import FORMS, begin_ids, encode, style
from tideo.models.topa.checkpoint import load_llm
from tideo.types import Question


def numbered(lines: Sequence[str]) -> str:
    """A video as text: a numbered line for each frame."""
    return "Video:" + "".join(f"\n{number}: {line}." for number, line in enumerate(lines, 1))


class Reader:
    """`form` is a name in FORMS of models/prompts.py, `prompt_style` the name of a style there."""

    def __init__(
        self, model: Any, tokenizer: Any, *, form: str = "text", prompt_style: str = "plain"
    ) -> None:
        self.model, self.tokenizer, self.form, self.style = model, tokenizer, form, style(prompt_style)

    @classmethod
    def load(
        cls, name: str, *, form: str = "text", prompt_style: str = "plain", loading: Loading | None = None
    ) -> Reader:
        """`name` is a folder of a causal language model, or a Hugging Face id."""
        return cls(*load_llm(name, loading=loading), form=form, prompt_style=prompt_style)

    def scores(self, lines: Sequence[str], questions: Sequence[Question]) -> list[list[float]]:
        """For each question, the mean log-likelihood per token of each option.

        Without lines the model scores the questions alone.
        """
        if not questions:
            return []
        with threads_for(self.model):
            text = self.tokenizer(numbered(lines), add_special_tokens=False)["input_ids"]
            device = self.model.get_input_embeddings().weight.device
            story = torch.tensor([*begin_ids(self.tokenizer), *text], device=device)
            prompts = [FORMS[self.form](q.question, q.options, self.style) for q in questions]
            tokens = [encode(self.tokenizer, prompt, continuations=options) for prompt, options in prompts]
            stems = [(torch.tensor(t.after, device=device), t.continuations) for t in tokens]
            scores = question_loglikelihoods(self.model, prefix=story, questions=stems)
        return [[s / n for s, n in zip(*score, strict=True)] for score in scores]
