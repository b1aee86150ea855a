"""How an image-text model looks at a video: grid.json; and how its weights are loaded."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from tideo.config import from_plain
from tideo.models.prompts import VIDEO, style
from tideo.store import atomic_write_text
from tideo.types import Frames, UserError
from tideo.video.grid import check_shape, make_panels
from tideo.video.samplers import SAMPLERS

GRID_FILE, QUESTION = "grid.json", "question"


@dataclass(frozen=True, kw_only=True)
class GridSettings:
    """How a model looks at a video and scores options: grid.json, or the defaults where there is none.

    The video is `panels` images of `rows` x `cols` frames. `sampler` is one of `tideo list samplers`, or `question`:
    `encoder` chooses frames for each question (models/relevance.py). `intro` comes before the question, with the
    fields {frames}, {panels}, {rows} and {cols}. `prompt_style` and `form` as in models/prompts.py.
    """

    rows: int = 4
    cols: int = 4
    panels: int = 1
    image_size: int = 336
    sampler: str = "middle"
    encoder: str = "dollhouse-clip"
    fit: str = "squash"
    stamps: bool = False
    intro: str = "The image shows {frames} frames of one video in reading order, {rows} rows of {cols}.\n"
    prompt_style: str = "llava"
    form: str = "letter"
    reduction: str = "mean"
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        check_shape(rows=self.rows, cols=self.cols, image_size=self.image_size, fit=self.fit)
        if self.panels < 1:
            raise UserError(f"{self.panels} panels: expected at least one")
        if self.sampler not in (*SAMPLERS, QUESTION):
            raise UserError(f"sampler {self.sampler!r}: expected one of {', '.join([*SAMPLERS, QUESTION])}")
        style(self.prompt_style)

    @property
    def num_frames(self) -> int:
        return self.panels * self.rows * self.cols

    def images(self, frames: Frames, *, one_frame: bool = False) -> list[Image.Image]:
        """The frames as the images that the model sees; `one_frame` fills one image with one frame."""
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
        """The user's words: the prompt without its marker, the intro before it where a grid is shown."""
        text = prompt.replace(VIDEO, "", 1)
        if not num_images or num_frames == 1:
            return text
        intro = self.intro.format(frames=num_frames, panels=num_images, rows=self.rows, cols=self.cols)
        return intro + text

    def save(self, directory: str | Path) -> None:
        atomic_write_text(Path(directory) / GRID_FILE, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, directory: str | Path) -> GridSettings:
        """The defaults where the folder has no grid.json. Raises UserError where that holds something else."""
        path = Path(directory) / GRID_FILE
        if not path.is_file():
            return cls()
        try:
            return from_plain(cls, json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise UserError(f"{path} does not describe a grid: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How weights are loaded: `dtype` a name of torch or auto; `load_4bit` needs bitsandbytes and a GPU.

    `place` puts them on the GPU where there is one; a training places them itself.
    """

    dtype: str = "auto"
    load_4bit: bool = False
    place: bool = True


def _places() -> str | dict[str, int]:
    """All GPUs, or this process's own where there are several processes."""
    rank = os.environ.get("LOCAL_RANK")
    return "auto" if rank is None else {"": int(rank)}


def load_vlm(source: str, *, loading: Loading) -> tuple[Any, Any]:
    """An image-text-to-text model in eval mode and its processor.

    Weights are read from safetensors only. Raises UserError in one line where that fails.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig

    extra: dict[str, Any] = {}
    if loading.load_4bit:
        if not torch.accelerator.is_available():
            raise UserError("4-bit weights need a GPU and bitsandbytes: leave load_4bit out")
        extra["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16
        )
    try:
        processor = AutoProcessor.from_pretrained(source)
        if getattr(processor, "image_processor", None) is None:
            raise UserError(
                f"model {source}: it has no image processor, so it cannot be shown a grid; "
                "expected an image-text-to-text model"
            )
        model = AutoModelForImageTextToText.from_pretrained(
            source,
            dtype=loading.dtype,
            use_safetensors=True,
            attn_implementation="sdpa",
            device_map=_places() if loading.place and torch.accelerator.is_available() else None,
            **extra,
        )
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the image-text model {source!r} cannot be loaded: {reason}") from error
    return model.eval(), processor
