"""A segment of a video as a file of its own, for those who take only whole files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain

import av
import numpy as np

from tideo.types import UserError, Video
from tideo.video.demux import PYAV_ERRORS
from tideo.video.streams import OpenVideo

CODEC, QUALITY = "libx264", {"preset": "veryfast", "crf": "18"}  # x264's visually lossless
TIME_BASE = Fraction(1, 90_000)  # the clock of MPEG, which all common rates divide


def segment_bounds(opened: OpenVideo, video: Video | None) -> tuple[float, float]:
    """Where the segment starts and ends, in seconds, cut to the video's own start and end.

    Raises VideoError for a segment without frames.
    """
    first_s, last_s = opened.seconds(opened.start), opened.seconds(opened.end)
    given_start_s = video.start_s if video is not None else None
    given_end_s = video.end_s if video is not None else None
    start_s = first_s if given_start_s is None else max(given_start_s, first_s)
    end_s = last_s if given_end_s is None else min(given_end_s, last_s)
    if end_s < start_s:
        begin = "the start" if given_start_s is None else f"{given_start_s:.2f} s"
        stop = "the end" if given_end_s is None else f"{given_end_s:.2f} s"
        raise opened.error(
            f"its frames lie between {first_s:.2f} and {last_s:.2f} s, outside the segment from {begin} to {stop}"
        )
    return start_s, end_s


def is_whole(video: Video) -> bool:
    """Whether the segment is all of its file. Raises VideoError as `segment_bounds` does."""
    with OpenVideo(video.path) as opened:
        bounds = segment_bounds(opened, video)
        return bounds == (opened.seconds(opened.start), opened.seconds(opened.end))


def clip(video: Video, *, max_bytes: int) -> bytes:
    """The segment as an mp4 of its frames in H.264, without sound, whose first frame is at 0 s.

    It begins with the frame on display at the segment's start. Frames keep their distances in time, and are turned as
    the file asks; an odd side is one pixel longer. Raises VideoError for a segment without frames, UserError for a clip
    of more than `max_bytes`.
    """
    written = io.BytesIO()
    with OpenVideo(video.path) as opened, av.open(written, "w", format="mp4") as container:
        start_s, end_s = segment_bounds(opened, video)
        stream: av.VideoStream | None = None
        last, step_s = -1, float(opened.step * opened.time_base)
        for time_s, frame in _on_display(opened, start_s, end_s):
            rgb_HWC = _even(opened.rgb(frame, None))
            if stream is None:
                added = container.add_stream(CODEC, options=QUALITY)
                assert isinstance(added, av.VideoStream)
                stream = added
                stream.height, stream.width = rgb_HWC.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.codec_context.time_base = stream.time_base = TIME_BASE
                stream.codec_context.thread_count = 1
            picture = av.VideoFrame.from_ndarray(rgb_HWC, format="rgb24")
            picture.pts, picture.time_base = max(last + 1, round((time_s - start_s) / TIME_BASE)), TIME_BASE
            picture.duration = max(1, round(min(step_s, end_s - time_s) / TIME_BASE))
            last = picture.pts
            container.mux(stream.encode(picture))
            if written.tell() > max_bytes:
                raise UserError(f"video {video.path}: the segment takes more than {max_bytes / 1e6:.0f} MB")
        if stream is None:
            raise opened.error(f"no frame from {start_s:.2f} to {end_s:.2f} s can be decoded")
        container.mux(stream.encode(None))
    return written.getvalue()


def _on_display(opened: OpenVideo, start_s: float, end_s: float) -> Iterator[tuple[float, av.VideoFrame]]:
    """The frames before the end with rising times; the one on display at the start has the time of the start."""
    before, last_s = None, start_s
    for tick, frame in _decoded(opened, opened.floor_tick(start_s)):
        time_s = opened.seconds(tick)
        if frame is None:
            continue
        if time_s <= start_s:
            before = frame
            continue
        if before is not None:
            yield start_s, before
            before = None
        if time_s >= end_s:
            return
        if time_s > last_s:
            yield time_s, frame
            last_s = time_s
    if before is not None:
        yield start_s, before


def _decoded(opened: OpenVideo, tick: int) -> Iterator[tuple[int, av.VideoFrame | None]]:
    """Frames in order, from the key frame before `tick` on where an index finds it, else from the file's start."""
    seek = opened.seek_point(tick) if opened.indexed else None
    if seek is None:
        yield from opened.frames()
        return
    for packet in chain(opened.packets(seek), [None]):
        try:
            decoded = opened.decode(packet)
        except PYAV_ERRORS:
            continue
        for frame in decoded:
            if frame.pts is not None and not frame.is_corrupt:
                yield frame.pts, frame


def _even(rgb_HWC: np.ndarray) -> np.ndarray:
    """With sides that H.264's halved colours divide."""
    height, width = rgb_HWC.shape[:2]
    return np.ascontiguousarray(np.pad(rgb_HWC, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"))
