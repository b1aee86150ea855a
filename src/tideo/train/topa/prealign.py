"""Text-only pre-alignment (TOPA, arXiv 2405.13911): a frozen language model learns to read CLIP text features.

Tideos are encoded once. A linear projection, temporal embeddings and an adapter learn three tasks, and the memory of
the cross-modal projection is saved with them. No picture is used in training. With `calibration`, pictures set the
threshold below which `tideo ask` calls a video unfamiliar; no answer depends on that.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from transformers import Trainer

from tideo import registry
from tideo.bundled import located
from tideo.encoders.dual import DualEncoder, load_encoder
from tideo.encoders.encode import encoded
from tideo.encoders.familiarity import calibrated
from tideo.encoders.features import frame_features, sampled, tideo_features
from tideo.loading import Loading
from tideo.models.prompts import IGNORE
from tideo.models.topa.checkpoint import PrefixLMConfig, load_llm
from tideo.models.topa.prefix_lm import PrefixLM
from tideo.models.topa.settings import MEMORY_FILE, SETTINGS_FILE, Settings
from tideo.textvid.schema import load, to_tideo
from tideo.train.calibration import calibration_frames
from tideo.train.finite import CheckedTrainer
from tideo.train.topa.config import PrealignConfig, PrealignTraining
from tideo.train.topa.init_projection import init_from_llm_
from tideo.train.topa.memory import make_memory, projected_texts
from tideo.train.topa.tasks import Examples, collate_examples
from tideo.train.trainer import begin, fit, trainer_arguments
from tideo.types import Features, Tideo, UserError


def prealign(config: PrealignConfig, *, out: str | Path, resume: bool = False) -> Path:
    """Train and write a model directory that `tideo ask` and `tideo eval` load. Checkpoints go to `out`/steps.

    With `resume` a stopped run continues from its last checkpoint; a finished run is not changed.
    """
    if not isinstance(config, PrealignConfig):
        raise UserError(
            f"this recipe is for `tideo train`, not for pre-alignment: it returns a {type(config).__name__}"
        )
    out = Path(out)
    torch.manual_seed(config.seed)
    if not begin(out, recipe=config, resume=resume, last_file=SETTINGS_FILE):
        return out
    encoder = load_encoder(config.encoder, loading=Loading(device=config.device))
    tideos = read_tideos(config)
    if config.features is None:
        cache_dir = out.parent / "text_features"
        features = list(tideo_features(tideos, encoder, num_frames=config.max_frames, cache_dir=cache_dir))
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
        known = calibration_frames(config.calibration, num_frames=config.max_frames, seed=config.seed)
        familiar = [frame_features(frames, encoder) for frames in known]
        memory = calibrated(memory, familiar, temperature=config.temperature)
    memory.save(out / MEMORY_FILE)
    folder = located(config.encoder)
    Settings(
        encoder=os.path.relpath(folder, out) if Path(folder).is_dir() else folder,
        num_frames=config.max_frames,
        temperature=config.temperature,
        form=config.form,
        reduction=config.reduction,
    ).save(out)
    shutil.rmtree(out / "steps", ignore_errors=True)
    return out


def read_tideos(config: PrealignConfig) -> list[Tideo]:
    """The Tideos with their questions; if a file has more than `num_tideos`, evenly spaced ones of them."""
    if config.tideos in registry.targets("tideos"):
        return list(registry.load("tideos", config.tideos)(num=config.num_tideos, seed=config.seed))
    tideos = [to_tideo(record) for record in load(config.tideos)]
    return list(tideos if config.num_tideos is None else sampled(tideos, config.num_tideos))


def _projected(config: PrealignConfig, features: Sequence[Features]) -> list[Features]:
    """The features after projection onto the memory; an empty list if no example needs them."""
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
    """The PrefixLM of a recipe, before training."""
    name = located(config.llm)
    llm, tokenizer = load_llm(name, loading=config.loading, place=False)
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


class _PrealignTrainer(CheckedTrainer):
    """Checkpoints hold the trained tensors alone, as `PrefixLM.save_pretrained` writes them."""

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        self.model.save_pretrained(output_dir or self.args.output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.model.load_trained(resume_from_checkpoint)


def _collate(examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """A batch with its labels also under the name by which the Trainer counts the tokens of a step."""
    batch = collate_examples(examples)
    return batch | {"labels": batch["labels_BL"]}


def _share_of_step(outputs: Any, labels_BL: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:
    """The batch's part of the mean over all tokens of a step, however many batches the step is made of.

    The published code takes the mean of the batches' means, which weighs the tokens of short answers more.
    """
    return outputs.loss * ((labels_BL != IGNORE).sum() / num_items_in_batch)


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
    arguments = trainer_arguments(
        out,
        steps=steps,
        batch=train.batch,
        accumulate=train.accumulate,
        seed=config.seed,
        bf16=train.bf16,
        save_steps=train.save_steps,
        log_steps=train.log_steps,
        warmup_steps=round(train.warmup * steps),
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
        data_collator=_collate,
        compute_loss_func=_share_of_step,
        optimizers=(_optimizer(model, train), None),
    )


def _optimizer(model: PrefixLM, train: PrealignTraining) -> torch.optim.Optimizer:
    """AdamW without decay on vectors (biases, gates), as published; `proj_lr` for projection and temporal embedding."""
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            factor = train.proj_lr if name.startswith(("visual_proj", "temporal_emb")) else 1.0
            decay = train.weight_decay if parameter.squeeze().ndim > 1 else 0.0
            groups.setdefault((train.lr * factor, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": p, "lr": lr, "weight_decay": decay} for (lr, decay), p in groups.items()],
        betas=train.betas,
    )
