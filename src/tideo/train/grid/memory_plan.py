"""An estimate of a finetuning: parameters, GPU and host memory, steps and hours. No weight is loaded.

The model is built on the meta device. What a parameter takes follows how the recipe loads and trains it: frozen
weights 2 bytes in bf16, 4 in float32, 1 in 8 bits, half a byte in 4 bits; those that learn 16, of which weight and
gradient are 2 each under DeepSpeed and 4 each otherwise. ZeRO and FSDP share what train/parallel.py says; an offloaded
optimiser is in host memory, with the gradients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from tideo import registry
from tideo.bundled import located
from tideo.loading import DTYPES
from tideo.models.grid.families import family_of
from tideo.models.grid.inputs import Visual
from tideo.models.grid.loading import check_shown, load_processor
from tideo.models.grid.template import ChatTemplate, Kind
from tideo.models.likelihood import context_of
from tideo.pretrained import FAULTS, check_packages
from tideo.train.annotated import PUBLISHED
from tideo.train.grid.config import LLAVA, FinetuneConfig
from tideo.train.grid.examples import check_packing
from tideo.train.grid.modules import module_of, train_only, with_lora
from tideo.train.parallel import deepspeed_file, sharding
from tideo.train.plan import (
    GIB,
    SHAPES,
    Memory,
    card,
    hours,
    layer_activations,
    memory_lines,
    parameter_lines,
    settings_of,
    time_line,
    training_flops,
)
from tideo.types import Frames, UserError

TEXT_TOKENS = 80  # about as many as a question with five options and the reply has
TABLE = ("RTX4090", "A100-40G", "A100-80G", "H100")
_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Sequences of an epoch, questions in all of them and at most in one, and where the numbers come from."""

    num: int
    questions: int
    most: int
    source: str


def plan(config: FinetuneConfig, *, gpus: int, on: str | None = None) -> str:
    """The text of `tideo finetune RECIPE --plan`, for a card or, if `on` is None, for those of TABLE.

    Raises UserError if the model's configuration cannot be read, and for an unknown card.
    """
    model, source = shape(config)
    check_packing(model.config, config.packed)
    examples = examples_of(config)
    check_context(config, model.config, questions=examples.most)
    if config.model not in SHAPES:
        with _reading(config.model):
            processor = load_processor(located(config.model))
        check_shown(processor, config.grid, config=model.config, name=config.model)
    total, learning = parameters(model)
    memory = memory_of(config, model, gpus=gpus)
    training = config.train
    per_step = training.batch * training.accumulate * gpus
    epoch_steps = examples.num / per_step
    steps = training.steps or max(1, -(-int((training.epochs or 0) * examples.num) // per_step))
    per_sequence = examples.questions / examples.num
    flops = steps * per_step * _flops(config, model, questions=per_sequence)
    lines = [
        f"{config.model}: {type(model).__name__}, {source}", "", *parameter_lines(total, learning), "",
        f"data: {examples.questions:,} questions in {examples.num:,} sequences ({examples.source})",
        f"a step: {training.batch} sequences x {training.accumulate} x {gpus} GPUs, {per_sequence:.1f} questions each",
        f"{epoch_steps:,.1f} steps an epoch, {steps:,} in all",
        f"{_sharding(config, gpus=gpus)}; on each GPU, GiB:",
    ]  # fmt: skip
    if on is not None:
        return "\n".join([*lines, *memory_lines(memory, on=on), time_line(flops, gpus=gpus, on=on)])
    parts = memory_lines(memory, on=TABLE[0])[:-2]
    lines += [*parts, f"host memory, all GPUs: {memory.host / GIB:.1f} GiB", ""]
    lines += [f"{f'{gpus} x':12}{'GiB':>6}{'fits':>7}{'hours':>9}  (a plan, not a measurement)"]
    for name in TABLE:
        fits = "yes" if memory.gpu / GIB + 2 <= card(name)[0] else "no"
        lines += [f"{name:12}{card(name)[0]:>6}{fits:>7}{hours(flops, gpus=gpus, on=name):>9.1f}"]
    if memory.host:
        lines += ["the hours leave out what an optimiser in host memory adds to each step"]
    return "\n".join(lines)


def check_context(config: FinetuneConfig, settings: Any, *, questions: int) -> None:
    """Raises UserError if a sequence of so many questions is longer than the context.

    What stands before the questions is taken to be as long as one.
    """
    visual, limit = visual_tokens(config, settings), context_of(settings)
    if (length := visual + TEXT_TOKENS * (questions + 1)) > limit:
        raise UserError(
            f"{config.model}: {visual} tokens of images and {questions} questions of about {TEXT_TOKENS} are a "
            f"sequence of {length}, and its context has {limit:.0f}: set a smaller packed, grid.image_size, "
            "grid.panels or grid.frames"
        )


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
    text = model.config.get_text_config()
    length = visual_tokens(config, model.config) + TEXT_TOKENS * config.packed
    tokens = config.train.batch * length
    layer = 4 * text.hidden_size**2 + 3 * text.hidden_size * text.intermediate_size
    shared = sharding(config.train.parallel)
    frozen, weight, states = bytes_of(config)
    weights = frozen * (total - learning) + weight * learning
    if config.quantised:  # embeddings and the head stay as they are, in float32
        weights += (4 - frozen) * 2 * text.vocab_size * text.hidden_size
    if config.kl and not config.lora_rank:  # the reference model
        weights += frozen * total
    # An optimiser in host memory has the gradients there too, in float32, and DeepSpeed's own estimate
    # (estimate_zero3_model_states_mem_needs) adds half of it all for buffers.
    host = 1.5 * (states + 4.0) * learning if shared.offload else 0.0
    on_gpu = 0.0 if shared.offload else 1.0
    return Memory(
        weights=weights / (gpus if shared.weights else 1),
        gradients=on_gpu * weight * learning / (gpus if shared.gradients else 1),
        optimizer=on_gpu * states * learning / (gpus if shared.optimizer else 1),
        gathered=2 * 2 * layer + 2 * text.vocab_size * text.hidden_size if shared.weights else 0.0,
        activations=layer_activations(text, tokens=tokens, checkpointing=config.train.gradient_checkpointing),
        host=host,
    )


def bytes_of(config: FinetuneConfig) -> tuple[float, float, float]:
    """Bytes of a frozen weight, of one that learns (its gradient has as many), and of Adam's states for it."""
    deepspeed = deepspeed_file(config.train.parallel) is not None
    low_precision = config.train.bf16 and (config.lora_rank or deepspeed)
    dtype = _BYTES[DTYPES.get(config.dtype, "bfloat16" if low_precision else "float32")]
    frozen = 0.5 if config.load_4bit else 1.0 if config.load_8bit else dtype
    if deepspeed:  # which keeps a copy in float32
        return frozen, 2.0, 12.0
    weight = 4.0 if config.lora_rank else dtype
    return frozen, weight, 2 * weight


def _flops(config: FinetuneConfig, model: Any, *, questions: float) -> float:
    """Operations of a sequence: language model and projector are trained, the tower runs once, forward if frozen."""
    total, learning = parameters(model)
    images = visual_tokens(config, model.config)
    read = {name: number for name, number in total.items() if name != "tower"}
    trained = {name: number for name, number in learning.items() if name != "tower"}
    flops = training_flops(
        parameters=sum(read.values()), learning=sum(trained.values()), tokens=images + TEXT_TOKENS * questions,
        checkpointing=config.train.gradient_checkpointing,
    )  # fmt: skip
    return flops + (6 if learning["tower"] else 2) * total["tower"] * images


def examples_of(config: FinetuneConfig) -> Examples:
    """The training set's size: of its file, if it is there, else of the published one, else 10,000 are assumed."""
    per_video: list[int] = []
    questions, source = 10_000, "assumed: there is no training file yet"
    if config.data == LLAVA or config.data in registry.targets("conversations"):
        questions = config.num or questions
    elif config.path and Path(config.path).is_file():
        samples = registry.load("benchmarks", config.data)(config.path, videos=config.videos)
        segments = Counter((s.video.path, s.video.start_s, s.video.end_s) for s in samples)
        per_video, source = list(segments.values())[: config.num], f"counted in {config.path}"
    elif config.data in PUBLISHED:
        videos, questions = PUBLISHED[config.data]
        num = min(videos, config.num or videos)
        per_video = [questions * (i + 1) // videos - questions * i // videos for i in range(num)]
        source = "as published"
    if not per_video:
        num = -(-questions // config.packed)
        return Examples(num=num, questions=questions, most=config.packed, source=source)
    num = sum(-(-n // config.packed) for n in per_video)
    most = min(config.packed, max(per_video))
    return Examples(num=num, questions=sum(per_video), most=most, source=source)


def image_tokens(config: FinetuneConfig, settings: Any) -> int:
    """The tokens of one square image of the grid; frames are taken as square too.

    For a shape that is known without files the family's row says it, of other models the processor, which is read.
    """
    grid = config.grid
    tokens = family_of(settings).tokens if config.model in SHAPES else None
    if tokens is None:
        images = [Image.new("RGB", (grid.image_size, grid.image_size))]
        return _counted(config.model, images, kind="image")
    return tokens(settings, grid.image_size, grid.panels if grid.shows_grids else grid.frames)


def visual_tokens(config: FinetuneConfig, settings: Any) -> int:
    """The tokens of all that the model is shown of a video."""
    grid = config.grid
    if grid.look != "video":
        num = grid.panels if grid.shows_grids else grid.frames
        return num * image_tokens(config, settings)
    of_frame = family_of(settings).of_frame if config.model in SHAPES else None
    if of_frame is None:
        rgb_THWC = np.zeros((grid.frames, grid.image_size, grid.image_size, 3), dtype=np.uint8)
        video = Frames(rgb_THWC=rgb_THWC, pts_s_T=np.arange(float(grid.frames)), video_id="")
        return _counted(config.model, [video], kind="video")
    return round(grid.frames * of_frame(settings, grid.image_size))


@contextmanager
def _reading(model: str) -> Iterator[None]:
    """FAULTS of a processor as UserError."""
    try:
        yield
    except UserError:
        raise
    except FAULTS as error:
        check_packages(error)
        raise UserError(f"the processor of {model!r} cannot be read: {str(error).splitlines()[0]}") from error


def _counted(model: str, visuals: Sequence[Visual], *, kind: Kind) -> int:
    with _reading(model):
        processor = load_processor(located(model))
        template = ChatTemplate(processor, name=model, kind=kind)
        opening = template.opening("What happens?", num_images=len(visuals))
        ids = template.encode(opening, visuals)["input_ids"]
    tokens = (getattr(processor, f"{name}_token_id", None) for name in ("image", "video"))
    return sum(int((ids == token).sum()) for token in tokens if token is not None) or int(ids.shape[1])
