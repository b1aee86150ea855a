"""A split of the dollhouse as files: videos, questions in two layouts, Tideos, a data card.

    OUT/videos/ID.mp4    one video per episode
    OUT/SPLIT.jsonl      one question per line, with its segment, evidence and episode
    OUT/SPLIT.csv        the same in NExT-QA's multi-choice layout, without Prediction: the layout has no segments
    OUT/lmms_eval/       the same as tasks of lmms-eval
    OUT/tideos.json      for the training split: the episodes as Tideos, in TextVid's JSON
    OUT/README.md        the data card

With `seconds`, the videos are days of that length (day.py) instead of episodes, and there are no Tideos. While they are
rendered, their parts lie in OUT/parts. The annotation is a function of (split, num, seed, seconds): the same arguments
give the same bytes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tideo.dollhouse import questions
from tideo.dollhouse.captions import episode_tideo
from tideo.dollhouse.card import data_card, days_card
from tideo.dollhouse.day import Day, sample_day
from tideo.dollhouse.day_questions import ask_day
from tideo.dollhouse.distractors import Balance
from tideo.dollhouse.layouts import Asked, write_annotation
from tideo.dollhouse.script import Episode, Split, sample_episode
from tideo.dollhouse.videos import render_missing, render_missing_days
from tideo.store.files import atomic_write_text
from tideo.textvid.schema import dump, from_tideo
from tideo.types import Question, Tideo, UserError


@dataclass(frozen=True, kw_only=True)
class EpisodeQuestions:
    """An episode with questions about it. `is_cut`: the episode is only the beginning of the video."""

    index: int
    episode: Episode
    questions: tuple[Question, ...]
    is_cut: bool = False


@dataclass(frozen=True, kw_only=True)
class Made:
    """What `make` wrote."""

    out: str
    num_episodes: int
    num_rendered: int  # the other videos existed already
    num_questions: int
    by_kind: dict[str, int]


def make(
    *,
    split: Split,
    num: int,
    out: str | Path,
    seed: int = 0,
    seconds: int | None = None,
    videos: bool = True,
) -> Made:
    """Write `num` episodes of a split, or days of so many seconds, to OUT.

    A second call renders only videos that are missing or incomplete; `videos=False` writes only the annotation. Raises
    UserError for an unknown split, `num` below 1, and a length that no day has.
    """
    if num < 1:
        raise UserError(f"a split of {num} episodes: expected at least 1")
    out = Path(out)
    if seconds is not None:
        return _make_days(split, num=num, out=out, seed=seed, seconds=seconds, videos=videos)
    items = ask_split(split, num=num, seed=seed)
    asked = [
        Asked(item.episode, item.questions, reference=_reference(item, seed=seed), is_cut=item.is_cut)
        for item in items
    ]
    by_kind = write_annotation(asked, split=split, out=out)
    episodes = [item.episode for item in items if not item.is_cut]
    if split == "train":
        dump((from_tideo(tideo_of(item, seed=seed)) for item in items), out / "tideos.json")
    atomic_write_text(out / "README.md", data_card(episodes, split=split, seed=seed, by_kind=by_kind))
    return Made(
        out=str(out),
        num_episodes=num,
        num_rendered=render_missing(episodes, folder=out / "videos") if videos else 0,
        num_questions=sum(by_kind.values()),
        by_kind=by_kind,
    )


def _make_days(split: Split, *, num: int, out: Path, seed: int, seconds: int, videos: bool) -> Made:
    asked = ask_days(split, num=num, seconds=seconds, seed=seed)
    days = [day for day, _ in asked]
    reference = {"split": split, "seed": seed, "seconds": seconds}
    by_kind = write_annotation(
        [Asked(day, each, reference=reference | {"index": i}) for i, (day, each) in enumerate(asked)],
        split=split,
        out=out,
    )
    atomic_write_text(out / "README.md", days_card(days, split=split, seed=seed, by_kind=by_kind))
    return Made(
        out=str(out),
        num_episodes=num,
        num_rendered=render_missing_days(days, folder=out / "videos", parts=out / "parts") if videos else 0,
        num_questions=sum(by_kind.values()),
        by_kind=by_kind,
    )


def ask_days(
    split: Split, *, num: int, seconds: int, seed: int = 0
) -> list[tuple[Day, tuple[Question, ...]]]:
    """The first `num` days of that length with their questions; the options are balanced over all of them."""
    balance = Balance()
    asked = []
    for index in range(num):
        day = sample_day(split, index, seconds=seconds, seed=seed)
        rng = random.Random(f"questions/{day.id}")
        asked.append((day, tuple(ask_day(day, rng, balance))))
    return asked


def ask_split(split: Split, *, num: int, seed: int = 0) -> list[EpisodeQuestions]:
    """The first `num` episodes with at most one question of each kind; the options are balanced over all of them.

    An episode that allows a Prediction is followed by its cut version, which has that question.
    """
    balance = Balance()
    items = []
    for index in range(num):
        episode = sample_episode(split, index, seed=seed)
        rng = random.Random(f"questions/{seed}/{split}/{index}")
        whole = tuple(questions.ask(episode, rng, balance))
        items.append(EpisodeQuestions(index=index, episode=episode, questions=whole))
        if (prediction := questions.predict(episode, rng, balance)) is not None:
            cut, question = prediction
            items.append(EpisodeQuestions(index=index, episode=cut, questions=(question,), is_cut=True))
    return items


def tideo_of(item: EpisodeQuestions, *, seed: int) -> Tideo:
    """The Tideo of an episode, or of its beginning if it is cut."""
    name = f"{item.episode.id}_cut" if item.is_cut else item.episode.id
    rng = random.Random(f"captions/{seed}/{name}")
    return replace(episode_tideo(item.episode, rng, item.questions), id=name)


def training_tideos(*, num: int | None, seed: int) -> list[Tideo]:
    """The Tideos of `num` training episodes: the source `dollhouse` of a pre-alignment."""
    return [tideo_of(item, seed=seed) for item in ask_split("train", num=num or 10_000, seed=seed)]


def _reference(item: EpisodeQuestions, *, seed: int) -> dict[str, Any]:
    return {"split": item.episode.split, "index": item.index, "seed": seed}
