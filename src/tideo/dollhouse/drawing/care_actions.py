"""Actions of care for body and home: washing, brushing, sweeping."""

from __future__ import annotations

import math

from tideo.dollhouse.drawing.canvas import INK, WHITE, bezier
from tideo.dollhouse.drawing.people import FEET_Y
from tideo.dollhouse.drawing.stage import STEEL, Draw, Stage


def wash_hands(s: Stage) -> None:
    s.who.body(x=-0.13, lean=0.03)
    c, y = s.c, s.who.table_y
    c.poly(((0.02, y - 0.04), (0.36, y - 0.04), (0.28, y + 0.11), (0.1, y + 0.11)), WHITE)
    c.oval(0.19, y - 0.04, 0.18, 0.04, (226, 236, 244))
    c.poly(
        ((0.14, y + 0.11), (0.24, y + 0.11), (0.26, FEET_Y + 0.01), (0.12, FEET_Y + 0.01)), (232, 236, 240)
    )
    s.tap(0.16, y - 0.23, flow_to=y - 0.04)
    rub = 0.022 * s.wave(0.5)
    s.who.hands((0.13 + rub, y - 0.11), (0.18 - rub, y - 0.085))
    for i in range(9):
        u = s.ramp(1.6, shift=i * 0.29)
        r = 0.014 + 0.012 * ((i * 0.7) % 1)
        c.oval(0.06 + 0.026 * i, y - 0.08 - 0.08 * u * (i % 3), r, r, (236, 246, 255), ink=(140, 190, 230))


def sweep(s: Stage) -> None:
    x = -0.12 + 0.02 * s.wave(1.2)
    s.who.body(x=x, lean=0.03)
    swing = s.wave(1.2)
    bottom = (0.2 + 0.1 * swing, FEET_Y - 0.1)
    top = (0.02 + 0.02 * swing, 0.36)
    for i in range(5):
        u = s.ramp(1.1, shift=i * 0.23)
        s.c.oval(
            bottom[0] + 0.08 + 0.03 * i,
            FEET_Y - 0.02 - 0.05 * u * (i % 2),
            0.02 + 0.012 * u,
            0.014 + 0.012 * u,
            (196, 184, 166),
            ink=None,
        )
    turn = math.degrees(math.atan2(-(bottom[0] - top[0]), bottom[1] - top[1]))
    s.c.stroke((top, bottom), (226, 60, 60), 0.03, ink=INK)
    f = s.c.at(*bottom, turn=turn)
    f.poly(((-0.05, -0.03), (0.05, -0.03), (0.13, 0.12), (-0.13, 0.12)), (240, 200, 96))
    for i in range(-2, 3):
        f.stroke(((i * 0.02, 0.0), (i * 0.05, 0.11)), (196, 146, 50), 0.01)
    f.box(-0.055, -0.04, 0.055, -0.005, (190, 40, 40))
    along = 0.22, 0.5
    left, right = ((top[0] + (bottom[0] - top[0]) * u, top[1] + (bottom[1] - top[1]) * u) for u in along)
    if s.who.shoulder_y > 0.45:
        left, right = (
            (top[0] + (bottom[0] - top[0]) * u, top[1] + (bottom[1] - top[1]) * u) for u in (0.5, 0.7)
        )
    s.who.hands(left, right)


def wash_dishes(s: Stage) -> None:
    s.who.body(lean=0.02)
    c, y = s.c, s.counter(x0=-0.12, front=(150, 190, 206))
    c.box(-0.06, y - 0.02, 0.3, y + 0.07, STEEL)
    for i in range(3):
        c.oval(0.34 + 0.035 * i, y - 0.09, 0.022, 0.085, (250, 252, 255))
    c.box(0.3, y - 0.03, 0.45, y - 0.0, (220, 80, 80))
    turn = 8 * s.wave(0.9)
    x, py = 0.1, y - 0.16
    s.who.arm(-1, (x - 0.13, py + 0.03))
    c.oval(x, py, 0.135, 0.135, (252, 252, 255))
    c.ring(x, py, 0.085, 0.085, (80, 140, 220), 0.014)
    a = s.t_s * 5
    sx, sy = x + 0.05 * math.cos(a), py + 0.05 * math.sin(a)
    c.at(sx, sy, turn=turn).round_box(-0.05, -0.035, 0.05, 0.035, (255, 220, 50), r=0.015)
    s.who.fist((x - 0.13, py + 0.03))
    s.who.hand(1, (sx + 0.02, sy + 0.02))
    for i in range(11):
        r = 0.026 + 0.014 * ((i * 0.618) % 1) + 0.004 * s.wave(1.0, shift=i * 0.3)
        c.oval(-0.06 + 0.036 * i, y - 0.025 - 0.018 * (i % 2), r, r, (246, 250, 255), ink=(170, 206, 236))
    for i in range(4):
        u = s.ramp(2.0, shift=i * 0.27)
        c.oval(-0.02 + 0.085 * i, y - 0.06 - 0.2 * u, 0.015, 0.015, (226, 244, 255), ink=(120, 190, 236))


def brush_teeth(s: Stage) -> None:
    s.who.body(mouth="open")
    c = s.c
    mx, my = s.who.mouth
    x = mx + 0.035 * s.wave(0.45)
    s.who.hand(-1, (-0.1, s.who.chest_y + 0.1))
    cup = c.at(-0.1, s.who.chest_y + 0.09)
    cup.poly(((-0.06, -0.08), (0.06, -0.08), (0.05, 0.07), (-0.05, 0.07)), (120, 210, 250))
    cup.box(-0.06, -0.03, 0.058, 0.0, WHITE, ink=None)
    s.who.hand(-1, (-0.135, s.who.chest_y + 0.1))
    s.who.arm(1, (x + 0.22, my + 0.07))
    b = c.at(x, my + 0.025, turn=8, scale=1.45)
    b.round_box(-0.03, -0.014, 0.22, 0.018, (30, 160, 235), r=0.014)
    for i in range(5):
        b.box(
            -0.025 + 0.02 * i,
            -0.034,
            -0.008 + 0.02 * i,
            -0.012,
            (255, 255, 255) if i % 2 else (120, 230, 180),
        )
    s.who.fist((x + 0.22, my + 0.07))
    for i, (dx, dy, r) in enumerate(
        ((-0.03, 0.02, 0.024), (0.02, 0.036, 0.028), (-0.005, 0.045, 0.022), (0.05, 0.012, 0.02))
    ):
        grow = r + 0.004 * s.wave(0.8, shift=i * 0.2)
        c.oval(mx + dx, my + dy, grow, grow, WHITE, ink=(150, 200, 236))


def comb_hair(s: Stage) -> None:
    s.who.body()
    c = s.c
    hx, hy = s.who.head
    stroke = 0.5 + 0.5 * s.wave(1.3)
    x, y = hx + 0.02 + 0.05 * stroke, hy - 0.09 + 0.09 * stroke
    turn = math.radians(28 + 30 * stroke)
    hand = (x + 0.2 * math.cos(turn), y + 0.2 * math.sin(turn))
    s.who.arm(1, hand)
    f = c.at(x, y, turn=28 + 30 * stroke, scale=1.2)
    for i in range(9):
        f.box(-0.11 + 0.025 * i, 0.0, -0.099 + 0.025 * i, 0.075, (250, 130, 40), ink=None)
    f.round_box(-0.12, -0.035, 0.2, 0.01, (255, 146, 50), r=0.016)
    s.who.fist(hand)
    mirror = (0.17, s.who.chest_y + 0.08)
    s.who.arm(-1, (mirror[0] - 0.03, mirror[1] + 0.13))
    m = c.at(*mirror, turn=12)
    m.round_box(-0.02, 0.06, 0.02, 0.2, (200, 90, 170), r=0.015)
    m.oval(0, -0.02, 0.1, 0.12, (200, 90, 170))
    m.oval(0, -0.02, 0.078, 0.096, (200, 232, 250))
    m.stroke(((-0.04, 0.02), (0.03, -0.07)), WHITE, 0.016)
    s.who.fist((mirror[0] - 0.03, mirror[1] + 0.13))


def vacuum(s: Stage) -> None:
    push = s.wave(1.6)
    s.who.body(x=-0.18 + 0.015 * push, lean=0.03, legs="walk", phase=0.12)
    c = s.c
    nozzle = (0.14 + 0.07 * push, FEET_Y + 0.0)
    c.oval(0.14, FEET_Y + 0.02, 0.36, 0.05, (196, 90, 110), ink=(240, 200, 120))
    hand = (-0.06, s.who.chest_y + 0.07)
    vx, vy = 0.34, 0.75
    c.stroke(bezier(hand, (0.16, hand[1] - 0.2), (vx - 0.03, vy - 0.1)), (90, 94, 110), 0.034, ink=INK)
    c.stroke((hand, nozzle), (214, 220, 230), 0.03, ink=INK)
    c.poly(
        (
            (nozzle[0] - 0.07, nozzle[1] + 0.03),
            (nozzle[0] - 0.03, nozzle[1] - 0.03),
            (nozzle[0] + 0.05, nozzle[1] - 0.03),
            (nozzle[0] + 0.11, nozzle[1] + 0.03),
        ),
        (50, 54, 66),
    )
    c.round_box(vx - 0.12, vy - 0.12, vx + 0.12, vy + 0.1, (60, 170, 90), r=0.08)
    c.oval(vx + 0.01, vy - 0.03, 0.05, 0.05, (170, 240, 190))
    for x in (vx - 0.075, vx + 0.075):
        c.oval(x, vy + 0.1, 0.045, 0.045, (40, 40, 50))
        c.oval(x, vy + 0.1, 0.016, 0.016, STEEL, ink=None)
    for i in range(4):
        u = s.ramp(0.8, shift=i / 4)
        c.oval(
            nozzle[0] + 0.15 - 0.09 * u,
            nozzle[1] - 0.01 + 0.012 * (i % 2),
            0.01,
            0.01,
            (110, 90, 80),
            ink=None,
        )
    s.who.hands((hand[0] - 0.05, hand[1] - 0.03), (hand[0] + 0.02, hand[1] + 0.04))


CARE_ACTIONS: tuple[Draw, ...] = (wash_hands, sweep, wash_dishes, brush_teeth, comb_hair, vacuum)
