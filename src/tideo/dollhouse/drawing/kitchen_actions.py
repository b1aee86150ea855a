"""Actions of the kitchen and the table."""

from __future__ import annotations

import math

from tideo.dollhouse.drawing.canvas import INK, WHITE, Canvas, Color
from tideo.dollhouse.drawing.people import FEET_Y
from tideo.dollhouse.drawing.stage import STEEL, Draw, Stage
from tideo.dollhouse.drawing.tools import STIRRERS

BOARD: Color = (236, 200, 146)


def knife(c: Canvas) -> None:
    """A kitchen knife pointing right, its grip at the origin."""
    c.poly(((0.03, -0.03), (0.2, -0.03), (0.23, 0.0), (0.2, 0.03), (0.03, 0.03)), (216, 224, 232))
    c.round_box(-0.07, -0.022, 0.04, 0.022, (40, 40, 52), r=0.012)


def fill_kettle(s: Stage) -> None:
    s.who.body()
    c, y = s.c, s.counter(x0=-0.06)
    c.box(0.0, y - 0.01, 0.34, y + 0.05, STEEL)
    s.tap(0.19, y - 0.28, flow_to=y - 0.19)
    k = s.c.at(0.15, y - 0.1 + 0.004 * s.wave(0.5))
    k.curve((-0.1, -0.06), (0.02, -0.27), (0.12, -0.05), (40, 40, 50), 0.026)
    k.poly(((0.1, 0.0), (0.2, -0.09), (0.225, -0.065), (0.11, 0.07)), (214, 56, 50))
    k.round_box(-0.13, -0.09, 0.13, 0.1, (226, 62, 54), r=0.07)
    k.oval(0.02, -0.085, 0.07, 0.02, (120, 30, 30))
    k.oval(-0.05, -0.01, 0.025, 0.04, (255, 140, 130), ink=None)
    s.who.hands((-0.0, y - 0.04), (0.05, y - 0.22))


def pour_tea(s: Stage) -> None:
    s.who.body()
    c, y = s.c, s.table()
    c.oval(0.31, y - 0.005, 0.1, 0.018, (240, 240, 250))
    c.half(0.31, y - 0.095, 0.075, 0.09, (250, 250, 255))
    c.ring(0.395, y - 0.07, 0.025, 0.028, (200, 200, 214), 0.014)
    c.oval(0.31, y - 0.095, 0.075, 0.02, (168, 92, 30))
    tilt = 24 + 5 * s.wave(2.0)
    pot = c.at(0.1, y - 0.2, turn=tilt)
    c.curve((0.255, y - 0.215), (0.31, y - 0.2), (0.31, y - 0.1), (176, 96, 34), 0.024)
    pot.stroke(((0.09, 0.03), (0.15, -0.01), (0.185, -0.075)), (80, 120, 220), 0.042, ink=INK)
    pot.ring(-0.15, -0.0, 0.055, 0.07, (60, 90, 180), 0.026)
    pot.oval(0, 0, 0.13, 0.105, (90, 132, 236))
    for x, yy in ((-0.06, -0.03), (0.05, -0.03), (0.0, 0.04), (-0.07, 0.04), (0.08, 0.035)):
        pot.oval(x, yy, 0.018, 0.018, WHITE, ink=None)
    pot.oval(0, -0.1, 0.07, 0.022, (60, 90, 190))
    pot.oval(0, -0.13, 0.022, 0.022, (250, 210, 60))
    s.steam(0.33, y - 0.14, rise=0.2)
    s.who.hands((0.0, y - 0.08), (-0.045, y - 0.245))


def slice_bread(s: Stage) -> None:
    s.who.body()
    c, y = s.c, s.table()
    c.box(-0.04, y - 0.025, 0.44, y + 0.002, BOARD)
    finished = int(s.progress * 2.99)
    for i in range(3):
        if i <= finished:
            x = -0.02 + 0.05 * i
            c.round_box(x, y - 0.145, x + 0.045, y - 0.022, (250, 226, 170), r=0.02)
            c.box(x + 0.006, y - 0.12, x + 0.014, y - 0.03, (190, 112, 44), ink=None)
    c.round_box(0.16, y - 0.175, 0.43, y - 0.022, (206, 130, 56), r=0.07)
    c.oval(0.18, y - 0.098, 0.045, 0.074, (252, 230, 178))
    for x in (0.26, 0.32, 0.38):
        c.stroke(((x - 0.015, y - 0.165), (x + 0.015, y - 0.12)), (146, 82, 26), 0.014)
    saw = 0.05 * s.wave(0.9)
    hand = (0.11 + saw * 0.6, y - 0.25 + 0.05 * abs(s.wave(1.8)))
    s.who.hand(-1, (0.3, y - 0.175))
    knife(c.at(*hand, turn=58, scale=1.1))
    s.who.hand(1, hand)


def crack_egg(s: Stage) -> None:
    s.who.body(x=-0.13)
    c, y = s.c, s.table()
    open_by = 0.03 + 0.03 * max(0.0, s.wave(2.2))
    ex, ey = 0.18, y - 0.26
    hands = (ex - 0.1 - open_by, ey + 0.02), (ex + 0.12 + open_by, ey + 0.02)
    s.who.arms(*hands)
    c.half(ex, y - 0.12, 0.15, 0.12, (70, 170, 190))
    c.oval(ex, y - 0.12, 0.15, 0.03, (240, 250, 250))
    c.oval(ex + 0.03, y - 0.118, 0.05, 0.017, (255, 190, 20), ink=None)
    for i in range(2):
        c.oval(0.0 + 0.055 * i - 0.05, y - 0.035, 0.03, 0.038, (240, 206, 170))
    fall = s.ramp(1.1)
    c.oval(ex, ey + 0.03 + 0.06 * fall, 0.035, 0.05, (236, 244, 250), ink=(190, 206, 220))
    c.oval(ex, ey + 0.04 + 0.08 * fall, 0.032, 0.032, (255, 184, 10))
    for side in (-1, 1):
        h = c.at(ex + side * (0.045 + open_by), ey, turn=side * 40)
        h.poly(
            (
                (-0.075, 0.01),
                (-0.06, -0.075),
                (0.0, -0.11),
                (0.06, -0.075),
                (0.075, 0.01),
                (0.045, -0.02),
                (0.02, 0.015),
                (-0.02, -0.02),
                (-0.045, 0.015),
            ),
            (250, 222, 190),
        )
    s.who.fists(*hands)


def stir_pot(s: Stage) -> None:
    s.who.body()
    c, y = s.c, s.counter(front=(226, 228, 234), lower=0.06)
    x = 0.17
    for i in range(5):
        flame = 0.035 + 0.012 * s.wave(0.35, shift=i * 0.3)
        fx = x - 0.1 + 0.05 * i
        c.poly(
            ((fx - 0.02, y + 0.005), (fx, y - flame), (fx + 0.02, y + 0.005)),
            (60, 140, 255) if i % 2 else (255, 150, 30),
            ink=None,
        )
    top = y - 0.16
    c.oval(x, top, 0.17, 0.038, (90, 94, 108))
    c.oval(x, top + 0.004, 0.15, 0.028, (232, 110, 40), ink=None)
    angle = 2 * math.pi * s.ramp(1.6)
    hx, hy = x + 0.06 * math.cos(angle), top - 0.19 + 0.015 * math.sin(angle)
    s.steam(x - 0.09, top - 0.04, rise=0.13, num=2)
    s.who.arms((x - 0.2, top + 0.06), (hx, hy))
    STIRRERS[s.tool or ""](c.at(hx, hy, turn=10 * math.cos(angle)))
    c.poly(
        (
            (x - 0.17, top + 0.004),
            (x - 0.1, top + 0.032),
            (x, top + 0.04),
            (x + 0.1, top + 0.032),
            (x + 0.17, top + 0.004),
            (x + 0.16, y - 0.02),
            (x - 0.16, y - 0.02),
        ),
        (62, 66, 80),
    )
    c.box(x - 0.14, top + 0.07, x - 0.11, y - 0.05, (130, 134, 150), ink=None)
    for side in (-1, 1):
        c.round_box(
            x + side * 0.19 - 0.025, top + 0.045, x + side * 0.19 + 0.025, top + 0.08, (30, 30, 40), r=0.012
        )
    s.who.fists((x - 0.2, top + 0.06), (hx, hy))


def roll_dough(s: Stage) -> None:
    s.who.body(x=-0.02)
    c, y = s.c, s.table(x0=-0.25, x1=0.43, deep=0.16)
    cy = y - 0.08
    wide = 0.19 + 0.04 * s.progress
    c.oval(0.08, cy + 0.015, wide + 0.03, 0.075, (250, 244, 230), ink=None)
    c.oval(0.08, cy + 0.01, wide, 0.06, (246, 220, 164))
    x = 0.07 + 0.05 * s.wave(1.2)
    yy = cy - 0.035 + 0.015 * s.wave(1.2)
    s.who.arms((x - 0.21, yy), (x + 0.21, yy))
    c.stroke(((x - 0.22, yy), (x + 0.22, yy)), (176, 104, 50), 0.034, ink=INK)
    c.round_box(x - 0.16, yy - 0.045, x + 0.16, yy + 0.045, (214, 144, 78), r=0.02)
    c.box(x - 0.14, yy - 0.025, x + 0.14, yy - 0.01, (240, 186, 126), ink=None)
    s.who.fists((x - 0.21, yy), (x + 0.21, yy))


def use_oven(s: Stage) -> None:
    slide = 0.5 + 0.5 * s.wave(3.0)
    s.who.body(x=-0.2, lean=0.05, drop=0.03, legs="kneel")
    c, x0, y0 = s.c, 0.06, 0.4
    c.box(x0, y0, 0.44, FEET_Y + 0.02, (236, 238, 244))
    c.box(x0, y0, 0.44, y0 + 0.075, (80, 84, 98))
    for i in range(4):
        c.oval(x0 + 0.065 + 0.083 * i, y0 + 0.038, 0.023, 0.023, (250, 250, 250))
    c.box(x0 + 0.03, y0 + 0.11, 0.41, FEET_Y - 0.1, (50, 30, 30))
    c.box(x0 + 0.045, y0 + 0.125, 0.395, FEET_Y - 0.12, (255, 140, 40), ink=None)
    c.box(x0 + 0.07, y0 + 0.15, 0.37, FEET_Y - 0.16, (255, 190, 70), ink=None)
    c.poly(
        ((x0 + 0.03, FEET_Y - 0.1), (0.41, FEET_Y - 0.1), (0.44, FEET_Y - 0.005), (x0 - 0.0, FEET_Y - 0.005)),
        (110, 114, 128),
    )
    x, y = 0.13 + 0.09 * slide, FEET_Y - 0.16
    c.box(x - 0.11, y, x + 0.11, y + 0.022, (60, 62, 72))
    c.round_box(x - 0.09, y - 0.09, x + 0.09, y, (128, 72, 36), r=0.02)
    c.round_box(x - 0.095, y - 0.115, x + 0.095, y - 0.06, (255, 190, 214), r=0.025)
    c.oval(x, y - 0.13, 0.022, 0.022, (226, 30, 50))
    mitt = (x - 0.14, y + 0.0)
    s.who.hands((x - 0.16, y - 0.02), mitt)
    c.round_box(mitt[0] - 0.045, mitt[1] - 0.04, mitt[0] + 0.04, mitt[1] + 0.04, (226, 60, 70), r=0.03)


def chop_carrots(s: Stage) -> None:
    s.who.body()
    c, y = s.c, s.table()
    c.box(-0.05, y - 0.025, 0.44, y + 0.002, BOARD)
    for i in range(2 + int(s.progress * 2.99)):
        x = -0.01 + 0.042 * i
        c.oval(x, y - 0.045, 0.03, 0.03, (255, 132, 20))
        c.oval(x, y - 0.045, 0.013, 0.013, (255, 190, 100), ink=None)
    for row, (x, dy) in enumerate(((0.17, -0.125), (0.2, -0.055))):
        for turn in (-30, -5, 22):
            leaf = c.at(0.38, y + dy, turn=turn + 80)
            leaf.oval(0.0, -0.05, 0.016, 0.05, (50, 160, 60))
        c.poly(
            (
                (x, y + dy),
                (x + 0.02, y + dy - 0.026),
                (0.37, y + dy - 0.042),
                (0.395, y + dy),
                (0.37, y + dy + 0.035),
                (x + 0.02, y + dy + 0.022),
            ),
            (255, 126, 14) if row else (245, 112, 8),
        )
        for k in (0.26, 0.32):
            c.stroke(((k, y + dy - 0.025), (k + 0.006, y + dy)), (206, 84, 0), 0.009)
    lift = abs(s.wave(0.8))
    hand = (0.02, y - 0.18 - 0.07 * lift)
    s.who.hand(-1, (0.3, y - 0.16))
    knife(c.at(*hand, turn=24 - 16 * lift, scale=1.15))
    s.who.hand(1, hand)


def peel_apple(s: Stage) -> None:
    s.who.body(x=-0.04)
    c = s.c
    x, y, r = 0.05, s.who.chest_y + 0.07, 0.135
    hand = (x + 0.2, y - 0.05 + 0.03 * s.wave(1.1))
    s.who.arms((x - 0.11, y + 0.09), hand)
    c.stroke(((x, y - r + 0.02), (x + 0.015, y - r - 0.05)), (110, 70, 40), 0.018)
    c.at(x + 0.06, y - r - 0.03, turn=-25).oval(0, 0, 0.055, 0.024, (90, 180, 60))
    c.oval(x - 0.045, y, r * 0.8, r, (220, 34, 44))
    c.oval(x + 0.045, y, r * 0.8, r, (220, 34, 44))
    c.oval(x - 0.02, y, r * 0.8, r * 0.93, (220, 34, 44), ink=None)
    bare = 0.45 + 0.5 * s.progress
    c.oval(x + 0.05, y - 0.01, r * 0.62, r * 0.9 * min(1.0, bare), (255, 244, 200), ink=None)
    sway = 0.02 * s.wave(1.1)
    points = [
        (x + 0.12 - 0.012 * i + (0.045 + sway) * math.sin(i * 1.25 + s.t_s * 2.2), y + 0.06 + 0.019 * i)
        for i in range(13)
    ]
    c.stroke(points, (230, 50, 60), 0.026, ink=(140, 10, 30))
    turn = -28 + 12 * s.wave(1.1)
    knife(c.at(*hand, turn=180 + turn, scale=0.8))
    s.who.fists((x - 0.11, y + 0.09), hand)


def lay_plates(s: Stage) -> None:
    s.who.body(x=-0.06)
    c, y = s.c, s.table(x0=-0.27, x1=0.46, top=(180, 70, 70), deep=0.17)
    placed = 1 + int(s.progress * 2.99)
    spots = ((-0.12, y - 0.05), (0.33, y - 0.05), (0.33, y - 0.125))
    for i, (x, py) in enumerate(spots):
        if i < placed and i < 3:
            c.oval(x, py, 0.088, 0.034, WHITE)
            c.oval(x, py, 0.055, 0.02, (196, 222, 250), ink=None)
            c.stroke(((x - 0.115, py - 0.02), (x - 0.115, py + 0.03)), (220, 226, 236), 0.014)
            c.stroke(((x + 0.11, py - 0.02), (x + 0.11, py + 0.03)), (220, 226, 236), 0.014)
    dip = 0.03 * s.wave(1.6)
    x, py = 0.09, y - 0.13 + dip
    s.who.arms((x - 0.13, py - 0.02), (x + 0.13, py - 0.02))
    for i in range(4):
        c.oval(x, py - 0.022 * i, 0.13, 0.042, WHITE if i % 2 else (226, 236, 250))
    c.oval(x, py - 0.066, 0.08, 0.022, (120, 170, 240))
    s.who.fists((x - 0.13, py - 0.02), (x + 0.13, py - 0.02))


KITCHEN_ACTIONS: tuple[Draw, ...] = (
    fill_kettle,
    pour_tea,
    slice_bread,
    crack_egg,
    stir_pot,
    roll_dough,
    use_oven,
    chop_carrots,
    peel_apple,
    lay_plates,
)
