"""Which frames of a video to look at. A sampler is a function from an open video and a number to times."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from tideo import registry
from tideo.types import Frames, UserError, Video
from tideo.video.clip import segment_bounds
from tideo.video.decode import frames_at
from tideo.video.streams import OpenVideo, Source
from tideo.video.stretches import plan_stretches

MAX_FPS = 1.0  # of the sampler `fps`; the usual rate of video language models
DECODING = ("scenes",)  # samplers that look at the pictures
PLENTY = 4  # frames of a video for each that is wanted

# (open video, number of frames, start_s, end_s) → ascending times_s
Sampler = Callable[[OpenVideo, int, float, float], list[float]]


def middle(video: OpenVideo, num: int, start_s: float, end_s: float) -> list[float]:
    """The middle of each of `num` equal intervals, as for the top-down grid (arXiv 2409.07748)."""
    step_s = (end_s - start_s) / num
    return [start_s + (k + 0.5) * step_s for k in range(num)]


def uniform(video: OpenVideo, num: int, start_s: float, end_s: float) -> list[float]:
    """Frame k * floor(n / num) of the n frames, IG-VLM's rule; all n if they are fewer. Reads every packet."""
    times_s = [time_s for time_s in map(video.seconds, video.frame_ticks()) if start_s <= time_s <= end_s]
    step = max(1, len(times_s) // num)
    return times_s[: step * num : step]


def fps(video: OpenVideo, num: int, start_s: float, end_s: float) -> list[float]:
    """A frame a second from the start on; a lower steady rate if that would exceed `num`."""
    step_s = max(1 / MAX_FPS, (end_s - start_s) / num)
    return [start_s + k * step_s for k in range(num) if k == 0 or start_s + k * step_s < end_s]


def keyframes(video: OpenVideo, num: int, start_s: float, end_s: float) -> list[float]:
    """The key frames nearest to the times of `middle`, each once. No other frame needs decoding."""
    keys = [(video.seconds(tick), tick) for tick in video.key_ticks()]
    keys = [(key_s, tick) for key_s, tick in keys if start_s <= key_s <= end_s]
    num = min(num, len(keys))
    chosen: list[int] = []
    for k, time_s in enumerate(middle(video, num, start_s, end_s) if num else []):
        first = chosen[-1] + 1 if chosen else 0
        last = len(keys) - (num - k)  # leaves one for each time to come
        chosen.append(min(range(first, last + 1), key=lambda i: abs(keys[i][0] - time_s)))
    return [video.seconds(video.key_shown(keys[i][1])) for i in chosen]


def sample_frames(
    video: Video | str | Path | bytes,
    num: int,
    *,
    sampler: str | Sampler = "middle",
    size: tuple[int, int] | None = None,
) -> Frames:
    """At most `num` distinct frames of a video, or of its segment, in time order; `size` is (width, height).

    `sampler`: the name of one, or one itself. No frame comes twice: a segment with fewer than `num` frames (for
    `keyframes`, key frames) gives fewer. A segment is cut to the video's own start and end. Raises UserError for a
    segment without frames.
    """
    if num < 1:
        raise UserError(f"{num} frames: expected at least 1")
    source, video_id = _named(video)
    with OpenVideo(source) as opened:
        bounds_s = segment_bounds(opened, video if isinstance(video, Video) else None)
        times_s = _times(opened, bounds_s, num, sampler=sampler)
        frames = replace(frames_at(opened, times_s, size=size, video_id=video_id), bounds_s=bounds_s)
    _, distinct = np.unique(frames.pts_s_T, return_index=True)
    return frames if len(distinct) == len(frames) else frames.at(distinct)


def frame_times(
    video: Video | str | Path | bytes, num: int, *, sampler: str | Sampler = "middle", exact: bool = False
) -> list[float]:
    """The times of the frames that `sample_frames` gives, for little work: nothing is decoded if packets have times.

    Unless they are to be `exact`, a video with many frames for each that is wanted is taken to give all of them at the
    sampler's own times, and one that would decode counts as `middle`. They are wrong where frames are damaged, or stand
    still in most of a video. Raises as `sample_frames` does, but for damaged frames.
    """
    with OpenVideo(_named(video)[0]) as opened:
        bounds_s = segment_bounds(opened, video if isinstance(video, Video) else None)
        times_s = _times(
            opened, bounds_s, num, sampler="middle" if sampler in DECODING and not exact else sampler
        )
        if not exact and (times_s[-1] - times_s[0]) * opened.fps >= PLENTY * len(times_s):
            return list(times_s)
        ticks = [opened.floor_tick(time_s) for time_s in times_s]
        ticks = sorted(set(ticks))
        shown: dict[int, int | None] = {}
        for found, _ in plan_stretches(opened, ticks) if opened.indexed else ():
            shown |= found
        if len(shown) < len(ticks):
            every = opened.frame_ticks()
            shown = {tick: every[max(bisect.bisect_right(every, tick) - 1, 0)] for tick in ticks}
        return sorted({opened.seconds(at) for at in shown.values() if at is not None}) or times_s[:1]


def _named(video: Video | str | Path | bytes) -> tuple[Source, str]:
    """The source of a video and its id."""
    if isinstance(video, Video):
        return video.path, video.id
    return video, "" if isinstance(video, bytes) else Path(video).stem


def _times(
    opened: OpenVideo, bounds_s: tuple[float, float], num: int, *, sampler: str | Sampler
) -> list[float]:
    """The times that a sampler chooses, at least one."""
    chosen: Sampler = registry.load("samplers", sampler) if isinstance(sampler, str) else sampler
    if hasattr(chosen, "of_selector"):
        raise UserError(
            f"the sampler {sampler!r} chooses frames for a question, from a pool: use it where questions are asked"
        )
    start_s, end_s = bounds_s
    times_s = chosen(opened, num, start_s, end_s)
    if not times_s:
        raise opened.error(
            f"the sampler {sampler!r} finds no frame from {start_s:.2f} to {end_s:.2f} s; use 'middle'"
        )
    return times_s
