"""The argument of every action's drawing: the person, the clock, and furniture that many actions share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from tideo.dollhouse.drawing.canvas import WHITE, Canvas, Color, mix, shade
from tideo.dollhouse.drawing.people import FEET_Y, Figure

WOOD: Color = (196, 140, 84)
STEEL: Color = (184, 194, 204)
WATER: Color = (92, 172, 240)


@dataclass(frozen=True)
class Stage:
    """One moment of an action. `t_s` drives its cyclic motion, `progress` (0..1) its result."""

    c: Canvas
    who: Figure
    t_s: float
    progress: float
    tool: str | None

    def wave(self, period_s: float, *, shift: float = 0.0) -> float:
        """A sine of the clock, from -1 to 1."""
        return math.sin(2 * math.pi * (self.t_s / period_s + shift))

    def ramp(self, period_s: float, *, shift: float = 0.0) -> float:
        """A sawtooth of the clock, from 0 to 1."""
        return (self.t_s / period_s + shift) % 1.0

    def table(self, *, x0: float = -0.1, x1: float = 0.45, top: Color = WOOD, deep: float = 0.0) -> float:
        """A table in front of the person; returns the height of its top. `deep` is how much of the top is visible."""
        c, y = self.c, self.who.table_y
        for x in (x0 + 0.04, x1 - 0.06):
            c.box(x, y + 0.02, x + 0.025, FEET_Y + 0.015, shade(top, 0.7))
        if deep:
            c.poly(((x0 + 0.05, y - deep), (x1 - 0.05, y - deep), (x1, y), (x0, y)), shade(top, 1.25))
        c.box(x0, y, x1, y + 0.035, top)
        return y

    def counter(
        self, *, x0: float = -0.1, x1: float = 0.45, front: Color = (236, 224, 204), lower: float = 0.0
    ) -> float:
        """A closed cupboard with a worktop; returns the height of its top."""
        c, y = self.c, self.who.table_y + lower
        c.box(x0 + 0.01, y, x1 - 0.01, FEET_Y + 0.02, front)
        middle = (x0 + x1) / 2
        for side in (-1, 1):
            edge = middle + side * (x1 - x0) * 0.45
            c.box(
                min(middle + side * 0.015, edge),
                y + 0.06,
                max(middle + side * 0.015, edge),
                FEET_Y - 0.01,
                shade(front, 0.93),
            )
            c.oval(middle + side * 0.04, y + 0.1, 0.011, 0.011, (120, 100, 80), ink=None)
        c.box(x0, y - 0.005, x1, y + 0.035, (120, 124, 134))
        return y

    def steam(self, x: float, y: float, *, rise: float = 0.16, num: int = 3) -> None:
        """White clouds that rise from (x, y)."""
        for i in range(num):
            u = self.ramp(1.8, shift=i / num)
            r = 0.018 + 0.02 * u
            self.c.oval(
                x + 0.03 * math.sin(5 * u + 2 * i) + 0.025 * (i - 1),
                y - rise * u,
                r,
                r,
                mix(WHITE, (214, 222, 232), u),
                ink=None,
            )

    def tap(self, x: float, y: float, *, flow_to: float) -> None:
        """A tap whose spout ends at (x, y), with water running down to `flow_to`."""
        c = self.c
        wobble = 0.003 * self.wave(0.3)
        c.box(x - 0.016 + wobble, y, x + 0.016 + wobble, flow_to, WATER, ink=None)
        c.box(x - 0.005, y, x + 0.002, flow_to, (190, 226, 255), ink=None)
        c.stroke(
            (
                (x, y),
                (x, y - 0.03),
                (x + 0.03, y - 0.06),
                (x + 0.11, y - 0.06),
                (x + 0.14, y - 0.03),
                (x + 0.14, flow_to),
            ),
            STEEL,
            0.036,
            ink=(90, 96, 110),
        )
        c.oval(x + 0.09, y - 0.085, 0.04, 0.018, (220, 70, 60))


Draw = Callable[[Stage], None]
