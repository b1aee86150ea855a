"""grid.json: how an image-text model is shown a video, as grids of frames in most cases, and how it scores options."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from PIL import Image

from tideo.bundled import check_encoder
from tideo.config import from_plain
from tideo.models.interface import check_settings
from tideo.models.prompts import VIDEO, style
from tideo.models.selecting import Selecting, no_selector
from tideo.store.files import atomic_write_text
from tideo.types import Frames, UserError
from tideo.video.grid import check_shape, make_grid, make_panels, time_stamps

Look = Literal["auto", "grid", "panels", "frames", "video"]
OF_GRIDS = ("auto", "grid", "panels")
# Video Panels (arXiv 2509.23724) found 2 x 2 frames in each image best; these are as many as in a grid of 4 x 4.
PANELS = {"panels": 4, "rows": 2, "cols": 2}

GRID_FILE = "grid.json"
INTRO = "The image shows {frames} frames of one video in reading order, {rows} rows of {cols}.\n"
INTRO_PANELS = (
    "The {panels} images show {frames} frames of one video one after another, each in reading order, {rows} rows of "
    "{cols}.\n"
)
INTRO_FRAMES = "The {frames} images are frames of one video in the order of time, at {times}.\n"


@dataclass(frozen=True, kw_only=True)
class GridSettings(Selecting):
    """The contents of grid.json; a model without that file has the defaults.

    `look`: "grid" is one image of `rows` x `cols` frames, "panels" are several, "auto" either as `panels` says.
    "frames" are `frames` images of one frame, at most `image_size` pixels a side. "video" gives the same frames to the
    model's own video input. `sampler` is one of `tideo list samplers`; one that chooses for each question needs a
    `selector`, whose earlier name is `encoder`. `intro` comes before the question and may have the fields {frames} and
    {times}, of grids also {panels}, {rows} and {cols}; None is a sentence that states these, for grids without the
    times, or nothing for a video, of which processors state the times. `prompt_style` and `form` are names in
    models/prompts.py.
    """

    look: Look = "auto"
    frames: int = 16
    rows: int = 4
    cols: int = 4
    panels: int = 1
    image_size: int = 336
    sampler: str = "middle"
    encoder: str | None = None
    fit: str = "squash"
    stamps: bool = False
    intro: str | None = None
    prompt_style: str = "llava"
    form: str = "letter"
    reduction: str = "mean"
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        check_shape(rows=self.rows, cols=self.cols, image_size=self.image_size, fit=self.fit)
        if self.look not in get_args(Look):
            raise UserError(f"look={self.look!r}: expected one of {', '.join(get_args(Look))}")
        if self.panels < 1 or self.frames < 1:
            raise UserError(f"panels={self.panels}, frames={self.frames}: expected at least 1 of each")
        if self.look == "grid" and self.panels > 1:
            raise UserError(f"look=grid is one image, and panels={self.panels}: set look=panels")
        if self.look == "panels" and self.panels == 1:
            raise UserError("look=panels is several images, and panels=1: set panels=2 or more")
        check_settings(self)
        if self.chooses and self.selector and self.encoder and self.selector != self.encoder:
            raise UserError(
                f"selector={self.selector} and encoder={self.encoder}, its earlier name: leave encoder out"
            )
        if self.chooses and not (self.selector or self.encoder):
            raise UserError(no_selector(self.sampler))
        style(self.prompt_style)
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens={self.max_new_tokens}: expected at least 1")
        try:
            self._intro(num_images=1, pts_s=(0.0,))
        except (KeyError, IndexError, ValueError) as error:
            grids = "{frames}, {times}, {panels}, {rows} and {cols}"
            allowed = grids if self.shows_grids else "{frames} and {times}"
            raise UserError(f"intro {self.intro!r}: expected the fields {allowed} alone") from error

    @property
    def shows_grids(self) -> bool:
        return self.look in OF_GRIDS

    @property
    def num_frames(self) -> int:
        return self.panels * self.rows * self.cols if self.shows_grids else self.frames

    @property
    def unused(self) -> dict[str, str]:
        """Field that changes nothing → the reason."""
        unused = super().unused
        if not self.chooses:
            unused["encoder"] = unused["selector"]
        if self.num_frames == 1:
            unused["intro"] = "it introduces several frames, and there is one"
        if self.shows_grids:
            unused["frames"] = "only look=frames and look=video use it"
        else:
            unused |= dict.fromkeys(
                ("rows", "cols", "panels"), f"look={self.look} shows each frame by itself"
            )
        return unused

    @property
    def keyed(self) -> dict[str, Any]:
        """What an answer depends on; of grids as earlier versions had it, so that their answers are found."""
        fields = super().keyed
        if self.shows_grids:
            del fields["look"], fields["frames"]
        return fields

    def check_inputs(self) -> None:
        """Raises UserError for an encoder that cannot be had, before a video is read for it."""
        if self.chooses:
            check_encoder(str(self.selector or self.encoder))

    def images(self, frames: Frames, *, one_frame: bool = False, square: bool = False) -> list[Image.Image]:
        """The frames as images; with `one_frame` there is one image with one frame.

        Single frames keep their shape, or become squares as `fit` says.
        """
        if not self.shows_grids:
            return [self._single(frames.at(slice(k, k + 1)), square=square) for k in range(len(frames))]
        panels = make_panels(
            frames,
            panels=1 if one_frame else self.panels,
            rows=1 if one_frame else self.rows,
            cols=1 if one_frame else self.cols,
            image_size=self.image_size,
            fit=self.fit,
            stamps=self.stamps,
        )
        return [Image.fromarray(panel.rgb_HWC) for panel in panels]

    def _single(self, frame: Frames, *, square: bool) -> Image.Image:
        height, width = frame.rgb_THWC.shape[1:3]
        scale = min(1.0, self.image_size / max(width, height))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        if square:
            size = (self.image_size, self.image_size)
        grid = make_grid(frame, rows=1, cols=1, image_size=size, fit=self.fit, stamps=self.stamps)
        return Image.fromarray(grid.rgb_HWC)

    def turn(self, prompt: str, *, num_images: int, pts_s: Sequence[float]) -> str:
        """The user's turn: the prompt without its video marker, behind the intro if the images show several frames.

        `pts_s`: the times of the frames, all that the images show.
        """
        text = prompt.replace(VIDEO, "", 1)
        if not num_images or len(pts_s) == 1:
            return text
        return self._intro(num_images=num_images, pts_s=pts_s) + text

    @property
    def states_times(self) -> bool:
        """Whether the intro states the frames' times."""
        return self.look == "frames" if self.intro is None else "{times" in self.intro

    def _intro(self, *, num_images: int, pts_s: Sequence[float]) -> str:
        intro, fields = self.intro, {"frames": len(pts_s), "times": ", ".join(time_stamps(pts_s))}
        if self.shows_grids:
            if intro is None:
                intro = INTRO if num_images == 1 else INTRO_PANELS
            fields |= {"panels": num_images, "rows": self.rows, "cols": self.cols}
        elif intro is None:
            intro = INTRO_FRAMES if self.look == "frames" else ""
        return intro.format(**fields)

    def as_begun(self, recorded: Mapping[str, Any]) -> GridSettings:
        """These settings, to go on with a run of an earlier version, in which every model had an encoder.

        The keys of its answers hash the encoder, which only a selector uses.
        """
        encoder = recorded.get("encoder")
        unused = self.encoder is None and not self.chooses and isinstance(encoder, str)
        return replace(self, encoder=encoder) if unused else self

    def save(self, directory: str | Path) -> None:
        atomic_write_text(Path(directory) / GRID_FILE, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, directory: str | Path) -> GridSettings:
        """A folder without grid.json gives the defaults. Raises UserError if grid.json holds something else."""
        try:
            return from_plain(cls, recorded(directory))
        except ValueError as error:
            raise UserError(f"{Path(directory) / GRID_FILE} does not describe a grid: {error}") from error


def recorded(directory: str | Path) -> Any:
    """What the grid.json of a folder holds; nothing without that file."""
    path = Path(directory) / GRID_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def with_panels(args: Sequence[str], *, chosen: Collection[str] = ()) -> list[str]:
    """The key=value settings, with PANELS where look=panels is set without them; `chosen` are other fields that are."""
    keys = {*chosen, *(name_of(arg) for arg in args)}
    if "look=panels" not in [arg.replace(" ", "") for arg in args]:
        return list(args)
    return [*args, *(f"{name}={value}" for name, value in PANELS.items() if name not in keys)]


def name_of(arg: str) -> str:
    """The field of a key=value setting."""
    return arg.partition("=")[0].strip()
