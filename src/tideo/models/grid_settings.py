"""How an image-text model looks at a video: grid.json; and how its weights are loaded."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError

from tideo import registry
from tideo.config import from_plain
from tideo.models.prompts import FORMS, VIDEO, style
from tideo.models.reductions import REDUCTIONS
from tideo.store import atomic_write_text
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
    """How a model looks at a video and scores options: grid.json, or the defaults where there is none.

    The video is `panels` images of `rows` x `cols` frames. `sampler` is one of `tideo list samplers`, or `question`:
    `encoder` chooses frames for each question (models/relevance.py). `intro` comes before the question, with the
    fields {frames}, {panels}, {rows} and {cols}; None tells just these. `prompt_style` and `form` as in
    models/prompts.py.
    """

    rows: int = 4
    cols: int = 4
    panels: int = 1
    image_size: int = 336
    sampler: str = "middle"
    encoder: str = "dollhouse-clip"
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
        if self.sampler not in (known := [*registry.targets("samplers"), QUESTION]):
            raise UserError(f"sampler {self.sampler!r}: expected one of {', '.join(known)}")
        style(self.prompt_style)
        if self.form not in FORMS:
            raise UserError(f"form {self.form!r}: expected one of {', '.join(FORMS)}")
        if self.reduction not in REDUCTIONS:
            raise UserError(f"reduction {self.reduction!r}: expected one of {', '.join(REDUCTIONS)}")
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens={self.max_new_tokens}: expected at least 1")
        try:
            self._intro(num_images=1, num_frames=1)
        except (KeyError, IndexError, ValueError) as error:
            raise UserError(
                f"intro {self.intro!r}: expected the fields {{frames}}, {{panels}}, {{rows}} and {{cols}} alone"
            ) from error

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
        return self._intro(num_images=num_images, num_frames=num_frames) + text

    def _intro(self, *, num_images: int, num_frames: int) -> str:
        intro = self.intro
        if intro is None:
            intro = INTRO if num_images == 1 else INTRO_PANELS
        return intro.format(frames=num_frames, panels=num_images, rows=self.rows, cols=self.cols)

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


def seen_side(processor: Any) -> int | None:
    """The side in pixels of all that the model sees of an image; None where it takes images of any size, or crops."""
    images = processor.image_processor
    if hasattr(images, "image_grid_pinpoints") or getattr(images, "do_image_splitting", False):
        return None
    size = images.crop_size if getattr(images, "do_center_crop", False) else images.size
    sides = [side for name in ("height", "width") if (side := dict(size or {}).get(name))]
    return max(sides) if len(sides) == 2 else None


def check_seen(processor: Any, settings: GridSettings, *, name: str) -> None:
    """Raises UserError where the grid is larger than the image that the model sees: its cells would be lost."""
    side = seen_side(processor)
    if side is not None and settings.image_size > side:
        raise UserError(
            f"a grid of {settings.image_size} pixels a side is larger than the {side} that {name} sees: "
            f"set image_size={side}"
        )


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
    if loading.dtype != "auto" and not isinstance(getattr(torch, loading.dtype, None), torch.dtype):
        raise UserError(f"dtype={loading.dtype}: expected auto, float32, bfloat16 or float16")
    try:
        processor = AutoProcessor.from_pretrained(source)
        if getattr(processor, "image_processor", None) is None:
            raise UserError(
                f"model {source}: it has no image processor, so it cannot be shown a grid; "
                "expected an image-text-to-text model"
            )
        model, told = AutoModelForImageTextToText.from_pretrained(
            source,
            dtype=loading.dtype,
            use_safetensors=True,
            attn_implementation="sdpa",
            device_map=_places() if loading.place and torch.accelerator.is_available() else None,
            output_loading_info=True,
            **extra,
        )
    except UserError:
        raise
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the image-text model {source!r} cannot be loaded: {reason}") from error
    if missing := sorted(told["missing_keys"]):  # they would be random numbers, and so the answers
        raise UserError(
            f"the image-text model {source!r} lacks {len(missing)} of its weights, the first {missing[0]}: get it anew"
        )
    return model.eval(), processor
