"""A split of the dollhouse as files: videos, questions in two layouts, Tideos, a data card.

    OUT/videos/ID.mp4    one per episode
    OUT/SPLIT.jsonl      one question a line, with segment, evidence and episode
    OUT/SPLIT.csv        the same in NExT-QA's multi-choice layout, which has no segments: without Prediction
    OUT/lmms_eval/       the same as a task of lmms-eval
    OUT/tideos.json      of the training split: the episodes told in words, in TextVid's JSON
    OUT/README.md        the data card

The annotation is a function of (split, num, seed): the same arguments give the same bytes.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
from rich.console import Console
from rich.progress import Progress

from tideo.dollhouse import questions
from tideo.dollhouse.captions import tideo
from tideo.dollhouse.card import data_card
from tideo.dollhouse.distractors import NUM_OPTIONS, Balance
from tideo.dollhouse.lmms_task import write_task
from tideo.dollhouse.render import render_video
from tideo.dollhouse.script import Episode, Split, sample_episode
from tideo.store.files import atomic_write_text
from tideo.types import Question, Tideo, UserError

NEXTQA_COLUMNS = ("video", "frame_count", "width", "height", "question", "answer", "qid", "type")
LETTERS = "ABCDE"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """An episode with questions about it. `is_cut`: it is only the beginning of the video."""

    index: int
    episode: Episode
    questions: tuple[Question, ...]
    is_cut: bool = False


@dataclass(frozen=True, kw_only=True)
class Made:
    """What `make` wrote."""

    out: str
    num_episodes: int
    num_rendered: int  # the other videos were there
    num_questions: int
    by_kind: dict[str, int]


def make(*, split: Split, num: int, out: str | Path, seed: int = 0, videos: bool = True) -> Made:
    """Write `num` episodes of a split to OUT; a second call renders only the videos that are not there whole.

    `videos=False` writes the annotation alone. Raises UserError for an unknown split or `num` below 1.
    """
    if num < 1:
        raise UserError(f"{num} episodes asked for; expected at least 1")
    out = Path(out)
    asked = ask_split(split, num=num, seed=seed)
    episodes = [a.episode for a in asked if not a.is_cut]
    by_kind = dict(sorted(Counter(q.kind for a in asked for q in a.questions).items()))
    atomic_write_text(out / f"{split}.jsonl", _jsonl(asked, seed=seed))
    atomic_write_text(out / f"{split}.csv", _nextqa_csv(asked))
    write_task(split, data=out / f"{split}.jsonl")
    if split == "train":
        records = [textvid_record(told(a, seed=seed)) for a in asked]
        atomic_write_text(out / "tideos.json", json.dumps(records, indent=1) + "\n")
    atomic_write_text(out / "README.md", data_card(episodes, split=split, seed=seed, by_kind=by_kind))
    return Made(
        out=str(out),
        num_episodes=num,
        num_rendered=render_missing(episodes, folder=out / "videos") if videos else 0,
        num_questions=sum(by_kind.values()),
        by_kind=by_kind,
    )


def ask_split(split: Split, *, num: int, seed: int = 0) -> list[Asked]:
    """The first `num` episodes with at most one question of each kind; options balanced over all of them.

    A cut episode, of which a prediction is asked, follows its whole one.
    """
    balance = Balance()
    asked = []
    for index in range(num):
        episode = sample_episode(split, index, seed=seed)
        rng = random.Random(f"questions/{seed}/{split}/{index}")
        asked.append(
            Asked(index=index, episode=episode, questions=tuple(questions.ask(episode, rng, balance)))
        )
        if (predicted := questions.predict(episode, rng, balance)) is not None:
            cut, question = predicted
            asked.append(Asked(index=index, episode=cut, questions=(question,), is_cut=True))
    return asked


def told(asked: Asked, *, seed: int) -> Tideo:
    """The Tideo of an episode, or of the beginning that is left of it."""
    name = f"{asked.episode.id}_cut" if asked.is_cut else asked.episode.id
    rng = random.Random(f"captions/{seed}/{name}")
    return replace(tideo(asked.episode, rng, asked.questions), id=name)


def training_tideos(*, num: int | None, seed: int) -> list[Tideo]:
    """The Tideos of `num` training episodes: the source `dollhouse` of a pre-alignment."""
    return [told(asked, seed=seed) for asked in ask_split("train", num=num or 10_000, seed=seed)]


# --- layouts ---------------------------------------------------------------------------------------


def _jsonl(asked: Sequence[Asked], *, seed: int) -> str:
    return "".join(json.dumps(row) + "\n" for a in asked for row in _rows(a, seed=seed))


def _rows(asked: Asked, *, seed: int) -> Iterator[dict[str, Any]]:
    episode = asked.episode
    start_s, end_s = (0.0, episode.duration_s) if asked.is_cut else (None, None)
    for question in asked.questions:
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
            "episode": {"split": episode.split, "index": asked.index, "seed": seed},
        }


def _nextqa_csv(asked: Sequence[Asked]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*NEXTQA_COLUMNS, *(f"a{i}" for i in range(NUM_OPTIONS))])
    for a in asked:
        if a.is_cut:
            continue
        episode, style = a.episode, a.episode.style
        head = [episode.id, num_frames(episode), style.width, style.height]
        for qid, q in enumerate(a.questions):
            writer.writerow([*head, q.question, q.answer, qid, q.kind, *q.options])
    return text.getvalue()


def textvid_record(told: Tideo) -> dict[str, Any]:
    """A Tideo in TextVid's JSON: the keys that the code of arXiv 2405.13911 reads.

    `type`, `evidence_s` and `provenance` are ours.
    """
    return {
        "idx": told.id,
        "frames": [
            {
                name: text
                for name in ("main", "foreground", "background")
                if (text := getattr(frame, name)) is not None
            }
            for frame in told.frames
        ],
        "global_video_caption": told.summary,
        "QAs": [
            {
                "question": q.question,
                "options": list(q.options),
                "answer": LETTERS[q.answer] if q.answer is not None else None,
                "answer_open_ended": q.open_answer,
                "type": q.kind,
                "evidence_s": list(q.evidence_s) if q.evidence_s else None,
            }
            for q in told.questions
        ],
        "provenance": told.provenance,
    }


# --- videos ----------------------------------------------------------------------------------------


def render_missing(episodes: Sequence[Episode], *, folder: Path) -> int:
    """Render the episodes that have no whole video in `folder`, on all cores. Returns how many these were."""
    folder.mkdir(parents=True, exist_ok=True)
    todo = [(e, folder / f"{e.id}.mp4") for e in episodes]
    todo = [(e, path) for e, path in todo if not _is_whole(path, e)]
    todo.sort(key=lambda pair: -num_frames(pair[0]))  # a long one at the end would leave cores idle
    if not todo:
        return 0
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("rendering", total=len(todo))
        workers = min(len(todo), os.cpu_count() or 1)
        # spawn: a fork of a process with threads may hang
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            waiting = [pool.submit(render_video, episode, path) for episode, path in todo]
            try:
                for done in as_completed(waiting):
                    done.result()
                    progress.advance(bar)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return len(todo)


def num_frames(episode: Episode) -> int:
    """How many frames `render_video` writes."""
    return max(1, round(episode.duration_s * episode.style.fps))


def _is_whole(path: Path, episode: Episode) -> bool:
    """Whether the file holds every frame of this episode; reads it without decoding."""
    if not path.is_file():
        return False
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            packets = [p for p in container.demux(stream) if p.size]
            return (
                len(packets) == num_frames(episode)
                and not any(p.is_corrupt for p in packets)
                and (stream.width, stream.height) == (episode.style.width, episode.style.height)
            )
    except (av.FFmpegError, IndexError):
        return False
