"""Shot boundaries, and the sampler that gives every shot its frames. Shapes: N thumbnails, H, W, C."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from tideo.video.decode import frames_at
from tideo.video.streams import OpenVideo

THUMBNAILS_PER_SECOND, MAX_THUMBNAILS = 4.0, 720
THUMBNAIL_SIZE = (48, 27)  # small enough to hide small movements, large enough to show a cut
MIN_CHANGE = 0.06  # at a cut: mean absolute difference of two thumbnails, as a share of the full range
MIN_RATIO = 4.0  # at a cut: that difference over the median of those nearby


def scenes(video: OpenVideo, num: int, start_s: float, end_s: float) -> list[float]:
    """`num` frames divided among the shots by length and spread evenly within each; every shot gets at least one.

    A video of one shot gets the times of `middle`. With more shots than frames, only the longest shots get one.
    """
    edges_s = [start_s, *cuts(video, start_s, end_s), end_s]
    shots = list(pairwise(edges_s))
    shots = sorted(sorted(shots, key=lambda shot: shot[0] - shot[1])[:num])
    counts = [1] * len(shots)
    for _ in range(num - len(shots)):  # a further frame goes to the shot whose frames lie furthest apart
        lengths = [(end - begin) / n for (begin, end), n in zip(shots, counts, strict=True)]
        counts[int(np.argmax(lengths))] += 1
    return [
        begin + (k + 0.5) * (end - begin) / n
        for (begin, end), n in zip(shots, counts, strict=True)
        for k in range(n)
    ]


def cuts(video: OpenVideo, start_s: float, end_s: float) -> list[float]:
    """Times of the shot boundaries, to a quarter of a second (coarser in videos of over three minutes).

    Compares thumbnails at a steady rate, which decodes nearly the whole segment once.
    """
    num = min(MAX_THUMBNAILS, int((end_s - start_s) * THUMBNAILS_PER_SECOND) + 1)
    if num < 2:
        return []
    times_s = np.linspace(start_s, end_s, num)
    thumbnails = frames_at(video, times_s.tolist(), size=THUMBNAIL_SIZE, video_id="")
    pts_s_T = thumbnails.pts_s_T
    return [float((pts_s_T[i] + pts_s_T[i + 1]) / 2) for i in boundaries(thumbnails.rgb_THWC)]


def boundaries(rgb_NHWC: np.ndarray) -> list[int]:
    """Every i with a cut between thumbnails i and i + 1.

    They must differ by MIN_CHANGE, and by MIN_RATIO times the median difference nearby, so that a steadily
    moving camera is no cut.
    """
    small_NHWC = rgb_NHWC.astype(np.float32) / 255
    change_N = np.abs(np.diff(small_NHWC, axis=0)).mean(axis=(1, 2, 3))
    found = []
    for i, change in enumerate(change_N):
        near_N = np.delete(change_N[max(0, i - 4) : i + 5], min(i, 4))
        usual = float(np.median(near_N)) if len(near_N) else 0.0
        if change >= MIN_CHANGE and change >= MIN_RATIO * usual:
            found.append(i)
    return found
