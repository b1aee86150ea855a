"""The three tasks of text-only pre-alignment as training examples (TOPA, arXiv 2405.13911, section 3.3).

A Tideo's frame features take the place of a video's; the task is to choose among options, to answer in words, or to
summarise. Every step has one task, drawn by weight, as in the published code ("a coin per step").
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from tideo.models.prompts import FORMS, IGNORE, answer_prompt, style, summary_prompt
from tideo.models.topa.prefix_lm import PrefixLM
from tideo.train.topa.config import TaskWeights
from tideo.train.uneven import uneven_places
from tideo.types import Features, Question, Tideo, UserError

# Options that mention other options keep their order. The test is for whole words: the published one also hits "hand".
_MENTIONS_OTHERS = re.compile(r"\b(both|all|none|and)\b", re.IGNORECASE)


class Examples(Dataset[dict[str, Any]]):
    """The examples of a training. Example `index` is a Tideo, in an order that changes each epoch, and its step's task.

    A step has `batch` examples. `choose_form` is a name in FORMS of models/prompts.py. `noise_std` is the standard
    deviation of Gaussian noise on each component of the unit features; every example has other noise. A share
    `share_projected` of the examples has the Tideo's features from `projected` instead, without noise. A share `uneven`
    has as many frames at uneven times: where these are close together, a frame of the Tideo comes again.
    """

    def __init__(
        self,
        tideos: Sequence[Tideo],
        features: Sequence[Features],
        model: PrefixLM,
        *,
        batch: int,
        steps: int,
        weights: TaskWeights,
        choose_form: str = "letter",
        noise_std: float = 0.0,
        projected: Sequence[Features] = (),
        share_projected: float = 0.0,
        uneven: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.tideos, self.features, self.model = tideos, features, model
        self.projected, self.share_projected = projected, share_projected
        self.batch, self.steps, self.weights = batch, steps, weights
        self.choose_form, self.noise_std, self.uneven, self.seed = choose_form, noise_std, uneven, seed
        self.style = style(model.prefix_config.prompt_style)
        self._tasks = {"choose": self._choose, "answer": self._answer, "summarise": self._summarise}
        self._order = lru_cache(maxsize=2)(self._shuffled)
        if not any(q.answer is not None for t in tideos for q in t.questions) and weights.summarise == 0:
            raise UserError("no Tideo has an answered question; give some, or a weight to summarise")

    def __len__(self) -> int:
        return self.batch * self.steps

    def name_of(self, index: int) -> str:
        return f"Tideo {self.tideos[self._which(index)].id}"

    def _which(self, index: int) -> int:
        epoch, place = divmod(index, len(self.tideos))
        return self._order(epoch)[place]

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng, which = random.Random(f"example/{self.seed}/{index}"), self._which(index)
        shares = (self.weights.choose, self.weights.answer, self.weights.summarise)
        step = random.Random(f"task/{self.seed}/{index // self.batch}")
        prompt, answer = self._tasks[step.choices(list(self._tasks), weights=shares)[0]](
            self.tideos[which], rng
        )
        projected = rng.random() < self.share_projected
        values_TD = torch.from_numpy((self.projected if projected else self.features)[which].values_TD)
        places_T = self._uneven_places(len(values_TD), index)
        if places_T is not None:
            last = len(values_TD) - 1
            values_TD = values_TD[[min(int(place * len(values_TD)), last) for place in places_T]]
        if not projected:
            values_TD = self._noisy(values_TD, index)
        return self.model.encode_example(values_TD, prompt=prompt, answer=answer, places_T=places_T)

    def _shuffled(self, epoch: int) -> list[int]:
        return random.Random(f"order/{self.seed}/{epoch}").sample(range(len(self.tideos)), len(self.tideos))

    def _uneven_places(self, num_frames: int, index: int) -> list[float] | None:
        """The frames' places, from 0 to 1, if those of the example are uneven."""
        rng = random.Random(f"uneven/{self.seed}/{index}")
        return uneven_places(num_frames, rng=rng) if rng.random() < self.uneven else None

    def _noisy(self, values_TD: torch.Tensor, index: int) -> torch.Tensor:
        if not self.noise_std:
            return values_TD
        generator = torch.Generator().manual_seed(hash((self.seed, index)) % 2**63)
        noise_TD = torch.randn(values_TD.shape, generator=generator)
        return torch.nn.functional.normalize(values_TD + self.noise_std * noise_TD, dim=-1)

    def _choose(self, tideo: Tideo, rng: random.Random) -> tuple[str, str]:
        question = _answered(tideo, rng)
        if question is None or len(question.options) < 2:
            return self._summarise(tideo, rng)
        question = shuffled(question, rng)
        prompt, continuations = FORMS[self.choose_form](question.question, question.options, self.style)
        assert question.answer is not None
        return prompt, continuations[question.answer]

    def _answer(self, tideo: Tideo, rng: random.Random) -> tuple[str, str]:
        question = _answered(tideo, rng)
        if question is None:
            return self._summarise(tideo, rng)
        assert question.answer is not None
        answer = question.open_answer or question.options[question.answer]
        return answer_prompt(question.question, style=self.style), answer + self.style.end

    def _summarise(self, tideo: Tideo, rng: random.Random) -> tuple[str, str]:
        return summary_prompt(style=self.style), tideo.summary + self.style.end


def collate_examples(examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """The keywords of `PrefixLM.forward` for a batch of examples, padded to the longest one; for a Trainer."""
    length = max(len(e["input_ids"]) for e in examples)
    videos = [torch.as_tensor(e["video_TD"]) for e in examples]
    return {
        "input_ids_BL": torch.tensor(
            [e["input_ids"] + [0] * (length - len(e["input_ids"])) for e in examples]
        ),
        "labels_BL": torch.tensor([e["labels"] + [IGNORE] * (length - len(e["labels"])) for e in examples]),
        "video_BTD": pad_sequence(videos, batch_first=True),
        "places_BT": pad_sequence([torch.tensor(e["places_T"]) for e in examples], batch_first=True),
        "num_frames_B": torch.tensor([len(v) for v in videos]),
        "video_start_B": torch.tensor([e["video_start"] for e in examples]),
    }


def shuffled(question: Question, rng: random.Random) -> Question:
    """The question with its options in another order, unless one of them mentions others."""
    assert question.answer is not None
    if any(_MENTIONS_OTHERS.search(option) for option in question.options):
        return question
    order = rng.sample(range(len(question.options)), len(question.options))
    options = tuple(question.options[i] for i in order)
    return replace(question, options=options, answer=order.index(question.answer))


def _answered(tideo: Tideo, rng: random.Random) -> Question | None:
    answered = [q for q in tideo.questions if q.answer is not None]
    return rng.choice(answered) if answered else None
