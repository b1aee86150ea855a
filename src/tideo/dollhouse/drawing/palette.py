"""Colours of shirts, hair, lower garments and skin."""

from __future__ import annotations

from tideo.dollhouse.drawing.canvas import Color

SHIRTS: dict[str, Color] = {
    "red": (222, 50, 48),
    "blue": (48, 108, 222),
    "green": (52, 160, 72),
    "yellow": (248, 208, 46),
    "white": (248, 248, 248),
    "black": (48, 46, 54),
    "purple": (146, 66, 184),
    "pink": (250, 130, 190),
}
HAIR: dict[str, Color] = {
    "red": (202, 78, 28),
    "black": (40, 34, 40),
    "blond": (242, 200, 88),
    "brown": (116, 70, 38),
    "grey": (158, 158, 166),
    "white": (240, 240, 244),
}
LOWER: dict[str, Color] = {
    "navy": (44, 54, 104),
    "denim": (82, 126, 176),
    "brown": (124, 84, 52),
    "grey": (118, 122, 130),
    "plum": (120, 48, 96),
}
SKIN: dict[str, Color] = {
    "girl_red": (255, 220, 196),
    "girl_black": (240, 200, 160),
    "boy_blond": (255, 216, 186),
    "boy_curly": (178, 122, 84),
    "woman_long": (246, 204, 170),
    "woman_bun": (154, 102, 70),
    "woman_tail": (255, 218, 190),
    "man_beard": (222, 172, 128),
    "man_red": (255, 212, 184),
    "man_bald": (140, 92, 62),
    "grandma": (248, 212, 186),
    "grandpa": (240, 198, 164),
}
