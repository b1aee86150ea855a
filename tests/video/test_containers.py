"""Containers × oddities: every sampler, against the frames as they were written and a full decode without Tideo."""

from __future__ import annotations

import bisect
import warnings
from functools import cache

import pytest

from odd_videos import CONTAINERS, FPS, LIES, full_decode, video, with_lying_header
from tideo.video.decode import decode_at, probe
from tideo.video.samplers import sample_frames
from videos import index_of

SAMPLERS = ("middle", "uniform", "fps", "keyframes")
NUM = 50
STEADY = list(range(NUM))
UNEVEN = [
    k + min(k, 45) // 3 + 3 * (k // 11) for k in range(NUM)
]  # an avi does not say how long its last frames stay
HOLE = [*range(20), *range(70, 100)]  # frame 19 stays for two seconds


@cache
def written(kind: str, oddity: str) -> tuple[bytes, list[int]]:
    """A file, and where each of its frames 0, 1, … is displayed, in frames' times from the first one on."""
    if oddity == "hole":
        return video(kind, places=HOLE), HOLE
    if oddity == "uneven":
        return video(kind, places=UNEVEN), UNEVEN
    if oddity == "longer sound":
        return video(kind, places=STEADY, sound_s=4), STEADY
    if oddity == "late start":
        return video(kind, places=[place + 125 for place in STEADY]), STEADY
    if oddity == "joined":
        half = STEADY[: NUM // 2]
        return video(kind, places=half) + video(kind, places=half, first=len(half)), STEADY
    if oddity in ("header too long", "header too short"):
        return with_lying_header(
            video(kind, places=STEADY), kind, 25 if oddity.endswith("long") else 0.25
        ), STEADY
    return video(kind, places=STEADY), STEADY


CASES = [
    *((kind, "plain") for kind in CONTAINERS),
    *((kind, "hole") for kind, how in CONTAINERS.items() if how.holes),
    *((kind, "uneven") for kind, how in CONTAINERS.items() if how.holes),
    *((kind, "longer sound") for kind, how in CONTAINERS.items() if how.sound),
    *((kind, "joined") for kind, how in CONTAINERS.items() if how.joins),
    *((kind, "late start") for kind in ("mp4", "mkv", "ts", "mpg", "flv", "nut")),
    *((kind, lie) for kind in LIES for lie in ("header too long", "header too short")),
]


# The containers that most videos come in; the others take half a minute.
COMMON = ("mp4", "mkv", "avi with B", "ts", "wmv")
MATRIX = [pytest.param(*case, marks=() if case[0] in COMMON else pytest.mark.slow) for case in CASES]


@pytest.mark.parametrize(("kind", "oddity"), MATRIX)
def test_every_frame_is_the_one_a_full_decode_shows(kind: str, oddity: str) -> None:
    data, places = written(kind, oddity)
    assert full_decode(data) == list(range(NUM))
    start_s = probe(data).start_s
    times_s = [start_s + (place + 0.5) / FPS for place in range(places[-1] + 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frames = decode_at(data, times_s)
    right = [bisect.bisect_right(places, place) - 1 for place in range(places[-1] + 1)]
    assert [index_of(rgb) for rgb in frames.rgb_THWC] == right


@pytest.mark.parametrize(("kind", "oddity"), MATRIX)
def test_every_sampler_sees_the_whole_video(kind: str, oddity: str) -> None:
    data, places = written(kind, oddity)
    length = places[-1] + 1  # of a frame's times
    info = probe(data)
    assert info.duration_s == pytest.approx(length / FPS, abs=1 / FPS)
    shown = [bisect.bisect_right(places, (k + 0.5) * length / 8) - 1 for k in range(8)]
    steps = [bisect.bisect_right(places, k * FPS) - 1 for k in range(8) if k * FPS < length]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = {name: sample_frames(data, 8, sampler=name) for name in SAMPLERS}
        if oddity in ("hole", "joined"):  # it looks at nearly all frames, which takes time
            seen["scenes"] = sample_frames(data, 8, sampler="scenes")
    numbers = {name: [index_of(rgb) for rgb in frames.rgb_THWC] for name, frames in seen.items()}
    assert numbers["middle"] == pytest.approx(list(dict.fromkeys(shown)), abs=1)
    assert numbers["uniform"] == [NUM // 8 * k for k in range(8)]
    assert numbers["fps"] == pytest.approx(list(dict.fromkeys(steps)), abs=1)
    assert numbers["keyframes"][-1] >= NUM - 13 or kind == "gif"  # whose first frame alone is a key frame
    for name, frames in seen.items():
        assert frames.missing_s == ()
        at = [round((pts_s - info.start_s) * FPS) for pts_s in frames.pts_s_T.tolist()]
        assert at == [places[number] for number in numbers[name]], name
