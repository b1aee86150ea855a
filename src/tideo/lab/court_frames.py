"""The frames that each sampler of the court takes for the questions about a day."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from tideo.encoders.dual import DualEncoder, load_encoder
from tideo.encoders.relevance import Chooser
from tideo.models.selecting import stem
from tideo.types import Frames, Sample, Video
from tideo.video.clip import segment_bounds
from tideo.video.decode import decode_at
from tideo.video.pool import PoolSettings
from tideo.video.samplers import sample_frames
from tideo.video.streams import OpenVideo

ENCODER = "dollhouse-clip"
ORACLE = "oracle"
EVEN = ("middle", "uniform", "keyframes", "scenes")  # the same frames for all questions about a video
SELECTORS = ("question", "bolt", "aks", "coverage")
SAMPLERS = (*EVEN, *SELECTORS, ORACLE)


def frames_of(
    samples: Sequence[Sample], *, sampler: str, num: int, pools: Path
) -> tuple[list[Frames], float]:
    """The frames for each question about one day, and the seconds that choosing and decoding took for the first one.

    The other frames of a selector come from the day's pool, which is decoded once for all selectors and numbers.
    """
    first, *others = samples
    if sampler in SELECTORS:
        chooser(sampler, pools).pools.pool(first.video)  # reading the folder is no part of the time
    started_s = time.perf_counter()
    frames = _look(first, sampler=sampler, num=num, pools=pools)
    look_s = time.perf_counter() - started_s
    if sampler in EVEN:
        return [frames] * len(samples), look_s
    if sampler == ORACLE:
        return [frames, *(_look(sample, sampler=sampler, num=num, pools=pools) for sample in others)], look_s
    choices = [chooser(sampler, pools).choice(sample.video, num, question=stem(sample)) for sample in others]
    of_others = [frames if c is None else _of_pool(first.video, pools, c.times_s) for c in choices]
    return [frames, *of_others], look_s


def _look(sample: Sample, *, sampler: str, num: int, pools: Path) -> Frames:
    if sampler in SELECTORS:
        return chooser(sampler, pools).frames(sample.video, num, question=stem(sample))
    if sampler in EVEN:
        return sample_frames(sample.video, num, sampler=sampler)
    ((start_s, end_s),) = sample.evidence_s
    frames = sample_frames(replace(sample.video, start_s=start_s, end_s=end_s), num)
    return replace(frames, bounds_s=_bounds_s(sample.video))


def _of_pool(video: Video, pools: Path, times_s: Sequence[float]) -> Frames:
    frames = _decoded(video, pools)
    return frames.at(np.searchsorted(frames.pts_s_T, times_s))


@lru_cache(maxsize=1)
def _decoded(video: Video, pools: Path) -> Frames:
    """The frames of a day's pool."""
    times_s_P = chooser(SELECTORS[0], pools).pools.pool(video).times_s_P
    frames = decode_at(video.path, times_s_P.tolist(), video_id=video.id)
    return replace(frames, bounds_s=_bounds_s(video))


@cache
def _bounds_s(video: Video) -> tuple[float, float]:
    """Of the whole day: a model that knows times places a frame in it, also one of the evidence."""
    with OpenVideo(video.path) as opened:
        return segment_bounds(opened, video)


@cache
def chooser(sampler: str, pools: Path) -> Chooser:
    """A selector with the pools of a folder."""
    return Chooser(_encoder(), sampler=sampler, settings=PoolSettings(), folder=pools)


@cache
def _encoder() -> DualEncoder:
    encoder = load_encoder(ENCODER)
    encoder.encode_text(["warm"])  # so that the first question takes no longer than others
    return encoder
