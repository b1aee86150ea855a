"""NExT-GQA (Xiao et al., CVPR 2024): NExT-QA's causal and temporal questions with the spans that show the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, RootModel

from tideo.benchmarks import intentqa, nextqa
from tideo.benchmarks.annotations import annotation, at, csv_rows, each_once, parsed
from tideo.store.text import json_of
from tideo.types import Sample, UserError

KINDS = nextqa.KINDS
SCORE = "grounded"  # in the place of Acc@GQA: see evaluate/grounding.py
_Span = Annotated[list[float], Field(min_length=2, max_length=2)]


class Grounded(BaseModel):
    """A video's part of gsub_SPLIT.json: question id → spans in seconds; other keys are left alone."""

    location: dict[str, list[_Span]]


class Spans(RootModel[dict[str, Grounded]]):
    """gsub_val.json or gsub_test.json as downloaded."""


def nextgqa(data: str | Path, *, videos: str | Path) -> list[Sample]:
    """The questions of val.csv or test.csv with the spans of gsub_val.json or gsub_test.json beside it.

    Here the answer is an option's text. Videos as for `nextqa`. A file without spans beside it (train.csv) has
    questions without evidence. Raises UserError for a malformed row, naming file, line and field.
    """
    path = annotation(data, "*.csv")
    return each_once(_samples(path, videos=videos, spans=_spans(path)))


def _samples(
    path: Path, *, videos: str | Path, spans: Mapping[str, Grounded]
) -> Iterator[tuple[str, Sample]]:
    sample = nextqa.row_to_sample(path, videos=videos)
    for where, fields in csv_rows(path, columns=intentqa.COLUMNS):
        row = parsed(intentqa.Row, fields | {"answer": _index(fields, where=where)}, where=where)
        found = spans[row.video].location.get(row.qid, []) if row.video in spans else []
        with at(where):
            made = replace(sample(row), evidence_s=tuple((start_s, end_s) for start_s, end_s in found))
        yield where, made


def _index(fields: Mapping[str, str], *, where: str) -> int:
    """The place of the option that reads as the answer, the first of equals."""
    options = [fields[name] for name in nextqa.OPTIONS]
    if fields["answer"] not in options:
        raise UserError(f"{where}, answer: {fields['answer']!r} is none of the five options")
    return options.index(fields["answer"])


def _spans(path: Path) -> dict[str, Grounded]:
    beside = path.with_name(f"gsub_{path.stem}.json")
    if not beside.is_file():
        return {}
    return parsed(Spans, json_of(beside), where=str(beside)).root
