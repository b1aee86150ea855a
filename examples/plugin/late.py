"""A sampler: which times of a segment a model looks at."""

from __future__ import annotations

from tideo.video.streams import OpenVideo


def late(video: OpenVideo, num: int, start_s: float, end_s: float) -> list[float]:
    """Even times of the last third, for questions about how a video ends."""
    from_s = end_s - (end_s - start_s) / 3
    return [from_s + (k + 0.5) * (end_s - from_s) / num for k in range(num)]
