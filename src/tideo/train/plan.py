"""The arithmetic of `--plan`: bytes of GPU memory, floating-point operations and hours, without a weight.

A weight takes 2 bytes in bf16, 1 in 8 bits and half a byte in 4 bits. A parameter that learns takes 4 bytes, or 2 where
the recipe trains it in bf16, as many for its gradient, and 8 or 12 for Adam (two moments and, for weights in bf16, a
copy in float32).

A token takes 2 operations for each parameter forward, 2 backward to the activations and 2 to the gradient of each
weight that learns; recomputed layers take the 2 of the forward again (arXiv 2001.08361, section 2.1, with the backward
pass in its two halves). Attention's own products are left out: below 5% at a few hundred tokens. A card does MFU of
what its maker states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tideo.registry import unknown
from tideo.train.shapes import SHAPES
from tideo.types import UserError

GIB = 2**30
MFU = 0.35  # assumed; trainings with short sequences on a few cards reach 0.3 to 0.5
# name → (GiB, TFLOP/s in dense bf16, of an older card in fp16), as their makers state them
CARDS: dict[str, tuple[int, float]] = {
    "T4": (16, 65),
    "RTX3090": (24, 71),
    "RTX4090": (24, 165),
    "A10G": (24, 70),
    "L4": (24, 121),
    "RTX5090": (32, 209),
    "A100-40G": (40, 312),
    "L40S": (48, 362),
    "A100-80G": (80, 312),
    "H100": (80, 989),
    "H200": (141, 989),
}
DEFAULT_CARD = "A100-40G"  # of both papers


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


def settings_of(name: str, *, located: str) -> tuple[Any, str]:
    """The transformers configuration of a checkpoint, and where its shape comes from.

    `located` is where the checkpoint is looked for if its shape is not among SHAPES. Raises UserError if it cannot be
    read.
    """
    from transformers import AutoConfig

    if name in SHAPES:
        known = dict(SHAPES[name])
        return AutoConfig.for_model(known.pop("model_type"), **known), "shape as published"
    try:
        return AutoConfig.from_pretrained(located), "shape from its config.json"
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the shape of {name!r} cannot be read: {reason}") from error


def layer_activations(
    settings: Any, *, tokens: int, checkpointing: bool, trained_logits: int | None = None
) -> float:
    """Bytes that the layers of a language model keep for the backward pass of `tokens` tokens, in bf16.

    With `checkpointing` each layer keeps its input, and one layer is recomputed; `trained_logits` is the number of
    positions with logits, all by default: 2 bytes, a copy in float32 and its gradient.
    """
    hidden, inner, layers = settings.hidden_size, settings.intermediate_size, settings.num_hidden_layers
    kept = tokens * hidden * layers * 2
    one_layer = tokens * (8 * hidden + 3 * inner) * 2
    logits = (tokens if trained_logits is None else trained_logits) * settings.vocab_size * (2 + 4 + 4)
    return float(kept + one_layer * (1 if checkpointing else layers) + logits)


def training_flops(*, parameters: float, learning: float, tokens: float, checkpointing: bool) -> float:
    """Operations of a training on `tokens` tokens: forward, backward, gradients of what learns, recomputing."""
    return tokens * ((6.0 if checkpointing else 4.0) * parameters + 2.0 * learning)


def card(name: str) -> tuple[int, float]:
    """(GiB, TFLOP/s) of a card. Raises UserError, with near names, for an unknown one."""
    if name not in CARDS:
        raise UserError(unknown(name, known=CARDS, what="card"))
    return CARDS[name]


def hours(flops: float, *, gpus: int, on: str, mfu: float = MFU) -> float:
    """Raises UserError for an unknown card."""
    return flops / (gpus * card(on)[1] * 1e12 * mfu) / 3600


# --- what is printed ------------------------------------------------------------------------------


def parameter_lines(total: Mapping[str, int], learning: Mapping[str, int]) -> list[str]:
    """A table: each module's parameters, and those that learn."""
    rows = [(module, total[module], learning[module]) for module in total]
    rows.append(("all", sum(total.values()), sum(learning.values())))
    return [
        f"{'module':12}{'parameters':>16}{'that learn':>16}",
        *(f"{module:12}{number:>16,}{moved:>16,}" for module, number, moved in rows),
    ]


def memory_lines(memory: Memory, *, on: str) -> list[str]:
    """GiB on each GPU, whether a card holds them, and host memory."""
    size = card(on)[0]
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimiser": memory.optimizer,
        "gathered for a layer": memory.gathered,
        "activations": memory.activations,
        "all": memory.gpu,
    }
    # The driver, PyTorch's allocator and the libraries' buffers take about 2 GiB of a card.
    fits = "fits" if memory.gpu / GIB + 2 <= size else "does not fit"
    return [
        *(f"  {name:22}{value / GIB:8.1f}" for name, value in parts.items()),
        f"  {fits} one {on} ({size} GiB, about 2 of them for the driver and buffers)",
        f"host memory, all GPUs: {memory.host / GIB:.1f} GiB",
    ]


def time_line(flops: float, *, gpus: int, on: str) -> str:
    """Hours, with the assumption beside them."""
    time = hours(flops, gpus=gpus, on=on)
    shown = f"{time:.1f} hours" if time < 48 else f"{time / 24:.1f} days"
    return (
        f"{shown} on {gpus} x {on}: {flops:.2g} operations at {MFU:.0%} of {card(on)[1]:g} TFLOP/s each "
        "(a plan, not a measurement)"
    )
