"""The table of families: the sizes that suit each, and where their modules are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from transformers import (
    CLIPImageProcessorPil,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
    Qwen2VLImageProcessorPil,
)

from tideo.models.grid import families
from tideo.models.grid.families import suited, suiting
from tideo.models.grid.settings import GRID_FILE, GridSettings
from tideo.models.grid.template import ChatTemplate
from tideo.models.load import load_model
from tideo.train.grid.modules import module_of
from tideo.train.plan import settings_of
from tiny_vlms import FAMILIES, IDEFICS, SEEN, VICUNA, made, saved, tokenizer


def of(model_type: str, image_processor: Any, settings: GridSettings, *chosen: str) -> GridSettings:
    return suited(
        settings,
        config=SimpleNamespace(model_type=model_type),
        processor=SimpleNamespace(image_processor=image_processor),
        chosen=chosen,
    )


def qwen(patch_size: int) -> Any:
    size = {"shortest_edge": 65_536, "longest_edge": 16_777_216}
    return Qwen2VLImageProcessorPil(patch_size=patch_size, size=size)


def smolvlm(tile: int) -> Any:
    return Idefics3ImageProcessorPil(size={"longest_edge": 4 * tile}, max_image_size={"longest_edge": tile})


# Processors as published: LLaVA-1.5, Qwen2.5-VL, Qwen3-VL, SmolVLM2-500M and 2.2B.
@pytest.mark.parametrize(
    ("model_type", "processor", "grid", "frame", "frames"),
    [
        ("llava", CLIPImageProcessorPil(crop_size={"height": 336, "width": 336}), 336, 336, 6),
        ("qwen2_5_vl", qwen(14), 896, 448, 16),
        ("qwen3_vl", qwen(16), 896, 448, 16),
        ("smolvlm", smolvlm(512), 2048, 512, 5),
        ("smolvlm", smolvlm(384), 1536, 512, 5),
    ],
)
def test_each_family_has_the_sizes_that_suit_it(
    model_type: str, processor: Any, grid: int, frame: int, frames: int
) -> None:
    assert of(model_type, processor, GridSettings()).image_size == grid
    singles = of(model_type, processor, GridSettings(look="frames"))
    assert (singles.image_size, singles.frames) == (frame, frames)
    assert of(model_type, processor, GridSettings(look="video")).frames == 16
    mine = GridSettings(image_size=112, rows=3, frames=5, look="frames")
    assert of(model_type, processor, mine, "image_size", "frames") == mine


def test_earlier_answers_of_llava_keep_their_keys() -> None:
    for model_type in ("llava", "llava_next"):
        clip = CLIPImageProcessorPil(crop_size={"height": 336, "width": 336})
        assert of(model_type, clip, GridSettings()) == GridSettings()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_default_is_never_more_than_the_processor_sees(family: str) -> None:
    model, processor = made(family)
    settings = suited(GridSettings(), config=model.config, processor=processor, chosen=())
    assert settings.image_size == SEEN[family]


def test_what_is_chosen_wins(tmp_path: Path) -> None:
    folder = saved("llava_next", tmp_path)
    (folder / GRID_FILE).write_text('{"rows": 2, "cols": 2}')
    assert load_model(str(folder)).settings == GridSettings(rows=2, cols=2, image_size=56)
    assert load_model(str(folder), args=["image_size=28"]).settings.image_size == 28
    panels = load_model(str(folder), args=["look=panels"]).settings
    assert (panels.panels, panels.rows, panels.cols) == (2, 2, 2)
    assert load_model(str(folder), args=["look=panels", "panels=3"]).settings.panels == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_every_module_is_found(family: str) -> None:
    model, _ = made(family)
    projector = {
        "llava": "multi_modal_projector", "llava_next": "multi_modal_projector", "idefics3": "connector",
        "llava_onevision": "multi_modal_projector", "smolvlm": "connector",
    }.get(family, "merger")  # fmt: skip
    by_module = {module_of(name): name for name, _ in model.named_parameters()}
    assert set(by_module) == {"tower", "projector", "llm"}
    for name, _ in model.named_parameters():
        if projector in name:
            assert module_of(name) == "projector"


@pytest.mark.parametrize(
    ("model", "look", "tokens"),
    [
        ("llava-hf/llava-1.5-7b-hf", "grid", 576),
        ("llava-hf/llava-onevision-qwen2-7b-ov-hf", "grid", 729 + 54 * 55),
        ("llava-hf/llava-onevision-qwen2-7b-ov-hf", "video", 14 * 14),
        ("Qwen/Qwen3-VL-8B-Instruct", "grid", 28 * 28),
        ("Qwen/Qwen3-VL-8B-Instruct", "video", 14 * 14 / 2),
        ("HuggingFaceTB/SmolVLM2-500M-Video-Instruct", "grid", 17 * 64),
        ("HuggingFaceTB/SmolVLM2-500M-Video-Instruct", "video", 64),
    ],
)
def test_the_tokens_of_published_models(model: str, look: str, tokens: float) -> None:
    config, _ = settings_of(model, located="")
    family, settings = families.family_of(config), suiting(config.model_type, look)
    assert family.tokens is not None
    if look == "video":
        assert family.of_frame is not None
        assert family.of_frame(config, settings.image_size) == tokens
    else:
        assert family.tokens(config, settings.image_size, 1) == tokens


@pytest.mark.parametrize("num", [1, 2])
@pytest.mark.parametrize("family", ["llava", "llava_next", "llava_onevision", "qwen2_vl", "qwen3_vl"])
def test_the_tokens_are_those_that_the_processor_makes(family: str, num: int) -> None:
    model, processor = made(family)
    template = ChatTemplate(processor, name=family)
    side = 28 if num > 1 else SEEN[family]
    encoded = template.encode(
        template.opening("why?", num_images=num), [Image.new("RGB", (side, side))] * num
    )
    made_tokens = int((encoded["input_ids"] == processor.image_token_id).sum())
    row = families.family_of(model.config)
    assert row.tokens is not None
    assert num * row.tokens(model.config, side, num) == made_tokens


def test_panels_that_suit() -> None:
    clip = CLIPImageProcessorPil(crop_size={"height": 336, "width": 336})
    panels = GridSettings(look="panels", panels=4, rows=2, cols=2)
    assert of("llava", clip, panels) == panels
    fewer = of("llava_next", clip, panels)
    assert (fewer.panels, fewer.rows, fewer.cols, fewer.num_frames) == (2, 2, 4, 16)
    assert of("llava_next", clip, panels, "panels", "rows", "cols") == panels
    mine = GridSettings(panels=3, rows=4, cols=4)  # look=auto, as panels of another number say
    assert of("llava_next", clip, mine, "panels") == mine


def llava_next_processor() -> Any:
    places = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
    crop = {"height": 336, "width": 336}
    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": 336}, crop_size=crop, image_grid_pinpoints=places
    )
    return LlavaNextProcessor(
        images, tokenizer(), patch_size=14, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=VICUNA,
    )  # fmt: skip


def smolvlm_processor(tile: int, tokens: int) -> Any:
    return Idefics3Processor(smolvlm(tile), tokenizer(), image_seq_len=tokens, chat_template=IDEFICS)


TEXT = 400  # tokens for the chat, the times of the frames, a question and five options


@pytest.mark.parametrize(
    ("model_type", "processor", "context"),
    [
        ("llava_next", llava_next_processor(), 4096),
        ("smolvlm", smolvlm_processor(384, 81), 8192),  # 2.2B, of which an image has more tokens than of 500M
    ],
)
@pytest.mark.parametrize("look", ["grid", "panels", "frames"])
def test_what_suits_fits_the_context(look: str, model_type: str, processor: Any, context: int) -> None:
    settings = suiting(model_type, look)
    template = ChatTemplate(processor, name=model_type)
    without = template.encode(template.opening("", num_images=0), [])["input_ids"].shape[1]
    shapes = ((1, 1),) if settings.shows_grids else ((16, 9), (1, 1), (9, 16), (2, 1))
    for width, height in shapes:
        scale = settings.image_size / max(width, height)
        image = Image.new("RGB", (round(width * scale), round(height * scale)))
        ids = template.encode(template.opening("", num_images=1), [image])["input_ids"]
        num = settings.panels if settings.shows_grids else settings.frames
        assert num * (ids.shape[1] - without) + TEXT <= context
