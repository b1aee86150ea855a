"""The frames of a video that a selector chooses for a question, by a dual encoder's view of its pool.

Shapes: P frames of the pool, D width.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tideo import registry
from tideo.encoders.dual import DualEncoder
from tideo.encoders.moment import moment
from tideo.encoders.pools import Pool, Pools
from tideo.loading import Loading
from tideo.parallel import Failure
from tideo.types import Cue, Frames, Grid, UserError, Video
from tideo.video.clip import segment_bounds
from tideo.video.decode import decode_at
from tideo.video.grid import IMAGE_SIZE, check_shape, make_grid, warn_of_blanks
from tideo.video.pool import PoolSettings, pool_times
from tideo.video.samplers import sample_frames
from tideo.video.selectors import Selector, beside_even, rescaled
from tideo.video.streams import OpenVideo

log = logging.getLogger(__name__)
MOMENTS = 200  # of the relevance that is kept with the frames


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The times of chosen frames, ascending; the video's relevance as `moments` gives it, its start and its end."""

    times_s: tuple[float, ...]
    relevance: tuple[tuple[float, float], ...]
    bounds_s: tuple[float, float]


class Chooser:
    """A selector, an encoder's pools, whether subtitles count and the share of even frames. Threads may share it."""

    def __init__(
        self,
        encoder: str | DualEncoder,
        *,
        sampler: str,
        settings: PoolSettings,
        subtitles: bool = False,
        even: float = 0.0,
        folder: str | Path | None = None,
        loading: Loading | None = None,
    ) -> None:
        self.pools = Pools(encoder, settings=settings, folder=folder, loading=loading)
        self.subtitles = subtitles
        self._select: Selector = beside_even(registry.load("samplers", sampler), even)
        self._warned: set[str] = set()

    def make(self, videos: Sequence[Video]) -> dict[str, Failure]:
        """Make the missing pools; the failures by path."""
        return self.pools.make(videos)

    def frames(self, video: Video, num: int, *, question: str, cues: Sequence[Cue] = ()) -> Frames:
        """At most `num` frames that are chosen for the question, in time order, with the video's relevance.

        A pool of no more frames than that leaves no choice: these are even frames, and one line says so, as one names
        what of the pool is lost. Of a pool in which some frames are lost or stand still these may be all. Raises
        UserError for an empty question, VideoError for a video without frames.
        """
        if (choice := self.choice(video, num, question=question, cues=cues)) is None:
            return sample_frames(video, num)
        frames = decode_at(video.path, choice.times_s, video_id=video.id)
        return replace(frames, relevance=choice.relevance, bounds_s=choice.bounds_s)

    def choice(self, video: Video, num: int, *, question: str, cues: Sequence[Cue] = ()) -> Choice | None:
        """Which frames `frames` decodes; None where the pool leaves no choice."""
        if not question.strip():
            raise UserError("the question is empty: say what the frames are for, or use another sampler")
        settings = self.pools.settings
        with OpenVideo(video.path) as opened:
            bounds_s = segment_bounds(opened, video)
            size = len(pool_times(opened, video, replace(settings, pool="exact")))
        if size <= num:
            self._warn_of_even(video, num, size=size, hint="a higher pool_fps leaves a choice")
            return None
        pool = self.pools.pool(video)
        if (size := len(pool.times_s_P)) <= num and settings.pool == "keyframes":
            self._warn_of_even(video, num, size=size, hint="pool=exact leaves a choice")
            return None
        if pool.missing_s:
            self._warn(video, pool.lost())
        relevance_P = self.relevance(pool, question=question, cues=cues)
        kept = self._select(relevance_P, pool.features.values_TD, pool.times_s_P, num)
        return Choice(
            times_s=tuple(pool.times_s_P[kept].tolist()),
            relevance=moments(pool.times_s_P, relevance_P),
            bounds_s=bounds_s,
        )

    def relevance(self, pool: Pool, *, question: str, cues: Sequence[Cue] = ()) -> np.ndarray:
        """[P] how similar each frame of the pool is to the `moment` that the question names.

        With subtitles, the mean of that and of how similar what is said then is to the question, each rescaled to 0–1;
        a frame at which nothing is said has the least of the latter.
        """
        encoder = self.pools.encoder
        question_D = encoder.encode_text([moment(question)])[0]
        relevance_P: np.ndarray = pool.features.values_TD @ question_D
        if not self.subtitles or not cues:
            return relevance_P
        of_cues = encoder.encode_text([cue.text for cue in cues]) @ question_D
        times_s_P = pool.times_s_P
        gaps_s = np.diff(
            times_s_P, prepend=times_s_P[0], append=times_s_P[-1]
        )  # a frame stands for half of each
        starts_s, ends_s = times_s_P - gaps_s[:-1] / 2, times_s_P + gaps_s[1:] / 2
        said_P = np.full(len(times_s_P), of_cues.min())
        for cue, similarity in zip(cues, of_cues, strict=True):
            during = (starts_s <= cue.end_s) & (cue.start_s <= ends_s)
            said_P[during] = np.maximum(said_P[during], similarity)
        return (rescaled(relevance_P) + rescaled(said_P)) / 2

    def _warn_of_even(self, video: Video, num: int, *, size: int, hint: str) -> None:
        settings = self.pools.settings
        self._warn(
            video,
            f"its pool has {size} frames (pool_fps={settings.pool_fps:g}, pool_max={settings.pool_max}), and {num} "
            f"are to be chosen: even frames are taken; {hint}",
        )

    def _warn(self, video: Video, what: str) -> None:
        """One line for each video, however many questions are about it."""
        if video.path not in self._warned:
            self._warned.add(video.path)
            log.warning("video %s: %s", video.path, what)


def moments(times_s_P: np.ndarray, relevance_P: np.ndarray) -> tuple[tuple[float, float], ...]:
    """The relevance over time, rescaled to 0–1; of each of at most MOMENTS stretches its highest."""
    parts = np.array_split(np.arange(len(times_s_P)), min(MOMENTS, len(times_s_P)))
    best = [part[relevance_P[part].argmax()] for part in parts]
    rescaled_P = rescaled(relevance_P)
    return tuple((round(float(times_s_P[i]), 3), round(float(rescaled_P[i]), 3)) for i in best)


def question_grid(
    video: Video,
    *,
    question: str,
    encoder: str,
    sampler: str = "question",
    rows: int = 4,
    cols: int = 4,
    image_size: int = IMAGE_SIZE,
    fit: str = "squash",
    stamps: bool = False,
    loading: Loading | None = None,
    features: str | Path | None = None,
) -> Grid:
    """Like `video_grid`, with frames that a selector chooses for a question.

    `encoder` is a name that `load_encoder` takes, `features` a folder that keeps the pool.
    """
    check_shape(rows=rows, cols=cols, image_size=image_size, fit=fit)
    chooser = Chooser(encoder, sampler=sampler, settings=PoolSettings(), folder=features, loading=loading)
    frames = chooser.frames(video, rows * cols, question=question)
    grid = make_grid(frames, rows=rows, cols=cols, image_size=image_size, fit=fit, stamps=stamps)
    warn_of_blanks(grid, video_id=frames.video_id)
    return grid
