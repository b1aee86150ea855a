"""An estimate of parameters and GPU memory of a finetuning, without loading a weight.

The model is built on the meta device. ZeRO-3 (arXiv 1910.02054) shards weights, gradients and Adam's states evenly.
A parameter takes 2 bytes (half a byte in 4 bits); one that learns takes 2 more for its gradient and 12 for Adam,
which are in host memory if the optimiser is offloaded. Without `train.parallel` nothing is sharded.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from transformers import AutoModelForImageTextToText
from transformers.image_processing_utils import select_best_resolution

from tideo.bundled import located
from tideo.train.grid.config import FinetuneConfig
from tideo.train.grid.modules import module_of, train_only, with_lora
from tideo.train.parallel import sharding
from tideo.train.plan import GIB, Memory, layer_activations, parameter_lines, settings_of
from tideo.types import UserError

TEXT_TOKENS = 80  # about as many as a question with five options and the reply has


def plan(config: FinetuneConfig, *, gpus: int) -> str:
    """The text of `tideo finetune RECIPE --plan`. Raises UserError if the model's configuration cannot be read."""
    model, source = shape(config)
    total, learning = parameters(model)
    memory = memory_of(config, model, gpus=gpus)
    lines = [f"{config.model}: {type(model).__name__}, {source}", ""]
    lines += [*parameter_lines(total, learning), ""]
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
    where = "in host memory" if sharding(config.train.parallel).offload else "on the GPUs"
    return f"{sharding(config.train.parallel).name} on {gpus} GPUs, bf16, optimiser {where}"


def shape(config: FinetuneConfig) -> tuple[Any, str]:
    """The model on the meta device, with the freeze policy and LoRA of the recipe, and the source of its shape."""
    settings, source = settings_of(config.model, located=located(config.model))
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


def memory_of(config: FinetuneConfig, model: Any, *, gpus: int) -> Memory:
    """The activations are the input that each layer keeps, one recomputed layer, and the logits in float32."""
    total, learning = (sum(counts.values()) for counts in parameters(model))
    text = model.config.text_config
    length = (
        image_tokens(model.config, config.grid.image_size) * config.grid.panels + TEXT_TOKENS * config.packed
    )
    tokens = config.train.batch * length
    layer = 4 * text.hidden_size**2 + 3 * text.hidden_size * text.intermediate_size
    states = 12 * learning
    shared = sharding(config.train.parallel)
    frozen = 0.5 if config.load_4bit else 2.0
    host = states if shared.offload else 0
    return Memory(
        weights=(frozen * (total - learning) + 2 * learning) / (gpus if shared.weights else 1),
        gradients=2 * learning / (gpus if shared.gradients else 1),
        optimizer=(states - host) / (gpus if shared.optimizer else 1),
        gathered=2 * 2 * layer + 2 * text.vocab_size * text.hidden_size if shared.weights else 0.0,
        activations=layer_activations(text, tokens=tokens, checkpointing=config.train.gradient_checkpointing),
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
