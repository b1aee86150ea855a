"""Shapes in scene units on a Pillow image, in an affine frame that can be moved, scaled and turned."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import ImageDraw

Point = tuple[float, float]
Color = tuple[int, int, int]

INK: Color = (54, 44, 50)
WHITE: Color = (255, 255, 255)
_CIRCLE = tuple((math.cos(i * math.pi / 12), math.sin(i * math.pi / 12)) for i in range(24))


def shade(color: Color, factor: float) -> Color:
    """`color` darker (factor < 1) or lighter (factor > 1)."""
    if factor <= 1:
        return int(color[0] * factor), int(color[1] * factor), int(color[2] * factor)
    return mix(color, WHITE, factor - 1)


def mix(first: Color, second: Color, weight: float) -> Color:
    """`first` at weight 0, `second` at weight 1."""
    keep = 1 - weight
    return (
        int(first[0] * keep + second[0] * weight),
        int(first[1] * keep + second[1] * weight),
        int(first[2] * keep + second[2] * weight),
    )


class Canvas:
    """A frame of coordinates on a picture: pixel x = a·x + c·y + e, pixel y = b·x + d·y + f."""

    __slots__ = ("a", "b", "c", "d", "draw", "e", "f", "line_px", "unit_px")

    def __init__(
        self,
        draw: ImageDraw.ImageDraw,
        a: float,
        b: float,
        c: float,
        d: float,
        e: float,
        f: float,
        *,
        line_px: int,
    ) -> None:
        self.draw, self.line_px = draw, line_px
        self.a, self.b, self.c, self.d, self.e, self.f = a, b, c, d, e, f
        self.unit_px = math.hypot(a, b)

    def at(self, x: float, y: float, *, scale: float = 1.0, turn: float = 0.0, flip: bool = False) -> Canvas:
        """A frame with its origin at (x, y): scaled, turned clockwise (degrees), then mirrored in x."""
        cos, sin = math.cos(math.radians(turn)) * scale, math.sin(math.radians(turn)) * scale
        side = -1.0 if flip else 1.0
        return Canvas(
            self.draw,
            (self.a * cos + self.c * sin) * side,
            (self.b * cos + self.d * sin) * side,
            self.c * cos - self.a * sin,
            self.d * cos - self.b * sin,
            self.a * x + self.c * y + self.e,
            self.b * x + self.d * y + self.f,
            line_px=self.line_px,
        )

    def _px(self, points: Sequence[Point]) -> list[Point]:
        a, b, c, d, e, f = self.a, self.b, self.c, self.d, self.e, self.f
        return [(a * x + c * y + e, b * x + d * y + f) for x, y in points]

    def _corners(self, x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
        """Two opposite corners in pixels, of a frame that is not turned."""
        return self.a * x0 + self.e, self.d * y0 + self.f, self.a * x1 + self.e, self.d * y1 + self.f

    def poly(self, points: Sequence[Point], fill: Color, *, ink: Color | None = INK) -> None:
        """A filled polygon, outlined unless `ink` is None."""
        px = self._px(points)
        self.draw.polygon(px, fill=fill)
        if ink is not None:
            self.draw.line([*px, px[0], px[1]], fill=ink, width=self.line_px)

    def box(
        self, x0: float, y0: float, x1: float, y1: float, fill: Color, *, ink: Color | None = INK
    ) -> None:
        """A filled rectangle."""
        if self.b == 0 and self.a > 0:
            corners = self._corners(x0, y0, x1, y1)
            self.draw.rectangle(corners, fill=fill, outline=ink, width=self.line_px if ink else 0)
        else:
            self.poly(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), fill, ink=ink)

    def round_box(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        fill: Color,
        *,
        r: float = 0.03,
        ink: Color | None = INK,
    ) -> None:
        """A filled rectangle with round corners of radius `r`."""
        if self.b == 0 and self.a > 0:
            left, top, right, bottom = self._corners(x0, y0, x1, y1)
            # Pillow fails where less than two pixels of a side remain straight
            radius = min(r * self.unit_px, (min(right - left, bottom - top) - 4) / 2)
            if radius < 1:
                self.box(x0, y0, x1, y1, fill, ink=ink)
                return
            self.draw.rounded_rectangle(
                (left, top, right, bottom),
                radius=radius,
                fill=fill,
                outline=ink,
                width=self.line_px if ink else 0,
            )
            return
        points: list[Point] = []
        for cx, cy, first in (
            (x1 - r, y1 - r, 0),
            (x0 + r, y1 - r, 6),
            (x0 + r, y0 + r, 12),
            (x1 - r, y0 + r, 18),
        ):
            points += [
                (cx + r * _CIRCLE[(first + i) % 24][0], cy + r * _CIRCLE[(first + i) % 24][1])
                for i in (0, 3, 6)
            ]
        self.poly(points, fill, ink=ink)

    def oval(self, x: float, y: float, rx: float, ry: float, fill: Color, *, ink: Color | None = INK) -> None:
        """A filled ellipse around (x, y)."""
        if self.b == 0:
            cx, cy = self.a * x + self.e, self.d * y + self.f
            wide, high = abs(self.a) * rx, abs(self.d) * ry
            self.draw.ellipse(
                (cx - wide, cy - high, cx + wide, cy + high),
                fill=fill,
                outline=ink,
                width=self.line_px if ink else 0,
            )
        else:
            self.poly([(x + rx * cos, y + ry * sin) for cos, sin in _CIRCLE], fill, ink=ink)

    def half(self, x: float, y: float, rx: float, ry: float, fill: Color, *, ink: Color | None = INK) -> None:
        """The lower half of an ellipse around (x, y): a bowl."""
        self.poly([(x + rx * cos, y + ry * sin) for cos, sin in _CIRCLE[:13]], fill, ink=ink)

    def chord(self, x0: float, y0: float, x1: float, y1: float, start: int, end: int, fill: Color) -> None:
        """The part of an ellipse between two angles (degrees, clockwise). The frame must not be turned."""
        self.draw.chord(
            self._corners(x0, y0, x1, y1),
            start,
            end,
            fill=fill,
            outline=INK,
            width=self.line_px,
        )

    def ring(self, x: float, y: float, rx: float, ry: float, color: Color, width: float) -> None:
        """The outline of an ellipse."""
        cx, cy = self.a * x + self.c * y + self.e, self.b * x + self.d * y + self.f
        wide, high = self.unit_px * rx, self.unit_px * ry
        self.draw.ellipse(
            (cx - wide, cy - high, cx + wide, cy + high),
            outline=color,
            width=max(1, round(width * self.unit_px)),
        )

    def stroke(
        self, points: Sequence[Point], color: Color, width: float, *, ink: Color | None = None
    ) -> None:
        """A line of `width` with round ends and joints, outlined if `ink` is given."""
        px = self._px(points)
        if ink is not None:
            self._stroke_px(px, ink, width * self.unit_px + 2 * self.line_px)
        self._stroke_px(px, color, width * self.unit_px)

    def _stroke_px(self, px: Sequence[Point], color: Color, width: float) -> None:
        draw = self.draw
        draw.line(px, fill=color, width=max(1, round(width)))
        if width >= 3:
            r = width / 2 - 0.3
            for x, y in px:
                draw.ellipse((x - r, y - r, x + r, y + r), fill=color)

    def curve(
        self, start: Point, bend: Point, end: Point, color: Color, width: float, *, ink: Color | None = None
    ) -> None:
        """A quadratic curve from `start` to `end`, pulled towards `bend`."""
        self.stroke(bezier(start, bend, end), color, width, ink=ink)


def bezier(start: Point, bend: Point, end: Point, *, num: int = 8) -> list[Point]:
    """`num` + 1 points of a quadratic Bézier curve."""
    points = []
    for i in range(num + 1):
        u = i / num
        k0, k1, k2 = (1 - u) ** 2, 2 * u * (1 - u), u * u
        points.append(
            (k0 * start[0] + k1 * bend[0] + k2 * end[0], k0 * start[1] + k1 * bend[1] + k2 * end[1])
        )
    return points
