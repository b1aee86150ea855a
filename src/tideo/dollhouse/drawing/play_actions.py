"""Actions of parties, sport and pets."""

from __future__ import annotations

import math

from tideo.dollhouse.drawing.canvas import INK, WHITE, Color, bezier
from tideo.dollhouse.drawing.people import FEET_Y
from tideo.dollhouse.drawing.stage import Draw, Stage


def balloon(s: Stage) -> None:
    s.who.body(mouth="blow")
    c = s.c
    mx, my = s.who.mouth
    size = 0.07 + 0.075 * (0.25 * s.progress + 0.75 * s.ramp(3.2))
    x, y = mx + 0.08 + size * 0.95, my + 0.06
    c.poly(((x - size * 0.8, y), (mx + 0.045, my - 0.01), (mx + 0.045, my + 0.04)), (236, 40, 120))
    c.oval(x, y, size * 1.05, size, (255, 60, 140))
    c.oval(x + size * 0.3, y - size * 0.45, size * 0.22, size * 0.14, (255, 190, 220), ink=None)
    s.who.hands((mx + 0.01, my + 0.075), (mx + 0.075, my + 0.05))
    for i, color in enumerate(((70, 150, 250), (255, 210, 60))):
        bx, by = 0.2 + 0.15 * i, FEET_Y - 0.11 + 0.012 * s.wave(2.0, shift=i / 2)
        c.oval(bx, by, 0.07, 0.08, color)
        c.oval(bx - 0.02, by - 0.03, 0.018, 0.022, WHITE, ink=None)


def gift(s: Stage) -> None:
    s.who.body()
    c, y = s.c, s.table()
    x0, x1, top = 0.02, 0.34, y - 0.21
    middle = (x0 + x1) / 2
    pull = 0.02 * s.wave(1.2)
    hands = (middle - 0.16 - 1.5 * pull, top + 0.02), (middle + 0.16 + 1.5 * pull, top + 0.02)
    s.who.arms(*hands)
    c.box(x0, top, x1, y, (80, 70, 200))
    for i in range(3):
        for j in range(2):
            c.oval(x0 + 0.045 + 0.115 * i, top + 0.09 + 0.075 * j, 0.015, 0.015, (255, 230, 90), ink=None)
    c.box(x0 - 0.015, top - 0.02, x1 + 0.015, top + 0.045, (98, 88, 226))
    c.box(middle - 0.026, top - 0.02, middle + 0.026, y, (255, 70, 90))
    for side in (-1, 1):
        c.poly(
            (
                (middle, top - 0.025),
                (middle + side * (0.06 + pull), top - 0.125),
                (middle + side * (0.14 + pull), top - 0.085),
                (middle + side * (0.1 + pull), top - 0.025),
            ),
            (255, 70, 90),
        )
        c.stroke(
            ((middle, top - 0.025), (middle + side * (0.16 + 1.5 * pull), top + 0.02)), (230, 40, 70), 0.022
        )
    c.oval(middle, top - 0.035, 0.03, 0.028, (230, 40, 70))
    s.who.fists(*hands)


def _flame(s: Stage, x: float, y: float, size: float, shift: float) -> None:
    flicker = 0.15 * s.wave(0.4, shift=shift)
    tip = (x + size * 0.25 * s.wave(0.55, shift=shift), y - size * (2.2 + flicker))
    s.c.poly(
        (
            tip,
            (x + size * 0.75, y - size * 0.5),
            (x + size * 0.4, y + size * 0.1),
            (x - size * 0.4, y + size * 0.1),
            (x - size * 0.75, y - size * 0.5),
        ),
        (255, 150, 30),
        ink=None,
    )
    s.c.oval(x, y - size * 0.4, size * 0.4, size * 0.6, (255, 244, 140), ink=None)


def candles(s: Stage) -> None:
    s.who.body()
    c, y = s.c, s.table(top=(120, 60, 60))
    lit = 1 + int(s.progress * 2.99)
    for i, (x, color) in enumerate(((0.14, (240, 80, 110)), (0.25, (250, 244, 220)), (0.36, (90, 130, 230)))):
        high = 0.17 + 0.03 * (i == 1)
        c.box(x - 0.05, y - 0.03, x + 0.05, y, (220, 180, 70))
        c.box(x - 0.032, y - high - 0.03, x + 0.032, y - 0.03, color)
        c.stroke(((x, y - high - 0.03), (x, y - high - 0.055)), INK, 0.009)
        if i < lit:
            c.oval(x, y - high - 0.09, 0.062, 0.072, (255, 240, 170), ink=None)
            _flame(s, x, y - high - 0.055, 0.034, i * 0.3)
    target = 0.14 + 0.11 * min(2, lit - 1)
    tip = (target - 0.05, y - 0.27 + 0.012 * s.wave(1.3))
    c.stroke((tip, (tip[0] - 0.11, tip[1] + 0.06)), (240, 206, 150), 0.018, ink=INK)
    _flame(s, tip[0], tip[1], 0.028, 0.5)
    s.who.hands((-0.04, y - 0.04), (tip[0] - 0.11, tip[1] + 0.06))
    c.box(-0.075, y - 0.09, 0.015, y - 0.02, (236, 60, 50))
    c.box(-0.055, y - 0.07, -0.005, y - 0.04, (255, 240, 200), ink=None)


def weights(s: Stage) -> None:
    lift = 0.5 + 0.5 * s.wave(2.2)
    mid = 0.05
    s.who.body(x=mid, drop=0.02 * (1 - lift))
    c = s.c
    low = s.who.hip_y + 0.02
    y = low + (s.who.shoulder_y + 0.035 - low) * lift
    c.stroke(((mid - 0.36, y), (mid + 0.36, y)), (170, 178, 192), 0.024, ink=INK)
    for side in (-1, 1):
        for k, (size, color) in enumerate(
            ((0.14, (210, 40, 50)), (0.11, (40, 60, 140)), (0.07, (240, 190, 40)))
        ):
            x = mid + side * (0.23 + 0.05 * k)
            c.round_box(x - 0.024, y - size, x + 0.024, y + size, color, r=0.014)
    s.who.hands((mid - 0.14, y), (mid + 0.14, y))


def stretch(s: Stage) -> None:
    sway = s.wave(2.8)
    c = s.c
    c.poly(
        ((-0.36, FEET_Y - 0.02), (0.36, FEET_Y - 0.02), (0.44, FEET_Y + 0.055), (-0.44, FEET_Y + 0.055)),
        (240, 70, 160),
    )
    c.stroke(((-0.36, FEET_Y + 0.018), (0.38, FEET_Y + 0.018)), (255, 170, 210), 0.012)
    s.who.body(x=0.0, lean=0.05 * sway)
    y = s.who.shoulder_y
    s.who.hands((-0.3 + 0.03 * sway, y - 0.07 - 0.12 * sway), (0.3 + 0.03 * sway, y - 0.07 + 0.12 * sway))
    for side in (-1, 1):
        x, yy = side * 0.37, y - 0.02
        c.curve((x, yy - 0.07), (x + side * 0.05, yy), (x, yy + 0.07), (40, 90, 220), 0.016)


def rope(s: Stage) -> None:
    u = s.ramp(0.9)
    hop = abs(math.sin(math.pi * u))
    s.who.place(0.0)
    hands_y = s.who.hip_y - 0.05
    swing = math.cos(2 * math.pi * u)  # 1 over the head, -1 under the feet
    jump = 0.09 * hop
    far = swing > 0
    reach = hands_y - s.who.head[1] + s.who.r + 0.09 if far else FEET_Y + 0.03 - hands_y
    middle_y = hands_y - math.copysign(math.sqrt(abs(swing)), swing) * reach
    path = bezier((-0.25, hands_y - jump), (0.0, 2 * middle_y - hands_y), (0.25, hands_y - jump), num=12)
    wide = [(x * (1.0 + 0.45 * math.sin(math.pi * i / 12)), y) for i, (x, y) in enumerate(path)]
    if far:
        s.c.stroke(wide, (255, 200, 40), 0.024, ink=INK)
    s.who.body(legs="jump", drop=-jump)
    s.c.oval(0.0, FEET_Y + 0.02, 0.1 - 0.4 * jump, 0.012, (120, 110, 110), ink=None)
    if not far:
        s.c.stroke(wide, (255, 200, 40), 0.024, ink=INK)
    for side in (-1, 1):
        x = side * 0.25
        s.c.stroke(((x, hands_y - jump - 0.03), (x, hands_y - jump + 0.06)), (226, 50, 60), 0.036, ink=INK)
    s.who.hands((-0.25, hands_y - jump), (0.25, hands_y - jump))


def feed_pet(s: Stage) -> None:
    s.who.body(legs="kneel", drop=0.1, x=-0.22, lean=0.03)
    c, base = s.c, FEET_Y + 0.01
    x, y = 0.28, base - 0.11
    fur: Color = (240, 236, 232)
    nibble = 0.008 * s.wave(0.35)
    c.oval(x + 0.13, y + 0.03, 0.045, 0.045, WHITE)
    c.oval(x + 0.03, y, 0.13, 0.11, fur)
    hx, hy = x - 0.07, y - 0.12 + nibble
    for dx, turn in ((0.0, -6), (0.055, 14)):
        ear = c.at(hx + dx, hy - 0.06, turn=turn + 4 * s.wave(1.6))
        ear.oval(0, -0.085, 0.032, 0.1, fur)
        ear.oval(0, -0.085, 0.014, 0.07, (255, 170, 180), ink=None)
    c.oval(hx, hy, 0.09, 0.08, fur)
    c.oval(hx - 0.03, hy - 0.02, 0.014, 0.018, INK, ink=None)
    c.oval(hx - 0.085, hy + 0.01, 0.018, 0.014, (240, 110, 130))
    for dx in (-0.03, 0.09):
        c.oval(x + dx, base - 0.012, 0.05, 0.02, fur)
    hand = (0.0, hy + 0.03)
    f = c.at(hand[0] + 0.03, hand[1], turn=-4 + 4 * s.wave(0.7))
    for turn in (-70, -90, -112):
        f.at(-0.03, 0, turn=turn).oval(0, -0.055, 0.018, 0.055, (50, 160, 60))
    f.poly(((-0.04, -0.034), (0.09, -0.014), (0.12, 0.0), (0.09, 0.016), (-0.04, 0.036)), (255, 130, 20))
    s.who.hands((-0.12, base - 0.13), hand)
    c.half(-0.02, base - 0.045, 0.08, 0.05, (80, 140, 230))
    c.oval(-0.02, base - 0.045, 0.08, 0.018, (120, 200, 90))


PLAY_ACTIONS: tuple[Draw, ...] = (balloon, gift, candles, weights, stretch, rope, feed_pet)
