"""The dollhouse's SmolVLM before training: a class that takes videos natively, with the tiny language model.

It has SmolVLM's own classes and processors. Its tower starts from the tiny CLIP's. The published processor enlarges
every image and cuts it into tiles; here each image is one tile, of the side that a look asks for, so that looks can
have equal numbers of tokens. Chats about images have the wording of prompt style `plain`. Chats about a video have
SmolVLM's: its processor's class gives every video its own template, a time before each frame, and an introduction.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    CLIPModel,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessorPil,
    SmolVLMProcessor,
)

from tideo.registry import require
from tideo.tiny.llava import TEMPLATE, language_of, resized_positions
from tideo.train.grid.llava_json import IMAGE
from tideo.types import UserError

# What SmolVLM's processor writes around images, and its template of videos around turns.
SPECIAL = (
    IMAGE, "<fake_token_around_image>", "<global-img>", "<video>", "<|im_start|>", "<end_of_utterance>",
)  # fmt: skip


def tiny_smolvlm(
    *, clip: str | Path, llm: str | Path, image_size: int, patch_size: int | None = None, merged: int = 2
) -> tuple[Any, Any]:
    """The model in float32, and its tokenizer.

    `llm` is a folder as for `tiny_llava`. `image_size` is the side in pixels of the largest image. `patch_size` may be
    a multiple of the CLIP's. `merged` × `merged` patches become one token.
    """
    language, tokenizer = language_of(llm)
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    clip_model = CLIPModel.from_pretrained(clip, dtype=torch.float32)
    vision = clip_model.config.vision_config
    patch = patch_size or vision.patch_size
    if patch % vision.patch_size or image_size % (patch * merged):
        raise UserError(
            f"patches of {patch} pixels, {merged} x {merged} merged: expected a multiple of {vision.patch_size} whose "
            f"merged patches divide {image_size}"
        )
    fields = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act")
    config = SmolVLMConfig(
        vision_config={name: getattr(vision, name) for name in fields}
        | {"image_size": image_size, "patch_size": patch, "layer_norm_eps": vision.layer_norm_eps},
        text_config=language.config,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        scale_factor=merged,
        tie_word_embeddings=language.config.tie_word_embeddings,
        pad_token_id=tokenizer.pad_token_id,
    )
    config.text_config._name_or_path = ""  # else a path of this machine is saved with the model
    config.text_config.vocab_size = len(tokenizer)
    model = SmolVLMForConditionalGeneration(config)
    model.model.vision_model.load_state_dict(_tower(clip_model, side=image_size // patch, patch=patch))
    language.resize_token_embeddings(len(tokenizer), mean_resizing=True)
    model.model.text_model.load_state_dict(language.model.state_dict())
    model.lm_head.load_state_dict(language.lm_head.state_dict())
    return model, tokenizer


@torch.no_grad()
def _tower(clip_model: Any, *, side: int, patch: int) -> dict[str, Tensor]:
    """The CLIP's weights under SmolVLM's names, for `side` × `side` patches of `patch` pixels.

    SmolVLM has no class token, and no layer norm before its first layer: the patches are scaled as that norm scales
    them on average, which is near enough to start from.
    """
    weights = clip_model.vision_model.state_dict()
    kernel, positions = "embeddings.patch_embedding.weight", "embeddings.position_embedding.weight"
    covered = patch // clip_model.config.vision_config.patch_size
    kernel_OIHW = weights[kernel].repeat(1, 1, covered, covered) / covered**2
    positions_ND = resized_positions(weights[positions], side=side)[1:]
    norm_D, bias_D = weights["pre_layrnorm.weight"], weights["pre_layrnorm.bias"]
    spread = (kernel_OIHW.flatten(1).square().sum(1).mean() + positions_ND.square().mean()).sqrt()
    found = {
        kernel: kernel_OIHW * (norm_D / spread)[:, None, None, None],
        "embeddings.patch_embedding.bias": bias_D.clone(),
        positions: positions_ND * (norm_D / spread),
    }
    found |= {
        name: value for name, value in weights.items() if name.startswith(("encoder.", "post_layernorm."))
    }
    return found


def processor_of(tokenizer: Any, *, side: int, tokens: int, longest: int | None = None) -> Any:
    """The processor for images and frames of `side` × `side` pixels, which become `tokens` tokens.

    Pictures of at most `longest` pixels a side are made square in one step. Raises UserError without torchvision and
    num2words, which SmolVLM's processor needs.
    """
    for module in ("torchvision", "num2words"):
        require(module)
    from transformers import SmolVLMVideoProcessor

    sizes = {"size": {"longest_edge": longest or side}, "max_image_size": {"longest_edge": side}}
    return SmolVLMProcessor(
        SmolVLMImageProcessorPil(**sizes, do_image_splitting=False),
        tokenizer,
        SmolVLMVideoProcessor(**sizes),
        image_seq_len=tokens,
        chat_template=TEMPLATE,
    )
