"""Decoded frames as RGB: turned and mirrored as the file asks, scaled if a size is wanted."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from av.sidedata import sidedata
from av.video.reformatter import Interpolation, VideoReformatter

UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED, which swscale takes for BT.601
RANGES = (0, 1, 2)  # unspecified, limited, full


def _unnamed(types: Any, value: int) -> Any:
    member = object.__new__(types)
    member._name_, member._value_ = f"UNNAMED_{value}", value
    return member


# PyAV 18.1 lists a frame's side data only if it has a name for each kind, and FFmpeg 8 has kinds that it does not
# name, such as the EXIF block of a JPEG (https://github.com/PyAV-Org/PyAV/pull/2392). Here they get a name.
sidedata.Type._missing_ = classmethod(_unnamed)  # type: ignore[method-assign, assignment]


class RgbConverter:
    """Converts the frames of one stream, which all get the size of its first converted frame."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None

    def rgb(self, frame: av.VideoFrame, size: tuple[int, int] | None) -> np.ndarray:
        """uint8 [H, W, 3], a view: rotated and mirrored as the file asks, scaled to `size` (W, H) if given."""
        a, b, c, d = _display_matrix(frame)
        rotated = abs(b) > abs(a)
        self._size = self._size or ((frame.height, frame.width) if rotated else (frame.width, frame.height))
        width, height = size or self._size
        if rotated:
            width, height = height, width
        try:
            converted = self._reformat(frame, width, height)
        except av.FFmpegError:
            # swscale refuses matrices that it cannot convert (YCgCo, ICtCp, …) and invalid ones. Players, and
            # FFmpeg until 5, then show the frame as if it named none.
            frame.colorspace = UNSPECIFIED
            frame.color_range = frame.color_range if frame.color_range in RANGES else RANGES[0]
            converted = self._reformat(frame, width, height)
        # A view of the frame's own memory: to_ndarray would copy it, and a caller that keeps it copies it anyway.
        plane = converted.planes[0]
        rgb_HWC = np.ndarray(
            (height, width, 3), np.uint8, buffer=memoryview(plane), strides=(plane.line_size, 3, 1)
        )
        if rotated:
            rgb_HWC = rgb_HWC.transpose(1, 0, 2)
        across, down = (c, b) if rotated else (a, d)
        return rgb_HWC[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]

    def _reformat(self, frame: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
        scaled = (width, height) != (frame.width, frame.height)
        return self._reformatter.reformat(
            frame,
            width,
            height,
            "rgb24",
            interpolation=Interpolation.BICUBIC if scaled else Interpolation.BILINEAR,
            threads=1,
        )


def _display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """a, b, c, d of ISO/IEC 14496-12, section 6.2.2: a point moves to x' = a x + c y, y' = b x + d y."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(matrix, dtype=np.int32)[:5].tolist()
    return a, b, c, d
