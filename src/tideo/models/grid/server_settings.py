"""How a model on a server is shown a video: as pictures, or as the file itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from PIL import Image

from tideo.models.grid.settings import GridSettings
from tideo.models.prompts import VIDEO
from tideo.types import Frames, UserError
from tideo.video.grid import make_grid, time_stamps

Send = Literal["auto", "grid", "panels", "frames", "video"]
VideoAs = Literal["data", "path", "plain_path", "input_video"]
INTRO_FRAMES = "The {frames} images are frames of one video in the order of time, at {times}.\n"
AS_PICTURES = ("auto", "grid", "panels")


@dataclass(frozen=True, kw_only=True)
class ServerSettings(GridSettings):
    """The settings of a grid, and how it is sent.

    `temperature` None leaves it to the server: some models take no other than their own. `send`: "grid" is one
    picture, "panels" several, "auto" either as `panels` says; "frames" sends `frames` single frames of at most
    `image_size` pixels a side, whose times are in the text ({times} in `intro`); "video" sends the file, of which the
    server chooses the frames. `video_as`: a part `video_url` with the content ("data", at most `max_video_mb`), a
    file: URL ("path") or a path without a scheme ("plain_path", for transformers serve), or llama.cpp's part
    `input_video`.
    """

    temperature: float | None = 0.0
    send: Send = "auto"
    frames: int = 16
    video_as: VideoAs = "data"
    max_video_mb: int = 64

    def __post_init__(self) -> None:
        for name, kind in (("send", Send), ("video_as", VideoAs)):
            if (value := getattr(self, name)) not in get_args(kind):
                raise UserError(f"{name}={value!r}: expected one of {', '.join(get_args(kind))}")
        super().__post_init__()
        if self.temperature is not None and self.temperature < 0:
            raise UserError(f"temperature={self.temperature}: expected at least 0, or none")
        if self.frames < 1 or self.max_video_mb < 1:
            raise UserError(
                f"frames={self.frames}, max_video_mb={self.max_video_mb}: expected at least 1 of each"
            )
        if self.send == "grid" and self.panels > 1:
            raise UserError(f"send=grid is one picture, and panels={self.panels}: set send=panels")
        if self.send == "panels" and self.panels == 1:
            raise UserError("send=panels is several pictures, and panels=1: set panels=2 or more")

    @property
    def num_frames(self) -> int:
        return self.frames if self.send == "frames" else super().num_frames

    @property
    def unused(self) -> dict[str, str]:
        unused = super().unused
        if self.send == "frames":
            unused |= dict.fromkeys(("rows", "cols", "panels"), "send=frames sends each frame by itself")
            unused["fit"] = "send=frames keeps the shape of frames"
        else:
            unused["frames"] = "only send=frames uses it"
        if self.send == "video":
            of_pictures = (
                "rows", "cols", "panels", "image_size", "sampler", "encoder", "fit", "stamps", "intro", "frames",
            )  # fmt: skip
            unused |= dict.fromkeys(of_pictures, "the server chooses the frames of send=video")
        else:
            unused["video_as"] = "only send=video uses it"
        if self.send != "video" or self.video_as in ("path", "plain_path"):
            unused["max_video_mb"] = "no content of a video is sent"
        return unused

    @property
    def keyed(self) -> dict[str, Any]:
        """What an answer depends on; of pictures as earlier versions had it, so that their answers are found."""
        fields = vars(self).copy()
        del fields["max_video_mb"]
        if self.send in AS_PICTURES:
            del fields["send"]
        if self.send != "frames":
            del fields["frames"]
        if self.send != "video":
            del fields["video_as"]
        return fields

    def images(self, frames: Frames, *, one_frame: bool = False) -> list[Image.Image]:
        if self.send != "frames":
            return super().images(frames, one_frame=one_frame)
        height, width = frames.rgb_THWC.shape[1:3]
        scale = min(1.0, self.image_size / max(width, height))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        grids = (
            make_grid(frames.at(slice(k, k + 1)), rows=1, cols=1, image_size=size, stamps=self.stamps)
            for k in range(len(frames))
        )
        return [Image.fromarray(grid.rgb_HWC) for grid in grids]

    def turn_about(self, prompt: str, *, num_images: int, pts_s: Sequence[float]) -> str:
        """The user's turn as `turn` has it, with the times of single frames."""
        if self.send != "frames" or not num_images:
            return self.turn(prompt, num_images=num_images, num_frames=len(pts_s))
        return self._intro(num_images=num_images, num_frames=len(pts_s), pts_s=pts_s) + prompt.replace(
            VIDEO, "", 1
        )

    @property
    def _intro_fields(self) -> str:
        return "{frames} and {times}" if self.send == "frames" else super()._intro_fields

    def _intro(self, *, num_images: int, num_frames: int, pts_s: Sequence[float] = (0.0,)) -> str:
        if self.send != "frames":
            return super()._intro(num_images=num_images, num_frames=num_frames)
        intro = INTRO_FRAMES if self.intro is None else self.intro
        return intro.format(frames=num_frames, times=", ".join(time_stamps(pts_s)))
