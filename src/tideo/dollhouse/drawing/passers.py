"""Distractors, which pass in the foreground; each is drawn around its middle on the ground and heads right."""

from __future__ import annotations

import math
from collections.abc import Callable

from tideo.dollhouse.drawing.canvas import INK, WHITE, Canvas, Color

GROUND_Y = 0.96
_REACH = 0.29  # the largest distance of a passer's middle from the centre: all of it stays in the picture


def _cat(c: Canvas, t: float) -> None:
    fur: Color = (250, 160, 60)
    c.curve((-0.11, -0.07), (-0.2, -0.1 - 0.03 * math.sin(4 * t)), (-0.15, -0.19), fur, 0.03, ink=INK)
    for i, x in enumerate((-0.09, -0.05, 0.05, 0.09)):
        step = 0.025 * math.sin(8 * t + i * 1.7)
        c.stroke(((x, -0.05), (x + step, -0.008)), fur, 0.026, ink=INK)
    c.oval(0, -0.085, 0.125, 0.052, fur)
    for x in (-0.06, -0.02, 0.02):
        c.stroke(((x, -0.13), (x + 0.005, -0.085)), (200, 104, 20), 0.014)
    for x in (0.085, 0.16):
        c.poly(((x - 0.025, -0.16), (x + (-0.012 if x < 0.1 else 0.012), -0.225), (x + 0.027, -0.16)), fur)
    c.oval(0.125, -0.13, 0.066, 0.058, fur)
    for x in (0.108, 0.152):
        c.oval(x, -0.138, 0.011, 0.015, (40, 120, 50), ink=None)
    c.oval(0.135, -0.115, 0.01, 0.008, (240, 90, 120), ink=None)


def _dog(c: Canvas, t: float) -> None:
    fur: Color = (146, 92, 52)
    c.curve((-0.12, -0.12), (-0.17, -0.15), (-0.19 + 0.03 * math.sin(14 * t), -0.22), fur, 0.028, ink=INK)
    for i, x in enumerate((-0.1, -0.06, 0.06, 0.1)):
        step = 0.045 * math.sin(12 * t + i * 1.7)
        c.stroke(((x, -0.08), (x + step, -0.01)), fur, 0.034, ink=INK)
    c.round_box(-0.135, -0.165, 0.12, -0.06, fur, r=0.05)
    c.oval(-0.05, -0.12, 0.045, 0.035, (240, 226, 206), ink=None)
    c.round_box(0.06, -0.245, 0.18, -0.13, fur, r=0.045)
    c.round_box(0.12, -0.2, 0.21, -0.135, (240, 226, 206), r=0.028)
    c.oval(0.205, -0.19, 0.02, 0.017, INK)
    c.oval(0.075, -0.185, 0.032, 0.06, (94, 56, 32))
    c.oval(0.135, -0.21, 0.012, 0.015, INK, ink=None)
    c.box(0.07, -0.14, 0.13, -0.12, (226, 40, 50))
    c.oval(0.165, -0.13, 0.017, 0.026, (250, 110, 130), ink=None)


def _ball(c: Canvas, t: float) -> None:
    r, hop = 0.092, 0.03 * abs(math.sin(5 * t))
    c.oval(0, -0.005, 0.08, 0.012, (110, 100, 100), ink=None)
    c.oval(0, -r - hop, r, r, WHITE)
    for i in range(3):
        a = 6 * t + i * 2 * math.pi / 3
        c.poly(
            [(0.0, -r - hop)]
            + [(0.088 * math.cos(a + k * 0.21), -r - hop + 0.088 * math.sin(a + k * 0.21)) for k in range(6)],
            ((236, 40, 50), (30, 110, 236), (255, 206, 30))[i],
            ink=None,
        )
    c.ring(0, -r - hop, r, r, INK, 0.008)


def _butterfly(c: Canvas, t: float) -> None:
    y = -0.12 + 0.03 * math.sin(5 * t)
    flap = 0.55 + 0.45 * math.sin(15 * t)
    for side in (-1, 1):
        wide = 0.115 * (0.4 + 0.6 * flap)
        c.at(side * wide * 0.8, y - 0.035, turn=side * -24).oval(0, 0, wide, 0.066, (60, 120, 250))
        c.at(side * wide * 0.65, y + 0.045, turn=side * 24).oval(0, 0, wide * 0.7, 0.045, (150, 80, 240))
        c.oval(side * wide * 0.95, y - 0.04, wide * 0.35, 0.025, (255, 220, 60), ink=None)
        c.stroke(((0, y - 0.06), (side * 0.035, y - 0.12)), INK, 0.008)
    c.stroke(((0, y - 0.055), (0, y + 0.07)), INK, 0.026)


def _robot(c: Canvas, t: float) -> None:
    c.oval(0, -0.015, 0.16, 0.02, (100, 96, 100), ink=None)
    c.round_box(-0.155, -0.085, 0.155, -0.015, (60, 64, 78), r=0.03)
    c.oval(0, -0.085, 0.155, 0.042, (226, 230, 238))
    c.oval(0, -0.09, 0.06, 0.016, (140, 148, 162), ink=None)
    blink = math.sin(8 * t) > 0
    c.oval(0.09, -0.09, 0.018, 0.011, (60, 240, 110) if blink else (20, 130, 60))
    for x in (0.075, 0.115):
        c.oval(x, -0.048, 0.014, 0.014, (90, 220, 255), ink=None)
    for i in range(3):
        a = 10 * t + i * 2.1
        c.stroke(
            ((0.15, -0.012), (0.15 + 0.03 * math.cos(a), -0.012 + 0.012 * math.sin(a))), (255, 200, 60), 0.01
        )


def _train(c: Canvas, t: float) -> None:
    for i in range(3):
        u = (t * 1.1 + i / 3) % 1.0
        c.oval(
            0.115 - 0.14 * u,
            -0.2 - 0.06 * u,
            0.014 + 0.018 * u,
            0.014 + 0.014 * u,
            (240, 240, 244),
            ink=(170, 170, 180),
        )
    c.box(-0.185, -0.11, -0.06, -0.03, (60, 140, 236))
    for x, color in ((-0.155, (255, 210, 60)), (-0.12, (240, 80, 80)), (-0.085, (90, 200, 100))):
        c.oval(x, -0.118, 0.024, 0.024, color)
    c.stroke(((-0.065, -0.045), (-0.02, -0.045)), INK, 0.014)
    c.round_box(-0.02, -0.11, 0.165, -0.03, (40, 160, 80), r=0.02)
    c.box(-0.03, -0.18, 0.055, -0.03, (226, 50, 50))
    c.box(-0.012, -0.16, 0.036, -0.115, (190, 232, 255))
    c.box(-0.042, -0.195, 0.066, -0.175, (60, 60, 80))
    c.box(0.1, -0.17, 0.13, -0.1, (60, 60, 80))
    c.oval(0.165, -0.07, 0.018, 0.03, (255, 220, 70))
    for x in (-0.155, -0.09, 0.0, 0.065, 0.13):
        c.oval(x, -0.025, 0.029, 0.029, (50, 50, 60))
        c.oval(
            x + 0.012 * math.cos(10 * t),
            -0.025 + 0.012 * math.sin(10 * t),
            0.009,
            0.009,
            (255, 210, 70),
            ink=None,
        )


PASSERS: dict[str, Callable[[Canvas, float], None]] = {
    "cat": _cat,
    "dog": _dog,
    "ball": _ball,
    "butterfly": _butterfly,
    "robot": _robot,
    "train": _train,
}


def draw_passer(canvas: Canvas, name: str, *, progress: float, t_s: float, from_left: bool) -> None:
    """The distractor `name` at `progress` (0..1) of its way across the foreground."""
    along = -_REACH + 2 * _REACH * min(1.0, max(0.0, progress))
    PASSERS[name](canvas.at(along if from_left else -along, GROUND_Y, scale=0.9, flip=not from_left), t_s)
