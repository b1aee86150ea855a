"""The eight rooms: wall, floor and furniture, with more furniture at the sides of wide pictures."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from tideo.dollhouse.drawing.canvas import INK, WHITE, Canvas, Color, mix, shade
from tideo.dollhouse.drawing.things import SKY, draw_sky

FLOOR_Y = 0.665


@dataclass(frozen=True)
class Bounds:
    """The part of the scene that the picture shows, in scene units."""

    x0: float
    x1: float
    y0: float
    y1: float


def _walls(c: Canvas, b: Bounds, wall: Color, floor: Color) -> None:
    c.box(b.x0, b.y0, b.x1, FLOOR_Y, wall, ink=None)
    c.box(b.x0, FLOOR_Y, b.x1, b.y1, floor, ink=None)


def _skirting(c: Canvas, b: Bounds, color: Color) -> None:
    c.box(b.x0, FLOOR_Y - 0.022, b.x1, FLOOR_Y, color, ink=None)


def _boards(c: Canvas, b: Bounds, color: Color) -> None:
    """Planks that run towards the viewer."""
    for i in range(-12, 13):
        c.stroke(((i * 0.11, FLOOR_Y), (i * 0.22, b.y1)), color, 0.006)
    for y in (0.73, 0.83):
        c.stroke(((b.x0, y), (b.x1, y)), color, 0.004)


def _checks(c: Canvas, b: Bounds, color: Color) -> None:
    """Floor tiles in perspective."""
    rows = (FLOOR_Y, 0.71, 0.775, 0.865, 1.0, 1.2, 1.5, 2.0)
    for r, (y0, y1) in enumerate(itertools.pairwise(rows)):
        if y0 > b.y1:
            break
        w0, w1 = 0.11 + (y0 - FLOOR_Y) * 0.33, 0.11 + (y1 - FLOOR_Y) * 0.33
        for k in range(-12, 12):
            if (k + r) % 2:
                c.poly(((k * w0, y0), ((k + 1) * w0, y0), ((k + 1) * w1, y1), (k * w1, y1)), color, ink=None)


def kitchen(c: Canvas, b: Bounds, weather: str) -> None:
    _walls(c, b, (255, 240, 190), (238, 228, 214))
    for i in range(-10, 11):
        for j in range(4):
            c.box(
                i * 0.1 + 0.004, 0.3 + 0.07 * j, i * 0.1 + 0.096, 0.364 + 0.07 * j, (255, 250, 232), ink=None
            )
    _checks(c, b, (206, 150, 120))
    for x in (-1.1, -0.82, 0.54, 0.82, 1.1):
        c.box(x, 0.04, x + 0.27, 0.27, (120, 178, 160))
        c.oval(x + 0.23, 0.22, 0.011, 0.011, WHITE)
    c.box(0.04, 0.5, b.x1, FLOOR_Y + 0.04, (120, 178, 160))
    c.box(0.02, 0.48, b.x1, 0.51, (250, 250, 246))
    for x in (0.26, 0.5, 0.74, 0.98):
        c.box(x, 0.53, x + 0.006, FLOOR_Y + 0.02, (86, 140, 124), ink=None)
    c.round_box(-0.78, 0.3, -0.53, 0.76, (236, 240, 246), r=0.02)
    c.box(-0.77, 0.45, -0.54, 0.458, (150, 160, 170), ink=None)
    c.box(-0.57, 0.36, -0.555, 0.43, (150, 160, 170), ink=None)
    for x, color in ((0.08, (226, 70, 60)), (0.14, (240, 240, 240)), (0.2, (80, 90, 110))):
        c.stroke(((x, 0.31), (x, 0.38)), (120, 90, 70), 0.01)
        c.oval(x, 0.4, 0.022, 0.026, color)


def dining_room(c: Canvas, b: Bounds, weather: str) -> None:
    _walls(c, b, (214, 112, 100), (150, 98, 64))
    c.box(b.x0, 0.5, b.x1, FLOOR_Y, (250, 236, 220), ink=None)
    for i in range(-8, 9):
        c.box(i * 0.14 + 0.02, 0.535, i * 0.14 + 0.12, 0.635, (238, 218, 196), ink=None)
    c.box(b.x0, 0.49, b.x1, 0.505, (196, 160, 120), ink=None)
    _boards(c, b, (124, 78, 48))
    c.stroke(((0.0, b.y0), (0.0, 0.035)), (200, 160, 60), 0.012)
    for k in (-0.08, 0.0, 0.08):
        c.curve((0.0, 0.02), (k, 0.075), (k, 0.045), (200, 160, 60), 0.012)
        c.oval(k, 0.035, 0.016, 0.024, (255, 244, 170), ink=None)
    for x in (0.08, 0.34, 0.72, -0.72):
        c.box(x - 0.05, 0.4, x + 0.07, 0.56, (140, 84, 50))
        c.box(x - 0.03, 0.42, x + 0.05, 0.55, (190, 130, 80), ink=None)
        for k in (-0.05, 0.055):
            c.box(x + k, 0.55, x + k + 0.015, 0.76, (140, 84, 50))
        c.box(x - 0.06, 0.6, x + 0.08, 0.63, (160, 100, 60))
    for x in (-0.86, 0.56):
        c.round_box(x, 0.12, x + 0.24, 0.34, (190, 150, 70), r=0.01)
        c.box(x + 0.025, 0.145, x + 0.215, 0.315, (240, 230, 200), ink=None)
        c.oval(x + 0.1, 0.24, 0.035, 0.035, (240, 150, 50), ink=None)
        c.oval(x + 0.15, 0.25, 0.03, 0.03, (200, 50, 50), ink=None)


def living_room(c: Canvas, b: Bounds, weather: str) -> None:
    _walls(c, b, (120, 186, 190), (206, 168, 120))
    for i in range(-12, 13):
        c.box(i * 0.09, b.y0, i * 0.09 + 0.045, FLOOR_Y, (132, 198, 200), ink=None)
    _skirting(c, b, WHITE)
    _boards(c, b, (184, 142, 94))
    c.oval(0.05, 0.86, 0.5, 0.115, (226, 200, 226), ink=None)
    c.oval(0.05, 0.86, 0.42, 0.09, (206, 170, 210), ink=None)
    c.round_box(0.03, 0.42, 0.62, 0.66, (240, 150, 80), r=0.05)
    c.round_box(0.06, 0.56, 0.59, 0.7, (250, 176, 110), r=0.03)
    c.round_box(-0.0, 0.5, 0.08, 0.73, (230, 136, 66), r=0.03)
    c.round_box(0.57, 0.5, 0.66, 0.73, (230, 136, 66), r=0.03)
    c.box(0.325, 0.57, 0.33, 0.69, (220, 130, 66), ink=None)
    c.stroke(((0.76, 0.75), (0.76, 0.35)), (90, 70, 60), 0.018)
    c.poly(((0.7, 0.22), (0.82, 0.22), (0.87, 0.37), (0.65, 0.37)), (255, 240, 190))
    c.box(-0.84, 0.56, -0.52, 0.72, (130, 90, 64))
    c.round_box(-0.82, 0.34, -0.54, 0.55, (40, 44, 54), r=0.015)
    c.box(-0.8, 0.36, -0.56, 0.53, (90, 120, 160), ink=None)


def bedroom(c: Canvas, b: Bounds, weather: str) -> None:
    _walls(c, b, (214, 196, 236), (236, 212, 180))
    for i in range(-10, 11):
        for j in range(5):
            c.oval(i * 0.12 + 0.06 * (j % 2), 0.05 + 0.13 * j, 0.012, 0.012, (250, 226, 246), ink=None)
    _skirting(c, b, WHITE)
    _boards(c, b, (218, 188, 150))
    c.round_box(0.34, 0.34, 0.8, 0.66, (150, 96, 70), r=0.04)
    c.round_box(0.04, 0.56, 0.78, 0.72, (250, 250, 255), r=0.03)
    c.round_box(0.36, 0.47, 0.55, 0.58, (255, 255, 255), r=0.04)
    c.poly(((0.02, 0.55), (0.32, 0.54), (0.36, 0.74), (0.02, 0.74)), (110, 120, 220))
    for x in (0.07, 0.15, 0.23):
        c.stroke(((x, 0.56), (x + 0.01, 0.73)), (150, 160, 240), 0.018)
    c.box(-0.84, 0.2, -0.54, 0.74, (236, 224, 240))
    c.box(-0.692, 0.22, -0.688, 0.72, (160, 140, 170), ink=None)
    for x in (-0.71, -0.665):
        c.oval(x, 0.48, 0.01, 0.014, (160, 120, 60))


def bathroom(c: Canvas, b: Bounds, weather: str) -> None:
    _walls(c, b, (150, 220, 236), (226, 238, 244))
    for i in range(-12, 13):
        c.box(i * 0.085, b.y0, i * 0.085 + 0.005, FLOOR_Y, (226, 248, 252), ink=None)
    for j in range(-6, 9):
        c.box(b.x0, j * 0.085, b.x1, j * 0.085 + 0.005, (226, 248, 252), ink=None)
    c.box(b.x0, 0.41, b.x1, 0.44, (40, 130, 180), ink=None)
    _checks(c, b, (170, 200, 216))
    c.round_box(0.05, 0.52, 0.66, 0.72, (255, 255, 255), r=0.06)
    c.round_box(0.02, 0.5, 0.69, 0.54, (240, 246, 250), r=0.02)
    for x in (0.13, 0.56):
        c.oval(x, 0.73, 0.025, 0.018, (190, 196, 206))
    c.stroke(((0.6, 0.52), (0.6, 0.4), (0.54, 0.4)), (170, 180, 192), 0.022, ink=INK)
    c.round_box(-0.8, 0.1, -0.56, 0.4, (236, 244, 250), r=0.05)
    c.box(-0.83, 0.54, -0.53, 0.57, WHITE)
    c.poly(((-0.8, 0.57), (-0.56, 0.57), (-0.6, 0.66), (-0.76, 0.66)), WHITE)
    c.box(-0.71, 0.66, -0.65, 0.78, WHITE)
    c.stroke(((0.72, 0.3), (0.98, 0.3)), (150, 160, 170), 0.014)
    c.box(0.76, 0.3, 0.92, 0.5, (255, 150, 160))


def study(c: Canvas, b: Bounds, weather: str) -> None:
    _walls(c, b, (126, 158, 112), (132, 92, 66))
    c.box(b.x0, 0.56, b.x1, FLOOR_Y, (104, 72, 52), ink=None)
    _boards(c, b, (108, 72, 50))
    colors: tuple[Color, ...] = ((170, 60, 60), (60, 90, 150), (190, 160, 80), (70, 120, 100), (140, 90, 130))
    for x0, x1 in ((0.04, 0.5), (0.53, 0.86), (-0.88, -0.53)):
        top = 0.33 if x0 == 0.04 else 0.06
        c.box(x0, top, x1, 0.74, (110, 70, 44))
        y = 0.7
        while y - 0.11 > top:
            c.box(x0 + 0.015, y - 0.105, x1 - 0.015, y, (70, 44, 30), ink=None)
            x, k = x0 + 0.02, 0
            while x < x1 - 0.04:
                wide = 0.02 + 0.009 * ((k * 7 + int(y * 100)) % 3)
                c.box(
                    x,
                    y - 0.06 - 0.03 * ((k * 5) % 3) / 2,
                    x + wide,
                    y,
                    shade(colors[(k + int(y * 50)) % 5], 0.9),
                    ink=None,
                )
                x, k = x + wide + 0.004, k + 1
            y -= 0.125
    c.oval(0.05, 0.86, 0.46, 0.1, (150, 60, 60), ink=None)
    c.oval(0.05, 0.86, 0.4, 0.08, (170, 80, 74), ink=None)


def garage(c: Canvas, b: Bounds, weather: str) -> None:
    _walls(c, b, (182, 184, 188), (134, 136, 142))
    for j in range(-4, 9):
        c.box(b.x0, j * 0.08, b.x1, j * 0.08 + 0.004, (160, 162, 168), ink=None)
        for i in range(-8, 9):
            c.box(
                i * 0.16 + 0.08 * (j % 2),
                j * 0.08,
                i * 0.16 + 0.08 * (j % 2) + 0.004,
                j * 0.08 + 0.08,
                (160, 162, 168),
                ink=None,
            )
    c.box(b.x0, FLOOR_Y - 0.04, b.x1, FLOOR_Y, (240, 190, 40), ink=None)
    for i in range(-12, 13):
        c.poly(
            (
                (i * 0.1, FLOOR_Y),
                (i * 0.1 + 0.04, FLOOR_Y),
                (i * 0.1 + 0.07, FLOOR_Y - 0.04),
                (i * 0.1 + 0.03, FLOOR_Y - 0.04),
            ),
            (50, 50, 54),
            ink=None,
        )
    c.oval(0.1, 0.88, 0.12, 0.03, (96, 98, 104), ink=None)
    c.round_box(0.12, 0.5, 0.72, 0.68, (90, 120, 170), r=0.04)
    c.poly(((0.22, 0.51), (0.29, 0.38), (0.57, 0.38), (0.64, 0.51)), (90, 120, 170))
    c.poly(((0.26, 0.5), (0.31, 0.4), (0.42, 0.4), (0.42, 0.5)), (196, 226, 240))
    c.poly(((0.445, 0.5), (0.445, 0.4), (0.55, 0.4), (0.6, 0.5)), (196, 226, 240))
    for x in (0.24, 0.6):
        c.oval(x, 0.69, 0.062, 0.062, (44, 44, 50))
        c.oval(x, 0.69, 0.028, 0.028, (190, 194, 202))
    c.box(-0.84, 0.16, -0.54, 0.42, (206, 170, 120))
    for i in range(3):
        x = -0.78 + 0.09 * i
        c.stroke(((x, 0.24), (x, 0.37)), (90, 70, 60), 0.014)
        c.box(x - 0.03, 0.21, x + 0.03, 0.25, (190, 60, 50) if i % 2 else (90, 96, 110))
    c.box(-0.84, 0.54, -0.52, 0.57, (150, 104, 64))
    c.box(-0.82, 0.57, -0.78, 0.76, (130, 88, 54))
    c.box(-0.58, 0.57, -0.54, 0.76, (130, 88, 54))


_GRASS: dict[str, Color] = {
    "sunny": (126, 200, 90),
    "rainy": (100, 160, 90),
    "snowy": (238, 242, 250),
    "foggy": (156, 182, 144),
    "dark": (60, 108, 82),
}


def garden(c: Canvas, b: Bounds, weather: str) -> None:
    grass, haze = _GRASS[weather], {"foggy": 0.5, "dark": 0.35}.get(weather, 0.0)
    draw_sky(c, weather, b.x0, min(b.y0, 0.0), b.x1, 0.5, ground=None)
    for x, r in (
        (-0.2, 0.12),
        (0.02, 0.1),
        (0.24, 0.13),
        (0.5, 0.11),
        (0.74, 0.13),
        (-0.56, 0.12),
        (-0.8, 0.12),
    ):
        c.oval(x, 0.46, r, r * 0.9, mix((76, 152, 84), SKY[weather], haze + 0.1), ink=None)
    c.box(b.x0, 0.46, b.x1, 0.66, mix((70, 136, 78), SKY[weather], haze + 0.1), ink=None)
    fence = mix((224, 178, 124), SKY[weather], haze)
    for i in range(-11, 12):
        x = i * 0.1
        c.poly(
            ((x + 0.008, 0.68), (x + 0.008, 0.42), (x + 0.046, 0.385), (x + 0.084, 0.42), (x + 0.084, 0.68)),
            fence,
            ink=shade(fence, 0.7),
        )
    for y in (0.46, 0.59):
        c.box(b.x0, y, b.x1, y + 0.028, shade(fence, 0.85), ink=None)
    c.box(b.x0, 0.655, b.x1, b.y1, grass, ink=None)
    for i in range(40):
        x, y = -1.0 + 2.0 * ((i * 0.618) % 1), 0.68 + 0.3 * ((i * 0.377) % 1)
        c.stroke(((x, y), (x + 0.008, y - 0.022), (x + 0.014, y)), shade(grass, 0.82), 0.007)
    for x in (0.14, 0.44):
        c.box(x - 0.012, 0.25, x + 0.012, 0.66, shade(fence, 0.6))
    for x in (-0.72, 0.72):
        c.box(x - 0.03, 0.35, x + 0.03, 0.72, (120, 84, 56))
        for dx, dy in ((-0.08, 0.3), (0.08, 0.29), (0.0, 0.2), (0.0, 0.33)):
            c.oval(x + dx, dy, 0.1, 0.1, mix((70, 150, 70), SKY[weather], haze), ink=None)


ROOMS: dict[str, Callable[[Canvas, Bounds, str], None]] = {
    "kitchen": kitchen,
    "dining room": dining_room,
    "living room": living_room,
    "bedroom": bedroom,
    "bathroom": bathroom,
    "study": study,
    "garage": garage,
    "garden": garden,
}
