"""Your own multiple-choice questions: a csv file in IG-VLM's columns, or the same as one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from tideo.benchmarks.annotations import csv_rows, each_once, json_lines
from tideo.types import Sample, UserError, Video

COLUMNS = ("video_name", "question", "question_id", "a0", "a1")
FORMATS = (".csv", ".jsonl")


def csv(data: str | Path, *, videos: str | Path) -> list[Sample]:
    """The questions of FILE.csv or FILE.jsonl.

    Columns: video_name (with its ending, or without for .mp4), question, question_id, a0, a1, … (an empty one is left
    out), answer (the option's text, or its number from 0; empty or absent where unknown), question_type (optional).
    Raises UserError for a malformed row, naming file, line and field.
    """
    path = Path(data)
    if not path.is_file() or path.suffix not in FORMATS:
        raise UserError(f"{data}: expected a file that ends with {' or '.join(FORMATS)}")
    return each_once(_samples(path, videos=Path(videos)))


def _samples(path: Path, *, videos: Path) -> Iterator[tuple[str, Sample]]:
    for where, fields in csv_rows(path, columns=COLUMNS) if path.suffix == ".csv" else json_lines(path):
        yield where, _sample(fields, where=where, videos=videos, split=path.stem)


def _sample(fields: Any, *, where: str, videos: Path, split: str) -> Sample:
    if not isinstance(fields, Mapping):
        raise UserError(f"{where}: expected an object, not {type(fields).__name__}")
    row = {name: str(value).strip() for name, value in fields.items() if value is not None}
    for name in COLUMNS:
        if not row.get(name):
            raise UserError(f"{where}, {name}: it is empty or missing")
    options = tuple(takewhile(bool, (row.get(f"a{i}", "") for i in count())))
    name = row["video_name"]
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"{where}, video_name: expected a place below the folder of videos, not {name!r}")
    file = name if Path(name).suffix else f"{name}.mp4"
    return Sample(
        id=row["question_id"],
        video=Video(id=name, path=str(videos / file)),
        question=row["question"],
        options=options,
        answer=_answer(row.get("answer", ""), options, where=where),
        kind=row.get("question_type") or "all",
        meta={"split": split},
    )


def _answer(text: str, options: tuple[str, ...], *, where: str) -> int | None:
    """An option's own text before its number: options may be numbers."""
    if not text:
        return None
    if text in options:
        return options.index(text)
    if text.isdecimal() and int(text) < len(options):
        return int(text)
    raise UserError(
        f"{where}, answer: {text!r} is none of the {len(options)} options, nor the number of one from 0"
    )
