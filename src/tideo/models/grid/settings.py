"""grid.json: how an image-text model is shown a video as grids of frames, and how it scores options."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from tideo.bundled import check_encoder
from tideo.config import from_plain
from tideo.models.interface import check_settings
from tideo.models.prompts import VIDEO, style
from tideo.store.files import atomic_write_text
from tideo.types import Frames, UserError
from tideo.video.grid import check_shape, make_panels

GRID_FILE, QUESTION = "grid.json", "question"
INTRO = "The image shows {frames} frames of one video in reading order, {rows} rows of {cols}.\n"
INTRO_PANELS = (
    "The {panels} images show {frames} frames of one video one after another, each in reading order, {rows} rows of "
    "{cols}.\n"
)


@dataclass(frozen=True, kw_only=True)
class GridSettings:
    """The contents of grid.json; a model without that file has the defaults.

    A video becomes `panels` images of `rows` x `cols` frames. `sampler` is one of `tideo list samplers`, or
    `question`: then `encoder` chooses frames for each question (encoders/relevance.py). `intro` comes before the
    question and may have the fields {frames}, {panels}, {rows} and {cols}; None is a sentence that states these
    numbers. `prompt_style` and `form` are names in models/prompts.py.
    """

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
        if self.panels < 1:
            raise UserError(f"{self.panels} panels: expected at least one")
        check_settings(self, other_samplers=(QUESTION,))
        if self.sampler == QUESTION and not self.encoder:
            raise UserError(
                f"sampler {QUESTION!r} needs an encoder that compares frames with the question: set encoder, as in "
                "encoder=openai/clip-vit-large-patch14"
            )
        style(self.prompt_style)
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens={self.max_new_tokens}: expected at least 1")
        try:
            self._intro(num_images=1, num_frames=1)
        except (KeyError, IndexError, ValueError) as error:
            raise UserError(
                f"intro {self.intro!r}: expected the fields {self._intro_fields} alone"
            ) from error

    @property
    def num_frames(self) -> int:
        return self.panels * self.rows * self.cols

    @property
    def unused(self) -> dict[str, str]:
        """Field that changes nothing → the reason."""
        unused = {}
        if self.sampler != QUESTION:
            unused["encoder"] = f"only sampler={QUESTION} uses it"
        if self.num_frames == 1:
            unused["intro"] = "it introduces a grid, and there is one frame"
        return unused

    def check_inputs(self) -> None:
        """Raises UserError for an encoder that cannot be had, before a video is read for it."""
        if self.sampler == QUESTION:
            check_encoder(str(self.encoder))

    def images(self, frames: Frames, *, one_frame: bool = False) -> list[Image.Image]:
        """The frames as images for the model; with `one_frame` there is one image with one frame."""
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

    def turn(self, prompt: str, *, num_images: int, num_frames: int) -> str:
        """The user's turn: the prompt without its video marker, and the intro before it if the images show a grid."""
        text = prompt.replace(VIDEO, "", 1)
        if not num_images or num_frames == 1:
            return text
        return self._intro(num_images=num_images, num_frames=num_frames) + text

    @property
    def _intro_fields(self) -> str:
        return "{frames}, {panels}, {rows} and {cols}"

    def _intro(self, *, num_images: int, num_frames: int) -> str:
        intro = self.intro
        if intro is None:
            intro = INTRO if num_images == 1 else INTRO_PANELS
        return intro.format(frames=num_frames, panels=num_images, rows=self.rows, cols=self.cols)

    def as_begun(self, recorded: Mapping[str, Any]) -> GridSettings:
        """These settings, to go on with a run of an earlier version, in which every model had an encoder.

        The keys of its answers hash the encoder, which only the sampler `question` uses.
        """
        encoder = recorded.get("encoder")
        unused = self.encoder is None and self.sampler != QUESTION and isinstance(encoder, str)
        return replace(self, encoder=encoder) if unused else self

    def save(self, directory: str | Path) -> None:
        atomic_write_text(Path(directory) / GRID_FILE, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, directory: str | Path) -> GridSettings:
        """A folder without grid.json gives the defaults. Raises UserError if grid.json holds something else."""
        path = Path(directory) / GRID_FILE
        if not path.is_file():
            return cls()
        try:
            return from_plain(cls, json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise UserError(f"{path} does not describe a grid: {error}") from error
