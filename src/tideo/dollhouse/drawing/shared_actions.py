"""Actions that many activities share; five of them come with five tools each."""

from __future__ import annotations

import math

from tideo.dollhouse.drawing.canvas import INK, WHITE, Canvas, Color, shade
from tideo.dollhouse.drawing.people import FEET_Y
from tideo.dollhouse.drawing.stage import Draw, Stage
from tideo.dollhouse.drawing.tools import CARRIERS, CUPS, SEATS, WIPERS


def wipe(s: Stage) -> None:
    s.who.body(lean=0.03)
    y = s.table(x0=-0.26, x1=0.46, top=(214, 162, 104), deep=0.12)
    x = 0.17 + 0.12 * s.wave(1.3)
    for i in range(4):
        s.c.oval(0.0 + 0.1 * i, y - 0.06 + 0.012 * (i % 2), 0.055, 0.02, (240, 222, 190), ink=None)
    s.who.hand(-1, (-0.17, y - 0.05))
    WIPERS[s.tool or ""](s.c.at(x, y - 0.06))
    s.who.hand(1, (x, y - (0.19 if s.tool == "a feather duster" else 0.15)))


def carry(s: Stage) -> None:
    x = -0.02 + 0.03 * s.wave(2.4)
    bob = 0.012 * s.wave(0.6)
    s.who.body(x=x, legs="walk", phase=s.ramp(1.2), drop=-0.01 + bob * 0.5)
    hangs = s.tool in ("a bag", "a basket", "a bucket")
    y = (s.who.hip_y + 0.01 if hangs else s.who.chest_y + 0.07) + bob
    hands = ((x, y - 0.2), (x + 0.08, y - 0.2)) if hangs else ((x - 0.15, y + 0.04), (x + 0.23, y + 0.04))
    s.who.arms(*hands)
    CARRIERS[s.tool or ""](s.c.at(x + 0.04, y, scale=1.15))
    s.who.fists(*hands)


def rest(s: Stage) -> None:
    floor = s.tool == "a cushion"
    seat_y = FEET_Y - 0.04 if floor else 0.73
    sway = 0.008 * s.wave(3.0)
    x = 0.06
    back, front = SEATS[s.tool or ""]
    back(s.c.at(x, seat_y))
    drop = seat_y - (FEET_Y - s.who.height * 0.36) - 0.02
    s.who.body(x=x, legs="cross" if floor else "sit", drop=drop, lean=sway)
    front(s.c.at(x, seat_y))
    rise = seat_y - 0.05
    s.who.hands((x - 0.1, rise + sway), (x + 0.13, rise - sway))
    for i in range(3):
        u = s.ramp(3.0, shift=i / 3)
        z = s.c.at(s.who.head[0] + 0.14 + 0.1 * u, s.who.head[1] + 0.04 - 0.09 * u, scale=0.5 + 0.5 * u)
        z.stroke(((-0.03, -0.03), (0.03, -0.03), (-0.03, 0.03), (0.03, 0.03)), (70, 90, 200), 0.014)


def drink(s: Stage) -> None:
    s.who.body(mouth="open")
    sip = max(0.0, s.wave(2.6))
    mx, my = s.who.mouth
    x, y = mx + 0.175 - 0.03 * sip, my + 0.08 - 0.02 * sip
    hand = (x + 0.05, y + 0.075)
    s.who.hand(-1, (s.who.x - 0.1, s.who.hip_y))
    s.who.arm(1, hand)
    CUPS[s.tool or ""](s.c.at(x, y, turn=-14 - 22 * sip, scale=1.2))
    s.who.fist(hand)


def open_cupboard(s: Stage) -> None:
    s.who.body(lean=0.02)
    c, y0, y1, x0, x1 = s.c, 0.37, FEET_Y, 0.04, 0.42
    c.box(x0, y0, x1, y1, (150, 96, 60))
    c.box(x0 + 0.02, y0 + 0.03, x1 - 0.02, y1 - 0.03, (70, 44, 34))
    for row, y in enumerate((0.53, 0.69, 0.85)):
        c.box(x0 + 0.02, y, x1 - 0.02, y + 0.015, (180, 122, 76))
        for i in range(4):
            color = ((224, 80, 70), (250, 206, 80), (90, 170, 110), (90, 130, 210))[(i + row) % 4]
            c.round_box(x0 + 0.05 + 0.075 * i, y - 0.085, x0 + 0.11 + 0.075 * i, y, color, r=0.012)
    swing = 0.55 + 0.45 * s.wave(2.8)
    wide = 0.04 + 0.15 * swing
    c.poly(
        (
            (x1, y0),
            (x1 + 0.045 - 0.19 * (1 - swing), y0 - 0.03),
            (x1 + 0.045 - 0.19 * (1 - swing), y1 + 0.03),
            (x1, y1),
        ),
        (206, 146, 92),
    )
    edge = x0 + 0.19 - wide
    c.poly(((x0, y0), (edge - 0.02, y0 - 0.03), (edge - 0.02, y1 + 0.02), (x0, y1)), (206, 146, 92))
    c.oval(edge - 0.0, 0.62, 0.016, 0.016, (250, 220, 120))
    s.who.hands((s.who.x - 0.1, s.who.hip_y), (edge - 0.015, 0.62))


def check_phone(s: Stage) -> None:
    s.who.body(x=-0.09)
    c = s.c
    x, y = 0.08, s.who.chest_y + 0.02
    hands = (x - 0.12, y + 0.06), (x + 0.05 + 0.03 * s.wave(0.9), y + 0.1 + 0.02 * s.wave(0.6))
    s.who.arms(*hands)
    f = c.at(x, y, turn=8 + 2 * s.wave(2.2))
    f.round_box(-0.115, -0.2, 0.115, 0.2, (34, 36, 46), r=0.03)
    f.round_box(-0.098, -0.175, 0.098, 0.165, (120, 220, 250), r=0.012, ink=None)
    colors: tuple[Color, ...] = (
        (250, 90, 90),
        (90, 210, 110),
        (250, 200, 60),
        (150, 100, 240),
        (255, 140, 50),
        (60, 110, 240),
    )
    scroll = (s.t_s * 0.04) % 0.1
    for row in range(3):
        for column in range(3):
            color = colors[(row * 2 + column * 5 + int(s.t_s * 0.4)) % 6]
            yy = -0.16 + 0.1 * row + scroll * 0.3
            f.round_box(
                -0.085 + 0.06 * column, yy, -0.035 + 0.06 * column, yy + 0.06, color, r=0.01, ink=None
            )
    f.oval(0, 0.183, 0.012, 0.012, (150, 150, 160), ink=None)
    s.who.fists(*hands)


def read_list(s: Stage) -> None:
    s.who.body(x=-0.07)
    x, y = 0.05, s.who.chest_y + 0.06
    hands = (x - 0.135, y + 0.06), (x + 0.13, y + 0.05 + 0.02 * s.wave(1.4))
    s.who.arms(*hands)
    f = s.c.at(x, y, turn=-5 + 2 * s.wave(2.5))
    f.box(-0.13, -0.23, 0.13, 0.22, (255, 250, 224))
    f.box(-0.13, -0.23, 0.13, -0.18, (240, 120, 110))
    finished = int(s.progress * 5.99)
    for i in range(5):
        yy = -0.13 + 0.072 * i
        f.box(-0.105, yy - 0.02, -0.065, yy + 0.02, WHITE)
        if i < finished:
            f.stroke(((-0.105, yy), (-0.085, yy + 0.02), (-0.055, yy - 0.03)), (30, 160, 60), 0.014)
        f.stroke(((-0.035, yy), (0.05 + 0.05 * ((i * 0.6) % 1), yy)), (90, 90, 110), 0.014)
    s.who.fists(*hands)


def lamp(s: Stage) -> None:
    s.who.body()
    c = s.c
    x, y = 0.22, 0.71
    c.round_box(x - 0.15, y, x + 0.15, FEET_Y + 0.01, (150, 100, 70), r=0.02)
    c.box(x - 0.11, y + 0.04, x + 0.11, y + 0.1, (176, 122, 88))
    c.oval(x, y + 0.07, 0.012, 0.012, (240, 210, 110))
    lit = s.ramp(2.4) > 0.3
    shade_y = y - 0.2
    if lit:
        c.poly(
            ((x - 0.12, shade_y), (x + 0.12, shade_y), (x + 0.2, y), (x - 0.2, y)), (255, 246, 170), ink=None
        )
        for i in range(9):
            angle = math.pi * (1 + i / 8)
            cos, sin = math.cos(angle), math.sin(angle)
            c.stroke(
                (
                    (x + 0.17 * cos, shade_y - 0.05 + 0.17 * sin),
                    (x + 0.21 * cos, shade_y - 0.05 + 0.21 * sin),
                ),
                (255, 216, 60),
                0.016,
            )
    c.box(x - 0.014, shade_y, x + 0.014, y - 0.02, (110, 80, 60))
    c.oval(x, y - 0.015, 0.09, 0.025, (110, 80, 60))
    c.poly(
        (
            (x - 0.07, shade_y - 0.14),
            (x + 0.07, shade_y - 0.14),
            (x + 0.14, shade_y + 0.02),
            (x - 0.14, shade_y + 0.02),
        ),
        (255, 226, 80) if lit else (150, 130, 80),
    )
    pull = 0.03 * (s.ramp(2.4) < 0.3)
    hand = (x - 0.1, shade_y + 0.08 + pull)
    c.stroke(((x - 0.1, shade_y + 0.02), hand), (90, 70, 60), 0.008)
    s.who.hands((s.who.x - 0.1, s.who.hip_y), hand)


def _glove(c: Canvas, color: Color) -> None:
    """A rubber glove, fingers up, its cuff at the origin."""
    for i, turn in enumerate((-18, -6, 6, 18)):
        f = c.at(-0.042 + 0.028 * i, -0.11, turn=turn)
        f.round_box(-0.018, -0.09, 0.018, 0.03, color, r=0.017)
    c.at(0.06, -0.07, turn=55).round_box(-0.018, -0.08, 0.02, 0.03, color, r=0.017)
    c.round_box(-0.066, -0.13, 0.066, 0.0, color, r=0.02, ink=None)
    c.box(-0.075, -0.03, 0.075, 0.03, shade(color, 0.75))


def gloves(s: Stage) -> None:
    s.who.body(x=0.0)
    y = s.who.chest_y + 0.05
    pull = 0.02 * s.wave(1.0)
    s.who.hands((-0.15, y + 0.03), (0.17, y + 0.03))
    _glove(s.c.at(-0.165, y + 0.02 + pull, scale=1.15, turn=-6), (255, 150, 30))
    _glove(s.c.at(0.185, y + 0.02 - pull, scale=1.15, turn=6, flip=True), (255, 150, 30))


def measure(s: Stage) -> None:
    s.who.body(x=0.0)
    c = s.c
    y = s.who.chest_y + 0.05
    reach = 0.25 + 0.06 * s.wave(2.0)
    x0 = -0.26
    hands = (x0 + 0.01, y + 0.03), (reach, y + 0.06)
    s.who.arms(*hands)
    c.box(x0, y - 0.035, reach - 0.02, y + 0.035, (255, 226, 40))
    i, x = 0, x0 + 0.03
    while x < reach - 0.06:
        c.stroke(((x, y - 0.03), (x, y + (0.015 if i % 3 == 0 else -0.008))), INK, 0.009)
        if i % 3 == 0:
            c.box(x + 0.008, y + 0.002, x + 0.026, y + 0.02, (220, 40, 40), ink=None)
        i, x = i + 1, x + 0.032
    c.round_box(reach - 0.04, y - 0.085, reach + 0.1, y + 0.055, (240, 70, 50), r=0.03)
    c.oval(reach + 0.03, y - 0.015, 0.04, 0.04, (60, 60, 70))
    s.who.fists(*hands)


def clock(s: Stage) -> None:
    s.who.body(lean=0.02)
    c, y = s.c, s.table(x0=0.0, x1=0.44, top=(150, 104, 76))
    x, r = 0.22 + 0.004 * s.wave(0.15), 0.15
    cy = y - r - 0.03
    for side in (-1, 1):
        c.stroke(((x + side * 0.08, y - 0.05), (x + side * 0.12, y - 0.01)), INK, 0.026)
        c.oval(x + side * 0.1, cy - r + 0.015, 0.06, 0.05, (250, 200, 60))
    c.oval(x, cy, r, r, (226, 58, 64))
    c.oval(x, cy, r * 0.78, r * 0.78, (255, 252, 240))
    for i in range(12):
        a = math.pi * i / 6
        c.oval(x + 0.098 * math.cos(a), cy + 0.098 * math.sin(a), 0.009, 0.009, INK, ink=None)
    for period, length, wide in ((2.0, 0.085, 0.014), (12.0, 0.055, 0.02)):
        a = 2 * math.pi * s.t_s / period
        c.stroke(((x, cy), (x + length * math.sin(a), cy - length * math.cos(a))), INK, wide)
    c.oval(x, cy, 0.014, 0.014, (226, 58, 64), ink=None)
    twist = 0.012 * s.wave(0.8)
    s.who.hands((s.who.x - 0.09, y), (x - 0.15, cy + 0.03 + twist))


SHARED_ACTIONS: tuple[Draw, ...] = (
    wipe,
    carry,
    rest,
    drink,
    open_cupboard,
    check_phone,
    read_list,
    lamp,
    gloves,
    measure,
    clock,
)
