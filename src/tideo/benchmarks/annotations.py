"""What the readers of annotation files share: rows that name file, line and field where they are wrong."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tideo.store.text import json_of, text_of
from tideo.types import Sample, UserError, VideoError

Row = TypeVar("Row", bound=BaseModel)
SEPARATORS = (",", ";", "\t")
_SEPARATOR = re.compile(
    r"\Asep=([,;\t])\r?\n", re.IGNORECASE
)  # the first line of a file that Excel shall open right
COLUMNS = "columns"  # in Sample.meta: the file's number of each option, where empty ones are left out


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


def json_list(path: Path) -> Iterator[tuple[str, Any]]:
    """Where each element of a JSON list stands, and what it holds."""
    rows = json_of(path)
    if not isinstance(rows, list):
        raise UserError(f"{path}: expected a list of questions, not {type(rows).__name__}")
    for number, row in enumerate(rows, start=1):
        yield f"{path} element {number}", row


def csv_rows(path: Path, *, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Where each row stands, and its fields, each with exactly its text.

    The separator is a comma, a semicolon or a tab, as the header has it or a first line `sep=;` says. Columns without
    a name (the index that pandas writes, a trailing comma) and empty rows are left out. Raises UserError for a missing
    column or one that occurs twice, for a row of another length, and for a quote that is not closed.
    """
    text = text_of(path)
    named = _SEPARATOR.match(text)
    rows, separator = _table(path, _SEPARATOR.sub("\n", text), named[1] if named else None, columns)
    _, header = next(rows, (0, []))
    names = [name.strip() for name in header]
    if missing := [c for c in columns if c not in names]:
        found = shorten(separator.join(names), 200, placeholder=" …") or "nothing"
        raise UserError(
            f"{path}: the column {missing[0]!r} is missing; expected {', '.join(columns)}, found {found}"
        )
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise UserError(f"{path}: the column {twice[0]!r} occurs twice; remove or rename one")
    width = max(number for number, name in enumerate(names, start=1) if name)
    for line, row in rows:
        if not width <= len(row) <= len(names):
            raise UserError(
                f"{path} line {line}: expected {len(names)} fields as in the header, found {len(row)}; quote a field "
                "that holds the separator, and give every column its place in the header"
            )
        if stray := [cell.strip() for cell in row[width:] if cell.strip()]:
            raise UserError(
                f"{path} line {line}: {stray[0]!r} stands behind the last column that has a name; quote a field that "
                "holds the separator, or name the column"
            )
        fields = zip(names, row, strict=False)  # of unnamed columns at the end a row may have fewer
        yield f"{path} line {line}", {name: value for name, value in fields if name}


def _table(
    path: Path, text: str, separator: str | None, columns: Sequence[str]
) -> tuple[Iterator[tuple[int, list[str]]], str]:
    """The rows that are not empty with their last lines, and the separator that finds the most of the columns."""

    def rows(separator: str) -> Iterator[tuple[int, list[str]]]:
        # StringIO ends lines where csv does; str.splitlines would also at U+2028 and others within a field.
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                raise UserError(
                    f"{path} line {reader.line_num}: it is not csv ({error}); look for a quote that is not closed"
                ) from error
            if row is None:
                return
            if any(row):
                yield reader.line_num, row

    def num_found(separator: str) -> int:
        try:
            _, header = next(rows(separator), (0, []))
        except UserError:
            return -1
        return len({name.strip() for name in header} & set(columns))

    separator = separator or max(SEPARATORS, key=num_found)
    return rows(separator), separator


def parsed(kind: type[Row], data: Any, *, where: str) -> Row:
    """A row of that kind. Raises UserError naming the place and the field."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the row"
        raise UserError(f"{where}, {field}: {first['msg'].removeprefix('Value error, ')}") from error


@contextmanager
def at(where: str) -> Iterator[None]:
    """Names the place in the message of a UserError; a VideoError remains one."""
    try:
        yield
    except VideoError as error:
        raise VideoError(f"{where}: {error}") from error
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def samples_of(
    rows: Iterable[tuple[str, Any]], kind: type[Row], sample: Callable[[Row], Sample]
) -> list[Sample]:
    """The samples of rows of that kind. Raises UserError as `parsed` and `each_once` do."""

    def samples() -> Iterator[tuple[str, Sample]]:
        for where, fields in rows:
            row = parsed(kind, fields, where=where)
            with at(where):
                made = sample(row)
            yield where, made

    return each_once(samples())


def each_once(samples: Iterable[tuple[str, Sample]]) -> list[Sample]:
    """The samples, without empty options.

    Raises UserError where an id occurs twice, where fewer than two options are left or the right one is empty, and
    where there is no sample.
    """
    place: dict[str, str] = {}
    kept = []
    for where, sample in samples:
        if sample.id in place:
            raise UserError(f"{where}: id {sample.id!r} occurs in {place[sample.id]} already; remove one")
        place[sample.id] = where
        with at(where):
            kept.append(_without_empty(sample))
    if not kept:
        raise UserError("the annotation file holds no question")
    return kept


def _without_empty(sample: Sample) -> Sample:
    """The sample without its empty options; the numbers that the others have in the file are kept in `meta`."""
    columns = [number for number, option in enumerate(sample.options) if option.strip()]
    if len(columns) == len(sample.options):
        return sample
    if len(columns) < 2:
        raise UserError(f"expected at least two options, found {len(columns)} that is not empty")
    if sample.answer is not None and sample.answer not in columns:
        raise UserError(f"the answer is option number {sample.answer}, which is empty")
    return replace(
        sample,
        options=tuple(sample.options[number] for number in columns),
        answer=None if sample.answer is None else columns.index(sample.answer),
        meta={**sample.meta, COLUMNS: columns},
    )


NO_CHOICE = -1  # of a question that failed or was skipped: wrong everywhere, and no guess


class Answered(dict[str, int]):
    """Choices by sample id; a question that was skipped is not in it, and reads as NO_CHOICE."""

    def __missing__(self, sample_id: str) -> int:
        return NO_CHOICE


Choices = Mapping[str, int]  # by sample id: an Answered where the run is exported


def choices_csv(samples: Sequence[Sample], choices: Choices) -> str:
    """A line for each question that was asked, its id and the number of its choice from 0.

    The export of a benchmark without its own.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["id", "choice"])
    rows.writerows([s.id, choices[s.id]] for s in samples if s.id in choices)
    return text.getvalue()
