"""The layouts of questions about episodes or days: our rows, NExT-QA's columns, a task of lmms-eval."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tideo.dollhouse.day import Day
from tideo.dollhouse.distractors import NUM_OPTIONS
from tideo.dollhouse.lmms_task import write_task
from tideo.dollhouse.render import num_frames
from tideo.dollhouse.script import Episode
from tideo.store.files import atomic_write_text
from tideo.store.records import write_records
from tideo.types import Question

NEXTQA_COLUMNS = ("video", "frame_count", "width", "height", "question", "answer", "qid", "type")


@dataclass(frozen=True)
class Asked:
    """A script with questions and the reference that `script_of` takes. `is_cut`: it is only the video's beginning."""

    script: Episode | Day
    questions: Sequence[Question]
    reference: Mapping[str, Any]
    is_cut: bool = False


def write_annotation(asked: Sequence[Asked], *, split: str, out: Path) -> dict[str, int]:
    """Write OUT/SPLIT.jsonl, OUT/SPLIT.csv and OUT/lmms_eval; returns the number of questions of each kind."""
    write_records(out / f"{split}.jsonl", (row for item in asked for row in _rows(item)))
    atomic_write_text(out / f"{split}.csv", _nextqa_csv(asked))
    write_task(split, data=out / f"{split}.jsonl")
    return dict(sorted(Counter(q.kind for item in asked for q in item.questions).items()))


def _rows(item: Asked) -> Iterator[dict[str, Any]]:
    script, num_of_kind = item.script, Counter[str]()
    start_s, end_s = (0.0, script.duration_s) if item.is_cut else (None, None)
    for question in item.questions:
        num_of_kind[question.kind] += 1
        number = num_of_kind[question.kind]
        yield {
            "id": f"{script.id}_{question.kind}" + (f"_{number}" if number > 1 else ""),
            "video": script.id,
            "question": question.question,
            "options": question.options,
            "answer": question.answer,
            "kind": question.kind,
            "evidence_s": question.evidence_s,
            "start_s": start_s,
            "end_s": end_s,
            "open_answer": question.open_answer,
            "held_out": script.held_out,
            "episode": item.reference,
        }


def _nextqa_csv(asked: Sequence[Asked]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*NEXTQA_COLUMNS, *(f"a{i}" for i in range(NUM_OPTIONS))])
    for item in asked:
        if item.is_cut:
            continue
        script, style = item.script, item.script.style
        head = [script.id, num_frames(script), style.width, style.height]
        for qid, q in enumerate(item.questions):
            writer.writerow([*head, q.question, q.answer, qid, q.kind, *q.options])
    return text.getvalue()
