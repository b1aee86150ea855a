"""VATEX (Wang et al., ICCV 2019): ten-second videos, each described by ten people in English."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

from tideo.benchmarks.annotations import annotation, json_list, samples_of
from tideo.store.video_files import VideoFolder
from tideo.types import Sample, Video

SCORE = "cider"  # and ROUGE-L


class Row(BaseModel):
    """One element of the list; Chinese captions are left alone."""

    videoID: str = Field(min_length=1)  # YouTube's id and the clip's seconds: 2sIXYoU5Vq8_000007_000017
    enCap: list[str] = Field(min_length=1)


def vatex(data: str | Path, *, videos: str | Path) -> list[Sample]:
    """The videos of a file as downloaded (vatex_validation_v1.0.json, vatex_public_test_english_v1.1.json).

    A clip is the video VIDEOID in `videos`. Raises UserError for a malformed element, naming file, place and field.
    """
    path, places = annotation(data, "*.json"), VideoFolder(videos)

    def sample(row: Row) -> Sample:
        return Sample(
            id=row.videoID,
            video=Video(id=row.videoID, path=places.find(row.videoID)),
            question="",
            references=tuple(row.enCap),
            meta={"split": path.stem},
        )

    return samples_of(json_list(path), Row, sample)
