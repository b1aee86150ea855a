"""The things in a room that do not move: shelf items, the side object, and the weather in the window."""

from __future__ import annotations

import math
from collections.abc import Callable

from tideo.dollhouse.drawing.canvas import INK, WHITE, Canvas, Color, mix, shade

SHELF = (0.085, 0.475, 0.235)  # left, right, height of the plank
WINDOW = (-0.465, 0.055, -0.245, 0.345)
SIDE = (-0.365, 0.665)  # where the side object stands


def _plant(c: Canvas, i: int) -> None:
    for turn in (-27, -9, 9, 27):
        c.at(0, -0.05, turn=turn).oval(0, -0.05, 0.014, 0.05, (40, 160, 70))
    c.poly(((-0.026, -0.055), (0.026, -0.055), (0.019, 0), (-0.019, 0)), (222, 106, 56))


def _book(c: Canvas, i: int) -> None:
    color: Color = ((196, 40, 50), (40, 80, 190), (40, 140, 80), (150, 60, 170), (230, 130, 30))[i]
    c.box(-0.022, -0.135, 0.022, 0, color)
    for y in (-0.115, -0.03):
        c.box(-0.022, y, 0.022, y + 0.014, (255, 226, 120), ink=None)


def _cup(c: Canvas, i: int) -> None:
    c.ring(0.015, -0.04, 0.013, 0.02, INK, 0.012)
    c.round_box(-0.026, -0.075, 0.014, 0, (250, 250, 255), r=0.01)
    c.box(-0.022, -0.05, 0.011, -0.03, (50, 140, 240), ink=None)


def _candle(c: Canvas, i: int) -> None:
    c.oval(0, -0.005, 0.028, 0.01, (210, 170, 60))
    c.box(-0.014, -0.09, 0.014, -0.006, (255, 244, 220))
    c.oval(0, -0.118, 0.018, 0.03, (255, 206, 90), ink=None)
    c.oval(0, -0.112, 0.01, 0.018, (255, 120, 20), ink=None)


def _vase(c: Canvas, i: int) -> None:
    blue: Color = (110, 60, 170)
    c.poly(
        (
            (-0.012, -0.125),
            (0.012, -0.125),
            (0.01, -0.09),
            (0.029, -0.05),
            (0.018, 0),
            (-0.018, 0),
            (-0.029, -0.05),
            (-0.01, -0.09),
        ),
        blue,
    )
    c.poly(((-0.022, -0.055), (0.022, -0.055), (0.024, -0.035), (-0.024, -0.035)), (255, 190, 220), ink=None)
    c.oval(0, -0.128, 0.019, 0.008, shade(blue, 0.7))


SHELF_ITEMS: dict[str, Callable[[Canvas, int], None]] = {
    "plants": _plant,
    "books": _book,
    "cups": _cup,
    "candles": _candle,
    "vases": _vase,
}


def draw_shelf(c: Canvas, item: str, count: int) -> None:
    """A shelf with `count` (1..5) items, spread evenly so that a viewer can count them."""
    x0, x1, y = SHELF
    c.box(x0 - 0.012, y, x1 + 0.012, y + 0.026, (176, 112, 62))
    for x in (x0 + 0.03, x1 - 0.03):
        c.poly(((x - 0.01, y + 0.026), (x + 0.01, y + 0.026), (x, y + 0.06)), (130, 80, 44))
    for i in range(count):
        SHELF_ITEMS[item](c.at(x0 + (x1 - x0) * (i + 0.5) / 5, y, scale=1.28), i)


def _umbrella(c: Canvas) -> None:
    f = c.at(0.0, -0.12, turn=-24)
    f.stroke(((0, 0), (0, 0.13), (0.02, 0.15), (0.042, 0.13)), (110, 70, 40), 0.014)
    points = [
        (0.12 * math.cos(math.pi * (1 + i / 10)), 0.02 + 0.12 * math.sin(math.pi * (1 + i / 10)))
        for i in range(11)
    ]
    f.poly([*points, (0.06, -0.005), (0.0, 0.02), (-0.06, -0.005)], (230, 40, 70))
    f.poly((points[3], points[7], (0.03, 0.0), (-0.03, 0.0)), (255, 240, 240), ink=None)
    f.stroke(((0, -0.1), (0, -0.125)), INK, 0.012)


def _violin(c: Canvas) -> None:
    f = c.at(-0.005, -0.085, turn=18)
    f.stroke(((0.085, -0.16), (0.07, 0.08)), (250, 240, 220), 0.012, ink=INK)
    f.box(-0.012, -0.165, 0.012, 0.0, (50, 30, 24))
    f.oval(0, 0.045, 0.062, 0.052, (176, 76, 24))
    f.oval(0, -0.02, 0.05, 0.042, (176, 76, 24))
    f.oval(0, 0.01, 0.04, 0.05, (190, 90, 34), ink=None)
    for x in (-0.028, 0.028):
        f.stroke(((x, -0.005), (x, 0.035)), INK, 0.009)
    f.box(-0.018, 0.05, 0.018, 0.07, INK, ink=None)
    f.oval(0, -0.17, 0.02, 0.02, (90, 44, 20))


def _kite(c: Canvas) -> None:
    f = c.at(0, -0.13, turn=16)
    f.poly(((0, -0.12), (0.085, -0.02), (0, 0.11), (-0.085, -0.02)), (40, 150, 240))
    f.poly(((0, -0.115), (0.08, -0.02), (0, -0.02)), (255, 220, 50), ink=None)
    f.poly(((0, 0.1), (-0.08, -0.02), (0, -0.02)), (255, 90, 90), ink=None)
    f.stroke(((0.0, 0.11), (0.03, 0.13), (0.0, 0.15), (0.05, 0.16)), (60, 60, 80), 0.008)
    for x, y in ((0.025, 0.13), (0.03, 0.158)):
        f.oval(x, y, 0.015, 0.01, (255, 90, 190), ink=None)


def _puzzle(c: Canvas) -> None:
    colors: tuple[Color, ...] = ((240, 80, 80), (80, 170, 250), (255, 210, 60), (100, 200, 110))
    for i, (x, y) in enumerate(((-0.055, -0.14), (0.055, -0.14), (-0.055, -0.05), (0.075, -0.04))):
        f = c.at(x, y, turn=14 if i == 3 else 0)
        f.box(-0.048, -0.042, 0.048, 0.042, colors[i])
        if i in (0, 2):
            f.oval(0.056, 0, 0.022, 0.019, colors[i])
        if i in (0, 1):
            f.oval(0, 0.05, 0.02, 0.019, colors[i])


def _telescope(c: Canvas) -> None:
    for x in (-0.07, 0.0, 0.07):
        c.stroke(((0, -0.09), (x, 0.0)), (90, 60, 40), 0.014, ink=INK)
    f = c.at(0, -0.11, turn=-32)
    f.box(-0.1, -0.024, 0.0, 0.024, (190, 140, 50))
    f.box(0.0, -0.036, 0.1, 0.036, (60, 70, 120))
    f.box(0.09, -0.044, 0.115, 0.044, (220, 180, 70))
    f.box(-0.125, -0.016, -0.1, 0.016, INK)
    c.oval(0, -0.09, 0.018, 0.018, (220, 180, 70))


def _chess(c: Canvas) -> None:
    for row in range(4):
        y0, y1 = -0.09 + 0.022 * row, -0.068 + 0.022 * row
        w0, w1 = 0.09 + 0.008 * row, 0.098 + 0.008 * row
        for k in range(4):
            u0, u1 = -1 + k * 0.5, -0.5 + k * 0.5
            c.poly(
                ((w0 * u0, y0), (w0 * u1, y0), (w1 * u1, y1), (w1 * u0, y1)),
                WHITE if (row + k) % 2 else (40, 36, 40),
                ink=None,
            )
    c.stroke(
        ((-0.09, -0.09), (0.09, -0.09), (0.122, -0.002), (-0.122, -0.002), (-0.09, -0.09)),
        (120, 70, 30),
        0.014,
    )
    for x, y, color in ((-0.05, -0.05, WHITE), (0.02, -0.03, (50, 46, 52)), (0.075, -0.055, WHITE)):
        c.poly(((x - 0.026, y), (x + 0.026, y), (x + 0.01, y - 0.07), (x - 0.01, y - 0.07)), color)
        c.oval(x, y - 0.08, 0.02, 0.02, color)


def _drum(c: Canvas) -> None:
    c.box(-0.085, -0.115, 0.085, -0.01, (220, 40, 50))
    c.oval(0, -0.01, 0.085, 0.022, (220, 40, 50))
    c.box(-0.082, -0.115, 0.082, -0.012, (220, 40, 50), ink=None)
    c.stroke([(-0.08 + 0.032 * i, -0.1 if i % 2 else -0.015) for i in range(6)], (255, 220, 80), 0.01)
    c.oval(0, -0.118, 0.088, 0.026, (255, 250, 236))
    c.stroke(((-0.075, -0.185), (0.02, -0.12)), (230, 170, 90), 0.014, ink=INK)
    c.stroke(((0.08, -0.19), (-0.005, -0.12)), (230, 170, 90), 0.014, ink=INK)


def _newspaper(c: Canvas) -> None:
    f = c.at(0, -0.1, turn=-8)
    f.box(-0.09, -0.11, 0.09, 0.1, (244, 242, 232))
    f.box(-0.075, -0.095, 0.075, -0.06, (50, 50, 56), ink=None)
    f.box(-0.075, -0.045, -0.005, 0.015, (150, 156, 164), ink=None)
    for i in range(7):
        y = -0.042 + 0.02 * i
        f.stroke(((0.015 if i < 3 else -0.07, y), (0.07, y)), (110, 110, 118), 0.007)
    f.stroke(((-0.002, 0.03), (-0.002, 0.09)), (244, 242, 232), 0.01)


SIDE_OBJECTS: dict[str, Callable[[Canvas], None]] = {
    "an umbrella": _umbrella,
    "a violin": _violin,
    "a kite": _kite,
    "a puzzle": _puzzle,
    "a telescope": _telescope,
    "a chessboard": _chess,
    "a drum": _drum,
    "a newspaper": _newspaper,
}


def draw_side_object(c: Canvas, name: str) -> None:
    """The side object, on a small white table at the left."""
    x, y = SIDE
    for dx in (-0.07, 0.06):
        c.box(x + dx, y, x + dx + 0.016, 0.84, (186, 176, 166))
    c.round_box(x - 0.105, y - 0.002, x + 0.105, y + 0.026, (238, 230, 220), r=0.01)
    SIDE_OBJECTS[name](c.at(x, y))


SKY: dict[str, Color] = {
    "sunny": (120, 200, 255),
    "rainy": (116, 128, 148),
    "snowy": (198, 212, 230),
    "foggy": (206, 206, 200),
    "dark": (26, 30, 74),
}


def draw_sky(
    c: Canvas, weather: str, x0: float, y0: float, x1: float, y1: float, *, ground: Color | None
) -> None:
    """The static part of the weather between two corners; `ground` adds a strip of land at the bottom."""
    c.box(x0, y0, x1, y1, SKY[weather], ink=None)
    wide = min(x1 - x0, 0.3)
    left = WINDOW[0] if x0 <= WINDOW[0] - 0.01 else x0
    sx, sy = left + wide * 0.6, y0 + 0.1
    if ground is not None:
        c.box(x0, y1 - 0.07, x1, y1, mix(ground, SKY[weather], 0.25 if weather == "sunny" else 0.5), ink=None)
    if weather == "sunny":
        for i in range(12):
            cos, sin = math.cos(math.pi * i / 6), math.sin(math.pi * i / 6)
            c.stroke(
                ((sx + 0.062 * cos, sy + 0.062 * sin), (sx + 0.09 * cos, sy + 0.09 * sin)),
                (255, 206, 30),
                0.015,
            )
        c.oval(sx, sy, 0.052, 0.052, (255, 224, 50), ink=None)
    elif weather == "dark":
        c.oval(sx, sy, 0.055, 0.055, (255, 246, 200), ink=None)
        c.oval(sx - 0.03, sy - 0.012, 0.05, 0.05, SKY[weather], ink=None)
        for i in range(9):
            x, y = (
                left + 0.02 + (wide - 0.04) * ((i * 0.7549) % 1),
                y0 + 0.03 + (y1 - y0 - 0.12) * ((i * 0.5698) % 1),
            )
            c.oval(x, y, 0.008, 0.008, (255, 250, 220), ink=None)
    elif weather in ("rainy", "snowy"):
        color: Color = (78, 86, 104) if weather == "rainy" else (168, 182, 204)
        for dx, dy, r in ((-0.07, 0.01, 0.04), (-0.01, -0.015, 0.055), (0.05, 0.01, 0.04)):
            c.oval(max(left + r, sx - 0.02 + dx), y0 + 0.055 + dy * 0.6, r, r * 0.75, color, ink=None)
    else:
        c.box(sx - 0.012, y1 - 0.16, sx + 0.012, y1 - 0.02, (158, 162, 160), ink=None)
        c.oval(sx, y1 - 0.17, 0.055, 0.065, (158, 166, 160), ink=None)
        r = 0.2 * (x1 - x0) if x1 - x0 < 0.3 else 0.16
        for i in range(12):  # banks of fog in front of a tree
            x = x0 + r + (x1 - x0 - 2 * r) * ((i * 0.7549) % 1)
            y = y0 + 0.02 + (y1 - y0 - 0.04) * ((i * 0.5698) % 1)
            c.oval(x, y, r, 0.018, (232, 232, 228) if i % 2 else (188, 190, 190), ink=None)


def draw_falling(
    c: Canvas, weather: str, x0: float, y0: float, x1: float, y1: float, *, t_s: float, num: int
) -> None:
    """Rain or snow between two corners; it falls with the clock."""
    high = y1 - y0 - 0.035
    for i in range(num):
        across = x0 + 0.012 + (x1 - x0 - 0.024) * ((i * 0.7549) % 1)
        if weather == "rainy":
            u = (t_s * 1.4 + i * 0.5698) % 1.0
            c.stroke(
                ((across, y0 + high * u), (across - 0.008, y0 + high * u + 0.035)), (190, 226, 255), 0.008
            )
        else:
            u = (t_s * 0.28 + i * 0.5698) % 1.0
            c.oval(across + 0.008 * math.sin(6 * u + i), y0 + 0.015 + high * u, 0.013, 0.013, WHITE, ink=None)


def draw_window(c: Canvas, weather: str) -> None:
    """The window that shows the weather, with its bars in front of the sky."""
    x0, y0, x1, y1 = WINDOW
    draw_sky(c, weather, x0, y0, x1, y1, ground=(240, 244, 250) if weather == "snowy" else (90, 170, 80))
    for box in (
        (x0, y0, x1, y0 + 0.012),
        (x0, y1 - 0.012, x1, y1),
        (x0, y0, x0 + 0.012, y1),
        (x1 - 0.012, y0, x1, y1),
    ):
        c.box(*box, WHITE, ink=None)
    c.box((x0 + x1) / 2 - 0.004, y0, (x0 + x1) / 2 + 0.004, y1, WHITE, ink=None)
    c.stroke(((x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)), INK, 0.007)
    c.box(x0 - 0.015, y1, x1 + 0.015, y1 + 0.018, WHITE)
