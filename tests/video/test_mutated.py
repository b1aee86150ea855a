"""Damaged files of every container: frames, or one VideoError, within time; never anything else.

TIDEO_MUTATION_SEED=7 (or `random`) tries other damage than the default's; a failure's output ends with its seed.
"""

from __future__ import annotations

import os
import random
import time
import warnings
from functools import cache

import pytest

from odd_videos import CONTAINERS, video
from tideo.registry import BUILTIN
from tideo.types import Frames, VideoError
from tideo.video.decode import probe
from tideo.video.samplers import sample_frames
from tideo.video.selectors import is_selector

SEED = os.environ.get("TIDEO_MUTATION_SEED", "0")
FIRST = random.randrange(10**9) if SEED == "random" else int(SEED)
NUM = 100  # of each of the containers: 2,000 in all
SAMPLERS = [name for name in BUILTIN["samplers"] if not is_selector(name)]  # those that need no question
MAX_SECONDS = 20  # a file takes some milliseconds; the machine may be busy


@cache
def whole(kind: str) -> bytes:
    return video(kind, places=[*range(20), *range(30, 50)], sound_s=1)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The bytes with some changed, filled, removed, repeated or cut off; half of the time near the header."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        reach = min(len(changed), 600) if rng.random() < 0.5 else len(changed)
        at = rng.randrange(reach) if reach else 0
        length = rng.choice((1, 2, 4, 16, 188, 1000))
        match rng.randrange(7):
            case 0 | 1 | 2:
                changed[at : at + 1] = bytes([rng.randrange(256)])
            case 3:
                changed[at : at + length] = rng.randbytes(length)
            case 4:
                changed[at : at + length] = rng.choice((b"\0", b"\xff")) * length
            case 5:
                del changed[at : at + length]
            case _:
                changed[at:at] = changed[at : at + length]
    return bytes(changed[: rng.randrange(len(changed))] if changed and rng.random() < 0.2 else changed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_mutated_file_gives_frames_or_one_error(kind: str) -> None:
    data = whole(kind)
    for seed in range(FIRST, FIRST + NUM):
        rng = random.Random(f"{kind} {seed}")
        damaged = mutated(data, rng)
        sampler = rng.choice(SAMPLERS)
        print(
            f"{kind}, {sampler}, TIDEO_MUTATION_SEED={seed}"
        )  # the last line of a failure's output names its file
        began = time.monotonic()
        message = ""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damage, which is what this is about
            try:
                frames = sample_frames(damaged, 8, sampler=sampler)
                assert isinstance(frames, Frames)
                assert len(frames) > 0
                assert probe(damaged).width > 0
            except VideoError as error:
                message = str(error)
        assert "\n" not in message
        assert time.monotonic() - began < MAX_SECONDS
