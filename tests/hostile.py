"""Work that ends its own process: what a hostile file does to a decoder, and an operator to a worker."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tideo.types import Features, Frames, Video, VideoError
from tideo.video.samplers import sample_frames

if TYPE_CHECKING:  # torch, which a decoder's process needs not
    from tideo.encoders.dual import DualEncoder


def work(unit: str) -> str:
    if unit == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if unit == "leave":
        os._exit(3)
    if unit == "hang":
        time.sleep(60)
    if unit == "eat":
        return "x" * (1 << 50)
    if unit == "raise":
        raise VideoError("a bad video")
    print("what a library prints")
    return unit * 2


def frames(video: Video, *, num: int, sampler: str) -> Frames:
    """Those of the video; "crash" ends this process, "murder" once the parent's, which is a worker of the cluster."""
    if video.id == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if video.id == "murder" and _first(video.path + ".murdered"):
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return sample_frames(video, num, sampler=sampler)


def features(videos: Sequence[Frames], encoder: DualEncoder) -> list[Features]:
    """Those of the frames; a picture of "suicide" ends this process once."""
    from tideo.encoders.features import frames_features

    for each in videos:
        if each.video_id == "suicide" and _first(os.environ["HOSTILE_MARK"]):
            os.kill(os.getpid(), signal.SIGKILL)
    return frames_features(videos, encoder)


def _first(mark: str) -> bool:
    try:
        Path(mark).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
