"""TextVid's JSON, as the code of TOPA (arXiv 2405.13911) reads it, and the `Tideo` of a record.

    {"idx", "frames": [{"main": …, "foreground": …, …}], "global_video_caption",
     "QAs": [{"question", "options": [5], "answer": "A".."E", "answer_open_ended"}]}

Nothing is lost: `dump(load(path))` writes the same values, unknown keys included, and
`to_tideo(from_tideo(tideo)) == tideo`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tideo.store.files import atomic_write_text
from tideo.store.records import write_records
from tideo.store.text import json_of, lines_of, parsed_json
from tideo.types import Question, TextFrame, Tideo, UserError

LETTERS = "ABCDE"
SHARDS = "tideos-*.jsonl"  # the files of a folder
CAPTIONS = ("main", "foreground", "background")
Text = Annotated[str, Field(min_length=1)]


class QA(BaseModel):
    """A question with its options. `type` and `evidence_s` are additions of Tideo's."""

    model_config = ConfigDict(extra="allow", strict=True)

    question: Text
    options: list[Text] = Field(default_factory=list, max_length=5)
    answer: str | None = Field(default=None, pattern="^[A-E]$")
    answer_open_ended: str | None = None
    type: str = "all"
    evidence_s: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None

    @model_validator(mode="after")
    def _answer_names_an_option(self) -> QA:
        if self.answer is not None and LETTERS.index(self.answer) >= len(self.options):
            raise ValueError(f"answer {self.answer} names none of the {len(self.options)} options")
        return self


class Record(BaseModel):
    """One textual video. A frame maps kinds of caption to captions. `provenance` is an addition of Tideo's."""

    model_config = ConfigDict(extra="allow", strict=True)

    idx: int | str
    frames: list[Annotated[dict[str, Text], Field(min_length=1)]] = Field(min_length=1)
    global_video_caption: str
    QAs: list[QA] = Field(default_factory=list)
    provenance: dict[str, Any] = Field(default_factory=dict)


def load(path: str | Path) -> list[Record]:
    """The records of a JSON list, of a file with one record a line (.jsonl), or of a folder's shards.

    Raises UserError that names the file, the entry (or line) and the field of the first bad record.
    """
    records = []
    for _, record in load_each(path):
        if isinstance(record, UserError):
            raise record
        records.append(record)
    return records


def load_each(path: str | Path) -> Iterator[tuple[str, Record | UserError]]:
    """As `load`, but each record with its file and line or entry, and an error in place of each bad record."""
    path = Path(path)
    files = sorted(path.glob(SHARDS)) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path} holds no {SHARDS}: give a folder that tideo textvid generate wrote")
    for file in files:
        if file.suffix == ".jsonl":
            entries, kind = lines_of(file), "line"
        else:
            entries, kind = json_of(file), "entry"
            if not isinstance(entries, list):
                raise UserError(
                    f"{file} holds a JSON {type(entries).__name__}; expected a list of TextVid records"
                )
        for number, entry in enumerate(entries, start=1):
            where = f"{file} {kind} {number}"
            try:
                yield (
                    where,
                    _record(parsed_json(entry, where=where) if kind == "line" else entry, where=where),
                )
            except UserError as error:
                yield where, error


def dump(records: Iterable[Record], path: str | Path) -> None:
    """Write the records: one a line to a .jsonl file, a JSON list to any other."""
    plain = [record.model_dump(exclude_unset=True) for record in records]
    if Path(path).suffix == ".jsonl":
        write_records(path, plain, ensure_ascii=False)
    else:
        atomic_write_text(path, json.dumps(plain, indent=1, ensure_ascii=False) + "\n")


def _record(data: Any, *, where: str) -> Record:
    try:
        return Record.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{where}, {first_fault(error, whole='the record')}") from error


def first_fault(error: ValidationError, *, whole: str) -> str:
    """The first field that is wrong and what is wrong with it; `whole` names what has no fields."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"])) or whole
    return f"{field}: {first['msg'].removeprefix('Value error, ')}"


def to_tideo(record: Record) -> Tideo:
    """The Tideo of a record.

    Raises UserError for a frame without a main caption, or with captions other than the three of a TextFrame: main,
    foreground and background.
    """
    return Tideo(
        id=str(record.idx),
        frames=tuple(
            _frame(f, where=f"record {record.idx} frame {i}") for i, f in enumerate(record.frames, 1)
        ),
        summary=record.global_video_caption,
        questions=tuple(_question(qa) for qa in record.QAs),
        provenance=dict(record.provenance),
    )


def from_tideo(tideo: Tideo) -> Record:
    """The record of a Tideo. Kind, evidence and provenance go into the keys that Tideo adds."""
    return Record.model_validate(
        {
            "idx": tideo.id,
            "frames": [
                {name: text for name in CAPTIONS if (text := getattr(frame, name)) is not None}
                for frame in tideo.frames
            ],
            "global_video_caption": tideo.summary,
            "QAs": [
                {
                    "question": q.question,
                    "options": list(q.options),
                    "answer": None if q.answer is None else LETTERS[q.answer],
                    "answer_open_ended": q.open_answer,
                    "type": q.kind,
                    "evidence_s": None if q.evidence_s is None else list(q.evidence_s),
                }
                for q in tideo.questions
            ],
            "provenance": tideo.provenance,
        }
    )


def _frame(captions: dict[str, str], *, where: str) -> TextFrame:
    if "main" not in captions or set(captions) - set(CAPTIONS):
        raise UserError(
            f"{where} has the captions {', '.join(captions)}; "
            "expected main, and at most foreground and background beside it"
        )
    return TextFrame(**captions)


def _question(qa: QA) -> Question:
    return Question(
        question=qa.question,
        options=tuple(qa.options),
        answer=None if qa.answer is None else LETTERS.index(qa.answer),
        open_answer=qa.answer_open_ended,
        kind=qa.type,
        evidence_s=None if qa.evidence_s is None else (qa.evidence_s[0], qa.evidence_s[1]),
    )
