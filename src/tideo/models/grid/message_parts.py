"""Pictures and videos as parts of a chat message, in the shapes that servers take.

vLLM, SGLang and Tideo have `video_url` (https://docs.vllm.ai/en/latest/features/multimodal_inputs.html), transformers
serve the same with a path in it, llama.cpp `input_video` (https://github.com/ggml-org/llama.cpp/pull/24269).
"""

from __future__ import annotations

import base64
import io
import mimetypes
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from PIL import Image

from tideo.store.files import content_key
from tideo.types import Stopped, UserError, Video, VideoError
from tideo.video.clip import clip, is_whole

Part = dict[str, Any]
MP4 = "video/mp4"
MOST_BYTES = 256 * 2**20  # of the files that are kept for further questions


def image_part(image: Image.Image, *, time_s: float | None = None) -> Part:
    """`time_s` is the field in which Tideo's own server takes a frame's time; others refuse it."""
    data = io.BytesIO()
    image.save(data, format="PNG")
    part: Part = {"type": "image_url", "image_url": {"url": _data_url(data.getvalue(), "image/png")}}
    return part if time_s is None else part | {"time_s": time_s}


class VideoParts:
    """The part of a segment, kept for further questions. `video_as` as in `ServerSettings`. Safe in several threads."""

    def __init__(self, *, video_as: str, max_mb: int) -> None:
        self.video_as, self.max_bytes = video_as, max_mb * 10**6
        self._kept: OrderedDict[tuple[Any, ...], Part] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.Lock()

    def part(self, video: Video, *, whole: bool) -> Part:
        """`whole`: the server cuts the segment itself, so the whole file is sent.

        Raises UserError for a file that is too large, Stopped for a segment where a path is sent, VideoError as `clip`.
        """
        with self._lock:  # several questions about one segment wait for one reading
            segment = None if whole else (video.start_s, video.end_s)
            key = (content_key(video.path), video.path, segment)
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            part = self._made(video, whole=whole)
            self._kept[key] = part
            self._num_bytes += _size(part)
            while self._num_bytes > MOST_BYTES and len(self._kept) > 1:
                self._num_bytes -= _size(self._kept.popitem(last=False)[1])
            return part

    def _made(self, video: Video, *, whole: bool) -> Part:
        as_it_is = whole or is_whole(video)
        if self.video_as in ("path", "plain_path"):
            if not as_it_is:
                raise Stopped(
                    f"video {video.path}: the question is about a segment, and video_as={self.video_as} sends the "
                    "whole file; set video_as=data"
                )
            path = Path(video.path).resolve()
            return _video_url(path.as_uri() if self.video_as == "path" else str(path))
        kind, _ = mimetypes.guess_type(video.path)
        if not whole and not (as_it_is and Path(video.path).is_file() and (kind or MP4).startswith("video/")):
            try:
                content, kind = clip(video, max_bytes=self.max_bytes), MP4
            except VideoError:
                raise
            except UserError as error:
                raise UserError(f"{error}; {self._advice}") from error
        elif (size := Path(video.path).stat().st_size) > self.max_bytes:
            raise UserError(
                f"video {video.path}: it has {size / 1e6:.0f} MB, more than the {self.max_bytes / 1e6:.0f} of "
                f"max_video_mb; {self._advice}"
            )
        else:
            content = Path(video.path).read_bytes()
        if self.video_as == "input_video":
            return {"type": "input_video", "input_video": {"data": base64.b64encode(content).decode()}}
        return _video_url(_data_url(content, kind or MP4))

    @property
    def _advice(self) -> str:
        return "raise max_video_mb, set video_as=path if the server can read the file, or set send=frames"


def _video_url(url: str) -> Part:
    return {"type": "video_url", "video_url": {"url": url}}


def _data_url(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _size(part: Part) -> int:
    body = part[part["type"]]
    return len(body.get("url") or body["data"])
