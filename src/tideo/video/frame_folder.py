"""A folder of numbered pictures as a video, the form of TVQA and part of MVBench: frames_fps3_hq/CLIP/00001.jpg …"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

from tideo.store.video_files import NUMBERED_PICTURE

_RATE = re.compile(r"fps(\d+(?:\.\d+)?)")


def frame_folder(folder: Path) -> tuple[str, dict[str, str]]:
    """The pattern of the pictures' names, and the options for `image2`, FFmpeg's demuxer of pictures.

    The frame rate is read from the name of the folder or of a folder above it, as in frames_fps3. Raises a one-line
    ValueError if no name has a rate, if there are no pictures, or if a number between the first and the last is
    missing.
    """
    rates = [found[1] for name in reversed(folder.resolve().parts) if (found := _RATE.search(name))]
    if not rates:
        raise ValueError(
            "it is a folder; give a video file, or numbered pictures with their rate in a folder's name: frames_fps3"
        )
    names = [found for path in folder.iterdir() if (found := NUMBERED_PICTURE.fullmatch(path.name))]
    if not names:
        raise ValueError("the folder holds no numbered pictures; expected 00001.jpg, 00002.jpg, …")
    numbers = sorted(int(name[1]) for name in names)
    first, last = numbers[0], numbers[-1]
    widths, endings = {len(name[1]) for name in names}, {name[2] for name in names}
    if len(widths) > 1 or len(endings) > 1:
        raise ValueError("the names of its pictures differ in form; expected 00001.jpg, 00002.jpg, …")
    if numbers != list(range(first, last + 1)):
        gap = next(a + 1 for a, b in pairwise(numbers) if b != a + 1)
        raise ValueError(f"picture {gap} is missing between {first} and {last}")
    plain = str(folder).replace("%", "%%")
    pattern = f"{plain}/%0{widths.pop()}d.{endings.pop()}"
    return pattern, {"framerate": rates[0], "start_number": str(first)}
