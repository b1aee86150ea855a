"""The annotated videos of a benchmark's training file, for both trainings."""

from __future__ import annotations

import os
from itertools import groupby

from tideo import registry
from tideo.types import Sample, UserError

# benchmark → videos or segments, and questions of its training split; STAR's questions have a segment each
PUBLISHED = {"nextqa": (3_870, 34_132), "star": (45_731, 45_731)}


def annotated_segments(benchmark: str, *, path: str, videos: str) -> list[list[Sample]]:
    """The questions of the file at `path`, those about the same video or segment together.

    Raises UserError if videos are missing, with their number and the first.
    """
    samples = registry.load("benchmarks", benchmark)(path, videos=videos)
    missing = sorted({s.video.path for s in samples if not os.path.exists(s.video.path)})
    if missing:
        raise UserError(
            f"{len(missing)} of {len({s.video.path for s in samples})} videos are missing, the first {missing[0]}: "
            "get them, or leave their questions out of the file"
        )
    return [list(group) for _, group in groupby(sorted(samples, key=_segment), key=_segment)]


def _segment(sample: Sample) -> tuple[str, float, float]:
    video = sample.video
    return video.path, video.start_s or 0.0, video.end_s or 0.0
