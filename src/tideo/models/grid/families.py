"""What differs between families of image-text models, in one table: modules, batches, and the sizes that suit each.

A family is a `model_type` of transformers. One that has no row here is loaded, asked and finetuned all the same, as
OTHER says: question by question, with the module names that families share.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from tideo.models.grid.loading import seen_side
from tideo.models.grid.settings import PANELS, GridSettings


@dataclass(frozen=True, kw_only=True)
class Family:
    """`tower` and `projector` are names of modules, whichever of them a model has.

    `stacked`: inputs that are filled up with zeros give the answers of each turn alone (tests/models/grid/test_vlm.py).
    `packs`: questions that share a sequence have the losses of separate ones (tests/train/grid/test_examples.py), so
    text and image tokens have one position each and see only what stands before them. `keeps_features`: the tower's
    output can replace the pixels. `videos_alike`: all videos of a training batch need one number of frames.
    `several_alike`: each of several images of a turn is seen as if it was alone.

    `tokens`: how many tokens one of several square images has, from the config, the side in pixels and the number of
    images, with the processor as published. `of_frame`: the same of a frame of a video.

    `grid`, `panel`, `frame`: the side in pixels that suits an image of that kind, by the processor's own sizes; a
    processor that sees less gets what it sees. `frames`, `of_video`: how many frames suit look=frames and look=video,
    whatever the shape of a frame. `panels`: for look=panels, what PANELS has.
    """

    tower: tuple[str, ...] = ("vision_tower", "vision_model", "visual")
    projector: tuple[str, ...] = ("multi_modal_projector",)
    stacked: bool = False
    packs: bool = False
    keeps_features: bool = False
    videos_alike: bool = False
    several_alike: bool = True
    tokens: Callable[[Any, int, int], int] | None = None
    of_frame: Callable[[Any, int], float] | None = None
    grid: int = 336
    panel: int = 336
    frame: int = 336
    frames: int = 16
    of_video: int = 16
    panels: tuple[int, ...] = tuple(PANELS.values())

    def suits(self, look: str) -> dict[str, int]:
        """The fields of GridSettings that suit a look; those of `panels` only where it is "panels"."""
        if look in ("frames", "video"):
            return {"image_size": self.frame, "frames": self.frames if look == "frames" else self.of_video}
        if look == "panels":
            return {**dict(zip(PANELS, self.panels, strict=True)), "image_size": self.panel}
        return {"image_size": self.grid}


def _side(config: Any) -> int:
    """Patches on a side of what the tower sees."""
    return int(config.vision_config.image_size // config.vision_config.patch_size)


def _one_input(config: Any, side: int, num_images: int) -> int:
    return _side(config) ** 2


def _tiles(config: Any, side: int) -> int:
    """Tiles on a side of the place that LLaVA-NeXT gives a square image."""
    from transformers.image_processing_utils import select_best_resolution

    place = select_best_resolution((side, side), config.image_grid_pinpoints)
    return int(min(place) // config.vision_config.image_size)


def _anyres(config: Any, side: int, num_images: int) -> int:
    """The whole image, and its tiles with an end for each line."""
    fitted = _side(config) * _tiles(config, side)
    return _side(config) ** 2 + fitted * (fitted + 1)


def _anyres_of_nine(config: Any, side: int, num_images: int) -> int:
    """As `_anyres`, of more than nine tiles no more than nine have; several images have one tile and one end each."""
    if num_images > 1:
        return _side(config) ** 2 + 1
    fitted = _side(config) * _tiles(config, side)
    ratio = fitted / (3 * _side(config))
    fitted = int(fitted // ratio) if ratio > 1.1 else fitted
    return _side(config) ** 2 + fitted * (fitted + 1)


def _merged(config: Any, side: int, num_images: int) -> int:
    vision = config.vision_config
    return int(round(side / (vision.patch_size * vision.spatial_merge_size)) ** 2)


def _half_merged(config: Any, side: int) -> float:
    """Two frames share their tokens."""
    return _merged(config, side, 1) / 2


def _tile(config: Any) -> int:
    return int(_side(config) // config.scale_factor) ** 2


def _seventeen_tiles(config: Any, side: int, num_images: int) -> int:
    return 17 * _tile(config)


# Projectors of the families that have no row.
OTHER = Family(
    projector=("multi_modal_projector", "connector", "image_newline", "merger", "mlp1", "modality_projection")
)
# Patches of 14 pixels, of which 2 x 2 become a token: 32 x 32 tokens, 8 x 8 of each of 16 cells.
_QWEN_2 = Family(
    tower=("visual",),
    projector=("merger",),
    stacked=True,
    tokens=_merged,
    of_frame=_half_merged,
    grid=896,
    panel=448,
    frame=448,
)
# Every image is enlarged to 4 tiles on its longer side, beside the whole: a tile is a cell of a 4 x 4 grid. A single
# frame takes 13 tiles or, if it is nearly square, 17: of SmolVLM2-2.2B these are 1,418 tokens with their marks, and
# five of them fit its context of 8,192. A frame of a video takes one tile.
_SMOLVLM = Family(
    tower=("vision_model",),
    projector=("connector",),
    stacked=True,
    packs=True,
    tokens=_seventeen_tiles,
    of_frame=lambda config, side: _tile(config),
    grid=2048,
    panel=2048,
    frame=512,
    frames=5,
)
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        # 24 x 24 patches of 14 pixels, 6 x 6 of each of 16 cells. Six frames are 3,456 tokens of a context of 4,096.
        "llava": Family(
            tower=("vision_tower",), stacked=True, packs=True, keeps_features=True, tokens=_one_input, frames=6,
        ),
        # As published for the grid; a grid of 672 is cut into 2 x 2 tiles, 2,928 tokens. A frame of 16:9 has 1,632
        # tokens, one of 2:1 1,752, a square panel 1,176: of a context of 4,096 two frames leave room, or two panels.
        "llava_next": Family(
            tower=("vision_tower",), projector=("multi_modal_projector", "image_newline"), stacked=True, packs=True,
            keeps_features=True, tokens=_anyres, frames=2, panels=(2, 2, 4),
        ),
        # Tiles of 384 pixels, 27 x 27 tokens: a grid is 2 x 2 of them with 4 cells each. Several images have one each.
        "llava_onevision": Family(
            tower=("vision_tower",), projector=("multi_modal_projector", "image_newline"), stacked=True, packs=True,
            videos_alike=True, several_alike=False,
            tokens=_anyres_of_nine, of_frame=lambda config, side: (-(-_side(config) // 2)) ** 2,
            grid=768, panel=384, frame=384,
        ),
        "qwen2_vl": _QWEN_2,
        "qwen2_5_vl": _QWEN_2,
        # Patches of 16 pixels, of which 2 x 2 become a token: 28 x 28 tokens, 7 x 7 of each of 16 cells.
        "qwen3_vl": replace(_QWEN_2, projector=("merger", "deepstack_merger_list"), stacked=False),
        "smolvlm": _SMOLVLM,
        "idefics3": replace(_SMOLVLM, grid=1456, panel=1456, frame=364),  # as SmolVLM, with tiles of 364
    }
)  # fmt: skip


def family_of(config: Any) -> Family:
    """The row of a model's config."""
    return FAMILIES.get(config.model_type, OTHER)


def visual_tokens(config: Any) -> set[int]:
    """The tokens that stand for images and frames, as the configs of one family or another name them."""
    names = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
    return {token for name in names if (token := getattr(config, name, None)) is not None}


def suited(settings: GridSettings, *, config: Any, processor: Any, chosen: Collection[str]) -> GridSettings:
    """The settings with what suits the model's family in all fields but those that somebody has `chosen`.

    No grid is larger than the processor sees it.
    """
    look = settings.look if settings.look != "auto" else "panels" if settings.panels > 1 else "grid"
    of_panels = PANELS if settings.look == "auto" else {}
    fields: dict[str, Any] = {
        k: v for k, v in family_of(config).suits(look).items() if k not in chosen and k not in of_panels
    }
    if settings.shows_grids and (side := fields.get("image_size")) is not None:
        seen = seen_side(processor, side, num_images=settings.panels)
        fields["image_size"] = side if seen is None else seen
    return replace(settings, **fields)


def suiting(model_type: str, look: str = "grid", **chosen: Any) -> GridSettings:
    """What suits a family, for a recipe: without a processor, and with the fields that the recipe chooses."""
    return GridSettings(**{"look": look, **FAMILIES[model_type].suits(look), **chosen})
