"""The people: a figure that stands, sits, kneels or jumps, with hands that reach to any point."""

from __future__ import annotations

import math

from tideo.dollhouse import world
from tideo.dollhouse.drawing.canvas import INK, WHITE, Canvas, Color, Point, shade
from tideo.dollhouse.drawing.palette import HAIR, LOWER, SHIRTS, SKIN

HEIGHT = {"child": 0.50, "adult": 0.70, "old": 0.63}
_HEAD_R = {"child": 0.086, "adult": 0.082, "old": 0.082}
_LIP: Color = (170, 60, 60)
FEET_Y = 0.885


class Figure:
    """One person at `x`: the joints that actions refer to, and the drawing of body, head and arms."""

    def __init__(self, canvas: Canvas, actor: world.Actor, shirt: str, *, x: float = -0.15) -> None:
        self.canvas, self.actor = canvas, actor
        self.shirt, self.skin = SHIRTS[shirt], SKIN[actor.id]
        self.hair, self.lower = HAIR[actor.hair], LOWER[actor.lower_color]
        self.height, self.r = HEIGHT[actor.age], _HEAD_R[actor.age]
        self.wide = 0.064 if actor.age == "child" else 0.078  # half the shoulders
        self.place(x)

    def place(self, x: float, *, drop: float = 0.0, lean: float = 0.0) -> None:
        """Set every joint: the person stands at `x`, lowered by `drop`, the head moved by `lean`."""
        bent = 0.028 if self.actor.age == "old" else 0.0
        self.x, self.drop = x, drop
        self.head: Point = (x + lean + bent, FEET_Y - self.height + self.r + drop)
        self.shoulder_y = self.head[1] + self.r + 0.022
        self.hip_y = FEET_Y - self.height * 0.36 + drop
        self.chest_x = x + (lean + bent) * 0.7
        self.shoulders: tuple[Point, Point] = (
            (self.chest_x - self.wide, self.shoulder_y + 0.022),
            (self.chest_x + self.wide, self.shoulder_y + 0.022),
        )
        self.mouth: Point = (self.head[0] + 0.02, self.head[1] + self.r * 0.5)
        self.table_y = FEET_Y - 0.42 * self.height
        self.chest_y = (self.shoulder_y + self.hip_y) / 2

    def body(
        self,
        *,
        x: float | None = None,
        legs: str = "stand",
        drop: float = 0.0,
        lean: float = 0.0,
        phase: float = 0.0,
        mouth: str = "smile",
    ) -> None:
        """Draw all but the arms. `legs`: stand, walk, sit, kneel, cross or jump; `phase` (0..1) of a step."""
        self.place(self.x if x is None else x, drop=drop, lean=lean)
        self._hair_behind()
        self._legs(legs, phase)
        self._torso()
        self._head(mouth)

    def _legs(self, legs: str, phase: float) -> None:
        c, x, hip, length = self.canvas, self.x, self.hip_y, FEET_Y - self.hip_y + self.drop
        bare = self.actor.lower in ("skirt", "shorts")
        wide = 0.052 if self.actor.age != "child" else 0.046
        for side in (-1, 1):
            top = (x + side * 0.036, hip)
            if legs == "walk":
                swing = side * math.sin(phase * 2 * math.pi)
                knee = (x + side * 0.03 + 0.05 * swing, hip + length * 0.5)
                foot = (x + side * 0.02 + 0.085 * swing, hip + length - 0.02 * max(0.0, swing))
            elif legs == "sit":
                knee = (x + side * 0.06 + 0.03, hip + 0.05)
                foot = (x + side * 0.066 + 0.035, min(FEET_Y, hip + 0.05 + length * 0.6))
            elif legs == "kneel":
                knee = (x + 0.075 + side * 0.035, FEET_Y - 0.03 - 0.05 * (side > 0))
                foot = (x + side * 0.055 - 0.02 + 0.07 * (side > 0), FEET_Y)
            elif legs == "cross":
                knee = (x + side * 0.13, FEET_Y - 0.075)
                foot = (x - side * 0.05, FEET_Y - 0.045)
            elif legs == "jump":
                knee = (x + side * 0.05, hip + length * 0.5)
                foot = (x + side * 0.03 - 0.03, hip + length)
            else:
                knee = (x + side * 0.042, hip + length * 0.5)
                foot = (x + side * 0.046, hip + length)
            color = self.skin if bare else self.lower
            c.stroke((top, knee, foot), color, wide, ink=INK)
            if self.actor.lower == "shorts" and legs != "cross":
                c.stroke(
                    (top, (top[0] + (knee[0] - top[0]) * 0.8, top[1] + (knee[1] - top[1]) * 0.8)),
                    self.lower,
                    wide * 1.25,
                )
            c.oval(foot[0] + 0.012, foot[1] + 0.008, 0.036, 0.019, (70, 50, 46))

    def _torso(self) -> None:
        c, x, top, hip = self.canvas, self.x, self.shoulder_y, self.hip_y
        (left, left_y), (right, _) = self.shoulders
        waist = self.wide * 0.86
        c.poly(
            (
                (left - 0.006, left_y + 0.012),
                (left + 0.022, top - 0.008),
                (right - 0.022, top - 0.008),
                (right + 0.006, left_y + 0.012),
                (x + waist, hip + 0.012),
                (x - waist, hip + 0.012),
            ),
            self.shirt,
        )
        if self.actor.lower == "skirt":
            flare = waist + 0.04
            low = min(FEET_Y - 0.02, hip + 0.36 * self.height * 0.55)
            c.poly(
                ((x - waist, hip - 0.02), (x + waist, hip - 0.02), (x + flare, low), (x - flare, low)),
                self.lower,
            )
        elif self.actor.lower == "dungarees":
            bib = hip - (hip - top) * 0.62
            c.poly(
                (
                    (x - waist, hip + 0.03),
                    (x - waist * 0.62, bib),
                    (x + waist * 0.62, bib),
                    (x + waist, hip + 0.03),
                ),
                self.lower,
            )
            for side in (-1, 1):
                c.stroke(
                    ((x + side * waist * 0.5, bib), (self.chest_x + side * self.wide * 0.62, top)),
                    self.lower,
                    0.02,
                )
                c.oval(x + side * waist * 0.45, bib + 0.012, 0.009, 0.009, (250, 220, 90), ink=None)
        else:
            c.box(x - waist, hip - 0.012, x + waist, hip + 0.022, self.lower)
        c.box(
            self.head[0] - 0.026,
            self.head[1] + self.r * 0.7,
            self.head[0] + 0.026,
            top + 0.006,
            shade(self.skin, 0.9),
            ink=None,
        )

    def _hair_behind(self) -> None:
        c, (x, y), r, style = self.canvas, self.head, self.r, self.actor.style
        if style == "long":
            c.round_box(x - r * 1.16, y - r * 0.7, x + r * 1.16, y + r * 2.3, self.hair, r=0.05)
        elif style == "bob":
            c.round_box(x - r * 1.2, y - r * 0.8, x + r * 1.2, y + r * 1.02, self.hair, r=0.04)
        elif style == "pigtails":
            for side in (-1, 1):
                c.oval(x + side * r * 1.42, y + r * 0.45, r * 0.42, r * 0.86, self.hair)
                c.oval(x + side * r * 1.12, y - r * 0.18, r * 0.2, r * 0.2, (250, 90, 150))
        elif style == "ponytail":
            c.poly(
                (
                    (x - r * 0.6, y - r * 0.7),
                    (x - r * 1.5, y - r * 0.5),
                    (x - r * 1.8, y + r * 0.6),
                    (x - r * 1.5, y + r * 1.7),
                    (x - r * 1.1, y + r * 0.6),
                ),
                self.hair,
            )
        elif style == "bun":
            c.oval(x - r * 0.1, y - r * 1.22, r * 0.48, r * 0.42, self.hair)

    def _head(self, mouth: str) -> None:
        c, (x, y), r, style = self.canvas, self.head, self.r, self.actor.style
        for side in (-1, 1):
            c.oval(x + side * r, y + r * 0.1, r * 0.2, r * 0.26, self.skin)
        c.oval(x, y, r, r, self.skin)
        if style == "beard":
            c.chord(x - r, y - r, x + r, y + r * 1.16, 8, 172, self.hair)
        self._hair_front(x, y, r, style)
        look = r * 0.16
        for side in (-1, 1):
            c.oval(x + look + side * r * 0.36, y + r * 0.02, r * 0.13, r * 0.18, INK, ink=None)
            if self.actor.age == "old":
                c.ring(x + look + side * r * 0.38, y + r * 0.04, r * 0.34, r * 0.32, (50, 60, 110), 0.009)
            elif style != "beard":
                c.oval(
                    x + look * 0.5 + side * r * 0.6,
                    y + r * 0.4,
                    r * 0.16,
                    r * 0.1,
                    (242, 150, 140) if self.skin[0] > 190 else shade(self.skin, 0.85),
                    ink=None,
                )
        mx, my = x + look, y + r * 0.42
        if mouth == "open":
            c.oval(mx, my + r * 0.1, r * 0.16, r * 0.18, _LIP)
        elif mouth == "blow":
            c.oval(mx + r * 0.2, my + r * 0.05, r * 0.1, r * 0.1, _LIP)
        else:
            if style == "beard":
                c.oval(mx, my + r * 0.12, r * 0.36, r * 0.2, WHITE, ink=None)
            c.curve((mx - r * 0.36, my), (mx, my + r * 0.44), (mx + r * 0.36, my), _LIP, 0.011)

    def _hair_front(self, x: float, y: float, r: float, style: str) -> None:
        c = self.canvas
        if style == "bald":
            for side in (-1, 1):
                c.oval(x + side * r * 0.94, y - r * 0.06, r * 0.16, r * 0.34, self.hair, ink=None)
            c.oval(x - r * 0.3, y - r * 0.62, r * 0.2, r * 0.1, shade(self.skin, 1.5), ink=None)
            return
        if style == "curly":
            for turn in range(-100, 101, 25):
                angle = math.radians(turn - 90)
                c.oval(
                    x + r * 0.95 * math.cos(angle),
                    y - r * 0.05 + r * 0.95 * math.sin(angle),
                    r * 0.34,
                    r * 0.34,
                    self.hair,
                    ink=None,
                )
            return
        c.chord(x - r * 1.07, y - r * 1.1, x + r * 1.07, y + r * 0.9, 205, 335, self.hair)
        if style in ("short", "beard"):
            c.poly(
                (
                    (x - r * 1.0, y - r * 0.4),
                    (x - r * 0.85, y - r * 0.75),
                    (x - r * 0.2, y - r * 1.28),
                    (x + r * 0.7, y - r * 1.05),
                    (x + r * 1.0, y - r * 0.4),
                    (x + r * 0.82, y - r * 0.55),
                    (x - r * 0.8, y - r * 0.55),
                ),
                self.hair,
                ink=None,
            )
        elif style in ("bob", "long"):
            for side in (-1, 1):
                c.oval(x + side * r * 0.98, y - r * 0.02, r * 0.2, r * 0.5, self.hair, ink=None)

    def arm(self, side: int, target: Point) -> None:
        """Draw one arm without its hand. It reaches to `target`; side -1 is left in the picture, 1 is right."""
        c = self.canvas
        start = self.shoulders[0 if side < 0 else 1]
        dx, dy = target[0] - start[0], target[1] - start[1]
        distance = math.hypot(dx, dy) or 1e-6
        length = max(self.height * 0.32, distance)
        out = math.sqrt(max(0.0, (length / 2) ** 2 - (distance / 2) ** 2)) * 0.9
        nx, ny = -dy / distance, dx / distance  # the elbow bends down, or outwards where the arm hangs
        if ny < -0.2 or (abs(ny) <= 0.2 and nx * side < 0):
            nx, ny = -nx, -ny
        elbow = (start[0] + dx / 2 + nx * out, start[1] + dy / 2 + ny * out)
        wide = 0.046 if self.actor.age != "child" else 0.042
        c.stroke((start, elbow, target), shade(self.shirt, 0.9), wide, ink=INK)

    def fist(self, target: Point) -> None:
        """Draw a hand. Drawn after the thing it holds, its fingers close around the thing."""
        self.canvas.oval(target[0], target[1], 0.031, 0.031, self.skin)

    def hand(self, side: int, target: Point) -> None:
        """Draw one arm with its hand."""
        self.arm(side, target)
        self.fist(target)

    def arms(self, left: Point, right: Point) -> None:
        """Draw both arms without their hands."""
        self.arm(-1, left)
        self.arm(1, right)

    def fists(self, left: Point, right: Point) -> None:
        """Draw both hands."""
        self.fist(left)
        self.fist(right)

    def hands(self, left: Point, right: Point) -> None:
        """Draw both arms with their hands."""
        self.arms(left, right)
        self.fists(left, right)
