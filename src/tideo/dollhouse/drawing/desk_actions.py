"""Actions of the desk and of play."""

from __future__ import annotations

import math

from tideo.dollhouse.drawing.canvas import INK, WHITE, Color
from tideo.dollhouse.drawing.people import FEET_Y
from tideo.dollhouse.drawing.stage import Draw, Stage

BRIGHT: tuple[Color, ...] = (
    (236, 64, 64),
    (255, 206, 50),
    (70, 140, 240),
    (80, 190, 90),
    (180, 90, 220),
    (255, 140, 50),
)


def write(s: Stage) -> None:
    s.who.body(lean=0.03)
    c, y = s.c, s.table(x0=-0.16, deep=0.2, top=(170, 118, 78))
    c.poly(((0.0, y - 0.17), (0.26, y - 0.17), (0.31, y - 0.015), (-0.03, y - 0.015)), (255, 255, 250))
    lines = s.progress * 4.99
    for i in range(int(lines) + 1):
        if i > 4:
            break
        yy = y - 0.145 + 0.03 * i
        wide = 0.22 + 0.014 * i
        end = wide * (1.0 if i < int(lines) else lines % 1)
        points = [
            (0.02 - 0.005 * i + k * 0.02, yy + 0.006 * (-1) ** k) for k in range(max(2, int(end / 0.02)))
        ]
        c.stroke(points, (40, 60, 180), 0.009)
    now = min(4.99, lines)
    px = 0.04 + 0.2 * (now % 1) + 0.012 * s.wave(0.35)
    py = y - 0.145 + 0.03 * int(now)
    pen = c.at(px, py, turn=32, scale=1.3)
    pen.poly(((0, 0), (-0.02, -0.05), (0.02, -0.05)), (240, 220, 160))
    pen.round_box(-0.022, -0.3, 0.022, -0.045, (210, 40, 50), r=0.014)
    pen.box(-0.022, -0.24, 0.022, -0.22, (250, 210, 80), ink=None)
    s.who.hands((-0.07, y - 0.04), (px + 0.065, py - 0.09))


def type_(s: Stage) -> None:
    s.who.body(lean=0.02)
    c, y = s.c, s.table(x0=-0.14, deep=0.09, top=(150, 150, 160))
    c.poly(((0.07, y - 0.3), (0.41, y - 0.3), (0.39, y - 0.07), (0.05, y - 0.07)), (70, 76, 90))
    c.poly(((0.085, y - 0.285), (0.395, y - 0.285), (0.378, y - 0.085), (0.067, y - 0.085)), (30, 44, 90))
    shown = int(s.t_s * 5)
    for i in range(5):
        wide = 0.06 + 0.17 * (((i + shown // 8) * 0.618) % 1)
        if i == 4:
            wide = 0.02 + 0.03 * (shown % 8)
        c.stroke(
            ((0.1, y - 0.255 + 0.036 * i), (0.1 + wide, y - 0.255 + 0.036 * i)),
            ((120, 240, 160), (255, 255, 255), (255, 200, 90))[i % 3],
            0.015,
        )
    c.poly(((0.05, y - 0.07), (0.39, y - 0.07), (0.34, y - 0.005), (-0.04, y - 0.005)), (190, 196, 208))
    c.poly(((0.07, y - 0.06), (0.35, y - 0.06), (0.315, y - 0.03), (0.035, y - 0.03)), (60, 64, 76), ink=None)
    for i in range(7):
        c.box(0.065 + 0.038 * i, y - 0.05, 0.085 + 0.038 * i, y - 0.039, WHITE, ink=None)
    tap = s.wave(0.3)
    s.who.hands(
        (0.05 + 0.02 * s.wave(1.7), y - 0.06 - 0.012 * max(0.0, tap)),
        (0.2 + 0.02 * s.wave(1.3), y - 0.05 - 0.012 * max(0.0, -tap)),
    )


def read_book(s: Stage) -> None:
    s.who.body(x=-0.01)
    c = s.c
    x, y = 0.02, s.who.chest_y + 0.05
    s.who.arms((x - 0.22, y + 0.05), (x + 0.22, y + 0.05))
    for side in (-1, 1):
        c.poly(
            ((x, y - 0.12), (x + side * 0.23, y - 0.17), (x + side * 0.23, y + 0.13), (x, y + 0.18)),
            (150, 40, 60),
        )
        c.poly(
            (
                (x, y - 0.11),
                (x + side * 0.11, y - 0.155),
                (x + side * 0.215, y - 0.15),
                (x + side * 0.215, y + 0.105),
                (x, y + 0.16),
            ),
            (255, 250, 230),
        )
        for i in range(5):
            yy = y - 0.09 + 0.042 * i
            c.stroke(((x + side * 0.025, yy), (x + side * 0.185, yy - 0.036)), (150, 150, 160), 0.008)
    turn = s.ramp(2.6)
    if turn < 0.45:
        edge = x + 0.21 * math.cos(math.pi * turn / 0.45)
        lift = 0.07 * math.sin(math.pi * turn / 0.45)
        c.poly(
            ((x, y - 0.11), (edge, y - 0.15 - lift), (edge, y + 0.11 - lift), (x, y + 0.16)), (246, 236, 206)
        )
    s.who.fists((x - 0.22, y + 0.05), (x + 0.22, y + 0.05))


def paint(s: Stage) -> None:
    s.who.body(x=-0.2)
    c = s.c
    x0, x1, y0, y1 = 0.1, 0.44, 0.37, 0.66
    for x, foot in ((x0 + 0.06, x0 - 0.02), (x1 - 0.06, x1 + 0.02), ((x0 + x1) / 2, (x0 + x1) / 2)):
        c.stroke(((x, y0 - 0.03), (foot, FEET_Y)), (150, 96, 50), 0.024, ink=INK)
    c.box(x0 - 0.02, y1, x1 + 0.02, y1 + 0.025, (176, 118, 66))
    c.box(x0, y0, x1, y1, (255, 255, 250))
    c.box(x0 + 0.015, y0 + 0.015, x1 - 0.015, y1 - 0.015, (130, 206, 250), ink=None)
    c.box(x0 + 0.015, y1 - 0.095, x1 - 0.015, y1 - 0.015, (90, 190, 90), ink=None)
    c.oval(x1 - 0.08, y0 + 0.075, 0.04, 0.04, (255, 220, 40), ink=None)
    c.poly(
        (
            (x0 + 0.07, y1 - 0.08),
            (x0 + 0.07, y1 - 0.16),
            (x0 + 0.13, y1 - 0.21),
            (x0 + 0.19, y1 - 0.16),
            (x0 + 0.19, y1 - 0.08),
        ),
        (230, 80, 70),
        ink=None,
    )
    if s.progress > 0.5:
        c.oval(x0 + 0.25, y1 - 0.09, 0.03, 0.045, (240, 90, 180), ink=None)
    bx, by = x0 + 0.09 + 0.05 * s.wave(1.5), y0 + 0.15 + 0.05 * s.wave(1.1)
    b = c.at(bx, by, turn=-68)
    b.stroke(((0, -0.2), (0, -0.04)), (236, 190, 110), 0.018, ink=INK)
    b.poly(((-0.016, -0.045), (0.016, -0.045), (0.0, 0.012)), (226, 40, 60))
    palette = (-0.1, s.who.chest_y + 0.11)
    s.who.hand(1, (bx - 0.13, by + 0.055))
    c.oval(*palette, 0.11, 0.075, (222, 170, 110))
    for i, color in enumerate(BRIGHT[:5]):
        a = math.pi * (0.95 + 0.32 * i)
        c.oval(
            palette[0] + 0.07 * math.cos(a), palette[1] + 0.045 * math.sin(a), 0.02, 0.017, color, ink=None
        )
    s.who.hand(-1, (palette[0] - 0.08, palette[1] + 0.03))


def guitar(s: Stage) -> None:
    sway = s.wave(1.8)
    s.who.body(x=-0.04, lean=0.012 * sway)
    c = s.c
    x, y = 0.0, s.who.hip_y - 0.04
    g = c.at(x, y, turn=-24 + 2 * sway)
    g.box(0.06, -0.022, 0.36, 0.022, (90, 54, 34))
    g.poly(((0.35, -0.035), (0.45, -0.045), (0.45, 0.045), (0.35, 0.035)), (60, 36, 26))
    for i in range(2):
        for side in (-1, 1):
            g.oval(0.375 + 0.05 * i, side * 0.05, 0.014, 0.014, (240, 240, 240))
    g.oval(0.06, 0.0, 0.1, 0.095, (226, 130, 40))
    g.oval(-0.09, 0.0, 0.14, 0.135, (226, 130, 40))
    g.oval(0.04, 0.0, 0.085, 0.08, (240, 156, 60), ink=None)
    g.oval(-0.08, 0.0, 0.115, 0.11, (240, 156, 60), ink=None)
    g.oval(0.01, 0.0, 0.045, 0.045, (60, 34, 24))
    g.box(-0.14, -0.045, -0.115, 0.045, (80, 46, 30), ink=None)
    for k in (-0.012, 0.0, 0.012):
        g.stroke(((-0.12, k), (0.36, k)), (250, 244, 230), 0.005)
    strum = 0.05 * s.wave(0.5)
    s.who.hands((x - 0.07, y + strum), (x + 0.2 + 0.03 * s.wave(2.3), y - 0.1))
    for i in range(2):
        u = s.ramp(2.0, shift=i / 2)
        n = c.at(0.24 + 0.1 * i + 0.03 * math.sin(4 * u), 0.6 - 0.2 * u + 0.05 * i, scale=0.9)
        n.oval(0, 0, 0.026, 0.02, (60, 40, 120), ink=None)
        n.stroke(((0.022, 0.0), (0.022, -0.09), (0.06, -0.07)), (60, 40, 120), 0.014)


def photo(s: Stage) -> None:
    s.who.body(x=-0.1)
    c = s.c
    x, y = s.who.head[0] + 0.14, s.who.head[1] + 0.1
    s.who.arm(-1, (x - 0.15, y + 0.07))
    s.who.arm(1, (x + 0.16, y + 0.06))
    flash = s.ramp(1.8) < 0.22
    f = c.at(x, y, scale=1.1)
    if flash:
        for i in range(10):
            a = 2 * math.pi * i / 10
            f.poly(
                (
                    (0.09 + 0.05 * math.cos(a - 0.3), -0.13 + 0.05 * math.sin(a - 0.3)),
                    (0.09 + 0.17 * math.cos(a), -0.13 + 0.17 * math.sin(a)),
                    (0.09 + 0.05 * math.cos(a + 0.3), -0.13 + 0.05 * math.sin(a + 0.3)),
                ),
                (255, 246, 130),
                ink=None,
            )
    f.curve((-0.14, 0.0), (0.0, 0.42), (0.14, 0.0), (190, 60, 50), 0.02, ink=INK)
    f.round_box(-0.05, -0.13, 0.05, -0.07, (60, 62, 74), r=0.014)
    f.round_box(-0.15, -0.09, 0.15, 0.11, (44, 46, 56), r=0.025)
    f.box(-0.15, -0.035, 0.15, -0.005, (190, 196, 206), ink=None)
    f.round_box(0.06, -0.14, 0.125, -0.085, (255, 255, 230) if flash else (210, 216, 226), r=0.01)
    f.oval(0, 0.02, 0.085, 0.085, (120, 126, 140))
    f.oval(0, 0.02, 0.062, 0.062, (40, 60, 130))
    f.oval(-0.02, 0.0, 0.02, 0.02, (190, 220, 255), ink=None)
    f.oval(-0.11, -0.1, 0.022, 0.014, (226, 50, 50))
    s.who.fist((x - 0.15, y + 0.07))
    s.who.fist((x + 0.16, y + 0.06))


def cut_paper(s: Stage) -> None:
    s.who.body(x=-0.07)
    c = s.c
    y = s.who.chest_y + 0.08
    cut = 0.12 * s.progress
    px, py = 0.17 - cut * 0.6, y
    hands = (-0.19, y + 0.02), (px + 0.17, py + 0.015)
    s.who.arms(*hands)
    c.poly(
        (
            (-0.2, y - 0.11),
            (0.1, y - 0.13),
            (0.1 - cut, y - 0.01),
            (0.1, y + 0.01),
            (0.1, y + 0.13),
            (-0.2, y + 0.12),
        ),
        (255, 120, 170),
    )
    c.oval(-0.1, y - 0.04, 0.028, 0.028, WHITE, ink=None)
    c.oval(-0.02, y + 0.07, 0.028, 0.028, WHITE, ink=None)
    for i in range(3):
        u = s.ramp(1.9, shift=i / 3)
        c.at(0.02 + 0.06 * i, y + 0.14 + (FEET_Y - y - 0.16) * u, turn=300 * u + 40 * i).box(
            -0.022, -0.016, 0.022, 0.016, (255, 120, 170)
        )
    gap = 10 + 12 * abs(s.wave(0.9))
    for side in (-1, 1):
        f = c.at(px, py, turn=side * gap)
        f.poly(((-0.16, 0.0), (0.02, -side * 0.0 - 0.024), (0.05, 0.0), (0.02, 0.024)), (206, 216, 228))
        f.ring(0.155, side * 0.025, 0.068, 0.055, INK, 0.042)
        f.ring(0.155, side * 0.025, 0.062, 0.049, (236, 60, 50), 0.03)
        f.stroke(((0.03, 0.0), (0.1, side * 0.01)), (236, 60, 50), 0.034)
    c.oval(px, py, 0.016, 0.016, (90, 96, 110))
    s.who.fists(*hands)


def blocks(s: Stage) -> None:
    s.who.body(legs="kneel", drop=0.1, x=-0.2)
    c, size = s.c, 0.118
    base = FEET_Y + 0.015
    for i, x in enumerate((0.05, 0.18, 0.31)):
        c.box(x, base - size, x + size, base, BRIGHT[i])
    for i, x in enumerate((0.11, 0.24)):
        c.box(x, base - 2 * size, x + size, base - size, BRIGHT[3 + i])
    for x, y in (
        (0.05, base - size),
        (0.18, base - size),
        (0.31, base - size),
        (0.11, base - 2 * size),
        (0.24, base - 2 * size),
    ):
        c.box(x + 0.025, y + 0.025, x + size - 0.025, y + size - 0.025, (255, 250, 235), ink=None)
        c.stroke(((x + 0.042, y + 0.09), (x + 0.059, y + 0.035), (x + 0.076, y + 0.09)), (90, 60, 60), 0.012)
    top = base - 3 * size - 0.07 * (0.5 + 0.5 * s.wave(1.8))
    x = 0.16 + 0.02 * s.wave(1.8, shift=0.2)
    c.box(x, top, x + size, top + size, (255, 206, 50))
    c.oval(x + size / 2, top + size / 2, 0.034, 0.034, (226, 60, 60), ink=None)
    s.who.hands((x - 0.005, top + 0.08), (x + 0.06, top + 0.0))


DESK_ACTIONS: tuple[Draw, ...] = (write, type_, read_book, paint, guitar, photo, cut_paper, blocks)
