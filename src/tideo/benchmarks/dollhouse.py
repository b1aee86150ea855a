"""The dollhouse: rendered household videos with questions of thirteen kinds and their evidence."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tideo.benchmarks import nextqa, star
from tideo.benchmarks.annotations import annotation, samples_of
from tideo.store.text import json_lines
from tideo.store.video_files import VideoFolder
from tideo.types import Sample, Tideo, Video

KINDS = nextqa.KINDS | star.KINDS | {"Purpose": "what it is all for"}


class EpisodeRef(BaseModel):
    """Arguments of `tideo.dollhouse.script.sample_episode`; with `seconds`, of `day.sample_day`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    split: str
    index: int
    seed: int
    seconds: int | None = None


class Row(BaseModel):
    """One line of SPLIT.jsonl, as `tideo dollhouse make` writes it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: str = Field(min_length=1)
    video: str = Field(min_length=1)
    question: str = Field(min_length=1)
    options: list[str] = Field(min_length=2)
    answer: int | None = Field(ge=0)
    kind: str
    evidence_s: list[float] | None = Field(default=None, min_length=2, max_length=2)
    start_s: float | None = None
    end_s: float | None = None
    open_answer: str | None = None
    held_out: bool = False
    episode: EpisodeRef

    @model_validator(mode="after")
    def _consistent(self) -> Row:
        if self.answer is not None and self.answer >= len(self.options):
            raise ValueError(f"answer {self.answer} is not an index of the {len(self.options)} options")
        if self.start_s is not None and self.end_s is not None and self.end_s <= self.start_s:
            raise ValueError(f"the segment ends at {self.end_s} s, not after its start at {self.start_s} s")
        return self


def dollhouse(data: str | Path, *, videos: str | Path) -> list[Sample]:
    """The dollhouse's questions: `data` is SPLIT.jsonl or the folder that holds exactly one such file.

    Raises UserError for a malformed line, naming file, line and field, and for an id that occurs twice.
    Whether the videos exist is not checked here.
    """
    return samples_of(
        json_lines(annotation(data, "*.jsonl")), Row, partial(_sample, videos=VideoFolder(videos))
    )


def tideo(samples: Sequence[Sample], *, num: int) -> Tideo:
    """The captions of `num` frames of the segment that the samples are about."""
    from tideo.dollhouse.captions import text_video

    return text_video(samples[0], num=num)


def tideo_key(sample: Sample) -> Any:
    """The episode, which the captions are a function of."""
    return sample.meta.get("episode")


def _sample(row: Row, *, videos: VideoFolder) -> Sample:
    return Sample(
        id=row.id,
        video=Video(id=row.video, path=videos.find(row.video), start_s=row.start_s, end_s=row.end_s),
        question=row.question,
        options=tuple(row.options),
        answer=row.answer,
        kind=row.kind,
        evidence_s=((row.evidence_s[0], row.evidence_s[1]),) if row.evidence_s else (),
        meta={
            "split": row.episode.split,
            "open_answer": row.open_answer,
            "held_out": row.held_out,
            "episode": row.episode.model_dump(exclude_none=True),
        },
    )
