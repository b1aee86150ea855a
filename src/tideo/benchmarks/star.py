"""STAR (Wu et al., NeurIPS 2021): situated reasoning in segments of Charades videos, four types.

Its score is the mean of the types' accuracies.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tideo.benchmarks.annotations import Choices, annotation, json_list, samples_of
from tideo.store.video_files import VideoFolder
from tideo.types import Sample, Video

SCORE = "mean_of_kinds"
KINDS = {
    "Interaction": "what is done with things",
    "Sequence": "what happens before or after",
    "Prediction": "what comes next, after the segment",
    "Feasibility": "what could be done here",
}


class Choice(BaseModel):
    model_config = ConfigDict(extra="ignore")

    choice: str = Field(min_length=1)


class Row(BaseModel):
    """One question of STAR_train.json or STAR_val.json as downloaded; programs and situations are left alone."""

    model_config = ConfigDict(extra="ignore")

    question_id: str = Field(pattern=rf"^({'|'.join(KINDS)})_")
    question: str = Field(min_length=1)
    video_id: str = Field(min_length=1)
    start: float = Field(ge=0)
    end: float
    answer: str | None = None  # STAR_test.json has none
    choices: list[Choice] = Field(min_length=2)

    @model_validator(mode="after")
    def _consistent(self) -> Row:
        if self.end <= self.start:
            raise ValueError(f"the segment ends at {self.end} s, not after its start at {self.start} s")
        if self.answer is not None and self.answer not in [c.choice for c in self.choices]:
            raise ValueError(f"answer {self.answer!r} is none of the choices")
        return self


def star(data: str | Path, *, videos: str | Path) -> list[Sample]:
    """The questions of a JSON file, or of the only one in a folder, each about its [start, end] segment.

    Raises UserError for a malformed question, naming file, place and field.
    """
    path, places = annotation(data, "*.json"), VideoFolder(videos)

    def sample(row: Row) -> Sample:
        options = tuple(c.choice for c in row.choices)
        return Sample(
            id=row.question_id,
            video=Video(
                id=row.video_id,
                path=places.find(row.video_id),
                start_s=row.start,
                end_s=row.end,
            ),
            question=row.question,
            options=options,
            answer=None if row.answer is None else options.index(row.answer),
            kind=row.question_id.partition("_")[0],
            meta={"split": path.stem},
        )

    return samples_of(json_list(path), Row, sample)


def export(samples: Sequence[Sample], choices: Choices) -> str:
    """For EvalAI, by type, as data_preparing/videoqa.py of yellow-binary-tree/HawkEye writes it for the server."""
    by_kind: dict[str, list[dict[str, object]]] = {kind: [] for kind in KINDS}
    for sample in samples:
        by_kind[sample.kind].append({"question_id": sample.id, "answer": choices[sample.id]})
    return json.dumps(by_kind, indent=1) + "\n"
