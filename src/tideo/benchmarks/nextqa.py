"""NExT-QA, multiple choice (Xiao et al., CVPR 2021): why, how, when and what in everyday videos, eight types."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from tideo.benchmarks.annotations import Choices, annotation, csv_rows, samples_of
from tideo.store.text import json_of
from tideo.store.video_files import VideoFolder
from tideo.types import Sample, UserError, Video

OPTIONS = ("a0", "a1", "a2", "a3", "a4")
COLUMNS = ("video", "question", "answer", "qid", "type", *OPTIONS)
KINDS = {
    "CW": "why",
    "CH": "how",
    "TN": "what comes next",
    "TC": "what happens meanwhile",
    "TP": "what came before",
    "DC": "how many",
    "DL": "where",
    "DO": "other descriptions",
}
MAP_FILE = "map_vid_vidorID.json"


class Row(BaseModel):
    """One line of train.csv, val.csv or test.csv as downloaded; other columns are left alone."""

    model_config = ConfigDict(extra="ignore")

    video: str = Field(min_length=1)
    question: str = Field(min_length=1)
    answer: int = Field(ge=0, lt=len(OPTIONS))
    qid: str = Field(min_length=1)
    type: str = Field(min_length=1)
    a0: str
    a1: str
    a2: str
    a3: str
    a4: str


def nextqa(data: str | Path, *, videos: str | Path) -> list[Sample]:
    """The questions of a csv file, or of the only one in a folder.

    A video lies in `videos` by its id or, as downloaded from VidOR, in the folder that map_vid_vidorID.json beside the
    csv file names. Raises UserError for a malformed row, naming file, line and field.
    """
    path = annotation(data, "*.csv")
    return samples_of(csv_rows(path, columns=COLUMNS), Row, row_to_sample(path, videos=videos))


def row_to_sample(annotations: Path, *, videos: str | Path) -> Callable[[Row], Sample]:
    """What makes a row of this file a question about its video, which lies flat in `videos` or at its place there."""
    nested, folder = _places(annotations), VideoFolder(videos)

    def sample(row: Row) -> Sample:
        return Sample(
            id=f"{row.video}_{row.qid}",
            video=Video(id=row.video, path=folder.find(nested.get(row.video, row.video), row.video)),
            question=row.question,
            options=(row.a0, row.a1, row.a2, row.a3, row.a4),
            answer=row.answer,
            kind=row.type,
            meta={"split": annotations.stem},
        )

    return sample


def _places(annotations: Path) -> dict[str, str]:
    """video id → its place below the video folder, without ending; empty where there is no map beside the file."""
    path = annotations.with_name(MAP_FILE)
    if not path.is_file():
        return {}
    places = json_of(path)
    inside = isinstance(places, dict) and all(
        isinstance(p, str) and not Path(p).is_absolute() and ".." not in Path(p).parts
        for p in places.values()
    )
    if not inside:
        raise UserError(f"{path}: expected an object from video id to a place below the video folder")
    return dict(places)


def export(samples: Sequence[Sample], choices: Choices) -> str:
    """For eval_mc.py of doc-doc/NExT-QA, which reads every question of the file and counts TP among TN by itself."""
    return (
        json.dumps({s.id: {"prediction": choices[s.id], "answer": s.answer} for s in samples}, indent=1)
        + "\n"
    )
