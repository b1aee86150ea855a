"""FrameState → picture, Episode → mp4.

A picture is drawn at twice its size, on a canvas a little larger than the view. The camera's part of it is cut out and
scaled down. Rooms are drawn once and cached, with everything in them that does not change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import av
import numpy as np
from PIL import Image, ImageDraw

from tideo.dollhouse import world
from tideo.dollhouse.day import Day
from tideo.dollhouse.drawing.canvas import Canvas
from tideo.dollhouse.drawing.care_actions import CARE_ACTIONS
from tideo.dollhouse.drawing.cloth_actions import CLOTH_ACTIONS
from tideo.dollhouse.drawing.desk_actions import DESK_ACTIONS
from tideo.dollhouse.drawing.kitchen_actions import KITCHEN_ACTIONS
from tideo.dollhouse.drawing.palette import SHIRTS
from tideo.dollhouse.drawing.passers import PASSERS, draw_passer
from tideo.dollhouse.drawing.people import Figure
from tideo.dollhouse.drawing.play_actions import PLAY_ACTIONS
from tideo.dollhouse.drawing.rooms import ROOMS, Bounds
from tideo.dollhouse.drawing.shared_actions import SHARED_ACTIONS
from tideo.dollhouse.drawing.stage import Draw, Stage
from tideo.dollhouse.drawing.things import (
    SHELF_ITEMS,
    SIDE_OBJECTS,
    SKY,
    WINDOW,
    draw_falling,
    draw_shelf,
    draw_side_object,
    draw_window,
)
from tideo.dollhouse.drawing.yard_actions import YARD_ACTIONS
from tideo.dollhouse.script import Episode, FrameState, Style
from tideo.store.files import atomic_path
from tideo.types import UserError

_GROUPS = (
    SHARED_ACTIONS,
    KITCHEN_ACTIONS,
    CLOTH_ACTIONS,
    CARE_ACTIONS,
    DESK_ACTIONS,
    YARD_ACTIONS,
    PLAY_ACTIONS,
)
# An action is drawn by the function of its name; `type_` has its underscore because `type` is Python's.
ACTIONS: dict[str, Draw] = {draw.__name__.rstrip("_"): draw for group in _GROUPS for draw in group}
MIN_SIDE, MAX_SIDE = 16, 4096
FASTSTART = {"movflags": "+faststart"}
X264 = {"preset": "veryfast", "crf": "23", "threads": "1"}
_MARGIN = 0.03  # scene units beyond each side of the view, into which the camera may pan
_OVERSAMPLING = 2
_LARGE_PX = 480 * 360  # pictures above this size get a small cache of rooms


def draw_frame(state: FrameState, *, width: int, height: int) -> np.ndarray:
    """The picture of one moment, uint8 [height, width, 3]. The same arguments give the same pixels."""
    _check(state, width=width, height=height)
    room = _few_rooms if width * height > _LARGE_PX else _all_rooms
    image = room(state.room, state.weather, width, height).copy()
    canvas = _scene(image, width, height)
    draw_shelf(canvas, state.shelf_item, state.shelf_count)
    draw_side_object(canvas, state.side_object)
    _weather(canvas, state)
    who = Figure(canvas, state.actor, state.shirt)
    ACTIONS[state.action](Stage(canvas, who, state.time_s, state.progress, state.tool))
    if state.distractor is not None:
        draw_passer(
            canvas,
            state.distractor,
            progress=state.distractor_progress,
            t_s=state.time_s,
            from_left=(state.camera + len(state.distractor)) % 2 == 0,
        )
    view = image.resize((width, height), Image.Resampling.BILINEAR, box=_camera(state, width, height))
    return np.array(view.point(_light(state)))


def render_video(episode: Episode, path: str | Path) -> None:
    """Write the episode as H.264 in mp4. The file appears at `path` only when it is complete."""
    width, height, fps = episode.style.width, episode.style.height, episode.style.fps
    states = (episode.state_at(i / fps) for i in range(num_frames(episode)))
    pictures = (draw_frame(state, width=width, height=height) for state in states)
    write_video(pictures, path, style=episode.style, name=f"episode {episode.id}")


def write_video(
    pictures: Iterable[np.ndarray],
    path: str | Path,
    *,
    style: Style,
    name: str,
    held: int = 1,
    options: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write pictures as H.264 in mp4, each of them for `held` frames; converted once, a still frame costs little.

    `options` are further ones of libx264.
    """
    path = Path(path)
    if style.width % 2 or style.height % 2:
        raise UserError(f"{name}: the size {style.width}x{style.height} must be even for H.264")
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: no directory {path.parent}; make it first")
    with atomic_path(path) as tmp, av.open(str(tmp), "w", format="mp4", options=FASTSTART) as container:
        stream = container.add_stream("libx264", rate=style.fps, options=X264 | dict(options))
        stream.width, stream.height, stream.pix_fmt = style.width, style.height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, style.fps)
        for i, rgb in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
            frame.time_base = Fraction(1, style.fps)
            for frame.pts in range(i * held, (i + 1) * held):
                container.mux(stream.encode(frame))
        container.mux(stream.encode())


def num_frames(script: Episode | Day) -> int:
    """The number of frames of its video."""
    return max(1, round(script.duration_s * script.style.fps))


def _check(state: FrameState, *, width: int, height: int) -> None:
    if not (MIN_SIDE <= width <= MAX_SIDE and MIN_SIDE <= height <= MAX_SIDE):
        raise UserError(
            f"a picture of {width}x{height}: each side must be from {MIN_SIDE} to {MAX_SIDE} pixels"
        )
    if not 1 <= state.shelf_count <= 5:
        raise UserError(f"a shelf with {state.shelf_count} items: expected 1 to 5")
    for kind, value, known in (
        ("action", state.action, ACTIONS),
        ("room", state.room, ROOMS),
        ("shirt", state.shirt, SHIRTS),
        ("weather", state.weather, SKY),
        ("shelf item", state.shelf_item, SHELF_ITEMS),
        ("side object", state.side_object, SIDE_OBJECTS),
        ("tool", state.tool, world.TOOLS.get(state.action, (None,))),
        ("distractor", state.distractor, (None, *PASSERS)),
    ):
        if value not in known:
            raise UserError(
                f"no drawing of the {kind} {value!r}: expected one of {', '.join(map(str, known))}"
            )


def _unit(width: int, height: int) -> int:
    return min(width, height)


def _bounds(width: int, height: int) -> Bounds:
    """The canvas in scene units: the view and the camera's margin."""
    unit = _unit(width, height)
    half_wide, half_high = width / unit / 2 + _MARGIN, height / unit / 2 + _MARGIN
    return Bounds(-half_wide, half_wide, 0.5 - half_high, 0.5 + half_high)


def _scene(image: Image.Image, width: int, height: int) -> Canvas:
    scale = _unit(width, height) * _OVERSAMPLING
    bounds = _bounds(width, height)
    line_px = max(1, round(scale * 0.0055))
    return Canvas(
        ImageDraw.Draw(image), scale, 0, 0, scale, -bounds.x0 * scale, -bounds.y0 * scale, line_px=line_px
    )


def _room(room: str, weather: str, width: int, height: int) -> Image.Image:
    scale = _unit(width, height) * _OVERSAMPLING
    bounds = _bounds(width, height)
    size = math.ceil((bounds.x1 - bounds.x0) * scale), math.ceil((bounds.y1 - bounds.y0) * scale)
    image = Image.new("RGB", size)
    canvas = _scene(image, width, height)
    ROOMS[room](canvas, bounds, weather)
    if room != "garden":
        draw_window(canvas, weather)
    return image


_all_rooms = lru_cache(maxsize=len(ROOMS) * len(SKY))(_room)  # at most 125 MB
_few_rooms = lru_cache(maxsize=4)(_room)  # an episode has at most four rooms


def _weather(canvas: Canvas, state: FrameState) -> None:
    if state.weather in ("rainy", "snowy"):
        x0, y0, x1, y1 = (-0.47, 0.02, 0.1, 0.4) if state.room == "garden" else WINDOW
        draw_falling(
            canvas, state.weather, x0, y0, x1, y1, t_s=state.time_s, num=34 if state.room == "garden" else 15
        )


def _camera(state: FrameState, width: int, height: int) -> tuple[float, float, float, float]:
    """The view's corners in pixels of the canvas: a slow pan and zoom."""
    scale = _unit(width, height) * _OVERSAMPLING
    phase, t_s = state.camera * 2.399963, state.time_s  # the golden angle spreads the seeds
    zoom = 1.0 - 0.02 * (1 + math.sin(0.23 * t_s + phase)) / 2
    x = (width / 2 * _OVERSAMPLING) + (_MARGIN + 0.02 * math.sin(0.31 * t_s + 1.7 * phase)) * scale
    y = (height / 2 * _OVERSAMPLING) + (_MARGIN + 0.014 * math.sin(0.19 * t_s + 2.9 * phase)) * scale
    wide, high = width * _OVERSAMPLING * zoom / 2, height * _OVERSAMPLING * zoom / 2
    return x - wide, y - high, x + wide, y + high


def _light(state: FrameState) -> list[int]:
    """A lookup table of pixel values: brightness and warmth drift slowly, and the dark is dimmer and bluer."""
    phase = state.camera * 1.3
    bright = 0.99 + 0.05 * math.sin(0.17 * state.time_s + phase) - (0.06 if state.weather == "dark" else 0.0)
    warm = 0.03 * math.sin(0.11 * state.time_s + 2.1 * phase)
    gains = (bright * (1 + warm), bright, bright * (1 - warm + (0.03 if state.weather == "dark" else 0.0)))
    return [min(255, int(value * gain + 0.5)) for gain in gains for value in range(256)]
