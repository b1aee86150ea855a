"""The tools of the five tool actions, each drawn around the point where it is held or where it stands."""

from __future__ import annotations

from collections.abc import Callable

from tideo.dollhouse.drawing.canvas import INK, WHITE, Canvas, Color, shade

Tool = Callable[[Canvas], None]


# wipe: the origin is where the tool touches the table
def _sponge(c: Canvas) -> None:
    for x, y, r in (
        (-0.13, 0.01, 0.026),
        (0.14, 0.0, 0.03),
        (0.1, 0.03, 0.02),
        (-0.09, 0.035, 0.02),
        (0.0, 0.035, 0.024),
    ):
        c.oval(x, y, r, r, (238, 248, 255), ink=(130, 180, 230))
    c.round_box(-0.11, -0.085, 0.11, 0.025, (255, 222, 40), r=0.022)
    c.box(-0.105, -0.01, 0.105, 0.02, (60, 170, 80), ink=None)
    for x, y in ((-0.07, -0.055), (-0.02, -0.035), (0.03, -0.06), (0.07, -0.04), (-0.05, -0.03)):
        c.oval(x, y, 0.011, 0.009, (206, 160, 10), ink=None)


def _cloth(c: Canvas) -> None:
    c.poly(
        (
            (-0.15, 0.03),
            (-0.11, -0.06),
            (-0.03, -0.095),
            (0.05, -0.09),
            (0.12, -0.05),
            (0.16, 0.03),
            (0.09, 0.015),
            (0.03, 0.045),
            (-0.04, 0.02),
            (-0.09, 0.05),
        ),
        (226, 48, 56),
    )
    for x in (-0.09, -0.02, 0.05):
        c.stroke(((x, -0.05), (x - 0.015, 0.02)), WHITE, 0.018)
    c.stroke(((-0.11, -0.03), (0.12, -0.025)), WHITE, 0.018)


def _brush(c: Canvas) -> None:
    for i in range(-5, 6):
        c.stroke(((i * 0.02, -0.04), (i * 0.025, 0.035)), (250, 244, 214) if i % 2 else (60, 130, 220), 0.018)
    c.round_box(-0.13, -0.1, 0.13, -0.03, (150, 84, 40), r=0.03)
    c.curve((-0.1, -0.09), (0.0, -0.15), (0.1, -0.09), (150, 84, 40), 0.028, ink=INK)


def _paper_towel(c: Canvas) -> None:
    c.poly(
        ((-0.04, -0.02), (0.06, -0.08), (0.2, 0.0), (0.15, 0.05), (0.05, 0.02), (-0.04, 0.05)),
        (240, 246, 255),
    )
    for x, y in ((0.06, -0.02), (0.11, 0.0), (0.03, 0.02)):
        c.oval(x, y, 0.012, 0.01, (150, 190, 250), ink=None)
    c.box(-0.12, -0.2, 0.01, 0.02, WHITE)
    c.oval(-0.055, 0.02, 0.065, 0.018, WHITE)
    c.oval(-0.055, -0.2, 0.065, 0.024, (236, 236, 236))
    c.oval(-0.055, -0.2, 0.025, 0.011, (170, 120, 70))
    for y in (-0.15, -0.1, -0.05):
        c.oval(-0.09, y, 0.012, 0.012, (150, 190, 250), ink=None)
        c.oval(-0.04, y + 0.02, 0.012, 0.012, (150, 190, 250), ink=None)


def _duster(c: Canvas) -> None:
    c.stroke(((0.0, -0.2), (0.0, -0.06)), (120, 70, 40), 0.026, ink=INK)
    colors: tuple[Color, ...] = ((236, 70, 160), (255, 130, 60), (160, 80, 220))
    for i, (x, y) in enumerate(
        ((-0.1, 0.0), (0.1, 0.0), (-0.055, -0.06), (0.055, -0.06), (-0.05, 0.03), (0.05, 0.03), (0.0, -0.01))
    ):
        c.oval(x, y, 0.062, 0.05, colors[i % 3])


WIPERS: dict[str, Tool] = {
    "a sponge": _sponge,
    "a cloth": _cloth,
    "a brush": _brush,
    "a paper towel": _paper_towel,
    "a feather duster": _duster,
}


# carry: about 0.3 wide, the origin in the middle
def _box(c: Canvas) -> None:
    c.poly(((-0.16, -0.1), (-0.11, -0.16), (0.2, -0.16), (0.16, -0.1)), (232, 190, 130))
    c.box(-0.16, -0.1, 0.16, 0.13, (206, 156, 94))
    c.box(-0.025, -0.16, 0.035, 0.0, (236, 214, 170), ink=None)
    c.box(0.05, 0.03, 0.13, 0.1, WHITE)
    c.stroke(((0.07, 0.085), (0.07, 0.05)), (200, 40, 40), 0.012)
    c.stroke(((0.11, 0.085), (0.11, 0.05)), (200, 40, 40), 0.012)


def _basket(c: Canvas) -> None:
    c.curve((-0.15, -0.02), (0.0, -0.34), (0.15, -0.02), (150, 90, 40), 0.026, ink=INK)
    for x, color in ((-0.09, (226, 50, 50)), (0.0, (120, 190, 60)), (0.085, (250, 180, 40))):
        c.oval(x, -0.03, 0.055, 0.055, color)
    c.poly(((-0.18, -0.02), (0.18, -0.02), (0.13, 0.15), (-0.13, 0.15)), (216, 160, 80))
    for i in range(-2, 3):
        c.stroke(((i * 0.064, 0.0), (i * 0.05, 0.14)), (160, 104, 44), 0.012)
    for y in (0.035, 0.09):
        c.stroke(((-0.15, y), (0.15, y)), (160, 104, 44), 0.012)


def _bag(c: Canvas) -> None:
    c.stroke(((0.06, -0.24), (0.03, 0.0)), (222, 160, 80), 0.06, ink=INK)
    c.oval(-0.05, -0.1, 0.06, 0.07, (80, 170, 70))
    c.poly(((-0.12, -0.09), (0.13, -0.09), (0.15, 0.19), (-0.14, 0.19)), (80, 190, 190))
    c.ring(-0.03, -0.09, 0.05, 0.07, (230, 240, 240), 0.014)
    c.oval(0.0, 0.06, 0.05, 0.05, (255, 240, 120))
    c.box(-0.12, -0.09, 0.13, -0.06, (60, 150, 150), ink=None)


def _tray(c: Canvas) -> None:
    for x, color in ((-0.15, (240, 90, 90)), (-0.02, (250, 250, 255)), (0.11, (90, 140, 240))):
        c.round_box(x, -0.1, x + 0.075, 0.03, color, r=0.015)
        c.ring(x + 0.085, -0.04, 0.022, 0.03, shade(color, 0.7), 0.012)
    c.round_box(-0.22, 0.02, 0.22, 0.055, (120, 70, 40), r=0.015)
    for side in (-1, 1):
        c.round_box(side * 0.22 - 0.02, -0.02, side * 0.22 + 0.02, 0.055, (120, 70, 40), r=0.015)


def _bucket(c: Canvas) -> None:
    c.curve((-0.14, -0.05), (0.0, -0.32), (0.14, -0.05), (90, 96, 110), 0.016)
    c.poly(((-0.15, -0.06), (0.15, -0.06), (0.11, 0.17), (-0.11, 0.17)), (60, 110, 220))
    c.oval(0.0, -0.06, 0.15, 0.035, (40, 80, 170))
    c.oval(0.0, -0.053, 0.125, 0.022, (150, 210, 255), ink=None)
    c.poly(((-0.137, 0.02), (0.137, 0.02), (0.128, 0.07), (-0.128, 0.07)), (240, 240, 250), ink=None)


CARRIERS: dict[str, Tool] = {
    "a box": _box,
    "a basket": _basket,
    "a bag": _bag,
    "a tray": _tray,
    "a bucket": _bucket,
}


# rest: the origin is the middle of the seat; one part is behind the person, one in front
def _nothing(c: Canvas) -> None:
    """The missing part of a seat that has only one."""


def _chair_back(c: Canvas) -> None:
    for side in (-1, 1):
        c.box(side * 0.14 - 0.018, -0.36, side * 0.14 + 0.018, 0.15, (196, 112, 40))
    for y in (-0.35, -0.24, -0.13):
        c.round_box(-0.15, y, 0.15, y + 0.055, (226, 142, 60), r=0.015)
    c.box(-0.17, 0.0, 0.17, 0.05, (226, 142, 60))


def _stool_back(c: Canvas) -> None:
    for x0, x1 in ((-0.06, -0.15), (0.06, 0.15), (0.0, 0.0)):
        c.stroke(((x0, 0.03), (x1, 0.16)), (90, 96, 110), 0.026, ink=INK)
    c.oval(0.0, 0.025, 0.17, 0.045, (60, 190, 120))
    c.oval(0.0, 0.008, 0.17, 0.042, (110, 226, 150))


def _armchair_back(c: Canvas) -> None:
    c.round_box(-0.2, -0.34, 0.2, 0.14, (196, 60, 90), r=0.08)
    c.round_box(-0.14, -0.28, 0.14, 0.0, (226, 100, 124), r=0.06)
    c.box(-0.18, 0.01, 0.18, 0.14, (170, 46, 76))


def _armchair_front(c: Canvas) -> None:
    for side in (-1, 1):
        c.round_box(side * 0.22 - 0.055, -0.11, side * 0.22 + 0.055, 0.15, (210, 74, 102), r=0.045)


def _bench_back(c: Canvas) -> None:
    for x in (-0.32, 0.32):
        c.box(x - 0.016, -0.24, x + 0.016, 0.16, (50, 60, 60))
    for y in (-0.22, -0.13):
        c.box(-0.36, y, 0.36, y + 0.055, (90, 160, 90))
    for y in (0.0, 0.035):
        c.box(-0.37, y, 0.37, y + 0.035, (110, 184, 106))


def _cushion_back(c: Canvas) -> None:
    c.round_box(-0.25, -0.06, 0.25, 0.055, (146, 84, 214), r=0.055)
    for x in (-0.16, 0.0, 0.16):
        c.oval(x, 0.02, 0.02, 0.016, (255, 220, 90), ink=None)
    for side in (-1, 1):
        c.oval(side * 0.25, 0.03, 0.025, 0.025, (255, 220, 90))


SEATS: dict[str, tuple[Tool, Tool]] = {
    "a chair": (_chair_back, _nothing),
    "a stool": (_stool_back, _nothing),
    "an armchair": (_armchair_back, _armchair_front),
    "a bench": (_bench_back, _nothing),
    "a cushion": (_cushion_back, _nothing),
}


# drink: the origin is the middle, the mouth is at the upper left
def _mug(c: Canvas) -> None:
    c.ring(0.09, 0.0, 0.045, 0.05, (200, 40, 44), 0.022)
    c.round_box(-0.085, -0.085, 0.08, 0.095, (236, 60, 60), r=0.02)
    c.oval(0.0, 0.01, 0.035, 0.035, WHITE, ink=None)


def _glass(c: Canvas) -> None:
    c.poly(((-0.075, -0.13), (0.075, -0.13), (0.055, 0.12), (-0.055, 0.12)), (230, 244, 255))
    c.poly(((-0.068, -0.05), (0.068, -0.05), (0.052, 0.105), (-0.052, 0.105)), (255, 170, 40), ink=None)
    c.stroke(((0.02, 0.08), (0.06, -0.2), (0.11, -0.22)), (236, 60, 120), 0.016)


def _bottle(c: Canvas) -> None:
    c.round_box(-0.055, -0.03, 0.055, 0.19, (60, 170, 90), r=0.02)
    c.poly(((-0.055, 0.0), (0.055, 0.0), (0.022, -0.09), (-0.022, -0.09)), (60, 170, 90))
    c.box(-0.024, -0.14, 0.024, -0.08, (60, 170, 90))
    c.box(-0.05, 0.05, 0.05, 0.13, (250, 246, 220), ink=None)


def _bowl(c: Canvas) -> None:
    c.half(0.0, -0.02, 0.15, 0.13, (70, 110, 220))
    c.oval(0.0, -0.02, 0.15, 0.035, (250, 236, 200))
    c.poly(((-0.05, 0.1), (0.05, 0.1), (0.06, 0.13), (-0.06, 0.13)), (50, 84, 180))
    for x in (-0.07, 0.0, 0.07):
        c.oval(x, 0.045, 0.018, 0.018, WHITE, ink=None)


def _can(c: Canvas) -> None:
    c.round_box(-0.07, -0.11, 0.07, 0.12, (120, 80, 210), r=0.014)
    c.poly(((-0.068, 0.03), (0.068, -0.06), (0.068, 0.0), (-0.068, 0.09)), (255, 230, 60), ink=None)
    c.oval(0.0, -0.11, 0.065, 0.022, (220, 224, 232))
    c.oval(0.0, 0.12, 0.065, 0.02, (190, 194, 204))


CUPS: dict[str, Tool] = {
    "a mug": _mug,
    "a glass": _glass,
    "a bottle": _bottle,
    "a bowl": _bowl,
    "a can": _can,
}


# stir_pot: the origin is the grip, the pot's rim 0.19 below it
def _spoon(c: Canvas) -> None:
    c.stroke(((0.0, -0.05), (0.0, 0.1)), (236, 176, 96), 0.036, ink=INK)
    c.oval(0.0, 0.16, 0.075, 0.095, (236, 176, 96))
    c.oval(0.0, 0.16, 0.045, 0.062, (190, 126, 56), ink=None)


def _whisk(c: Canvas) -> None:
    for rx in (0.1, 0.062, 0.022):
        c.ring(0.0, 0.15, rx, 0.12, (70, 78, 96), 0.015)
    c.stroke(((0.0, -0.07), (0.0, 0.04)), (236, 50, 60), 0.046, ink=INK)


def _fork(c: Canvas) -> None:
    for x in (-0.072, -0.024, 0.024, 0.072):
        c.stroke(((x, 0.1), (x, 0.23)), (214, 222, 234), 0.02, ink=INK)
    c.round_box(-0.088, 0.05, 0.088, 0.12, (214, 222, 234), r=0.03)
    c.stroke(((0.0, -0.06), (0.0, 0.06)), (214, 222, 234), 0.034, ink=INK)


def _ladle(c: Canvas) -> None:
    c.stroke(((-0.02, -0.06), (-0.02, 0.12)), (40, 170, 180), 0.03, ink=INK)
    c.half(0.05, 0.09, 0.105, 0.105, (40, 170, 180))
    c.oval(0.05, 0.09, 0.105, 0.03, (240, 120, 40))


def _stick(c: Canvas) -> None:
    c.stroke(((0.02, -0.07), (0.0, 0.06), (-0.012, 0.24)), (110, 66, 34), 0.04, ink=INK)
    for x, y, turn in ((0.07, 0.0, -35), (-0.075, 0.055, 30), (0.07, 0.1, -30), (0.03, -0.09, -60)):
        c.stroke(((0.0, y + 0.05), (x * 0.6, y + 0.01)), (110, 66, 34), 0.02, ink=INK)
        c.at(x, y, turn=turn).oval(0.0, 0.0, 0.05, 0.028, (90, 190, 60))


STIRRERS: dict[str, Tool] = {
    "a spoon": _spoon,
    "a whisk": _whisk,
    "a fork": _fork,
    "a ladle": _ladle,
    "a stick": _stick,
}
