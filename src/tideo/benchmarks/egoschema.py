"""EgoSchema (Mangalam et al., NeurIPS 2023): three-minute egocentric videos, five long options, 500 public answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from tideo.benchmarks.annotations import Choices, annotation, json_list, samples_of
from tideo.store.text import json_of
from tideo.store.video_files import VideoFolder
from tideo.types import Sample, UserError, Video

ANSWERS = "subset_answers.json"


class Row(BaseModel):
    """One question of questions.json as downloaded."""

    model_config = ConfigDict(extra="ignore")

    q_uid: str = Field(min_length=1)
    question: str = Field(min_length=1)
    option_0: str = Field(alias="option 0")
    option_1: str = Field(alias="option 1")
    option_2: str = Field(alias="option 2")
    option_3: str = Field(alias="option 3")
    option_4: str = Field(alias="option 4")


def egoschema(data: str | Path, *, videos: str | Path) -> list[Sample]:
    """All questions of a JSON file, or of the only questions*.json in a folder, each about the video Q_UID.

    subset_answers.json beside the file has the public answers; the other questions have none, are answered and not
    scored. Raises UserError for a malformed question, naming file, place and field.
    """
    path = annotation(data, "questions*.json")
    places = VideoFolder(videos)
    public = _answers(path.with_name(ANSWERS))

    def sample(row: Row) -> Sample:
        return Sample(
            id=row.q_uid,
            video=Video(id=row.q_uid, path=places.find(row.q_uid)),
            question=row.question,
            options=(row.option_0, row.option_1, row.option_2, row.option_3, row.option_4),
            answer=public.get(row.q_uid),
            meta={"split": "subset" if row.q_uid in public else "hidden"},
        )

    return samples_of(json_list(path), Row, sample)


def _answers(path: Path) -> dict[str, int]:
    """q_uid → the right option; empty where there is no file."""
    if not path.is_file():
        return {}
    answers = json_of(path)
    if not isinstance(answers, dict) or not all(type(n) is int and 0 <= n < 5 for n in answers.values()):
        raise UserError(f"{path}: expected an object from q_uid to an option from 0 to 4")
    return answers


def export(samples: Sequence[Sample], choices: Choices) -> str:
    """{q_uid: option}, as the validation server reads it."""
    return json.dumps({s.id: choices[s.id] for s in samples}, indent=1) + "\n"
