"""Your own multiple-choice questions: a csv file in IG-VLM's columns, or the same as one JSON object a line."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tideo.benchmarks.annotations import at, csv_rows, each_once
from tideo.store.text import json_lines
from tideo.store.video_files import VideoFolder
from tideo.types import Sample, UserError, Video

NEEDED = ("video_name", "question", "question_id")
COLUMNS = (*NEEDED, "a0", "a1")
TABLES, LINES = (".csv", ".tsv", ".txt"), ".jsonl"
_OPTION = re.compile(r"a(0|[1-9]\d{0,2})")


def csv(data: str | Path, *, videos: str | Path) -> list[Sample]:
    """The questions of a table (FILE.csv, also .tsv and .txt) or of FILE.jsonl.

    Columns: video_name (with its ending or without), question, question_id, a0, a1, … (empty ones are left out),
    answer (the option's text, or the number of its column; empty or absent where unknown), question_type, and start_s
    and end_s, the segment in seconds (these three optional). Raises UserError for a malformed row, naming file, line
    and field, and for two options with the same text.
    """
    path = Path(data)
    if not path.exists():
        raise UserError(f"{data}: there is no such file")
    if not path.is_file() or path.suffix.lower() not in (*TABLES, LINES):
        raise UserError(f"{data}: expected a file that ends with .csv or {LINES}, or with .tsv or .txt")
    return each_once(_samples(path, videos=VideoFolder(videos)))


def _samples(path: Path, *, videos: VideoFolder) -> Iterator[tuple[str, Sample]]:
    rows = json_lines(path) if path.suffix.lower() == LINES else csv_rows(path, columns=COLUMNS)
    for where, fields in rows:
        yield where, _sample(fields, where=where, videos=videos, split=path.stem)


def _sample(fields: Any, *, where: str, videos: VideoFolder, split: str) -> Sample:
    if not isinstance(fields, Mapping):
        raise UserError(f"{where}: expected an object, not {type(fields).__name__}")
    row = {name: _text(value, where=f"{where}, {name}") for name, value in fields.items()}
    for name in NEEDED:
        if not row.get(name):
            raise UserError(f"{where}, {name}: it is empty or missing")
    options = _options(row, where=where)
    with at(f"{where}, video_name"):
        path = videos.find(row["video_name"])
    start_s, end_s = (_seconds(row.get(name, ""), where=f"{where}, {name}") for name in ("start_s", "end_s"))
    with at(where):
        video = Video(id=row["video_name"], path=path, start_s=start_s, end_s=end_s)
    return Sample(
        id=row["question_id"],
        video=video,
        question=row["question"],
        options=options,
        answer=_answer(row.get("answer", ""), options, where=f"{where}, answer"),
        kind=row.get("question_type") or "all",
        meta={"split": split},
    )


def _text(value: Any, *, where: str) -> str:
    """A field's text without blanks around it. Null and NaN, which pandas has for nothing, are empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, dict | list):
        raise UserError(f"{where}: expected a text or a number, not {type(value).__name__}")
    return str(value).strip()


def _options(row: Mapping[str, str], *, where: str) -> tuple[str, ...]:
    """The options by the numbers of their columns: empty where the column is empty or absent."""
    filled = {
        int(found[1]): text for name, text in row.items() if text and (found := _OPTION.fullmatch(name))
    }
    if len(filled) < 2:
        first = next(k for k in range(2) if k not in filled)
        raise UserError(f"{where}, a{first}: it is empty or missing; expected at least two options")
    places: dict[str, int] = {}
    for number, text in sorted(filled.items()):
        if text in places:
            raise UserError(
                f"{where}: a{places[text]} and a{number} both read {text!r}: give each option its own text"
            )
        places[text] = number
    return tuple(filled.get(number, "") for number in range(max(filled) + 1))


def _answer(text: str, options: Sequence[str], *, where: str) -> int | None:
    """The number of the column: of the option with this text, else with this value, else of the column so numbered.

    Values are compared because pandas writes the whole numbers of a column with holes as 1.0, 2.0, ….
    """
    if not text:
        return None
    if text in options:
        return options.index(text)
    number = _number(text)
    if number is not None:
        equal = [k for k, option in enumerate(options) if _number(option) == number]
        if len(equal) == 1:
            return equal[0]
        if not equal and number.is_integer() and 0 <= number < len(options) and options[int(number)]:
            return int(number)
    columns = [f"a{k}" for k, option in enumerate(options) if option]
    raise UserError(
        f"{where}: {text!r} is none of the {len(columns)} options, nor the number of one from 0: {', '.join(columns)}"
    )


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[+-]?\d+(\.\d*)?", text, re.ASCII) else None


def _seconds(text: str, *, where: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError as error:
        raise UserError(f"{where}: expected seconds, not {text!r}") from error
