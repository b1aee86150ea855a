"""What a run has to answer: control conditions, the key of each answer, and the answers that are there."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tideo.evaluate.benchmark import Benchmark
from tideo.evaluate.option_order import ORDER
from tideo.models.interface import Controls, VideoModel
from tideo.models.selecting import stem
from tideo.scoring import decide
from tideo.store.files import atomic_write_text, content_key, key_of
from tideo.store.records import read_records
from tideo.types import Answer, Sample, Video

ANSWERS_FILE, MAIN = "answers.jsonl", "main"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question under one control; its answer is stored under `key`."""

    control: str
    sample: Sample
    key: str


def plan(
    samples: Sequence[Sample], named: Mapping[str, Controls], *, model: VideoModel, benchmark: Benchmark
) -> list[Item]:
    """Every question under every control, grouped by segment, in the order of the questions."""
    segments: dict[Video, list[Sample]] = {}
    for sample in samples:
        segments.setdefault(sample.video, []).append(sample)
    content = {path: content_key(path) for path in dict.fromkeys(video.path for video in segments)}
    return [
        Item(
            control=name,
            sample=s,
            key=_key(name, controls, s, content=content[video.path], model=model, benchmark=benchmark),
        )
        for video, about in segments.items()
        for name, controls in named.items()
        for s in about
    ]


def _key(
    name: str,
    controls: Controls,
    sample: Sample,
    *,
    content: str | None,
    model: VideoModel,
    benchmark: Benchmark,
) -> str:
    """A hash of all that an answer depends on: of the video's content or, without a video, of the Tideo."""
    if controls.shows_video:
        shown: Any = content
    elif benchmark.tideo_key is not None:
        shown = benchmark.tideo_key(sample)
    elif benchmark.tideo is not None and not controls.blind:
        shown = dataclasses.asdict(benchmark.tideo([sample], num=model.num_frames(controls)))
    else:
        shown = None
    return key_of(
        {
            "control": [name, controls],
            "model": [model.key, model.keyed_settings],
            "question": [sample.id, sample.question, sample.options],
            "segment": [sample.video.id, sample.video.start_s, sample.video.end_s],
            "seen": shown,
        }
        | ({"chosen_for": [stem(sample), sample.cues]} if controls.shows_video and model.chooses else {})
    )


# --- answers.jsonl ---------------------------------------------------------------------------------


def record(item: Item, answer: Answer, *, unlike_training: bool) -> dict[str, Any]:
    fields = dataclasses.asdict(answer)
    if not answer.relevance:  # no selector chose the frames
        del fields["relevance"]
    for name in ("prompt_tokens", "visual_tokens"):
        if fields[name] is None:
            del fields[name]
    return {"key": item.key, "control": item.control, "strange": unlike_training, **fields}


def settle(path: Path, current: Collection[Item], *, reduction: str) -> None:
    """Remove answers to the same question and control that another video file, model or wording gave.

    The choices beside likelihoods become those of this reduction: an earlier call may have had another, and earlier
    versions stored null.
    """
    keys = {(i.control, i.sample.id): i.key for i in current}
    records = read_records(path)
    kept = [
        r | {"choice": decide(_answer(r), reduction=reduction).choice}
        for r in records
        if keys.get((r["control"], r["sample_id"]), r["key"]) == r["key"]
    ]
    if kept != records:
        atomic_write_text(path, "".join(json.dumps(r) + "\n" for r in kept))


def drop_failed(path: Path) -> None:
    """Remove the answers that are errors, so that the questions are answered again."""
    if not path.exists():
        return
    records = read_records(path)
    kept = [r for r in records if r["error"] is None]
    if len(kept) < len(records):
        atomic_write_text(path, "".join(json.dumps(r) + "\n" for r in kept))


def read_answers(out: str | Path) -> tuple[dict[str, dict[str, Answer]], set[str]]:
    """control → sample id → Answer, and the ids of the samples whose video is unlike what the model was trained on."""
    answers: dict[str, dict[str, Answer]] = {}
    unlike_training = set()
    for stored in read_records(Path(out) / ANSWERS_FILE):
        answers.setdefault(stored["control"], {})[stored["sample_id"]] = _answer(stored)
        if stored["strange"]:
            unlike_training.add(stored["sample_id"])
    return answers, unlike_training


def _answer(stored: Mapping[str, Any]) -> Answer:
    fields: dict[str, Any] = {
        f.name: tuple(value) if isinstance(value := stored[f.name], list) else value
        for f in dataclasses.fields(Answer)
        if f.name in stored
    }
    fields["relevance"] = tuple(map(tuple, fields.get("relevance", ())))
    return Answer(**fields)


def announced(items: Sequence[Item], todo: Sequence[Item], *, model: VideoModel) -> str:
    """What a run will take, in one line: "9 questions × (1 + 2 controls) = 27 requests to openai:llava"."""
    what = f"requests to {model.name}" if model.paid else f"answers by {model.name}"
    orders = {item.control for item in items if item.control.startswith(ORDER)}
    controls = {item.control for item in items} - orders - {MAIN}
    parts = [
        f"{len(names)} {kind}{'s' if len(names) > 1 else ''}"
        for names, kind in ((controls, "control"), (orders, "other order"))
        if names
    ]
    questions = len({item.sample.id for item in items})
    factors = f" × (1 + {' + '.join(parts)})" if parts else ""
    if model.runs > 1:
        factors += f" × {model.runs} models"
    line = f"{questions:,} questions{factors}"
    if factors:
        line += f" = {len(items) * model.runs:,}"
        line += f" {what}"
    else:
        line += f", as many {what}"
    if len(todo) < len(items):
        line += f", {len(todo) * model.runs:,} of them still to come"
    if model.paid and not controls:
        line += " (no controls: --control NAME adds one)"
    return line


def by_segment(items: Iterable[Item]) -> Iterator[tuple[Video, dict[str, list[Item]]]]:
    """Segment, and its items of each control."""
    segments: dict[Video, dict[str, list[Item]]] = {}
    for item in items:
        segments.setdefault(item.sample.video, {}).setdefault(item.control, []).append(item)
    yield from segments.items()
