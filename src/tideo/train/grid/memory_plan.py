"""An estimate of parameters and GPU memory of a finetuning, without loading a weight.

The model is built on the meta device. ZeRO-3 (arXiv 1910.02054) shards weights, gradients and Adam's states evenly.
A parameter takes 2 bytes (half a byte in 4 bits); one that learns takes 2 more for its gradient and 12 for Adam,
which are in host memory if the optimiser is offloaded. Without `train.parallel` nothing is sharded.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.image_processing_utils import select_best_resolution

from tideo.bundled import located
from tideo.train.grid.config import FSDP, FinetuneConfig, deepspeed_file
from tideo.train.grid.modules import module_of, train_only, with_lora
from tideo.types import UserError

GIB = 2**30
TEXT_TOKENS = 80  # about as many as a question with five options and the reply has
_CLIP_L_336 = {
    "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "image_size": 336, "patch_size": 14, "projection_dim": 768, "vocab_size": 32000,
}  # fmt: skip
# The config.json of published checkpoints, so that no download is needed.
SHAPES: dict[str, dict[str, Any]] = {
    "llava-hf/llava-1.5-7b-hf": {
        "model_type": "llava", "vision_config": _CLIP_L_336, "image_token_index": 32000, "vision_feature_layer": -2,
        "text_config": {
            "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32064,
        },
    },
    "llava-hf/llava-1.5-13b-hf": {
        "model_type": "llava", "vision_config": _CLIP_L_336, "image_token_index": 32000, "vision_feature_layer": -2,
        "text_config": {
            "model_type": "llama", "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40,
            "num_attention_heads": 40, "num_key_value_heads": 40, "vocab_size": 32064,
        },
    },
    "llava-hf/llava-v1.6-34b-hf": {
        "model_type": "llava_next", "vision_config": _CLIP_L_336, "image_token_index": 64000,
        "vision_feature_layer": -2,
        "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
        "text_config": {
            "model_type": "llama", "hidden_size": 7168, "intermediate_size": 20480, "num_hidden_layers": 60,
            "num_attention_heads": 56, "num_key_value_heads": 8, "vocab_size": 64064,
        },
    },
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one GPU, and in host memory for all GPUs together."""

    weights: float
    gradients: float
    optimizer: float
    gathered: float
    activations: float
    host: float

    @property
    def gpu(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.gathered + self.activations


def plan(config: FinetuneConfig, *, gpus: int) -> str:
    """The text of `tideo finetune RECIPE --plan`. Raises UserError if the model's configuration cannot be read."""
    model, source = shape(config)
    total, learning = parameters(model)
    memory = memory_of(config, model, gpus=gpus)
    lines = [f"{config.model}: {type(model).__name__}, {source}", ""]
    lines += [f"{'module':12}{'parameters':>16}{'that learn':>16}"]
    lines += [f"{module:12}{total[module]:>16,}{learning[module]:>16,}" for module in total]
    lines += [f"{'all':12}{sum(total.values()):>16,}{sum(learning.values()):>16,}", ""]
    training = config.train
    questions = f"up to {config.packed}" if config.packed > 1 else "1"
    lines += [
        f"a step: {training.batch} images x {questions} questions x {training.accumulate} x {gpus} GPUs",
        f"{_sharding(config, gpus=gpus)}; on each GPU, GiB:",
    ]
    sizes = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimiser": memory.optimizer,
        "gathered for a layer": memory.gathered,
        "activations": memory.activations,
        "all": memory.gpu,
    }
    lines += [f"  {name:22}{size / GIB:8.1f}" for name, size in sizes.items()]
    return "\n".join([*lines, f"host memory for the optimiser, all GPUs: {memory.host / GIB:.1f} GiB"])


def _sharding(config: FinetuneConfig, *, gpus: int) -> str:
    if config.train.parallel is None:
        return f"the whole model on each of {gpus} GPUs, bf16" if gpus > 1 else "on one GPU, bf16"
    name = "FSDP" if config.train.parallel == FSDP else "ZeRO-3"
    where = "in host memory" if offloads(config) else "on the GPUs"
    return f"{name} on {gpus} GPUs, bf16, optimiser {where}"


def shape(config: FinetuneConfig) -> tuple[Any, str]:
    """The model on the meta device, with the freeze policy and LoRA of the recipe, and the source of its shape."""
    if config.model in SHAPES:
        known = dict(SHAPES[config.model])
        settings, source = AutoConfig.for_model(known.pop("model_type"), **known), "shape as published"
    else:
        try:
            settings = AutoConfig.from_pretrained(located(config.model))
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"the shape of {config.model!r} cannot be read: {reason}") from error
        source = "shape from its config.json"
    try:
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(settings)
    except ValueError as error:
        raise UserError(
            f"{config.model}: a {settings.model_type} is no image-text-to-text model of transformers"
        ) from error
    vision, text = (getattr(model.config, name, None) for name in ("vision_config", "text_config"))
    if not hasattr(vision, "image_size") or not hasattr(text, "hidden_size"):
        raise UserError(
            f"{config.model}: --plan knows models of the LLaVA family, whose towers take images of one size; "
            f"this is a {type(model).__name__}"
        )
    train_only(model, config.modules)
    if config.lora_rank:
        model = with_lora(model, rank=config.lora_rank, alpha=config.lora_alpha, modules=config.modules)
    return model, source


def parameters(model: Any) -> tuple[Counter[str], Counter[str]]:
    """The number of parameters of each module, and the number of those that learn."""
    total: Counter[str] = Counter()
    learning: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        total[module_of(name)] += parameter.numel()
        learning[module_of(name)] += parameter.numel() if parameter.requires_grad else 0
    return total, learning


def offloads(config: FinetuneConfig) -> bool:
    path = deepspeed_file(config.train.parallel)
    if path is None:
        return False
    return "offload_optimizer" in json.loads(Path(path).read_text(encoding="utf-8"))["zero_optimization"]


def memory_of(config: FinetuneConfig, model: Any, *, gpus: int) -> Memory:
    """The activations are the input that each layer keeps, one recomputed layer, and the logits in float32."""
    total, learning = (sum(counts.values()) for counts in parameters(model))
    text = model.config.text_config
    length = (
        image_tokens(model.config, config.grid.image_size) * config.grid.panels + TEXT_TOKENS * config.packed
    )
    tokens = config.train.batch * length
    kept = tokens * text.hidden_size * text.num_hidden_layers * 2
    one_layer = tokens * (8 * text.hidden_size + 3 * text.intermediate_size) * 2
    if not config.train.gradient_checkpointing:
        one_layer *= text.num_hidden_layers
    logits = tokens * text.vocab_size * (2 + 4 + 4)
    layer = 4 * text.hidden_size**2 + 3 * text.hidden_size * text.intermediate_size
    states = 12 * learning
    shards = gpus if config.train.parallel else 1
    frozen = 0.5 if config.load_4bit else 2.0
    host = states if offloads(config) else 0
    return Memory(
        weights=(frozen * (total - learning) + 2 * learning) / shards,
        gradients=2 * learning / shards,
        optimizer=(states - host) / shards,
        gathered=2 * 2 * layer + 2 * text.vocab_size * text.hidden_size if config.train.parallel else 0.0,
        activations=kept + one_layer + logits,
        host=host,
    )


def image_tokens(config: Any, side: int) -> int:
    """The tokens of one square image: its patches and, in LLaVA-NeXT, those of its crops with an end for each line."""
    vision = config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2
    if not hasattr(config, "image_grid_pinpoints"):
        return int(patches)
    fitted = min(select_best_resolution((side, side), config.image_grid_pinpoints)) // vision.patch_size
    return int(patches + fitted * (fitted + 1))
