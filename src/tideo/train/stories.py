"""Dollhouse text for the tiny language model: a story and the questions about it, packed into one sequence.

Every question sees the story and itself, never another question (a block mask; positions restart after the
story), so one pass over a story trains all its questions. Shapes: L tokens of a document, B documents.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from tideo.dollhouse import questions, world
from tideo.dollhouse.captions import (
    action_phrase,
    caption,
    frame_times,
    one_line,
    summary,
    tool_phrase,
)
from tideo.dollhouse.script import NUM_FRAMES, FrameState, Split, sample_episode
from tideo.models.prompts import VIDEO, answer_prompt, choose_prompt, style
from tideo.train import lessons
from tideo.types import Question

LETTERS = "ABCDE"
PLAIN = style("plain")
IGNORE = -100
# The kinds of question that each form of a story still answers; None: all.
_BY_ACTIONS = ("CW", "CH", "TN", "TP", "Sequence", "Interaction", "Purpose")
TOLD: dict[str, tuple[str, ...] | None] = {
    "full": None,
    "main": (*_BY_ACTIONS, "DL"),
    "actions": _BY_ACTIONS,
    "list": _BY_ACTIONS,
}


@dataclass(frozen=True)
class Document:
    """One story with its questions, as token ids. `block` is 0 for the story, n for the n-th question."""

    ids: list[int]
    labels: list[int]  # IGNORE where no loss is taken; already shifted to the token that predicts them
    positions: list[int]
    block: list[int]


def told(states: Sequence[FrameState], rng: random.Random, *, form: str) -> str:
    """The story of a video in words: `full` captions, the `main` one, only `actions`, or these as a bare `list`."""
    if form == "list":
        doing = (action_phrase(s.action, rng) + tool_phrase(s.action, s.tool) for s in states)
        return "Video:" + ",".join(f" {phrase}" for phrase in doing) + "."
    lines = []
    for number, state in enumerate(states, 1):
        if form == "actions":
            line = action_phrase(state.action, rng) + tool_phrase(state.action, state.tool)
        elif form == "main":
            line = caption(state, rng).main
        else:
            line = one_line(caption(state, rng))
        lines.append(f"\n{number}: {line}.")
    return "Video:" + "".join(lines)


def ask_text(question: Question, *, with_options: bool) -> str:
    """The prompt after the story, up to the place of the answer: that of style "plain", which follows a video."""
    if with_options:
        prompt = choose_prompt(question.question, question.options, style=PLAIN)
    else:
        prompt = answer_prompt(question.question, style=PLAIN)
    return prompt.split(VIDEO)[1].rstrip(" ")


class Stories(Dataset[Document]):
    """Document `index` of the training text; every index is another episode, and always the same one.

    `lookups` questions a story ask for the frame of an action or the action of a frame: the matching of
    contents that all temporal questions rest on. `facts` times each fact is asked by its name. Questions
    of the kinds in `again` are asked `repeats` times
    more. `letters` is the share of questions answered by letter.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        num: int,
        seed: int = 0,
        split: Split = "train",
        forms: Sequence[tuple[str, float]] = (
            ("full", 0.4),
            ("main", 0.2),
            ("actions", 0.25),
            ("list", 0.15),
        ),
        lookups: int = 4,
        facts: int = 0,
        again: Sequence[str] = ("TN", "TP"),
        repeats: int = 1,
        letters: float = 0.2,
        shown_options: float = 0.2,
        story_loss: float = 0.1,
        group: int = 16,
    ) -> None:
        self.tokenizer, self.num, self.seed, self.split = tokenizer, num, seed, split
        self.forms, self.lookups, self.letters, self.shown_options = forms, lookups, letters, shown_options
        self.facts, self.again, self.repeats = facts, again, repeats
        self.story_loss, self.group = story_loss, group

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, index: int) -> Document:
        rng = random.Random(f"stories/{self.seed}/{self.split}/{index}")
        episode = sample_episode(self.split, index, seed=self.seed)
        # Neighbours share a form, so that a batch holds stories of like length.
        draw = random.Random(f"form/{self.seed}/{index // self.group}")
        form = draw.choices([f for f, _ in self.forms], weights=[w for _, w in self.forms])[0]
        balance = questions.Balance()  # the words of a lone episode; the corpus-wide balance needs a sequence
        asked: list[lessons.Asked] = []
        cut = questions.predict(episode, rng, balance) if rng.random() < 0.4 else None
        shown = cut[0] if cut else episode
        drafts = questions.ask(shown, rng, balance, kinds=TOLD[form])
        for _ in range(self.repeats):
            again = [k for k in self.again if TOLD[form] is None or k in (TOLD[form] or ())]
            drafts += questions.ask(shown, rng, balance, kinds=again)
        if cut:
            drafts = [q for q in drafts if q.kind != "Purpose"] + [cut[1]]
        for question in drafts:
            asked.append(self._asked(question, rng))
        states = [shown.state_at(t) for t in frame_times(shown.duration_s)]
        actions = [e.action for e in shown.events]
        frames = [actions.index(state.action) for state in states]

        def name(action: str) -> str:
            return action_phrase(action, rng)

        asked += [lessons.match(actions, frames, name, rng) for _ in range(self.lookups)]
        asked += [lessons.again(actions, name, ",", rng, back=i > 0) for i in range(2 if self.lookups else 0)]
        asked += filter(
            None, (lessons.facts(states, lessons.FACTS.get(form, ()), rng) for _ in range(self.facts))
        )
        if form == "full":
            asked.append(("\nSummary:", f" {summary(episode, rng)}.")) if not cut else None
        return self.encode(told(states, rng, form=form), asked, rng)

    def _asked(self, question: Question, rng: random.Random) -> lessons.Asked:
        assert question.answer is not None
        draw = rng.random()
        if draw < self.letters:
            return ask_text(question, with_options=True), f" ({LETTERS[question.answer]})"
        return (
            ask_text(question, with_options=draw < self.letters + self.shown_options),
            f" {question.options[question.answer]}.",
        )

    def encode(self, story: str, asked: Sequence[lessons.Asked], rng: random.Random) -> Document:
        """The story (a share of its tokens scored) and one block per item of `asked`."""
        parts = [story] + [text for item in asked for text in item]
        encoded: list[list[int]] = self.tokenizer(parts)["input_ids"]
        ids = list(encoded[0])
        start = len(ids)
        targets = [n if rng.random() < self.story_loss else IGNORE for n in ids]
        positions, block = list(range(start)), [0] * start
        rest = iter(encoded[1:])
        for number, item in enumerate(asked, 1):
            position = start
            for i, tokens in zip(range(len(item)), rest, strict=False):
                scored = i % 2 == 1
                if i == len(item) - 1:
                    tokens = [*tokens, self.tokenizer.eos_token_id]
                ids += tokens
                targets += tokens if scored else [IGNORE] * len(tokens)
                positions += range(position, position + len(tokens))
                block += [number] * len(tokens)
                position += len(tokens)
        # The label of a token is the next one of its own block; a block's last token has none.
        following = [*targets[1:], IGNORE]
        same = [a == b for a, b in zip(block, [*block[1:], -1], strict=True)]
        labels = [t if s else IGNORE for t, s in zip(following, same, strict=True)]
        return Document(ids, labels, positions, block)


class Glimpses(Stories):
    """One to three moments of an episode told in full, and the facts that the words tell, three times over.

    They come before stories. As long as nothing tells the values of a fact apart, predicting all of them alike draws
    their embeddings together (mean cosine 0.99 after 1,700 steps of stories), and from there none is learned.
    """

    def __getitem__(self, index: int) -> Document:
        rng = random.Random(f"glimpses/{self.seed}/{self.split}/{index}")
        episode = sample_episode(self.split, index, seed=self.seed)
        times = sorted(rng.random() * episode.duration_s for _ in range(rng.choice((1, 2, 3))))
        states = [episode.state_at(t) for t in times]
        story = told(states, rng, form="full")
        names = lessons.facts_told(story, states[0])
        asked = filter(None, (lessons.facts(states, names, rng) for _ in range(3)))
        return self.encode(story, list(asked), rng)


class Drills(Stories):
    """Lists of random actions, no script behind them: first lessons in finding a phrase again.

    A plain start learns to match contents only where matches are dense, so every list is told again from a
    random place, forwards and backwards. `bare` is the share of lists without anything between two actions,
    `plain` that of lists which call every action by its plain name; `lookups` questions follow the others.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        num: int,
        seed: int = 0,
        lookups: int = 6,
        bare: float = 0.0,
        plain: float = 0.5,
        group: int = 16,
    ) -> None:
        super().__init__(tokenizer, num=num, seed=seed, lookups=lookups, group=group)
        self.bare, self.plain = bare, plain

    def __getitem__(self, index: int) -> Document:
        rng = random.Random(f"drills/{self.seed}/{index}")
        actions = rng.sample(list(world.ACTIONS), rng.randint(3, NUM_FRAMES))
        plain = rng.random() < self.plain

        def name(action: str) -> str:
            return world.ACTIONS[action].phrases[0] if plain else action_phrase(action, rng)

        # Neighbours share a form, so that a batch holds documents of like length.
        if random.Random(f"bare/{self.seed}/{index // self.group}").random() < self.bare:
            story = "".join(f" {name(a)}" for a in actions) + "."
            asked = [lessons.again(actions, name, "", rng, back=i >= 3) for i in range(5)]
            return self.encode("Video:" + story, asked, rng)
        frames = list(range(len(actions)))
        if rng.random() < 0.5:
            frames = sorted(frames + rng.choices(frames, k=NUM_FRAMES - len(frames)))
        if rng.random() < 0.5:
            story = "".join(f"\n{n}: {name(actions[f])}." for n, f in enumerate(frames, 1))
        else:
            story = ",".join(f" {name(actions[f])}" for f in frames) + "."
        asked = [lessons.again(actions, name, ",", rng, back=i >= 2) for i in range(4)]
        asked += [lessons.match(actions, frames, name, rng) for _ in range(self.lookups)]
        return self.encode("Video:" + story, asked, rng)


def corpus(num: int, *, seed: int = 0) -> Iterator[str]:
    """Lines of training text for the tokenizer, from `num` episodes."""
    balance = questions.Balance()
    for index in range(num):
        episode = sample_episode("train", index, seed=seed)
        rng = random.Random(f"corpus/{seed}/{index}")
        states = [episode.state_at(t) for t in frame_times(episode.duration_s)]
        yield told(states, rng, form="full")
        yield f"\nSummary: {summary(episode, rng)}."
        asked = questions.ask(episode, rng, balance)
        cut = questions.predict(episode, rng, balance)
        for question in [*asked, *([cut[1]] if cut else [])]:
            yield ask_text(question, with_options=True) + f" {question.open_answer}."
        actions = [e.action for e in episode.events]
        yield "".join(lessons.match(actions, range(len(actions)), partial(action_phrase, rng=rng), rng))


def collate(documents: Sequence[Document], *, pad_id: int) -> dict[str, torch.Tensor]:
    """Pads to the longest. `attention_mask` is additive [B, 1, L, L]: causal, story and own block only."""
    length = max(len(d.ids) for d in documents)

    def padded(rows: list[list[int]], value: int) -> torch.Tensor:
        return torch.tensor([row + [value] * (length - len(row)) for row in rows])

    block_BL = padded([d.block for d in documents], -1)
    same = block_BL[:, :, None] == block_BL[:, None, :]
    seen = same | (block_BL[:, None, :] == 0)
    mask = seen & torch.ones(length, length, dtype=torch.bool).tril()
    return {
        "input_ids": padded([d.ids for d in documents], pad_id),
        "labels": padded([d.labels for d in documents], IGNORE),
        "position_ids": padded([d.positions for d in documents], 0),
        "attention_mask": torch.where(mask, 0.0, -1e9)[:, None],
    }
