"""Loading the weights and the processor of an image-text model."""

from __future__ import annotations

from typing import Any

from tideo.bundled import model_source
from tideo.loading import Loading
from tideo.models.grid.settings import GridSettings
from tideo.pretrained import FAULTS, OWN_CODE, check_whole, reason
from tideo.registry import require
from tideo.types import UserError


def input_side(processor: Any) -> int | None:
    """The side in pixels of the one square input of a model; None if it takes any size of image, or several crops."""
    images = processor.image_processor
    if hasattr(images, "image_grid_pinpoints") or getattr(images, "do_image_splitting", False):
        return None
    size = images.crop_size if getattr(images, "do_center_crop", False) else images.size
    sides = [side for name in ("height", "width") if (side := dict(size or {}).get(name))]
    return max(sides) if len(sides) == 2 else None


def check_image_size(processor: Any, settings: GridSettings, *, name: str) -> None:
    """Raises UserError if the grid is larger than the model's input, since scaling it down would blur its cells."""
    side = input_side(processor)
    if side is not None and settings.image_size > side:
        raise UserError(
            f"a grid of {settings.image_size} pixels a side is larger than the {side} that {name} sees: "
            f"set image_size={side}"
        )


def load_vlm(source: str, *, loading: Loading, place: bool = True) -> tuple[Any, Any]:
    """An image-text-to-text model in eval mode, and its processor; `place` as in `Loading.options`.

    Weights are read from safetensors only. Raises UserError with one line if they cannot be loaded, or if the chat
    template does not put replies where they are scored.
    """
    failure = f"the image-text model {source!r} cannot be loaded"
    source = model_source(source, failure=failure)
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    from tideo.models.grid.template import ChatTemplate

    try:
        processor = AutoProcessor.from_pretrained(source, **OWN_CODE)
        if getattr(processor, "image_processor", None) is None:
            raise UserError(
                f"model {source}: it has no image processor, so it cannot be shown a grid; "
                "expected an image-text-to-text model"
            )
        ChatTemplate(processor, name=source)  # refused before the weights are read, which takes longer
        saved = getattr(AutoConfig.from_pretrained(source, **OWN_CODE), "dtype", None)
        options = {"attn_implementation": "sdpa"} | loading.options(saved=saved, place=place)
        model, loading_info = AutoModelForImageTextToText.from_pretrained(
            source,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **OWN_CODE,
            **options,
        )
    except UserError:
        raise
    except FAULTS as error:
        if "torchvision" in str(error).lower():  # such as the image processors of Qwen
            require("torchvision")
        raise UserError(f"{failure}: {reason(error, source)}") from error
    check_whole(loading_info, f"the image-text model {source!r}")
    return model.eval(), processor
