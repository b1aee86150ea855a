"""A split of the dollhouse as files: videos, questions in two layouts, Tideos, a data card.

    OUT/videos/ID.mp4    one video per episode
    OUT/SPLIT.jsonl      one question per line, with its segment, evidence and episode
    OUT/SPLIT.csv        the same in NExT-QA's multi-choice layout, without Prediction: the layout has no segments
    OUT/lmms_eval/       the same as tasks of lmms-eval
    OUT/tideos.json      for the training split: the episodes as Tideos, in TextVid's JSON
    OUT/README.md        the data card

The annotation is a function of (split, num, seed): the same arguments give the same bytes.
"""

from __future__ import annotations

import csv
import io
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tideo.dollhouse import questions
from tideo.dollhouse.captions import episode_tideo
from tideo.dollhouse.card import data_card
from tideo.dollhouse.distractors import NUM_OPTIONS, Balance
from tideo.dollhouse.lmms_task import write_task
from tideo.dollhouse.render import num_frames, render_video
from tideo.dollhouse.script import Episode, Split, sample_episode
from tideo.store.files import atomic_write_text
from tideo.store.records import write_records
from tideo.textvid.schema import dump, from_tideo
from tideo.types import Question, Tideo, UserError

NEXTQA_COLUMNS = ("video", "frame_count", "width", "height", "question", "answer", "qid", "type")


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


def make(*, split: Split, num: int, out: str | Path, seed: int = 0, videos: bool = True) -> Made:
    """Write `num` episodes of a split to OUT. A second call renders only videos that are missing or incomplete.

    `videos=False` writes only the annotation. Raises UserError for an unknown split or `num` below 1.
    """
    if num < 1:
        raise UserError(f"a split of {num} episodes: expected at least 1")
    out = Path(out)
    items = ask_split(split, num=num, seed=seed)
    episodes = [item.episode for item in items if not item.is_cut]
    by_kind = dict(sorted(Counter(q.kind for item in items for q in item.questions).items()))
    write_records(out / f"{split}.jsonl", (row for item in items for row in _rows(item, seed=seed)))
    atomic_write_text(out / f"{split}.csv", _nextqa_csv(items))
    write_task(split, data=out / f"{split}.jsonl")
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


# --- layouts ---------------------------------------------------------------------------------------


def _rows(item: EpisodeQuestions, *, seed: int) -> Iterator[dict[str, Any]]:
    episode = item.episode
    start_s, end_s = (0.0, episode.duration_s) if item.is_cut else (None, None)
    for question in item.questions:
        yield {
            "id": f"{episode.id}_{question.kind}",
            "video": episode.id,
            "question": question.question,
            "options": question.options,
            "answer": question.answer,
            "kind": question.kind,
            "evidence_s": question.evidence_s,
            "start_s": start_s,
            "end_s": end_s,
            "open_answer": question.open_answer,
            "held_out": episode.held_out,
            "episode": {"split": episode.split, "index": item.index, "seed": seed},
        }


def _nextqa_csv(items: Sequence[EpisodeQuestions]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*NEXTQA_COLUMNS, *(f"a{i}" for i in range(NUM_OPTIONS))])
    for item in items:
        if item.is_cut:
            continue
        episode, style = item.episode, item.episode.style
        head = [episode.id, num_frames(episode), style.width, style.height]
        for qid, q in enumerate(item.questions):
            writer.writerow([*head, q.question, q.answer, qid, q.kind, *q.options])
    return text.getvalue()
