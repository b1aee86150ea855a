"""IntentQA (Li et al., ICCV 2023): why people act as they do, in videos of NExT-QA, types CW, CH, TN and TP."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from tideo.benchmarks import nextqa
from tideo.benchmarks.annotations import annotation, csv_rows, samples_of
from tideo.types import Sample

KINDS = nextqa.KINDS


class Row(nextqa.Row):
    """One line of train.csv, val.csv or test.csv as downloaded: NExT-QA's, with the video in another column."""

    video: str = Field(alias="video_id", min_length=1)


COLUMNS = tuple("video_id" if column == "video" else column for column in nextqa.COLUMNS)


def intentqa(data: str | Path, *, videos: str | Path) -> list[Sample]:
    """The questions of a csv file, or of the only one in a folder, with videos as for `nextqa`.

    The published tables count TP and TN together. Raises UserError for a malformed row, naming file, line and field.
    """
    path = annotation(data, "*.csv")
    sample = nextqa.row_to_sample(path, videos=videos)
    return samples_of(csv_rows(path, columns=COLUMNS), Row, sample)
