"""Pictures that a client sends as the frames of a video, and those that it is sent back."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from tideo.types import Frames, UserError

MAX_FRAMES = 1000
MAX_PIXELS = 1 << 25  # of one picture, 33 million; checked before it is decoded
MAX_PIXELS_TOGETHER = 1 << 27  # 64 pictures of full HD; small files that claim more would fill any memory
# Pillow reads forty more formats: of them EPS is a program that it runs, and others are seldom tried.
BICUBIC = Image.Resampling.BICUBIC
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
# What Pillow's readers raise for damaged files.
PILLOW_ERRORS = (
    OSError, ValueError, SyntaxError, LookupError, TypeError, ArithmeticError, EOFError, MemoryError, RuntimeError,
    struct.error, zlib.error,
)  # fmt: skip


def frames_of(
    pictures: Sequence[Path],
    *,
    times_s: Sequence[float] | None,
    video_id: str,
    hold: Callable[[int], None] = lambda num_bytes: None,
) -> Frames:
    """The pictures as frames at `times_s`, or at 0, 1, 2, … s; all in the size of the first one.

    `hold` is called with the bytes of all before one is decoded. Raises UserError for a file that is no picture, one
    that is too large, or too many.
    """
    if len(pictures) > MAX_FRAMES:
        raise UserError(f"{len(pictures)} images: expected at most {MAX_FRAMES} frames")
    with _opened(pictures[0], number=1) as first:
        width, height = first.size
    if len(pictures) * width * height > MAX_PIXELS_TOGETHER:
        raise UserError(
            f"{len(pictures)} images of {width} x {height} pixels, the size of the first one: expected at most "
            f"{MAX_PIXELS_TOGETHER} together; send fewer or smaller ones"
        )
    hold(len(pictures) * width * height * 3)
    rgb_THWC = np.empty((len(pictures), height, width, 3), np.uint8)
    for number, path in enumerate(pictures, start=1):
        with _opened(path, number=number) as image:
            rgb = image.convert("RGB")
            if rgb.size != (width, height):
                rgb = rgb.resize((width, height), BICUBIC)
            rgb_THWC[number - 1] = np.asarray(rgb)
    return Frames(
        rgb_THWC=rgb_THWC,
        pts_s_T=np.arange(len(pictures), dtype=float) if times_s is None else np.array(times_s, dtype=float),
        video_id=video_id,
    )


@contextmanager
def _opened(path: Path, *, number: int) -> Iterator[Image.Image]:
    """A picture whose header is read. Raises UserError, also for what Pillow raises when it is decoded."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(
                    f"image {number}: {image.width} x {image.height} pixels; expected at most {MAX_PIXELS}"
                )
            yield image
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(
            f"image {number}: it has far more pixels than {MAX_PIXELS}, the most expected"
        ) from error
    except UnidentifiedImageError as error:
        raise UserError(
            f"image {number}: it cannot be read as a picture; expected one of {', '.join(FORMATS)}"
        ) from error
    except PILLOW_ERRORS as error:
        raise UserError(f"image {number}: it is damaged ({error})") from error


THUMBNAIL = 176  # pixels, the longer side


def thumbnails(frames: Frames, pts_s: Sequence[float]) -> list[str]:
    """Small JPEGs, as data URLs, of the frames at these times."""
    place_of = {time_s: place for place, time_s in enumerate(frames.pts_s_T.tolist())}
    images = [Image.fromarray(frames.rgb_THWC[place_of[time_s]]) for time_s in pts_s]
    for image in images:
        image.thumbnail((THUMBNAIL, THUMBNAIL))
    return [data_url(image) for image in images]


def data_url(image: Image.Image) -> str:
    """The picture as a JPEG in a data URL."""
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
