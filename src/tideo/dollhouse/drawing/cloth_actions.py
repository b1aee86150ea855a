"""Actions with cloth: washing, ironing, folding, packing, the bed."""

from __future__ import annotations

import math

from tideo.dollhouse.drawing.canvas import INK, WHITE, Canvas, Color, shade
from tideo.dollhouse.drawing.people import FEET_Y
from tideo.dollhouse.drawing.stage import Draw, Stage

TOWELS: tuple[Color, ...] = ((90, 200, 190), (255, 170, 190), (255, 224, 120), (160, 150, 240))


def fold_towel(s: Stage) -> None:
    s.who.body()
    c, y = s.c, s.table()
    num = 3 + int(s.progress * 1.99)
    for i in range(num):
        c.round_box(0.22, y - 0.06 * (i + 1), 0.44, y - 0.06 * i, TOWELS[i % 4], r=0.025)
        c.stroke(((0.25, y - 0.06 * i - 0.03), (0.42, y - 0.06 * i - 0.03)), shade(TOWELS[i % 4], 0.8), 0.01)
    fold = 0.5 + 0.5 * s.wave(2.0)
    x0, x1, top = -0.09, 0.17, y - 0.2
    c.poly(((x0, top), (x1, top), (x1, y - 0.01), (x0, y - 0.01)), (80, 150, 240))
    for k in (0.05, 0.08):
        c.stroke(((x0 + 0.01, y - k), (x1 - 0.01, y - k)), WHITE, 0.013)
    edge = x1 - 0.2 * fold
    c.poly(
        ((x0 + 0.08, top), (edge, top - 0.03 * (1 - fold) - 0.02), (edge, y - 0.05), (x0 + 0.08, y - 0.01)),
        (130, 186, 255),
    )
    s.who.hands((x0 + 0.01, top + 0.03), (edge, top + 0.02))


def shirt_shape(c: Canvas, color: Color) -> None:
    """A T-shirt about 0.3 wide, the collar at the origin."""
    c.poly(
        (
            (-0.05, 0.0),
            (0.05, 0.0),
            (0.15, 0.05),
            (0.115, 0.115),
            (0.075, 0.09),
            (0.075, 0.25),
            (-0.075, 0.25),
            (-0.075, 0.09),
            (-0.115, 0.115),
            (-0.15, 0.05),
        ),
        color,
    )
    c.half(0.0, 0.0, 0.04, 0.03, shade(color, 0.7))


def iron_shirt(s: Stage) -> None:
    s.who.body()
    c, y = s.c, s.who.table_y
    c.stroke(((0.02, y + 0.03), (0.3, FEET_Y)), (130, 136, 150), 0.022)
    c.stroke(((0.3, y + 0.03), (0.02, FEET_Y)), (130, 136, 150), 0.022)
    c.poly(
        (
            (-0.14, y - 0.02),
            (-0.08, y - 0.14),
            (0.36, y - 0.14),
            (0.46, y - 0.07),
            (0.42, y + 0.025),
            (-0.1, y + 0.025),
        ),
        (120, 190, 230),
    )
    c.poly(
        (
            (-0.07, y - 0.1),
            (-0.03, y - 0.13),
            (0.0, y - 0.19),
            (0.1, y - 0.19),
            (0.09, y - 0.13),
            (0.37, y - 0.13),
            (0.38, y + 0.0),
            (0.1, y + 0.0),
            (0.12, y + 0.09),
            (0.02, y + 0.1),
            (-0.04, y + 0.0),
            (-0.07, y - 0.03),
        ),
        (255, 110, 150),
    )
    c.oval(-0.065, y - 0.065, 0.016, 0.035, (200, 60, 100))
    for k in (0.04, 0.12):
        c.oval(k - 0.05, y - 0.065, 0.009, 0.009, WHITE, ink=None)
    x, iy = 0.23 + 0.08 * s.wave(1.6), y - 0.06
    s.who.arms((0.02, y - 0.06), (x, iy - 0.15))
    iron = c.at(x, iy, scale=1.25)
    iron.curve((-0.07, -0.06), (0.0, -0.2), (0.06, -0.055), (50, 60, 120), 0.03, ink=INK)
    iron.poly(((-0.1, -0.0), (-0.09, -0.075), (0.04, -0.075), (0.13, 0.0)), (60, 90, 210))
    iron.box(-0.1, 0.0, 0.135, 0.022, (214, 222, 232))
    for i in range(4):
        u = s.ramp(1.3, shift=i / 4)
        c.oval(
            x - 0.1 + 0.08 * i,
            iy - 0.03 - 0.13 * u,
            0.02 + 0.014 * u,
            0.016 + 0.012 * u,
            (250, 252, 255),
            ink=None,
        )
    s.who.fists((0.02, y - 0.06), (x, iy - 0.15))


def hang_laundry(s: Stage) -> None:
    s.who.body(x=-0.18)
    c, y = s.c, 0.36 + (0.07 if s.who.height < 0.55 else 0.0)
    c.stroke(((-0.5, y - 0.03), (-0.1, y), (0.5, y - 0.02)), (240, 240, 230), 0.012, ink=INK)
    sway = s.wave(2.2)
    hands = (-0.05, y + 0.02), (0.06, y + 0.015 + 0.01 * sway)
    s.who.arms(*hands)
    shirt_shape(c.at(0.07, y, turn=4 * sway, scale=1.05), (70, 150, 240))
    t = c.at(0.27, y, turn=5 * s.wave(2.2, shift=0.2))
    t.poly(
        ((-0.07, 0.0), (0.07, 0.0), (0.085, 0.28), (0.02, 0.28), (0.0, 0.1), (-0.02, 0.28), (-0.085, 0.28)),
        (110, 90, 180),
    )
    k = c.at(0.41, y, turn=6 * s.wave(1.8))
    k.poly(
        ((-0.03, 0.0), (0.03, 0.0), (0.03, 0.12), (0.075, 0.15), (0.06, 0.18), (-0.03, 0.165)), (240, 70, 80)
    )
    for x in (-0.02, 0.15, 0.22, 0.33, 0.41):
        c.box(x - 0.009, y - 0.03, x + 0.009, y + 0.022, (250, 200, 60))
    c.poly(((0.06, 0.77), (0.36, 0.77), (0.32, 0.89), (0.1, 0.89)), (226, 190, 130))
    for i in range(3):
        c.oval(0.13 + 0.08 * i, 0.76, 0.055, 0.035, TOWELS[i])
    c.box(0.05, 0.77, 0.37, 0.795, (190, 146, 84))
    s.who.fists(*hands)


def load_washer(s: Stage) -> None:
    s.who.body(x=-0.2, legs="kneel", drop=0.08, lean=0.04)
    c, x, y = s.c, 0.25, 0.66
    c.round_box(0.05, 0.41, 0.45, FEET_Y + 0.01, (250, 250, 253), r=0.02)
    c.box(0.05, 0.43, 0.45, 0.49, (206, 214, 226))
    c.box(0.08, 0.442, 0.2, 0.478, (110, 200, 240))
    c.oval(0.38, 0.46, 0.024, 0.024, (90, 100, 120))
    c.oval(x, y, 0.155, 0.155, (150, 160, 176))
    c.oval(x, y, 0.122, 0.122, (50, 70, 110))
    for i, color in enumerate(TOWELS):
        a = s.t_s * 2.5 + i * math.pi / 2
        c.oval(x + 0.055 * math.cos(a), y + 0.055 * math.sin(a), 0.05, 0.034, color, ink=None)
    push = 0.5 + 0.5 * s.wave(1.8)
    cx = -0.02 + 0.12 * push
    c.poly(
        (
            (cx - 0.06, y - 0.05),
            (cx + 0.06, y - 0.07),
            (cx + 0.1, y + 0.0),
            (cx + 0.05, y + 0.09),
            (cx - 0.02, y + 0.06),
            (cx - 0.07, y + 0.1),
        ),
        (240, 70, 90),
    )
    s.who.hands((cx - 0.06, y + 0.02), (cx + 0.0, y - 0.05))


def pack_suitcase(s: Stage) -> None:
    s.who.body(lean=0.03)
    c, y = s.c, s.who.table_y
    c.box(-0.06, y + 0.06, 0.46, y + 0.1, (160, 110, 74))
    for x in (-0.02, 0.4):
        c.box(x, y + 0.1, x + 0.03, FEET_Y + 0.01, (130, 84, 54))
    c.poly(((0.0, y - 0.22), (0.44, y - 0.22), (0.42, y - 0.06), (0.02, y - 0.06)), (186, 110, 50))
    c.poly(((0.03, y - 0.2), (0.41, y - 0.2), (0.4, y - 0.07), (0.04, y - 0.07)), (244, 214, 160))
    c.stroke(((0.05, y - 0.18), (0.39, y - 0.09)), (200, 140, 80), 0.014)
    c.stroke(((0.39, y - 0.18), (0.05, y - 0.09)), (200, 140, 80), 0.014)
    for i in range(2 + int(s.progress * 1.99)):
        c.round_box(0.05 + 0.12 * i, y - 0.1, 0.16 + 0.12 * i, y - 0.02, TOWELS[i], r=0.02)
    c.round_box(-0.02, y - 0.06, 0.44, y + 0.07, (206, 126, 58), r=0.02)
    for x in (0.06, 0.33):
        c.box(x, y - 0.06, x + 0.035, y + 0.07, (120, 70, 34), ink=None)
        c.box(x + 0.005, y - 0.03, x + 0.03, y - 0.005, (250, 214, 90))
    c.stroke(((0.16, y + 0.0), (0.17, y + 0.03), (0.26, y + 0.03), (0.27, y + 0.0)), (90, 50, 30), 0.018)
    dip = 0.06 * s.wave(1.7)
    shirt_shape(c.at(0.12, y - 0.24 + dip, scale=0.75), (60, 180, 110))
    s.who.hands((0.03, y - 0.18 + dip), (0.22, y - 0.18 + dip))


def shake_pillow(s: Stage) -> None:
    shake = s.wave(0.7)
    s.who.body(x=0.0, drop=0.006 * shake)
    x, y = 0.04, s.who.chest_y + 0.05 + 0.035 * shake
    c = s.c
    for i in range(6):
        u = s.ramp(2.4, shift=i * 0.41)
        f = c.at(
            -0.04 + 0.09 * i + 0.03 * math.sin(6 * u + i), y - 0.26 + 0.5 * u, turn=60 * math.sin(5 * u + i)
        )
        f.oval(0, 0, 0.032, 0.011, WHITE, ink=(160, 160, 180))
    hands = (x - 0.18, y - 0.03 + 0.02 * shake), (x + 0.18, y - 0.03 - 0.02 * shake)
    s.who.arms(*hands)
    f = c.at(x, y, turn=8 * shake)
    f.poly(
        (
            (-0.2, -0.15),
            (0.0, -0.125),
            (0.2, -0.15),
            (0.175, 0.0),
            (0.2, 0.15),
            (0.0, 0.125),
            (-0.2, 0.15),
            (-0.175, 0.0),
        ),
        (250, 250, 255),
    )
    f.poly(
        (
            (-0.14, -0.1),
            (0.0, -0.085),
            (0.14, -0.1),
            (0.125, 0.0),
            (0.14, 0.1),
            (0.0, 0.085),
            (-0.14, 0.1),
            (-0.125, 0.0),
        ),
        (190, 210, 250),
        ink=None,
    )
    s.who.fists(*hands)


def spread_blanket(s: Stage) -> None:
    s.who.body(x=-0.03)
    c = s.c
    y = s.who.shoulder_y + 0.06
    lift = 0.03 * s.wave(1.7)
    columns, rows = 5, 4

    def corner(i: int, j: int) -> tuple[float, float]:
        u, v = i / columns, j / rows
        ripple = 0.022 * math.sin(2 * math.pi * (s.t_s / 1.7 - v + u * 0.5))
        return -0.19 + 0.6 * u + 0.06 * v * (u - 0.3) + ripple * 0.6, y + lift * (1 - v) + 0.36 * v * (
            FEET_Y - y
        ) / 0.4 + ripple

    s.who.arms(corner(0, 0), corner(3, 0))
    for i in range(columns):
        for j in range(rows):
            color = ((240, 76, 84), (255, 236, 200), (80, 120, 214))[(i + j) % 3 if (i + j) % 2 else 1]
            c.poly((corner(i, j), corner(i + 1, j), corner(i + 1, j + 1), corner(i, j + 1)), color, ink=None)
    border = [corner(i, 0) for i in range(columns + 1)] + [corner(columns, j) for j in range(1, rows + 1)]
    border += [corner(i, rows) for i in range(columns - 1, -1, -1)] + [
        corner(0, j) for j in range(rows - 1, -1, -1)
    ]
    c.stroke(border, INK, 0.008)
    s.who.fists(corner(0, 0), corner(3, 0))


CLOTH_ACTIONS: tuple[Draw, ...] = (
    fold_towel,
    iron_shirt,
    hang_laundry,
    load_washer,
    pack_suitcase,
    shake_pillow,
    spread_blanket,
)
