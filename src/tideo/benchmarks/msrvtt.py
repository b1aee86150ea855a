"""MSR-VTT (Xu et al., CVPR 2016): short web videos, each described by twenty people."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

from tideo.benchmarks.annotations import annotation, parsed, samples_of
from tideo.store.text import json_of
from tideo.store.video_files import VideoFolder
from tideo.types import Sample, UserError, Video

SCORE = "cider"  # and ROUGE-L
TEST = "test"


class Clip(BaseModel):
    """One of `videos`; other keys are left alone."""

    video_id: str = Field(min_length=1)
    split: str = TEST


class Sentence(BaseModel):
    """One of `sentences`."""

    video_id: str = Field(min_length=1)
    caption: str = Field(min_length=1)


class Annotations(BaseModel):
    """The file as downloaded, such as test_videodatainfo.json or MSRVTT_data.json."""

    videos: list[Clip]
    sentences: list[Sentence]


def msrvtt(data: str | Path, *, videos: str | Path) -> list[Sample]:
    """The test videos of a file as downloaded, or of the only one in a folder, each to be described.

    A file without test videos (train_val_videodatainfo.json) gives its validation videos. A video is ID in `videos`.
    Raises UserError for a malformed file, naming the field, and for a video without a sentence.
    """
    path = annotation(data, "*.json")
    found = parsed(Annotations, json_of(path), where=str(path))
    captions: dict[str, list[str]] = {}
    for sentence in found.sentences:
        captions.setdefault(sentence.video_id, []).append(sentence.caption)
    split = TEST if any(clip.split == TEST for clip in found.videos) else "validate"
    chosen = [clip for clip in found.videos if clip.split == split]
    for clip in chosen:
        if clip.video_id not in captions:
            raise UserError(f"{path}: video {clip.video_id!r} has no sentence")
    places = VideoFolder(videos)

    def sample(clip: Clip) -> Sample:
        return Sample(
            id=clip.video_id,
            video=Video(id=clip.video_id, path=places.find(clip.video_id)),
            question="",
            references=tuple(captions[clip.video_id]),
            meta={"split": split},
        )

    return samples_of(((str(path), clip) for clip in chosen), Clip, sample)
