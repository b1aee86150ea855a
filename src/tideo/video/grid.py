"""The whole video as one picture: rows × cols frames pasted in reading order (arXiv 2409.07748).

The cells fill the image to the last pixel, even if its side is no multiple of their number: their edges lie at
round(i · side / cells), so cells differ by at most one pixel. Shapes: H, W, C of the grid, T frames.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from tideo.types import Frames, Grid, UserError, Video
from tideo.video.decode import lost_frames
from tideo.video.samplers import sample_frames

log = logging.getLogger(__name__)

IMAGE_SIZE = 336  # pixels a side: the input of CLIP ViT-L/14-336, as in the paper
MAX_SIDE = 16384
RESAMPLING = Image.Resampling.BICUBIC  # as CLIP's own image processor
BLANK = (0, 0, 0)


def _squash(frame: Image.Image, size: tuple[int, int]) -> Image.Image:
    return frame.resize(size, RESAMPLING)


def _letterbox(frame: Image.Image, size: tuple[int, int]) -> Image.Image:
    return ImageOps.pad(frame, size, RESAMPLING, color=BLANK)


def _crop(frame: Image.Image, size: tuple[int, int]) -> Image.Image:
    return ImageOps.fit(frame, size, RESAMPLING)


# How a frame fills its cell: stretched to it (the paper), with bars, or with its sides cut off.
FITS: dict[str, Callable[[Image.Image, tuple[int, int]], Image.Image]] = {
    "squash": _squash,
    "letterbox": _letterbox,
    "crop": _crop,
}


def check_shape(
    *, rows: int, cols: int, image_size: int | tuple[int, int] | None = IMAGE_SIZE, fit: str = "squash"
) -> None:
    """Raises UserError for a grid that cannot be made, before any frame is read."""
    if rows < 1 or cols < 1:
        raise UserError(f"a grid of {rows} x {cols}: expected at least one row and one column")
    if fit not in FITS:
        raise UserError(f"fit {fit!r}: expected one of {', '.join(FITS)}")
    if image_size is None:
        return
    width, height = (image_size, image_size) if isinstance(image_size, int) else image_size
    if width < cols or height < rows:
        raise UserError(
            f"an image of {width} x {height} pixels has no room for {rows} x {cols} cells: make it larger"
        )
    if max(width, height) > MAX_SIDE:
        raise UserError(
            f"an image of {width} x {height} pixels: expected at most {MAX_SIDE} a side; make it smaller"
        )


def make_grid(
    frames: Frames,
    *,
    rows: int = 4,
    cols: int = 4,
    image_size: int | tuple[int, int] | None = IMAGE_SIZE,
    fit: str = "squash",
    stamps: bool = False,
) -> Grid:
    """Frames [T, H, W, 3] → one Grid, T at most rows × cols; the cells after the last frame are black.

    `image_size` is the side of a square or (width, height) in pixels; None keeps the frames' own size, as IG-VLM
    does. `stamps` writes each frame's time into its cell (`time_stamps`). Raises UserError for a shape that
    `check_shape` refuses.
    """
    if image_size is None:
        image_size = (cols * frames.rgb_THWC.shape[2], rows * frames.rgb_THWC.shape[1])
    check_shape(rows=rows, cols=cols, image_size=image_size, fit=fit)
    if len(frames) > rows * cols:
        raise UserError(
            f"{len(frames)} frames do not fit the {rows * cols} cells of {rows} x {cols}: sample fewer"
        )
    width, height = (image_size, image_size) if isinstance(image_size, int) else image_size
    stamped = iter(time_stamps(frames.pts_s_T.tolist()))
    across, down = edges(width, cols), edges(height, rows)
    image = Image.new("RGB", (width, height), BLANK)
    for k, rgb_HWC in enumerate(frames.rgb_THWC):
        row, col = divmod(k, cols)
        cell = (across[col + 1] - across[col], down[row + 1] - down[row])
        picture = FITS[fit](Image.fromarray(rgb_HWC), cell)
        if stamps:
            _stamp(picture, next(stamped))
        image.paste(picture, (across[col], down[row]))
    return Grid(
        rgb_HWC=np.asarray(image),
        rows=rows,
        cols=cols,
        pts_s=tuple(frames.pts_s_T.tolist()),
        num_blank=rows * cols - len(frames),
        missing_s=frames.missing_s,
    )


def make_panels(
    frames: Frames,
    *,
    panels: int,
    rows: int = 2,
    cols: int = 2,
    image_size: int | tuple[int, int] | None = IMAGE_SIZE,
    fit: str = "squash",
    stamps: bool = False,
) -> list[Grid]:
    """The video as up to `panels` grids that follow one another in time (Video Panels, arXiv 2509.23724).

    A panel that would hold no frame is left out. Raises UserError as `make_grid` does.
    """
    if panels < 1:
        raise UserError(f"{panels} panels: expected at least one")
    check_shape(rows=rows, cols=cols, image_size=image_size, fit=fit)
    cells = rows * cols
    if len(frames) > panels * cells:
        raise UserError(f"{len(frames)} frames do not fit {panels} panels of {rows} x {cols}: sample fewer")
    return [
        make_grid(
            frames.at(slice(start, start + cells)),
            rows=rows, cols=cols, image_size=image_size, fit=fit, stamps=stamps,
        )
        for start in range(0, len(frames), cells)
    ]  # fmt: skip


def video_grid(
    video: Video | str | Path | bytes,
    *,
    rows: int = 4,
    cols: int = 4,
    image_size: int | tuple[int, int] | None = IMAGE_SIZE,
    sampler: str = "middle",
    fit: str = "squash",
    stamps: bool = False,
) -> Grid:
    """rows × cols frames of a video or its segment as one picture. No frame comes twice.

    A video with fewer distinct frames leaves blank cells and logs their number. Raises VideoError if no frame can
    be read, and UserError for a shape that `check_shape` refuses.
    """
    check_shape(rows=rows, cols=cols, image_size=image_size, fit=fit)
    frames = sample_frames(video, rows * cols, sampler=sampler)
    grid = make_grid(frames, rows=rows, cols=cols, image_size=image_size, fit=fit, stamps=stamps)
    warn_of_blanks(grid, video_id=frames.video_id)
    return grid


def warn_of_blanks(grid: Grid, *, video_id: str) -> None:
    """Log the number of blank cells, and the frames that could not be decoded."""
    if not grid.num_blank:
        return
    lost = f", {lost_frames(grid.missing_s)}" if grid.missing_s else ""
    log.warning(
        "%s: %d distinct frames for %d cells, %d stay blank%s",
        video_id or "video", len(grid.pts_s), grid.rows * grid.cols, grid.num_blank, lost,
    )  # fmt: skip


def edges(side: int, cells: int) -> list[int]:
    """Where each of `cells` begins along `side` pixels, and the end of the last: round(i · side / cells)."""
    return [(2 * i * side + cells) // (2 * cells) for i in range(cells + 1)]


def time_stamps(pts_s: Sequence[float]) -> list[str]:
    """Times as m:ss, with the decimals (at most three) that tell frames apart which share a second."""
    for decimals in range(4):
        unit = 10**decimals
        ticks = [int(time_s * unit + 1e-6) for time_s in pts_s]  # cut, as a clock shows it
        if len(set(ticks)) == len(ticks):
            break
    return [
        f"{tick // (60 * unit)}:{tick // unit % 60:02d}"
        + (f".{tick % unit:0{decimals}d}" if decimals else "")
        for tick in ticks
    ]


def _stamp(picture: Image.Image, text: str) -> None:
    """The time in the upper left corner, white on black, a seventh of the cell high."""
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(max(8, picture.height // 7))
    left, top, right, bottom = draw.textbbox((2, 1), text, font=font)
    draw.rectangle((left - 2, top - 1, right + 1, bottom + 1), fill=BLANK)
    draw.text((2, 1), text, font=font, fill=(255, 255, 255))
