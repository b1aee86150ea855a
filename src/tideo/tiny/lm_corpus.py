"""The LM corpus of the dollhouse: stories of episodes, glimpses of single moments and drills, each with questions."""

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
from tideo.tiny.lm_drills import FACTS, Task, copy_task, fact_task, facts_in, retrieval_task
from tideo.tiny.lm_sequences import PackedSequence, pack
from tideo.types import Question

LETTERS = "ABCDE"
PLAIN = style("plain")
# The kinds of question that each form of a story can answer; None: all kinds.
_BY_ACTIONS = ("CW", "CH", "TN", "TP", "Sequence", "Interaction", "Purpose")
KINDS: dict[str, tuple[str, ...] | None] = {
    "full": None,
    "main": (*_BY_ACTIONS, "DL"),
    "actions": _BY_ACTIONS,
    "list": _BY_ACTIONS,
}


def story_text(states: Sequence[FrameState], rng: random.Random, *, form: str) -> str:
    """A video in words: `full` captions, only the `main` ones, only `actions`, or actions as a plain `list`."""
    lines = frame_lines(states, rng, form=form)
    if form == "list":
        return "Video:" + ",".join(f" {line}" for line in lines) + "."
    return numbered(lines)


def frame_lines(states: Sequence[FrameState], rng: random.Random, *, form: str) -> list[str]:
    """The text of each frame of a story, without its number."""
    if form == "full":
        return [one_line(caption(state, rng)) for state in states]
    if form == "main":
        return [caption(state, rng).main for state in states]
    return [action_phrase(state.action, rng) + tool_phrase(state.action, state.tool) for state in states]


def ask_text(question: Question, *, with_options: bool) -> str:
    """The prompt of style "plain", from the end of the video to the answer."""
    if with_options:
        prompt = choose_prompt(question.question, question.options, style=PLAIN)
    else:
        prompt = answer_prompt(question.question, style=PLAIN)
    return prompt.split(VIDEO)[1].rstrip(" ")


class Stories(Dataset[PackedSequence]):
    """Stories with questions. Each index is another episode, and item `index` is always the same.

    A story has `retrieval_tasks` tasks about frames and actions, since all temporal questions need such matching, and
    `facts` tasks with each fact by name. Questions of `repeated_kinds` come `repeats` times more. `letters` is the
    share of questions that are answered by letter, `soft_frames` that of stories with soft frame tokens.
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
        retrieval_tasks: int = 4,
        facts: int = 0,
        repeated_kinds: Sequence[str] = ("TN", "TP"),
        repeats: int = 1,
        letters: float = 0.2,
        shown_options: float = 0.2,
        soft_frames: float = 0.0,
        story_loss: float = 0.1,
        group: int = 16,
    ) -> None:
        self.tokenizer, self.num, self.seed, self.split = tokenizer, num, seed, split
        self.forms, self.letters, self.shown_options = forms, letters, shown_options
        self.retrieval_tasks, self.facts = retrieval_tasks, facts
        self.repeated_kinds, self.repeats = repeated_kinds, repeats
        self.soft_frames, self.story_loss, self.group = soft_frames, story_loss, group

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, index: int) -> PackedSequence:
        rng = random.Random(f"stories/{self.seed}/{self.split}/{index}")
        episode = sample_episode(self.split, index, seed=self.seed)
        # Neighbours share a form, so that the stories of a batch have similar lengths.
        draw = random.Random(f"form/{self.seed}/{index // self.group}")
        form = draw.choices([f for f, _ in self.forms], weights=[w for _, w in self.forms])[0]
        balance = Balance()  # of a single episode only: the balance of a corpus would need all earlier items
        cut = questions.predict(episode, rng, balance) if rng.random() < 0.4 else None
        shown = cut[0] if cut else episode
        drafts = questions.ask(shown, rng, balance, kinds=KINDS[form])
        for _ in range(self.repeats):
            repeated = [k for k in self.repeated_kinds if KINDS[form] is None or k in (KINDS[form] or ())]
            drafts += questions.ask(shown, rng, balance, kinds=repeated)
        if cut:
            drafts = [q for q in drafts if q.kind != "Purpose"] + [cut[1]]
        tasks = [self._question_task(question, rng) for question in drafts]
        states = [shown.state_at(t) for t in frame_times(shown.duration_s)]
        actions = [e.action for e in shown.events]
        frames = [actions.index(state.action) for state in states]

        def name(action: str) -> str:
            return action_phrase(action, rng)

        tasks += [retrieval_task(actions, frames, name, rng) for _ in range(self.retrieval_tasks)]
        tasks += [
            copy_task(actions, name, ",", rng, back=i > 0) for i in range(2 if self.retrieval_tasks else 0)
        ]
        tasks += filter(None, (fact_task(states, FACTS.get(form, ()), rng) for _ in range(self.facts)))
        if form == "full" and not cut:
            tasks.append(("\nSummary:", f" {summary(episode, rng)}."))
        if self._has_soft_frames(index):
            return self._pack(frame_lines(states, rng, form=form), tasks, rng)
        return self._pack(story_text(states, rng, form=form), tasks, rng)

    def _has_soft_frames(self, index: int) -> bool:
        return random.Random(f"pressed/{self.seed}/{index // self.group}").random() < self.soft_frames

    def _pack(self, story: str | Sequence[str], tasks: Sequence[Task], rng: random.Random) -> PackedSequence:
        return pack(self.tokenizer, story, tasks, rng, story_loss=self.story_loss)

    def _question_task(self, question: Question, rng: random.Random) -> Task:
        assert question.answer is not None
        draw = rng.random()
        if draw < self.letters:
            return ask_text(question, with_options=True), f" ({LETTERS[question.answer]})"
        return (
            ask_text(question, with_options=draw < self.letters + self.shown_options),
            f" {question.options[question.answer]}.",
        )


class Glimpses(Stories):
    """The full captions of one to three moments of an episode, and three tasks with the facts that these contain.

    Most moments show a tool in use, which is rare in stories. Glimpses come before stories: as long as a model cannot
    separate the values of a fact, it predicts them equally, and their embeddings become parallel (mean cosine 0.99
    after 1,700 steps of stories). From there it does not learn them.
    """

    def __getitem__(self, index: int) -> PackedSequence:
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
        names = facts_in("\n".join(lines), states[0])
        tasks = list(filter(None, (fact_task(states, names, rng) for _ in range(3))))
        return self._pack(lines if self._has_soft_frames(index) else numbered(lines), tasks, rng)


class Drills(Stories):
    """Copy and retrieval tasks on lists of random actions.

    An untrained model learns to match contents only if matches are dense, so each list has copy tasks forwards and
    backwards. `bare` is the share of lists without anything between two actions; the others have `retrieval_tasks`
    questions too. `plain` is the share of lists which call every action by its plain name.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        num: int,
        seed: int = 0,
        retrieval_tasks: int = 6,
        bare: float = 0.0,
        plain: float = 0.5,
        soft_frames: float = 0.0,
        group: int = 16,
    ) -> None:
        super().__init__(
            tokenizer,
            num=num,
            seed=seed,
            retrieval_tasks=retrieval_tasks,
            soft_frames=soft_frames,
            group=group,
        )
        self.bare, self.plain = bare, plain

    def __getitem__(self, index: int) -> PackedSequence:
        rng = random.Random(f"drills/{self.seed}/{index}")
        actions = rng.sample(list(world.ACTIONS), rng.randint(3, NUM_FRAMES))
        plain = rng.random() < self.plain

        def name(action: str) -> str:
            return world.ACTIONS[action].phrases[0] if plain else action_phrase(action, rng)

        # Neighbours share a form, so that the sequences of a batch have similar lengths.
        soft = self._has_soft_frames(index)
        if not soft and random.Random(f"bare/{self.seed}/{index // self.group}").random() < self.bare:
            story = "".join(f" {name(a)}" for a in actions) + "."
            tasks = [copy_task(actions, name, "", rng, back=i >= 3) for i in range(5)]
            return self._pack("Video:" + story, tasks, rng)
        frames = list(range(len(actions)))
        if rng.random() < 0.5:
            frames = sorted(frames + rng.choices(frames, k=NUM_FRAMES - len(frames)))
        lines = [name(actions[f]) for f in frames]
        tasks = [copy_task(actions, name, ",", rng, back=i >= 2) for i in range(4)]
        tasks += [retrieval_task(actions, frames, name, rng) for _ in range(self.retrieval_tasks)]
        if soft:
            return self._pack(lines, tasks, rng)
        listed = "Video:" + ",".join(f" {line}" for line in lines) + "."
        return self._pack(numbered(lines) if rng.random() < 0.5 else listed, tasks, rng)


def corpus(num: int, *, seed: int = 0) -> Iterator[str]:
    """Training texts of the tokenizer, from `num` episodes."""
    balance = Balance()
    for index in range(num):
        episode = sample_episode("train", index, seed=seed)
        rng = random.Random(f"corpus/{seed}/{index}")
        states = [episode.state_at(t) for t in frame_times(episode.duration_s)]
        yield story_text(states, rng, form="full")
        yield f"\nSummary: {summary(episode, rng)}."
        drafts = questions.ask(episode, rng, balance)
        cut = questions.predict(episode, rng, balance)
        for question in [*drafts, *([cut[1]] if cut else [])]:
            yield ask_text(question, with_options=True) + f" {question.open_answer}."
        actions = [e.action for e in episode.events]
        yield "".join(retrieval_task(actions, range(len(actions)), partial(action_phrase, rng=rng), rng))
