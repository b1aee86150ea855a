"""Shot boundaries, and the sampler that gives every shot its frames. Shapes: N pictures looked at, H, W, C."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from tideo.video.decode import frames_at
from tideo.video.streams import OpenVideo

LOOKS_A_SECOND, MOST_LOOKS = 4.0, 720
LOOK_SIZE = (48, 27)  # a cut shows in a thumbnail; small movements do not
LEAST_CHANGE = 0.06  # mean absolute difference of two pictures, as a share of the full range
TIMES_USUAL = 4.0  # a cut differs that much more than the pictures around it


def scenes(video: OpenVideo, num: int, start_s: float, end_s: float) -> list[float]:
    """`num` frames shared out among the shots by their length, even within a shot; each shot has one if it can.

    A video of one shot gets the times of `middle`. Of more shots than `num` the longest are seen.
    """
    edges_s = [start_s, *cuts(video, start_s, end_s), end_s]
    shots = list(pairwise(edges_s))
    shots = sorted(sorted(shots, key=lambda shot: shot[0] - shot[1])[:num])
    counts = [1] * len(shots)
    for _ in range(num - len(shots)):  # each further frame to the shot whose frames lie furthest apart
        lengths = [(end - begin) / n for (begin, end), n in zip(shots, counts, strict=True)]
        counts[int(np.argmax(lengths))] += 1
    return [
        begin + (k + 0.5) * (end - begin) / n
        for (begin, end), n in zip(shots, counts, strict=True)
        for k in range(n)
    ]


def cuts(video: OpenVideo, start_s: float, end_s: float) -> list[float]:
    """Times of the shot boundaries, to a quarter of a second (coarser in videos of over three minutes).

    Looks at thumbnails at a steady rate: this decodes nearly the whole segment once.
    """
    num = min(MOST_LOOKS, int((end_s - start_s) * LOOKS_A_SECOND) + 1)
    if num < 2:
        return []
    times_s = np.linspace(start_s, end_s, num)
    looked = frames_at(video, times_s.tolist(), size=LOOK_SIZE, video_id="")
    return [float((looked.pts_s_T[i] + looked.pts_s_T[i + 1]) / 2) for i in boundaries(looked.rgb_THWC)]


def boundaries(rgb_NHWC: np.ndarray) -> list[int]:
    """Every i where picture i + 1 differs from picture i as only a cut makes it differ.

    That is by LEAST_CHANGE, and TIMES_USUAL as much as the median of the changes near it, so that a camera
    which moves all the time makes no cut.
    """
    small_NHWC = rgb_NHWC.astype(np.float32) / 255
    change_N = np.abs(np.diff(small_NHWC, axis=0)).mean(axis=(1, 2, 3))
    found = []
    for i, change in enumerate(change_N):
        near_N = np.delete(change_N[max(0, i - 4) : i + 5], min(i, 4))
        usual = float(np.median(near_N)) if len(near_N) else 0.0
        if change >= LEAST_CHANGE and change >= TIMES_USUAL * usual:
            found.append(i)
    return found
