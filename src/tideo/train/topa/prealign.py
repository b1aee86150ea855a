"""Text-only pre-alignment (TOPA, arXiv 2405.13911): a frozen language model learns to read CLIP text features.

Tideos are encoded once; a linear projection, temporal embeddings and an adapter are trained on three tasks; the
memory for the cross-modal projection is kept beside them. Training sees no picture. Pictures may set the threshold
below which `tideo ask` calls a video unfamiliar (`calibration`); no answer depends on it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from transformers import Trainer, TrainingArguments

from tideo import registry
from tideo.bundled import located
from tideo.device import has_bfloat16
from tideo.encoders.dual import DualEncoder, load_encoder
from tideo.encoders.encode import encoded, videos_in
from tideo.encoders.familiarity import calibrated
from tideo.encoders.features import frame_features, sampled, tideo_features
from tideo.models.topa.checkpoint import PrefixLMConfig, load_llm
from tideo.models.topa.prefix_lm import PrefixLM, collate_examples
from tideo.models.topa.settings import MEMORY_FILE, SETTINGS_FILE, Settings
from tideo.textvid.schema import load, to_tideo
from tideo.train.topa.init_projection import init_from_llm_
from tideo.train.topa.memory import make_memory, projected_texts
from tideo.train.topa.tasks import Examples, TaskWeights
from tideo.train.trainer import begin, fit
from tideo.types import Features, Frames, Tideo, UserError
from tideo.video.samplers import sample_frames


@dataclass(frozen=True, kw_only=True)
class PrealignTraining:
    """AdamW, cosine to 0 after the warm-up. A step is `batch` × `accumulate` examples on each process.

    `proj_lr` multiplies the rate of projection and temporal embedding.
    """

    steps: int | None = None
    epochs: float | None = None
    batch: int = 64
    accumulate: int = 1
    lr: float = 2e-3
    proj_lr: float = 1.0
    warmup: float = 0.05  # share of the steps
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    bf16: bool = field(default_factory=has_bfloat16)  # emulated, it would be far slower than float32
    save_steps: int = 500
    log_steps: int = 50
    deepspeed: str | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise UserError("give either train.steps or train.epochs, and set the other to none")


@dataclass(frozen=True, kw_only=True)
class PrealignConfig:
    """A pre-alignment. `llm` and `encoder` are bundled names, directories or Hugging Face ids.

    `tideos` is a TextVid file, a folder that `tideo textvid` wrote or a registered source of Tideos; `num_tideos`: at
    most so many of them. `features`: a folder that `tideo encode` made of them; without it captions are encoded here.
    `calibration`: a folder of videos like those that the model will be asked about, or a registered source of frames;
    they set the threshold of familiarity. `attn`: the attention implementation of transformers, auto for its default.
    `memory` says what the
    projection's memory is made of: single captions, as published, or whole textual frames. `from_llm` starts
    the projection from a ridge regression onto the LLM's own embeddings of the captions. `projected` is the share
    of examples whose text features are first moved onto the memory, as image features will be.
    """

    llm: str
    encoder: str
    tideos: str
    num_tideos: int | None = None
    features: str | None = None
    prompt_style: str = "topa"
    adapter: Literal["llama-adapter", "lora", "none"] = "llama-adapter"
    adapter_len: int = 50
    lora_rank: int = 16
    lora_targets: tuple[str, ...] = ("all-linear",)
    pad_frames: Literal["zeros", "spread"] = "zeros"
    max_frames: int = 10
    init_std: float = 1.0
    from_llm: bool = False
    tasks: TaskWeights = field(default_factory=TaskWeights)
    choose_form: str = "letter"
    noise_std: float = 0.0
    projected: float = 0.0
    memory: Literal["captions", "frames"] = "captions"
    memory_rows: int = 1_000_000
    form: str = "letter"
    reduction: str = "mean"
    temperature: float = 100.0
    calibration: str | None = None
    attn: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    train: PrealignTraining
    seed: int = 0

    def __post_init__(self) -> None:
        if self.attn != "auto" and self.adapter == "llama-adapter":
            raise UserError(
                f"attn={self.attn}: adapter llama-adapter has an attention of its own; set attn=auto"
            )
        if not 0 <= self.projected <= 1 or (self.projected and self.memory != "frames"):
            raise UserError(
                f"projected={self.projected} with memory={self.memory}: expected a share of the examples, from 0 to 1, "
                "and memory=frames where it is not 0"
            )


def prealign(config: PrealignConfig, *, out: str | Path, resume: bool = False) -> Path:
    """Train and write a model directory that `tideo ask` and `tideo eval` load. Checkpoints in `out`/steps.

    With `resume` it goes on from the last one; a run that is done is left as it is.
    """
    if not isinstance(config, PrealignConfig):
        raise UserError(
            f"this recipe is for `tideo train`, not for pre-alignment: it makes a {type(config).__name__}"
        )
    out = Path(out)
    torch.manual_seed(config.seed)
    if not begin(out, recipe=config, resume=resume, done=SETTINGS_FILE):
        return out
    encoder = load_encoder(config.encoder)
    tideos = read_tideos(config)
    if config.features is None:
        cached = out.parent / "text_features"
        features = list(tideo_features(tideos, encoder, num_frames=config.max_frames, cache_dir=cached))
    else:
        features = encoded(config.features, tideos, encoder=encoder, num_frames=config.max_frames)
    model = new_prefix_lm(config, encoder)
    if config.from_llm:
        init_from_llm_(model, tideos, features, encoder, cache_dir=out.parent / "text_features")
    projected = _projected(config, features)
    trainer = _trainer(config, model, tideos, features, projected, out=out / "steps")
    fit(trainer, resume=resume)
    model.save_pretrained(out)
    memory = make_memory(
        config.memory, num_rows=config.memory_rows, tideos=tideos, features=features, encoder=encoder
    )
    if config.calibration is not None:
        known = [frame_features(frames, encoder) for frames in calibration_frames(config)]
        memory = calibrated(memory, known, temperature=config.temperature)
    memory.save(out / MEMORY_FILE)
    place = located(config.encoder)
    Settings(
        encoder=os.path.relpath(place, out) if Path(place).is_dir() else place,
        num_frames=config.max_frames,
        temperature=config.temperature,
        form=config.form,
        reduction=config.reduction,
    ).save(out)
    shutil.rmtree(out / "steps", ignore_errors=True)
    return out


def read_tideos(config: PrealignConfig) -> list[Tideo]:
    """The Tideos with their questions; from a file evenly spaced ones where `num_tideos` is fewer."""
    if config.tideos in registry.targets("tideos"):
        return list(registry.load("tideos", config.tideos)(num=config.num_tideos, seed=config.seed))
    tideos = [to_tideo(record) for record in load(config.tideos)]
    return list(tideos if config.num_tideos is None else sampled(tideos, config.num_tideos))


def calibration_frames(config: PrealignConfig) -> Iterator[Frames]:
    """The frames of each video that sets the threshold of familiarity."""
    if config.calibration in registry.targets("frames"):
        yield from registry.load("frames", config.calibration)(seed=config.seed)
        return
    for video in videos_in(Path(str(config.calibration))):
        yield sample_frames(video, config.max_frames)


def _projected(config: PrealignConfig, features: Sequence[Features]) -> list[Features]:
    """The features as the projection will move those of images; none where no example asks for them."""
    if not config.projected:
        return []
    return projected_texts(
        features,
        num_rows=config.memory_rows,
        temperature=config.temperature,
        noise_std=config.noise_std,
        seed=config.seed,
    )


def new_prefix_lm(config: PrealignConfig, encoder: DualEncoder) -> PrefixLM:
    """A PrefixLM as the recipe has it, before training."""
    name = located(config.llm)
    llm, tokenizer = load_llm(name, dtype="auto")
    if config.attn != "auto":
        llm.set_attn_implementation(config.attn)
    return PrefixLM(
        PrefixLMConfig(
            llm=name,
            encoder=encoder.id,
            feature_dim=encoder.dim,
            max_frames=config.max_frames,
            pad_frames=config.pad_frames,
            adapter=config.adapter,
            adapter_len=config.adapter_len,
            lora_rank=config.lora_rank,
            lora_alpha=2 * config.lora_rank,
            lora_targets=config.lora_targets,
            init_std=config.init_std,
            prompt_style=config.prompt_style,
        ),
        llm=llm,
        tokenizer=tokenizer,
    )


class _PrealignTrainer(Trainer):
    """Checkpoints hold the trained tensors alone, as `PrefixLM.save_pretrained` writes them."""

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        self.model.save_pretrained(output_dir or self.args.output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.model.load_trained(resume_from_checkpoint)


def _trainer(
    config: PrealignConfig,
    model: PrefixLM,
    tideos: Sequence[Tideo],
    features: Sequence[Features],
    projected: Sequence[Features],
    *,
    out: Path,
) -> Trainer:
    train = config.train
    world = PartialState().num_processes
    batch = train.batch * train.accumulate * world
    steps = train.steps or max(1, round((train.epochs or 0) * len(tideos) / batch))
    arguments = TrainingArguments(
        output_dir=str(out),
        max_steps=steps,
        per_device_train_batch_size=train.batch,
        seed=config.seed,
        bf16=train.bf16,
        use_cpu=not torch.accelerator.is_available(),
        save_steps=train.save_steps,
        save_total_limit=1,
        logging_steps=train.log_steps,
        lr_scheduler_type="cosine",
        warmup_steps=round(train.warmup * steps),
        gradient_accumulation_steps=train.accumulate,
        max_grad_norm=1.0,
        train_sampling_strategy="sequential",  # the examples shuffle themselves
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to=[],
        deepspeed=train.deepspeed,
    )
    examples = Examples(
        tideos,
        features,
        model,
        batch=batch,
        steps=steps,
        weights=config.tasks,
        choose_form=config.choose_form,
        noise_std=config.noise_std,
        projected=projected,
        share_projected=config.projected,
        seed=config.seed,
    )
    return _PrealignTrainer(
        model=model,
        args=arguments,
        train_dataset=examples,
        data_collator=collate_examples,
        optimizers=(_optimizer(model, train), None),
    )


def _optimizer(model: PrefixLM, train: PrealignTraining) -> torch.optim.Optimizer:
    """No decay on vectors (biases, gates), as published; projection and temporal embedding at their own rate."""
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            own = train.proj_lr if name.startswith(("visual_proj", "temporal_emb")) else 1.0
            decay = train.weight_decay if parameter.squeeze().ndim > 1 else 0.0
            groups.setdefault((train.lr * own, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": p, "lr": lr, "weight_decay": decay} for (lr, decay), p in groups.items()],
        betas=train.betas,
    )
