"""How a model on a server is shown a video: as pictures, or as the file itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from tideo.models.grid.settings import GridSettings
from tideo.models.selecting import FIELDS as SELECTING
from tideo.types import UserError

VideoAs = Literal["data", "path", "plain_path", "input_video"]


@dataclass(frozen=True, kw_only=True)
class ServerSettings(GridSettings):
    """The settings of a grid, and how it is sent.

    `temperature` None leaves it to the server: some models take no other than their own. `look` "video" sends the
    file, of which the server chooses the frames; `send` is another name of it. `video_as`: a part `video_url` with the
    content ("data", at most `max_video_mb`), a file: URL ("path") or a path without a scheme ("plain_path", for
    transformers serve), or llama.cpp's part `input_video`.
    """

    temperature: float | None = 0.0
    video_as: VideoAs = "data"
    max_video_mb: int = 64

    def __post_init__(self) -> None:
        if self.video_as not in get_args(VideoAs):
            raise UserError(f"video_as={self.video_as!r}: expected one of {', '.join(get_args(VideoAs))}")
        super().__post_init__()
        if self.temperature is not None and self.temperature < 0:
            raise UserError(f"temperature={self.temperature}: expected at least 0, or none")
        if self.max_video_mb < 1:
            raise UserError(f"max_video_mb={self.max_video_mb}: expected at least 1")

    @property
    def unused(self) -> dict[str, str]:
        unused = super().unused
        if self.look == "frames":
            unused["fit"] = "send=frames keeps the shape of frames"
        if self.look == "video":
            of_pictures = (
                "rows", "cols", "panels", "image_size", "sampler", "encoder", "fit", "stamps", "intro", "frames",
                *SELECTING,
            )  # fmt: skip
            unused |= dict.fromkeys(of_pictures, "the server chooses the frames of send=video")
        else:
            unused["video_as"] = "only send=video uses it"
        if self.look != "video" or self.video_as in ("path", "plain_path"):
            unused["max_video_mb"] = "no content of a video is sent"
        return unused

    @property
    def keyed(self) -> dict[str, Any]:
        fields = super().keyed
        del fields["max_video_mb"]
        if self.look != "video":
            del fields["video_as"]
        return fields
