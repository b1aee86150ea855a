"""The captions of the frames of a dollhouse video."""

from __future__ import annotations

import random

from tideo.dollhouse.captions import caption, frame_times
from tideo.dollhouse.script import sample_episode
from tideo.types import Sample, Tideo, UserError


def text_video(sample: Sample, *, num: int) -> Tideo:
    """The captions of `num` even frames of the segment that a dollhouse question is about.

    A model that is shown them sees the segment without a modality gap. Raises UserError for a sample of another
    benchmark.
    """
    video, reference = sample.video, sample.meta.get("episode")
    if reference is None:
        raise UserError(
            f"video {video.id}: text features need a sample of the dollhouse, which knows its script"
        )
    episode = sample_episode(reference["split"], reference["index"], seed=reference["seed"])
    start_s, end_s = video.start_s or 0.0, episode.duration_s if video.end_s is None else video.end_s
    rng = random.Random(f"text features/{episode.id}/{end_s}")
    states = [episode.state_at(start_s + t) for t in frame_times(end_s - start_s, num)]
    return Tideo(id=video.id, frames=tuple(caption(s, rng) for s in states), summary="")
