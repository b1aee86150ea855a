"""Dollhouse text for the tiny language model: stories of episodes, glimpses of them and drills, with questions."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import partial

from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from tideo.dollhouse import questions, world
from tideo.dollhouse.captions import action_phrase, caption, frame_times, one_line, summary, tool_phrase
from tideo.dollhouse.distractors import Balance
from tideo.dollhouse.script import NUM_FRAMES, FrameState, Split, sample_episode
from tideo.models.prompts import VIDEO, answer_prompt, choose_prompt, style
from tideo.textvid.reader import numbered
from tideo.tiny import lm_drills as lessons
from tideo.tiny.lm_documents import Document, encode
from tideo.types import Question

LETTERS = "ABCDE"
PLAIN = style("plain")
# The kinds of question that each form of a story still answers; None: all.
_BY_ACTIONS = ("CW", "CH", "TN", "TP", "Sequence", "Interaction", "Purpose")
TOLD: dict[str, tuple[str, ...] | None] = {
    "full": None,
    "main": (*_BY_ACTIONS, "DL"),
    "actions": _BY_ACTIONS,
    "list": _BY_ACTIONS,
}


def told(states: Sequence[FrameState], rng: random.Random, *, form: str) -> str:
    """The story of a video in words: `full` captions, the `main` one, only `actions`, or these as a bare `list`."""
    lines = frame_lines(states, rng, form=form)
    if form == "list":
        return "Video:" + ",".join(f" {line}" for line in lines) + "."
    return numbered(lines)


def frame_lines(states: Sequence[FrameState], rng: random.Random, *, form: str) -> list[str]:
    """What each frame of a story tells, without its number."""
    if form == "full":
        return [one_line(caption(state, rng)) for state in states]
    if form == "main":
        return [caption(state, rng).main for state in states]
    return [action_phrase(state.action, rng) + tool_phrase(state.action, state.tool) for state in states]


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
    more. `letters` is the share of questions answered by letter, `pressed` that of stories whose frames come as one
    vector each.
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
        pressed: float = 0.0,
        story_loss: float = 0.1,
        group: int = 16,
    ) -> None:
        self.tokenizer, self.num, self.seed, self.split = tokenizer, num, seed, split
        self.forms, self.lookups, self.letters, self.shown_options = forms, lookups, letters, shown_options
        self.facts, self.again, self.repeats = facts, again, repeats
        self.pressed, self.story_loss, self.group = pressed, story_loss, group

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, index: int) -> Document:
        rng = random.Random(f"stories/{self.seed}/{self.split}/{index}")
        episode = sample_episode(self.split, index, seed=self.seed)
        # Neighbours share a form, so that a batch holds stories of like length.
        draw = random.Random(f"form/{self.seed}/{index // self.group}")
        form = draw.choices([f for f, _ in self.forms], weights=[w for _, w in self.forms])[0]
        balance = Balance()  # the words of a lone episode; the corpus-wide balance needs a sequence
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
        if self._is_pressed(index):
            return self._encode(frame_lines(states, rng, form=form), asked, rng)
        return self._encode(told(states, rng, form=form), asked, rng)

    def _is_pressed(self, index: int) -> bool:
        return random.Random(f"pressed/{self.seed}/{index // self.group}").random() < self.pressed

    def _encode(
        self, story: str | Sequence[str], asked: Sequence[lessons.Asked], rng: random.Random
    ) -> Document:
        return encode(self.tokenizer, story, asked, rng, story_loss=self.story_loss)

    def _asked(self, question: Question, rng: random.Random) -> lessons.Asked:
        assert question.answer is not None
        draw = rng.random()
        if draw < self.letters:
            return ask_text(question, with_options=True), f" ({LETTERS[question.answer]})"
        return (
            ask_text(question, with_options=draw < self.letters + self.shown_options),
            f" {question.options[question.answer]}.",
        )


class Glimpses(Stories):
    """One to three moments of an episode told in full, and the facts that the words tell, three times over.

    Most show a tool in use, which few moments do. They come before stories: as long as nothing tells the values of a
    fact apart, predicting all of them alike draws their embeddings together (mean cosine 0.99 after 1,700 steps of
    stories), and from there none is learned.
    """

    def __getitem__(self, index: int) -> Document:
        rng = random.Random(f"glimpses/{self.seed}/{self.split}/{index}")
        episode = sample_episode(self.split, index, seed=self.seed)
        times = [rng.random() * episode.duration_s for _ in range(rng.choice((1, 2, 3)))]
        with_tool = [e for e in episode.events if e.tool]
        if with_tool and rng.random() < 0.7:
            event = rng.choice(with_tool)
            times[0] = rng.uniform(event.start_s, event.end_s)
        times.sort()
        states = [episode.state_at(t) for t in times]
        lines = frame_lines(states, rng, form="full")
        names = lessons.facts_told("\n".join(lines), states[0])
        asked = filter(None, (lessons.facts(states, names, rng) for _ in range(3)))
        return self._encode(lines if self._is_pressed(index) else numbered(lines), list(asked), rng)


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
        pressed: float = 0.0,
        group: int = 16,
    ) -> None:
        super().__init__(tokenizer, num=num, seed=seed, lookups=lookups, pressed=pressed, group=group)
        self.bare, self.plain = bare, plain

    def __getitem__(self, index: int) -> Document:
        rng = random.Random(f"drills/{self.seed}/{index}")
        actions = rng.sample(list(world.ACTIONS), rng.randint(3, NUM_FRAMES))
        plain = rng.random() < self.plain

        def name(action: str) -> str:
            return world.ACTIONS[action].phrases[0] if plain else action_phrase(action, rng)

        # Neighbours share a form, so that a batch holds documents of like length.
        pressed = self._is_pressed(index)
        if not pressed and random.Random(f"bare/{self.seed}/{index // self.group}").random() < self.bare:
            story = "".join(f" {name(a)}" for a in actions) + "."
            asked = [lessons.again(actions, name, "", rng, back=i >= 3) for i in range(5)]
            return self._encode("Video:" + story, asked, rng)
        frames = list(range(len(actions)))
        if rng.random() < 0.5:
            frames = sorted(frames + rng.choices(frames, k=NUM_FRAMES - len(frames)))
        lines = [name(actions[f]) for f in frames]
        asked = [lessons.again(actions, name, ",", rng, back=i >= 2) for i in range(4)]
        asked += [lessons.match(actions, frames, name, rng) for _ in range(self.lookups)]
        if pressed:
            return self._encode(lines, asked, rng)
        listed = "Video:" + ",".join(f" {line}" for line in lines) + "."
        return self._encode(numbered(lines) if rng.random() < 0.5 else listed, asked, rng)


def corpus(num: int, *, seed: int = 0) -> Iterator[str]:
    """Lines of training text for the tokenizer, from `num` episodes."""
    balance = Balance()
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
