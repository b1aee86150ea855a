"""TVQA (Lei et al., EMNLP 2018): questions about moments of six TV shows."""

from __future__ import annotations

import re
from math import isfinite
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tideo.benchmarks.annotations import annotation, samples_of
from tideo.store.text import json_lines
from tideo.store.video_files import VideoFolder
from tideo.types import Sample, Video

_SPAN = re.compile(r"([\d.]+|NaN)-([\d.]+|NaN)", re.IGNORECASE)


class Row(BaseModel):
    """One line of tvqa_train.jsonl, tvqa_val.jsonl or tvqa_test_public.jsonl, which has no answers."""

    model_config = ConfigDict(extra="ignore")

    qid: int
    q: str = Field(min_length=1)
    a0: str
    a1: str
    a2: str
    a3: str
    a4: str
    answer_idx: int | None = Field(default=None, ge=0, lt=5)
    vid_name: str = Field(pattern=r"^[\w-]+$")
    show_name: str = "all"
    ts: str

    @field_validator("ts")
    @classmethod
    def _span(cls, ts: str) -> str:
        if not _SPAN.fullmatch(ts):
            raise ValueError(f"expected a span of seconds as in 61.46-71.2, not {ts!r}")
        return ts


def tvqa(data: str | Path, *, videos: str | Path) -> list[Sample]:
    """The questions of a jsonl file, or of the only one in a folder, each about its span, by show.

    A clip is the video VID in `videos`, or the folder of pictures SHOW_frames/VID as downloaded; for pictures the path
    must name their rate, as in frames_fps3. A span that is NaN is the whole clip. Raises UserError for a malformed row,
    naming file, line and field.
    """
    path, places = annotation(data, "*.jsonl"), VideoFolder(videos)

    def sample(row: Row) -> Sample:
        start_s, end_s = (float(t) for t in _SPAN.fullmatch(row.ts).groups())  # type: ignore[union-attr]
        known = isfinite(start_s) and isfinite(end_s) and end_s > start_s
        return Sample(
            id=str(row.qid),
            video=Video(
                id=row.vid_name,
                path=places.find(f"{_show(row.vid_name)}_frames/{row.vid_name}", row.vid_name),
                start_s=start_s if known else None,
                end_s=end_s if known else None,
            ),
            question=row.q,
            options=(row.a0, row.a1, row.a2, row.a3, row.a4),
            answer=row.answer_idx,
            kind=row.show_name,
            meta={"split": path.stem},
        )

    return samples_of(json_lines(path), Row, sample)


def _show(clip: str) -> str:
    """friends_s06e12_seg02_clip_16 → friends; clips of The Big Bang Theory name no show."""
    return "bbt" if re.match(r"s\d\de\d\d_", clip) else clip.partition("_")[0]
