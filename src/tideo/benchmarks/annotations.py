"""What the readers of annotation files share: rows that name file, line and field where they are wrong."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tideo.types import Sample, UserError

Row = TypeVar("Row", bound=BaseModel)


def annotation(data: str | Path, pattern: str) -> Path:
    """The file itself, or the only file of the folder that matches. Raises UserError where that is not one."""
    data = Path(data)
    if data.is_file():
        return data
    if not data.is_dir():
        raise UserError(f"{data}: there is no such file or folder")
    found = sorted(data.glob(pattern))
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise UserError(f"{data}: expected one file {pattern}, found {names}; name the file itself")
    return found[0]


def text_of(path: Path) -> str:
    """A file's text. Raises UserError where it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from error


def json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Where each line stands, and what it holds."""
    for number, line in enumerate(text_of(path).removesuffix("\n").split("\n"), start=1):
        where = f"{path} line {number}"
        try:
            yield where, json.loads(line)
        except ValueError as error:
            raise UserError(f"{where} is not JSON ({error})") from error


def json_of(path: Path) -> Any:
    """What a JSON file holds. Raises UserError where it is not JSON."""
    try:
        return json.loads(text_of(path))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error})") from error


def json_list(path: Path) -> Iterator[tuple[str, Any]]:
    """Where each element of a JSON list stands, and what it holds."""
    rows = json_of(path)
    if not isinstance(rows, list):
        raise UserError(f"{path}: expected a list of questions, not {type(rows).__name__}")
    for number, row in enumerate(rows, start=1):
        yield f"{path} element {number}", row


def csv_rows(path: Path, *, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Where each row stands, and its fields. Raises UserError for a missing column or a row of another length."""
    reader = csv.DictReader(text_of(path).splitlines(keepends=True), restkey="", restval=None)
    missing = [c for c in columns if c not in (reader.fieldnames or ())]
    if missing:
        raise UserError(f"{path}: the column {missing[0]!r} is missing; expected {', '.join(columns)}")
    for row in reader:
        where = f"{path} line {reader.line_num}"
        if "" in row or None in row.values():
            raise UserError(f"{where}: expected {len(reader.fieldnames or ())} fields as in the header")
        yield where, row


def parsed(kind: type[Row], data: Any, *, where: str) -> Row:
    """A row of that kind. Raises UserError naming the place and the field."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the row"
        raise UserError(f"{where}, {field}: {first['msg'].removeprefix('Value error, ')}") from error


def samples_of(
    rows: Iterable[tuple[str, Any]], kind: type[Row], sample: Callable[[Row], Sample]
) -> list[Sample]:
    """The samples of rows of that kind. Raises UserError as `parsed` and `each_once` do."""
    return each_once((where, sample(parsed(kind, fields, where=where))) for where, fields in rows)


def each_once(samples: Iterable[tuple[str, Sample]]) -> list[Sample]:
    """The samples. Raises UserError where an id occurs twice, or where there is none."""
    place: dict[str, str] = {}
    kept = []
    for where, sample in samples:
        if sample.id in place:
            raise UserError(f"{where}: id {sample.id!r} occurs in {place[sample.id]} already; remove one")
        place[sample.id] = where
        kept.append(sample)
    if not kept:
        raise UserError("the annotation file holds no question")
    return kept


NO_CHOICE = -1  # of a question that failed: wrong everywhere, and no guess
Choices = Mapping[str, int]  # by sample id


def choices_csv(samples: Sequence[Sample], choices: Choices) -> str:
    """One line a question, its id and the number of its choice from 0: the export of a benchmark without its own."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["id", "choice"])
    rows.writerows([s.id, choices[s.id]] for s in samples)
    return text.getvalue()
