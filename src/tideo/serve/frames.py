"""Pictures that a client sends as the frames of a video, and those that it is sent back."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from tideo.types import Frames, UserError

MAX_FRAMES = 1000
MAX_PIXELS = 1 << 25  # of one picture, 33 million; checked before it is decoded


def frames_of(pictures: Sequence[Path], *, times_s: Sequence[float] | None, video_id: str) -> Frames:
    """The pictures as frames at `times_s`, or at 0, 1, 2, … s; all in the size of the first one.

    Raises UserError for a file that is no picture, one that is too large, or too many.
    """
    if len(pictures) > MAX_FRAMES:
        raise UserError(f"{len(pictures)} images: expected at most {MAX_FRAMES} frames")
    size: tuple[int, int] | None = None
    rgb = []
    for number, path in enumerate(pictures, start=1):
        image = _opened(path, number=number)
        size = size or image.size
        rgb.append(np.asarray(image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)))
    return Frames(
        rgb_THWC=np.stack(rgb),
        pts_s_T=np.arange(len(rgb), dtype=float) if times_s is None else np.array(times_s, dtype=float),
        video_id=video_id,
    )


def _opened(path: Path, *, number: int) -> Image.Image:
    try:
        with (
            warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
            Image.open(path) as image,
        ):
            if image.width * image.height > MAX_PIXELS:
                raise UserError(
                    f"image {number}: {image.width} x {image.height} pixels; expected at most {MAX_PIXELS}"
                )
            return image.convert("RGB")
    except (UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"image {number}: it cannot be read as a picture ({error})") from error
    except (OSError, ValueError, SyntaxError) as error:
        if isinstance(error, UserError):
            raise
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
