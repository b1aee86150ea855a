"""An estimate of a pre-alignment: parameters, GPU and host memory, disk, hours. No weight is loaded.

The language model is built on the meta device and stays frozen: each of its parameters has its weight and no more. What
is trained is in float32: 4 bytes, 4 for the gradient, 8 for Adam. How long examples are is counted on the recipe's
Tideos, at four letters a token; without these it is assumed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoModelForCausalLM

from tideo import registry
from tideo.bundled import located
from tideo.models.likelihood import context_of
from tideo.models.topa.checkpoint import PrefixLMConfig
from tideo.models.topa.prefix_lm import PrefixLM
from tideo.train.annotated import PUBLISHED
from tideo.train.parallel import sharding
from tideo.train.plan import (
    GIB,
    Memory,
    layer_activations,
    memory_lines,
    parameter_lines,
    settings_of,
    time_line,
    training_flops,
)
from tideo.train.topa.config import PrealignConfig
from tideo.train.topa.prealign import read_tideos
from tideo.train.topa.tasks import Examples
from tideo.types import Features, Tideo, UserError

PUBLISHED_TIDEOS = 721_000  # of TextVid (arXiv 2405.13911)
TIDEO_BYTES = 10_000  # of a Tideo with ten frames and five questions, as Python objects
LETTERS_PER_TOKEN = 4


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Tokens of a batch's longest example, on average and at most, and of its answer at most; their source."""

    mean: float
    longest: int
    answer: int
    num_tideos: int
    source: str


def plan(config: PrealignConfig, *, gpus: int, on: str) -> str:
    """The text of `tideo prealign RECIPE --plan`. Raises UserError if the shape of a model cannot be read."""
    settings, source = settings_of(config.llm, located=located(config.llm))
    model, encoder = shape(config, settings)
    total, learning = parameters(model)
    lengths, train = lengths_of(config), config.train
    if lengths.longest > (limit := context_of(settings)):
        raise UserError(
            f"{config.llm}: an example of about {lengths.longest} tokens ({lengths.source}) is longer than its context "
            f"of {limit:.0f}: set a smaller max_frames or another llm, or leave long ones out"
        )
    steps = train.num_steps(lengths.num_tideos, processes=gpus)
    tokens = steps * train.per_step(gpus) * lengths.mean
    flops = training_flops(
        parameters=sum(total.values()),
        learning=sum(learning.values()),
        tokens=tokens,
        checkpointing=train.gradient_checkpointing,
    )
    shared = sharding(train.parallel)
    memory = memory_of(config, model, lengths, gpus=gpus)
    features = lengths.num_tideos * config.max_frames * encoder.width * 2
    rows = config.memory_rows * encoder.width * 2
    return "\n".join(
        [
            f"{config.llm}: {settings.model_type}, {source}, frozen",
            "",
            *parameter_lines(total, learning),
            "",
            f"{lengths.num_tideos:,} {'questions' if config.data else 'Tideos'}, "
            f"about {lengths.mean:.0f} tokens an example ({lengths.source})",
            f"{steps:,} steps · {train.rate_line(gpus)}",
            f"{shared.name or 'the whole model'} on {'each of ' if gpus > 1 and not shared.name else ''}{gpus} GPU"
            f"{'s' if gpus > 1 else ''}; on each, GiB:",
            *memory_lines(memory, on=on),
            f"before the training the encoder takes {encoder.bytes / GIB:.1f} GiB of each GPU and is then removed",
            f"on the disk: features {features / GIB:.1f} GiB"
            + ("" if config.data and not config.project else f", memory up to {rows / GIB:.1f} GiB"),
            time_line(flops, gpus=gpus, on=on),
        ]
    )


@dataclass(frozen=True)
class _Encoder:
    width: int
    bytes: float


def shape(config: PrealignConfig, settings: Any) -> tuple[PrefixLM, _Encoder]:
    """The PrefixLM on the meta device, and the width and size of the encoder, in float32."""
    of_encoder, _ = settings_of(config.encoder, located=located(config.encoder))
    with torch.device("meta"):
        llm = AutoModelForCausalLM.from_config(settings)
        tower = AutoModel.from_config(of_encoder)
        width = getattr(of_encoder, "projection_dim", None) or of_encoder.text_config.hidden_size
        model = PrefixLM(
            PrefixLMConfig(
                llm=config.llm, encoder=config.encoder, feature_dim=width, max_frames=config.max_frames,
                adapter=config.adapter, adapter_len=config.adapter_len, lora_rank=config.lora_rank,
                lora_alpha=2 * config.lora_rank, lora_targets=config.lora_targets,
            ),
            llm=llm,
            tokenizer=None,
        )  # fmt: skip
    return model, _Encoder(width, 4.0 * sum(p.numel() for p in tower.parameters()))


def parameters(model: PrefixLM) -> tuple[Counter[str], Counter[str]]:
    """The number of parameters of each module, and the number of those that learn."""
    names = {"llm": "llm", "adapter": "adapter", "visual_proj": "projection", "temporal_emb": "projection"}
    total: Counter[str] = Counter()
    learning: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        module = "adapter" if "lora_" in name else names[name.partition(".")[0]]
        total[module] += parameter.numel()
        learning[module] += parameter.numel() if parameter.requires_grad else 0
    return total, learning


def memory_of(config: PrealignConfig, model: PrefixLM, lengths: Lengths, *, gpus: int) -> Memory:
    """The gated attention keeps its scores too: three times [batch, heads, tokens, tokens] in each layer."""
    total, learning = (sum(counts.values()) for counts in parameters(model))
    settings, train, shared = (
        model.llm.config.get_text_config(),
        config.train,
        sharding(config.train.parallel),
    )
    tokens = train.batch * lengths.longest
    activations = layer_activations(
        settings,
        tokens=tokens,
        checkpointing=train.gradient_checkpointing,
        trained_logits=train.batch * lengths.answer,
    )
    if config.adapter == "llama-adapter":
        layers = 1 if train.gradient_checkpointing else settings.num_hidden_layers
        activations += 3 * 2 * settings.num_attention_heads * tokens * lengths.longest * layers
    frozen = weight_bytes(config, settings) * (total - learning)
    states = 8.0 * learning
    layer = 4 * settings.hidden_size**2 + 3 * settings.hidden_size * settings.intermediate_size
    root = 2 * settings.vocab_size * settings.hidden_size
    host = states if shared.offload else 0.0
    return Memory(
        weights=(frozen + 4.0 * learning) / (gpus if shared.weights else 1),
        gradients=4.0 * learning / (gpus if shared.gradients else 1),
        optimizer=(states - host) / (gpus if shared.optimizer else 1),
        gathered=2.0 * (2 * layer + root) if shared.weights else 0.0,
        activations=activations,
        # Each process holds all Tideos and, before they are sharded, all weights.
        host=host + gpus * (TIDEO_BYTES * lengths.num_tideos + (frozen if shared.weights else 0.0)),
    )


def weight_bytes(config: PrealignConfig, settings: Any) -> float:
    """Bytes of a frozen weight; its dtype is the recipe's or, if that is auto, the one that it was saved in."""
    if config.quantised:
        return 0.5 if config.load_4bit else 1.0
    saved = getattr(settings, "dtype", None) if config.dtype == "auto" else config.dtype
    return 4.0 if str(saved).removeprefix("torch.") in ("float32", "fp32") else 2.0


def lengths_of(config: PrealignConfig) -> Lengths:
    """From sixteen batches of the recipe's Tideos, or as assumed if there are none yet."""
    if (assumed := _assumed(config)) is not None:
        num, source = assumed
        return Lengths(mean=128, longest=160, answer=64, num_tideos=num, source=source)
    tideos = read_tideos(config)
    if not tideos:
        raise UserError(f"{config.tideos} holds no Tideo")
    batch = config.train.batch
    examples = _letters(config, tideos, batch=batch)
    batches = [[examples[i] for i in range(n * batch, (n + 1) * batch)] for n in range(16)]
    longest = [max(e["prompt"] + e["answer"] for e in batch) for batch in batches]
    answer = max(e["answer"] for batch in batches for e in batch)
    return Lengths(
        mean=float(np.mean(longest)) / LETTERS_PER_TOKEN + config.max_frames,
        longest=round(max(longest) / LETTERS_PER_TOKEN) + config.max_frames,
        answer=round(answer / LETTERS_PER_TOKEN) + 1,
        num_tideos=len(tideos),
        source=f"counted in {config.path if config.data else config.tideos}",
    )


def _assumed(config: PrealignConfig) -> tuple[int, str] | None:
    """The number of what it learns from where that is not there yet, and in words that it is assumed."""
    if config.data is None:
        if config.tideos in registry.targets("tideos") or Path(config.tideos or "").exists():
            return None
        return config.num_tideos or PUBLISHED_TIDEOS, f"assumed, as {config.tideos} is not there"
    if Path(config.path or "").exists() and Path(config.videos or "").exists():
        return None
    _, num = PUBLISHED.get(config.data, (0, 10_000))
    return max(1, round(config.share * num)), f"assumed, as {config.path} or {config.videos} is not there"


def _letters(config: PrealignConfig, tideos: list[Tideo], *, batch: int) -> Examples:
    """The training's examples, but with the numbers of their letters in place of tokens."""
    blank = Features(
        values_TD=np.zeros((1, 1), dtype=np.float32), pts_s_T=None, modality="text", encoder=config.encoder
    )
    counter: Any = SimpleNamespace(
        prefix_config=SimpleNamespace(prompt_style=config.prompt_style),
        encode_example=lambda values_TD, *, prompt, answer, places_T: {
            "prompt": len(prompt),
            "answer": len(answer),
        },
    )
    return Examples(
        tideos, [blank] * len(tideos), counter, batch=batch, steps=16,
        weights=config.tasks_used, choose_form=config.choose_form, seed=config.seed,
    )  # fmt: skip
