"""The dollhouse's pictures and mp4 files: everything is drawn, distinguishable and deterministic."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from tideo.dollhouse import render, world
from tideo.dollhouse.render import draw_frame, render_video
from tideo.dollhouse.script import Distractor, Episode, Event, FrameState, Segment, Style
from tideo.types import UserError

STATE = FrameState(
    actor=world.ACTORS["woman_long"],
    shirt="blue",
    room="bedroom",
    action="pour_tea",
    tool=None,
    progress=0.5,
    time_s=3.3,
    distractor=None,
    distractor_progress=0.0,
    weather="sunny",
    shelf_item="books",
    shelf_count=3,
    side_object="a kite",
    camera=4,
)
ACTION_TOOLS = [(action, tool) for action in world.ACTIONS for tool in world.TOOLS.get(action, (None,))]


def _picture(*, size: int = 112, **changes: object) -> np.ndarray:
    return draw_frame(replace(STATE, **changes), width=size, height=size).astype(np.int16)  # type: ignore[arg-type]


def _changed(first: np.ndarray, second: np.ndarray) -> float:
    """The share of pixels that differ clearly."""
    return float((np.abs(first - second).max(axis=2) > 40).mean())


def _closest(pictures: dict[object, np.ndarray]) -> tuple[float, object, object]:
    pairs = itertools.combinations(pictures, 2)
    return min(((_changed(pictures[a], pictures[b]), a, b) for a, b in pairs), key=lambda pair: pair[0])


def _episode(**style: int) -> Episode:
    events = (
        Event("wipe", "a sponge", 0.0, 1.0, 0, "free"),
        Event("guitar", None, 1.0, 2.5, 1, "free"),
    )
    return Episode(
        id="e1",
        split="train",
        held_out=False,
        actor_id="grandpa",
        shirt="red",
        purpose="office",
        segments=(Segment("tea", "kitchen"), Segment("music", "garage")),
        events=events,
        distractors=(Distractor("cat", 0.5, 1.5),),
        weather="rainy",
        shelf_item="cups",
        shelf_count=2,
        side_object="a drum",
        style=Style(**{"width": 160, "height": 120, "fps": 10, "camera": 3} | style),
    )


def test_everything_in_the_world_has_a_drawing():
    assert set(render.ACTIONS) == set(world.ACTIONS)
    assert set(render.ROOMS) == set(world.ROOMS)
    assert set(render.SHIRTS) == set(world.SHIRTS)
    assert set(render.SKY) == set(world.WEATHER)
    assert set(render.SHELF_ITEMS) == set(world.SHELF_ITEMS)
    assert set(render.SIDE_OBJECTS) == set(world.SIDE_OBJECTS)
    assert set(render.PASSERS) == set(world.DISTRACTORS)


@pytest.mark.parametrize(("width", "height"), [(112, 112), (320, 240), (480, 270), (97, 131), (16, 16)])
def test_a_picture_has_the_size_asked_for(width, height):
    rgb = draw_frame(STATE, width=width, height=height)
    assert rgb.dtype == np.uint8
    assert rgb.shape == (height, width, 3)
    assert rgb.flags.writeable


def test_the_same_state_gives_the_same_pixels_in_another_process():
    code = (
        "import hashlib, sys; sys.path.insert(0, sys.argv[1]); from test_render import STATE, draw_frame;"
        "print(hashlib.sha256(draw_frame(STATE, width=112, height=112).tobytes()).hexdigest())"
    )
    here = str(Path(__file__).parent)
    other = subprocess.run([sys.executable, "-c", code, here], capture_output=True, text=True, check=True)
    here_too = hashlib.sha256(draw_frame(STATE, width=112, height=112).tobytes()).hexdigest()
    assert other.stdout.strip() == here_too
    assert np.array_equal(_picture(), _picture())


@pytest.mark.parametrize("actor", ["woman_long", "boy_blond"])
def test_every_action_and_tool_is_distinguishable(actor):
    pictures = {
        pair: _picture(size=64, action=pair[0], tool=pair[1], actor=world.ACTORS[actor])
        for pair in ACTION_TOOLS
    }
    assert len(pictures) == 76
    share, first, second = _closest(pictures)
    assert share > 0.015, (first, second)
    share, first, second = _closest(
        {a: p for (a, t), p in pictures.items() if t in (None, "a sponge", "a spoon")}
    )
    assert share > 0.06, (first, second)


@pytest.mark.parametrize(
    ("field", "values", "least"),
    [
        ("room", world.ROOMS, 0.3),
        ("actor", tuple(world.ACTORS.values()), 0.015),
        ("shirt", world.SHIRTS, 0.01),
        ("weather", world.WEATHER, 0.01),
        ("shelf_item", world.SHELF_ITEMS, 0.008),
        ("shelf_count", (1, 2, 3, 4, 5), 0.004),
        ("side_object", tuple(world.SIDE_OBJECTS), 0.01),
        ("distractor", (None, *world.DISTRACTORS), 0.02),
    ],
)
def test_what_a_question_asks_about_is_distinguishable(field, values, least):
    pictures = {
        str(value): _picture(**{field: value, "distractor_progress": 0.5} | {field: value})
        for value in values
    }
    share, first, second = _closest(pictures)
    assert share > least, (first, second)


@pytest.mark.parametrize("weather", world.WEATHER)
def test_the_garden_shows_the_weather(weather):
    other = "dark" if weather == "sunny" else "sunny"
    assert _changed(_picture(room="garden", weather=weather), _picture(room="garden", weather=other)) > 0.1


@pytest.mark.parametrize("action", list(world.ACTIONS))
def test_every_action_moves(action):
    tool = world.TOOLS.get(action, (None,))[0]
    first, second = (_picture(action=action, tool=tool, time_s=t, camera=0) for t in (2.0, 2.4))
    assert _changed(first, second) > 0.002


def test_every_age_can_do_everything_at_any_time():
    actors = itertools.cycle([world.ACTORS[a] for a in ("girl_red", "man_bald", "grandma")])
    times = (0.0, 0.21, 1.9, 77.7, 180.0)
    for action, tool in ACTION_TOOLS:
        for time_s, actor in zip(times, actors, strict=False):
            picture = _picture(
                size=32, action=action, tool=tool, actor=actor, time_s=time_s, progress=time_s / 180
            )
            assert picture.std() > 20


@pytest.mark.parametrize("distractor", list(world.DISTRACTORS))
@pytest.mark.parametrize(("width", "height"), [(112, 112), (160, 120)])
def test_a_distractor_is_inside_the_picture_during_its_whole_pass(distractor, width, height):
    centres = []
    for progress in (0.0, 0.25, 0.5, 0.75, 1.0):
        state = replace(STATE, distractor=distractor, distractor_progress=progress)
        with_it = draw_frame(state, width=width, height=height).astype(int)
        without = draw_frame(replace(STATE, distractor=None), width=width, height=height)
        changed = np.abs(with_it - without).max(axis=2) > 20
        assert changed.mean() > 0.008
        assert not changed[:, [0, -1]].any()
        assert not changed[[0, -1]].any()
        centres.append(np.argwhere(changed)[:, 1].mean())
    steps = np.diff(centres)
    assert (steps > 0).all() or (steps < 0).all()


def test_the_camera_and_the_light_move_slowly():
    pictures = [_picture(time_s=t, camera=7, weather="sunny") for t in (10.0, 10.1)]
    assert np.abs(pictures[0] - pictures[1]).mean() < 6
    assert not np.array_equal(_picture(camera=1), _picture(camera=2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action": "fly"}, "no drawing of the action 'fly': expected one of wipe, carry"),
        ({"room": "attic"}, "no drawing of the room 'attic': expected one of kitchen"),
        ({"action": "wipe", "tool": "a hat"}, "no drawing of the tool 'a hat': expected one of a sponge"),
        ({"action": "wipe", "tool": None}, "no drawing of the tool None: expected one of a sponge"),
        ({"tool": "a sponge"}, "no drawing of the tool 'a sponge': expected one of None"),
        ({"shirt": "beige"}, "no drawing of the shirt 'beige'"),
        ({"weather": "hail"}, "no drawing of the weather 'hail'"),
        ({"shelf_item": "hats"}, "no drawing of the shelf item 'hats'"),
        ({"side_object": "a hat"}, "no drawing of the side object 'a hat'"),
        ({"distractor": "cow"}, "no drawing of the distractor 'cow'"),
        ({"shelf_count": 6}, "a shelf with 6 items: expected 1 to 5"),
    ],
)
def test_what_cannot_be_drawn_is_an_error(change, message):
    with pytest.raises(UserError, match=message):
        draw_frame(replace(STATE, **change), width=64, height=64)


def test_a_size_out_of_range_is_an_error():
    with pytest.raises(UserError, match=r"a picture of 8x64: each side must be from 16 to 4096 pixels"):
        draw_frame(STATE, width=8, height=64)


@pytest.mark.parametrize("fps", [8, 15, 30])
def test_an_mp4_decodes_to_the_frames_drawn(tmp_path, fps):
    episode = _episode(fps=fps)
    path = tmp_path / "e1.mp4"
    render_video(episode, path)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (160, 120)
        assert stream.average_rate == fps
        frames = [
            (float(f.pts * f.time_base), f.to_ndarray(format="rgb24")) for f in container.decode(stream)
        ]
        assert container.duration / 1e6 == pytest.approx(2.5, abs=0.5 / fps)
    assert [t for t, _ in frames] == pytest.approx([i / fps for i in range(round(2.5 * fps))], abs=1e-4)
    for index in (0, len(frames) // 2, len(frames) - 1):
        drawn = draw_frame(episode.state_at(index / fps), width=160, height=120)
        assert np.abs(frames[index][1].astype(int) - drawn).mean() < 8
    header = path.read_bytes()[:4096]
    assert header.index(b"moov") < path.read_bytes().index(b"mdat")
    assert [p.name for p in tmp_path.iterdir()] == ["e1.mp4"]


def test_the_same_episode_gives_the_same_file(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        render_video(_episode(), tmp_path / name)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_an_odd_size_and_a_missing_directory_are_errors(tmp_path):
    with pytest.raises(UserError, match=r"episode e1: the size 161x120 must be even for H\.264"):
        render_video(_episode(width=161), tmp_path / "x.mp4")
    with pytest.raises(UserError, match=r"cannot write .*: no directory .*; make it first"):
        render_video(_episode(), tmp_path / "none" / "x.mp4")


def test_a_failed_rendering_leaves_no_file(tmp_path):
    broken = replace(_episode(), side_object="a hat")
    with pytest.raises(UserError, match="side object"):
        render_video(broken, tmp_path / "x.mp4")
    assert list(tmp_path.iterdir()) == []
