"""Loading the weights and the processor of an image-text model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import isqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tideo.bundled import located, model_source
from tideo.fitting import fitting
from tideo.loading import Loading
from tideo.models.grid.settings import GridSettings
from tideo.pretrained import FAULTS, OWN_CODE, check_packages, check_whole, reason
from tideo.types import Frames, UserError

if TYPE_CHECKING:
    from tideo.models.grid.template import ChatTemplate

log = logging.getLogger(__name__)
NO_IMAGES = (
    "model {name}: it has no image processor, so it cannot be shown a grid; expected an image-text-to-text model, with "
    "a preprocessor_config.json or processor_config.json that describes one"
)
NO_VIDEOS = (
    "model {name}: it has no video processor, without which its class does not load, whatever it is shown; expected a "
    "video_preprocessor_config.json or processor_config.json that describes one: get its folder anew"
)
TOKEN_SIDE = 64  # pixels; no family has larger tokens
SHAPES = ((16, 9), (1, 1))  # of frames: with some families the one has fewer tokens, with some the other
SMALLEST = 160  # pixels on the longer side of a frame: single frames of small videos are not enlarged


def seen_side(processor: Any, side: int, *, num_images: int = 1) -> int | None:
    """At how many pixels a side a model sees a square image of `side`, at most `side`; None if its processor says none.

    Qwen-VL rounds to whole merged patches within a budget of pixels, LLaVA-NeXT and Idefics3 cut into tiles, LLaVA-1.5
    has one square input. LLaVA-OneVision cuts a single image into tiles, and sees each of several as one tile.
    """
    images = processor.image_processor
    if hasattr(images, "merge_size") and hasattr(images, "get_number_of_image_patches"):
        patches = int(images.get_number_of_image_patches(side, side, {}))
        return min(side, isqrt(patches) * int(images.patch_size))
    one_tile = num_images > 1 and "batch_num_images" in getattr(images, "model_input_names", ())
    if (places := getattr(images, "image_grid_pinpoints", None)) and not one_tile:
        return min(side, max(min(place) for place in places))
    size = dict(images.size or {})
    if isinstance(getattr(images, "max_image_size", None), Mapping):
        longest = (size if images.do_image_splitting else images.max_image_size).get("longest_edge")
        return None if longest is None else min(side, longest)
    if getattr(images, "do_image_splitting", False) or getattr(images, "crop_to_patches", False):
        return None
    if getattr(images, "do_center_crop", False):
        size = dict(images.crop_size)
    sides = [length for name in ("height", "width") if (length := size.get(name))]
    edges = [length for name in ("shortest_edge", "longest_edge") if (length := size.get(name))]
    return min(side, *sides, *edges) if (len(sides), len(edges)) in ((2, 0), (0, 1)) else None


def crops(processor: Any) -> bool:
    """Whether the processor cuts the sides off an image that is no square, as CLIP's does."""
    images = processor.image_processor
    tiles = getattr(images, "image_grid_pinpoints", None)  # LLaVA-NeXT's, which hold the whole image
    return bool(getattr(images, "do_center_crop", False)) and not tiles


def check_image_size(processor: Any, settings: GridSettings, *, name: str, warns: bool = True) -> None:
    """Raises UserError if the grid is larger than the model's input, since scaling it down would blur its cells.

    Qwen-VL's rounding to whole patches is a warning, if it `warns`. Single frames may be scaled.
    """
    if not settings.shows_grids:
        return
    side = settings.image_size
    seen = seen_side(processor, side, num_images=settings.panels)
    if seen is None or seen == side:
        return
    images = processor.image_processor
    step = int(images.patch_size) * int(images.merge_size) if hasattr(images, "merge_size") else 0
    if side - seen < step and not warns:
        return
    if side - seen < step:
        whole = [str(near) for near in (seen, seen + step) if seen_side(processor, near) == near]
        log.warning(
            "%s sees images in multiples of %d pixels, so a grid of %d a side at %d: it sees image_size=%s as it is",
            name, step, side, seen, " or ".join(whole),
        )  # fmt: skip
        return
    raise UserError(
        f"a grid of {side} pixels a side is larger than the {seen} that {name} sees: set image_size={seen}"
    )


def check_cells(template: ChatTemplate, settings: GridSettings) -> None:
    """Raises UserError if a grid has more cells than tokens: some frames would leave no trace in them."""
    cells, side = settings.rows * settings.cols, settings.image_size
    if not settings.shows_grids or side / max(settings.rows, settings.cols) >= TOKEN_SIDE:
        return
    opening = template.opening("What happens?", num_images=1)
    ids = template.encode(opening, [Image.new("RGB", (side, side))])["input_ids"]
    tokens = int((ids == getattr(template.processor, "image_token_id", None)).sum())
    if 0 < tokens < cells:
        raise UserError(
            f"a grid of {settings.rows} x {settings.cols} cells in {side} pixels has {tokens} tokens of "
            f"{template.name}, so {cells - tokens} frames would vanish: set fewer rows and cols, or a larger "
            "image_size if the model sees one"
        )


def check_context(template: ChatTemplate, settings: GridSettings, *, limit: float) -> None:
    """Raises UserError if not even a short question about what is shown fits the context of `limit` tokens.

    Single frames are taken to be as small as those of a small video: larger ones are refused where they are shown.
    """
    side, num, least = settings.image_size, settings.num_frames, limit
    if not settings.shows_grids:
        side = min(side, SMALLEST)
    for width, height in ((1, 1),) if settings.shows_grids else SHAPES:
        size = (side, side * height // width)
        visuals: list[Any] = [Image.new("RGB", size)] * (settings.panels if settings.shows_grids else num)
        turn = settings.turn("What?", num_images=len(visuals), pts_s=[float(k) for k in range(num)])
        if template.kind == "video":
            pts_s_T = np.arange(float(max(2, num)))
            rgb_THWC = np.zeros((len(pts_s_T), *size[::-1], 3), dtype=np.uint8)
            visuals = [Frames(rgb_THWC=rgb_THWC, pts_s_T=pts_s_T, video_id="")]
        opening = template.opening(turn, num_images=len(visuals))
        tokens = int(template.encode(opening, visuals)["input_ids"].shape[1])
        if tokens < limit:
            return
        least = tokens if least == limit else min(least, tokens)
    raise UserError(
        f"model {template.name}: a short question about {num} frames has {least:.0f} tokens, which leave no room in "
        f"its context of {limit:.0f}: show less ({'panels' if settings.shows_grids else 'frames'}, image_size)"
    )


def check_shown(processor: Any, settings: GridSettings, *, config: Any, name: str) -> None:
    """Raises UserError if a model with this processor and config of transformers does not take what the settings show.

    All of it is known before the weights are read, which takes longer.
    """
    from tideo.models.grid.template import ChatTemplate
    from tideo.models.likelihood import context_of

    check_image_size(processor, settings, name=name, warns=False)
    template = ChatTemplate(processor, name=name, kind="video" if settings.look == "video" else "image")
    check_cells(template, settings)
    check_context(template, settings, limit=context_of(config))


def load_processor(source: str) -> Any:
    """The processor of an image-text model. Raises UserError if it takes no images, and FAULTS."""
    from transformers import AutoImageProcessor, AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(source, **OWN_CODE)
        if getattr(processor, "image_processor", None) is None:
            raise UserError(NO_IMAGES.format(name=source))
        # PIL even if torchvision is installed: answers must not depend on the other packages of a machine.
        processor.image_processor = AutoImageProcessor.from_pretrained(source, backend="pil", **OWN_CODE)
    except OSError as error:
        check_packages(error)
        for what, line in (("image", NO_IMAGES), ("video", NO_VIDEOS)):
            if f"load {what} processor" in str(error):
                raise UserError(line.format(name=source)) from error
        raise
    return processor


Check = Callable[[Any, Any], None]  # of a config of transformers and a processor; raises UserError


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """FAULTS of an image-text model as UserError."""
    try:
        yield
    except UserError:
        raise
    except FAULTS as error:
        check_packages(error)
        source = located(name)
        raise UserError(f"the image-text model {name!r} cannot be loaded: {reason(error, source)}") from error


def load_parts(name: str, *, check: Check = lambda config, processor: None) -> tuple[Any, Any]:
    """The config and the processor of an image-text model, without its weights.

    Raises UserError with one line if they cannot be loaded, if the chat template does not put replies where they are
    scored, or if `check` refuses them.
    """
    source = model_source(name, failure=f"the image-text model {name!r} cannot be loaded")
    with _loading(name):
        from transformers import AutoConfig

        from tideo.models.grid.template import ChatTemplate

        processor = load_processor(source)
        ChatTemplate(processor, name=source)
        config = AutoConfig.from_pretrained(source, **OWN_CODE)
        check(config, processor)
    return config, processor


def load_vlm(
    name: str,
    *,
    loading: Loading,
    place: bool = True,
    check: Check = lambda config, processor: None,
) -> tuple[Any, Any]:
    """An image-text-to-text model in eval mode, and its processor; `place` as in `Loading.options`.

    What `load_parts` refuses is refused before the weights are downloaded or read, from safetensors only. Raises
    UserError with one line as that, and for weights that cannot be loaded or are not whole.
    """
    config, processor = load_parts(name, check=check)
    source = located(name)
    with _loading(name):
        from transformers import AutoModelForImageTextToText

        saved = getattr(config, "dtype", None)
        options = {"attn_implementation": "sdpa"} | loading.options(saved=saved, place=place)
        with fitting(source, loading):
            model, loading_info = AutoModelForImageTextToText.from_pretrained(
                source,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **OWN_CODE,
                **options,
            )
    check_whole(loading_info, f"the image-text model {source!r}")
    return model.eval(), processor
