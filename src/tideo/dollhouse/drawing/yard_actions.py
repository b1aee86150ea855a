"""Actions of the garden and the garage."""

from __future__ import annotations

import math

from tideo.dollhouse.drawing.canvas import INK, Canvas, Color, bezier, shade
from tideo.dollhouse.drawing.people import FEET_Y
from tideo.dollhouse.drawing.stage import WATER, Draw, Stage

SOIL: Color = (112, 74, 46)


def _flower(c: Canvas, color: Color, *, high: float) -> None:
    c.stroke(((0, 0), (0, -high)), (50, 150, 60), 0.014)
    c.at(0.03, -high * 0.45, turn=-35).oval(0, 0, 0.035, 0.014, (70, 180, 70), ink=None)
    for i in range(5):
        a = 2 * math.pi * i / 5 - math.pi / 2
        c.oval(0.032 * math.cos(a), -high + 0.032 * math.sin(a), 0.025, 0.025, color, ink=None)
    c.oval(0, -high, 0.02, 0.02, (255, 220, 60), ink=None)


def water_plants(s: Stage) -> None:
    s.who.body()
    c = s.c
    base = FEET_Y + 0.01
    y = min(s.who.chest_y + 0.06, 0.64)
    can = c.at(0.04, y, turn=18 + 5 * s.wave(2.0), scale=1.15)
    can.ring(-0.11, -0.0, 0.06, 0.08, (30, 120, 110), 0.022)
    can.poly(((0.07, 0.08), (0.08, 0.02), (0.2, -0.075), (0.225, -0.05)), (50, 170, 150))
    can.at(0.215, -0.065, turn=48).round_box(-0.015, -0.045, 0.02, 0.045, (40, 140, 126), r=0.012)
    can.poly(((-0.09, -0.09), (0.08, -0.09), (0.1, 0.11), (-0.11, 0.11)), (60, 190, 166))
    can.oval(-0.005, -0.09, 0.085, 0.022, (30, 110, 100))
    for i, (x, color) in enumerate(((0.2, (240, 70, 90)), (0.31, (250, 150, 220)), (0.41, (150, 90, 230)))):
        c.poly(
            ((x - 0.05, base - 0.085), (x + 0.05, base - 0.085), (x + 0.036, base), (x - 0.036, base)),
            (206, 106, 64),
        )
        sway = 4 * s.wave(2.4, shift=i * 0.3)
        _flower(c.at(x, base - 0.08, turn=sway, scale=1.15), color, high=0.085 + 0.02 * (i % 2))
    for i in range(10):
        u = s.ramp(0.8, shift=i * 0.37)
        x = 0.27 + 0.012 * (i % 5) + 0.09 * u * (0.4 + 0.2 * (i % 4))
        yy = y + 0.03 + (base - 0.12 - y) * u * u
        c.oval(x, yy, 0.01, 0.016, WATER, ink=None)
    s.who.hands((-0.1, y - 0.03), (0.02, y - 0.11))


def dig(s: Stage) -> None:
    push = s.wave(1.5)
    s.who.body(x=-0.17, lean=0.04 + 0.01 * push, drop=0.012 * push)
    c, base = s.c, FEET_Y + 0.02
    c.oval(0.1, base - 0.015, 0.17, 0.035, (66, 42, 28))
    c.poly(
        [
            (0.33 + 0.16 * math.cos(a), base - 0.15 * math.sin(a))
            for a in (0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.5, 3.14)
        ],
        SOIL,
    )
    for x, y in ((0.27, 0.05), (0.33, 0.09), (0.38, 0.04), (0.32, 0.03)):
        c.oval(x, base - y, 0.016, 0.012, (150, 104, 66), ink=None)
    lift = 0.05 * push
    tip = (0.11, base - 0.03 - lift)
    size = 1.5 * s.who.height + 0.02  # the handle stays below the chin
    spade = c.at(*tip, turn=-20 + 6 * push, scale=size)
    spade.stroke(((0, -0.15), (0, -0.47)), (206, 146, 84), 0.03, ink=INK)
    spade.stroke(((-0.055, -0.48), (0.055, -0.48)), (226, 60, 50), 0.034, ink=INK)
    spade.poly(((-0.085, -0.19), (0.085, -0.19), (0.08, -0.05), (0.0, 0.02), (-0.08, -0.05)), (170, 180, 194))
    spade.stroke(((0, -0.16), (0, -0.05)), (130, 140, 156), 0.012)
    for i in range(5):
        u = s.ramp(1.5, shift=0.1 * i)
        c.oval(
            0.14 + 0.2 * u + 0.01 * i,
            base - 0.1 - 0.35 * u * (1 - u) * (1 + 0.2 * i),
            0.014,
            0.014,
            SOIL,
            ink=None,
        )
    top = math.radians(-20 + 6 * push)

    def along(length: float) -> tuple[float, float]:
        return tip[0] + length * math.sin(top), tip[1] - length * math.cos(top)

    s.who.hands(along(0.46 * size), along(0.3 * size))


def _leaf(c: Canvas, color: Color) -> None:
    c.poly(((-0.04, 0.0), (-0.01, -0.022), (0.035, -0.008), (0.05, 0.0), (0.03, 0.012), (-0.01, 0.02)), color)


def rake(s: Stage) -> None:
    pull = s.wave(1.5)
    s.who.body(x=-0.18, lean=0.03)
    c, base = s.c, FEET_Y + 0.01
    colors: tuple[Color, ...] = ((240, 130, 30), (226, 60, 40), (250, 200, 50), (190, 110, 40))
    for i in range(16):
        layer, column = divmod(i, 6)
        _leaf(
            c.at(
                0.27 + 0.045 * column * (1 - 0.12 * layer) - 0.01 + 0.02 * layer,
                base - 0.035 * layer - 0.01,
                turn=(i * 77) % 360,
                scale=1.2,
            ),
            colors[i % 4],
        )
    for i in range(3):
        _leaf(c.at(-0.05 + 0.1 * i, base + 0.02 * (i % 2), turn=100.0 * i, scale=1.1), colors[i])
    head = (0.19 + 0.07 * pull, base - 0.12)
    top = (-0.06 + 0.03 * pull, s.who.shoulder_y + 0.0)
    turn = math.degrees(math.atan2(-(head[0] - top[0]), head[1] - top[1]))
    c.stroke((top, head), (210, 150, 90), 0.026, ink=INK)
    f = c.at(*head, turn=turn)
    for k in (-0.13, -0.087, -0.043, 0.0, 0.043, 0.087, 0.13):
        f.stroke(((k * 0.15, -0.02), (k, 0.11), (k, 0.15)), (40, 120, 60), 0.014)
    f.stroke(((-0.12, 0.085), (0.12, 0.085)), (40, 120, 60), 0.014)
    f.oval(0, -0.02, 0.026, 0.026, (40, 120, 60))

    def along(u: float) -> tuple[float, float]:
        return top[0] + (head[0] - top[0]) * u, top[1] + (head[1] - top[1]) * u

    s.who.hands(along(0.12), along(0.5))


def hammer(s: Stage) -> None:
    s.who.body()
    c, y = s.c, s.table(top=(150, 110, 80))
    beat = abs(s.wave(1.4))
    depth = 0.05 * s.progress
    c.box(0.02, y - 0.065, 0.45, y, (236, 194, 128))
    for x in (0.08, 0.24, 0.38):
        c.stroke(((x, y - 0.03), (x + 0.06, y - 0.036)), (196, 146, 84), 0.009)
    nx, top = 0.31, y - 0.19 + depth
    c.box(nx - 0.012, top, nx + 0.012, y - 0.065, (150, 158, 172))
    c.box(nx - 0.034, top - 0.014, nx + 0.034, top + 0.008, (150, 158, 172))
    if beat < 0.3:
        for a in (200, 235, 305, 340):
            cos, sin = math.cos(math.radians(a)), math.sin(math.radians(a))
            c.stroke(
                ((nx + 0.05 * cos, top + 0.05 * sin), (nx + 0.11 * cos, top + 0.11 * sin)),
                (255, 200, 40),
                0.016,
            )
    hand = (0.06, top + 0.04 - 0.03 * beat)
    h = c.at(*hand, turn=88 - 58 * beat, scale=0.95)
    h.round_box(-0.022, -0.25, 0.022, 0.06, (220, 150, 70), r=0.014)
    h.round_box(-0.1, -0.275, 0.07, -0.205, (96, 104, 122), r=0.012)
    h.round_box(0.06, -0.29, 0.105, -0.19, (126, 134, 152), r=0.012)
    s.who.hand(-1, (0.17, y - 0.09))
    s.who.hand(1, hand)


def saw(s: Stage) -> None:
    s.who.body(lean=0.03)
    c, y = s.c, s.who.table_y
    for x in (0.08, 0.36):
        c.stroke(((x, y + 0.03), (x - 0.07, FEET_Y)), (140, 96, 56), 0.028, ink=INK)
        c.stroke(((x, y + 0.03), (x + 0.07, FEET_Y)), (140, 96, 56), 0.028, ink=INK)
    c.poly(((-0.02, y - 0.055), (0.46, y - 0.055), (0.46, y + 0.035), (-0.02, y + 0.035)), (240, 196, 126))
    for x in (0.06, 0.3, 0.4):
        c.stroke(((x - 0.04, y - 0.01), (x + 0.04, y - 0.015)), (200, 150, 86), 0.01)
    move = s.wave(0.9)
    hand = (0.02 + 0.05 * move, y - 0.22 + 0.035 * move)
    f = c.at(*hand, turn=32, scale=1.1)
    teeth = [(0.36 - 0.024 * i, 0.03 + (0.018 if i % 2 else 0.045)) for i in range(14)]
    f.poly(((0.04, -0.045), (0.37, -0.01), *teeth, (0.04, 0.05)), (206, 214, 226))
    f.round_box(-0.06, -0.055, 0.06, 0.06, (226, 90, 40), r=0.025)
    f.round_box(-0.03, -0.025, 0.025, 0.028, shade((226, 90, 40), 0.5), r=0.015, ink=None)
    for i in range(6):
        u = s.ramp(0.9, shift=i / 6)
        c.oval(0.2 + 0.012 * i, y + 0.04 + (FEET_Y - y - 0.06) * u, 0.01, 0.008, (250, 216, 150), ink=None)
    s.who.hand(-1, (0.05, y - 0.05))
    s.who.hand(1, hand)


def pump(s: Stage) -> None:
    push = 0.5 + 0.5 * s.wave(1.1)
    s.who.body(x=-0.2, lean=0.02, drop=0.035 * push)
    c = s.c
    x, y, r = 0.27, FEET_Y - 0.155, 0.165
    c.oval(x, y, r + 0.02, r + 0.02, (40, 40, 48))
    c.oval(x, y, r - 0.022, r - 0.022, (222, 228, 236))
    for i in range(6):
        a = math.pi * i / 6 + 0.3
        c.stroke(
            (
                (x - (r - 0.03) * math.cos(a), y - (r - 0.03) * math.sin(a)),
                (x + (r - 0.03) * math.cos(a), y + (r - 0.03) * math.sin(a)),
            ),
            (120, 128, 142),
            0.008,
        )
    c.oval(x, y, 0.03, 0.03, (226, 60, 50))
    px, base = -0.03, FEET_Y + 0.01
    handle = 0.54 + 0.12 * push
    c.stroke(bezier((px + 0.03, base - 0.04), (0.05, base + 0.05), (x - 0.1, y + 0.12)), (30, 30, 36), 0.016)
    c.stroke(((px, handle), (px, base - 0.15)), (180, 188, 200), 0.018, ink=INK)
    c.round_box(px - 0.034, base - 0.22, px + 0.034, base - 0.01, (40, 110, 220), r=0.012)
    c.round_box(px - 0.08, base - 0.025, px + 0.08, base + 0.01, (60, 64, 76), r=0.01)
    c.stroke(((px - 0.085, handle), (px + 0.085, handle)), (40, 40, 48), 0.032, ink=INK)
    s.who.hands((px - 0.07, handle - 0.005), (px + 0.07, handle - 0.005))


def wrench(s: Stage) -> None:
    s.who.body()
    c, y = s.c, s.table(top=(110, 120, 136))
    x, cy = 0.27, y - 0.16
    c.round_box(x - 0.17, y - 0.31, x + 0.17, y, (70, 130, 150), r=0.03)
    for dx in (-0.13, 0.13):
        for dy in (-0.27, -0.04):
            c.oval(x + dx, y + dy, 0.016, 0.016, (30, 60, 70), ink=None)
    turn = 26 * s.wave(1.5)
    hexagon = [
        (
            x + 0.085 * math.cos(math.radians(turn + 60 * i)),
            cy + 0.085 * math.sin(math.radians(turn + 60 * i)),
        )
        for i in range(6)
    ]
    c.poly(hexagon, (250, 206, 70))
    c.oval(x, cy, 0.04, 0.04, (170, 130, 30))
    f = c.at(x, cy, turn=turn - 6)
    f.round_box(-0.36, -0.034, -0.09, 0.034, (226, 40, 44), r=0.025)
    f.poly(
        (
            (-0.14, -0.05),
            (-0.08, -0.13),
            (0.05, -0.125),
            (0.06, -0.09),
            (-0.05, -0.078),
            (-0.09, 0.0),
            (-0.05, 0.078),
            (0.06, 0.09),
            (0.05, 0.125),
            (-0.08, 0.13),
            (-0.14, 0.05),
        ),
        (190, 198, 212),
    )
    a = math.radians(turn - 6)
    hand = (x - 0.31 * math.cos(a), cy - 0.31 * math.sin(a))
    s.who.hands((0.1, y - 0.03), hand)


YARD_ACTIONS: tuple[Draw, ...] = (water_plants, dig, rake, hammer, saw, pump, wrench)
