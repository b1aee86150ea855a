"""The dollhouse's LLaVA before training: the tiny CLIP's tower, a new projector and the tiny language model.

It has LLaVA's own classes and layout: LlavaForConditionalGeneration, a two-layer projector on the last layer but one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tideo.models.topa.prefix_lm import PrefixLM
from tideo.models.topa.settings import SETTINGS_FILE
from tideo.train.grid.llava_json import IMAGE
from tideo.types import UserError

# Images take the place of the video in prompts of style `plain`, after "Video:"; the prompts name the roles themselves.
TEMPLATE = (
    "{% for m in messages %}"
    "{% set images = m['content'] | selectattr('type', 'equalto', 'image') | list | length %}"
    "{% if images %}Video:{{ '<image>' * images }}{% endif %}"
    "{% for c in m['content'] %}{% if c['type'] == 'text' %}"
    "{{ c['text'][6:] if images and c['text'].startswith('Video:') else c['text'] }}{% endif %}{% endfor %}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)


def tiny_llava(
    *,
    clip: str | Path,
    llm: str | Path,
    image_size: int,
    cells: tuple[int, int] = (1, 1),
    patch_size: int | None = None,
) -> tuple[Any, Any]:
    """The model in float32, and its processor.

    `llm` is a folder of a causal language model, or one that `tideo prealign` wrote with LoRA, which is then merged.
    The tower's position embeddings are tiled over `cells`, rows × cols. `patch_size` may be a multiple of the CLIP's;
    the weights of such a patch start as the mean of the patches that it covers.
    """
    language, tokenizer = language_of(llm)
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE]})
    clip_model = CLIPModel.from_pretrained(clip, dtype=torch.float32)
    vision = clip_model.config.vision_config
    patch = patch_size or vision.patch_size
    covered = patch // vision.patch_size
    if patch % vision.patch_size or image_size % patch:
        raise UserError(
            f"patches of {patch} pixels: expected a multiple of {vision.patch_size} that divides {image_size}"
        )
    config = LlavaConfig(
        vision_config=type(vision)(**(vision.to_dict() | {"image_size": image_size, "patch_size": patch})),
        text_config=language.config,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    config.text_config._name_or_path = ""  # else a path of this machine is saved with the model
    config.text_config.vocab_size = len(tokenizer)
    config.tie_word_embeddings = language.config.tie_word_embeddings
    model = LlavaForConditionalGeneration(config)
    weights = clip_model.vision_model.state_dict()
    kernel, positions = "embeddings.patch_embedding.weight", "embeddings.position_embedding.weight"
    weights[kernel] = weights[kernel].repeat(1, 1, covered, covered) / covered**2
    weights[positions] = resized_positions(weights[positions], side=image_size // patch, cells=cells)
    model.model.vision_tower.load_state_dict(weights)
    language.resize_token_embeddings(len(tokenizer), mean_resizing=True)
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.lm_head.load_state_dict(language.lm_head.state_dict())
    size = {"height": image_size, "width": image_size}
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": image_size}, crop_size=size),
        tokenizer,
        patch_size=patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    return model, processor


def language_of(llm: str | Path) -> tuple[Any, Any]:
    """The causal language model in float32, and its tokenizer, from a folder of either kind."""
    folder = Path(llm)
    if not (folder / SETTINGS_FILE).is_file():
        return (
            AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
            AutoTokenizer.from_pretrained(folder),
        )
    prealigned = PrefixLM.from_pretrained(folder)
    if prealigned.prefix_config.adapter != "lora":
        raise UserError(
            f"{folder}: a language model with adapter {prealigned.prefix_config.adapter} cannot be put into a LLaVA; "
            "pre-align one with adapter=lora"
        )
    return prealigned.llm.merge_and_unload().float(), prealigned.tokenizer


def resized_positions(positions_ND: Tensor, *, side: int, cells: tuple[int, int] = (1, 1)) -> Tensor:
    """Position embeddings of a class token and s × s patches, resized (bicubic) to `side` × `side` patches.

    They are tiled: each of `cells`, rows × cols, has the positions of a whole picture.
    """
    first_1D, rest = positions_ND[:1], positions_ND[1:]
    old = round(len(rest) ** 0.5)
    square = rest.T.reshape(1, -1, old, old)
    middles = (torch.arange(side) + 0.5) / side
    down, across = ((2 * ((middles * n) % 1) - 1) for n in cells)
    where = torch.stack(torch.broadcast_tensors(across[None, :], down[:, None]), dim=-1)[None]
    new = F.grid_sample(square, where, mode="bicubic", padding_mode="border", align_corners=False)
    return torch.cat([first_1D, new.flatten(2)[0].T])
