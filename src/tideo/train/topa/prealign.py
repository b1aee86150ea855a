"""Text-only pre-alignment (TOPA, arXiv 2405.13911): a frozen language model learns to read CLIP text features.

With a benchmark's training videos it is TOPA's second half, which goes on from a pre-alignment (videos.py).

Tideos are encoded once. A linear projection, temporal embeddings and an adapter learn three tasks, and the memory of
the cross-modal projection is saved with them. No picture is used in training. With `calibration`, pictures set the
threshold below which `tideo ask` calls a video unfamiliar; no answer depends on that.

Several processes share the encoding and the batch; the first one writes and removes what is no checkpoint.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tideo import registry
from tideo.bundled import located
from tideo.encoders.dual import DualEncoder, load_encoder
from tideo.encoders.familiarity import calibrated
from tideo.encoders.features import frame_features, sampled
from tideo.encoders.memory import Memory, write_memory
from tideo.loading import Loading
from tideo.models.topa.checkpoint import PrefixLMConfig, begun, load_llm
from tideo.models.topa.prefix_lm import PrefixLM
from tideo.models.topa.settings import MEMORY_FILE, SETTINGS_FILE, Settings
from tideo.processes import Processes
from tideo.textvid.schema import load, to_tideo
from tideo.train.calibration import calibration_frames
from tideo.train.parallel import FSDP, check_parallel, deepspeed_file, layers, sharding
from tideo.train.topa.config import PrealignConfig
from tideo.train.topa.features import StoredFeatures, encoded_tideos, features_in
from tideo.train.topa.init_projection import init_from_llm_
from tideo.train.topa.memory import caption_rows, memory_rows, projected_texts
from tideo.train.topa.tasks import Examples
from tideo.train.topa.trainer import PrealignTrainer
from tideo.train.topa.videos import annotated_questions, image_features, projected_images
from tideo.train.trainer import begin, fit, last_checkpoint, trainer_arguments
from tideo.types import Features, Tideo, UserError


def prealign(config: PrealignConfig, *, out: str | Path, resume: bool = False) -> Path:
    """Train and write a model directory that `tideo ask` and `tideo eval` load. Checkpoints go to `out`/steps.

    With `resume` a stopped run continues from its last checkpoint; a finished run is not changed.
    """
    if not isinstance(config, PrealignConfig):
        raise UserError(
            f"this recipe is for `tideo train`, not for pre-alignment: it returns a {type(config).__name__}"
        )
    out, processes = Path(out), Processes.launched()
    check_parallel(config.train.parallel)
    if processes.size > 1 and config.torch_device().type == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"  # before the processes find each other
    torch.manual_seed(config.seed)
    if not begin(out, recipe=config, resume=resume, last_file=SETTINGS_FILE):
        return out
    encoder = load_encoder(config.encoder, loading=Loading(device=config.device))
    data = _texts(config, encoder, out=out) if config.data is None else _videos(config, encoder, out=out)
    del encoder  # its memory is the training's
    if resume and (last := last_checkpoint(out / "steps")) is not None:
        data.model.load_trained(last)
    trainer = _trainer(config, data, out=out / "steps")
    fit(
        trainer,
        resume=resume,
        save_minutes=config.train.save_minutes,
        epoch_steps=len(data.tideos) / config.train.per_step(processes.size),
        report_to=config.train.report_to,
    )
    trainer.save_model(str(out))
    if processes.first:
        if config.data is None:
            _save_memory(config, data.rows, out=out)
        elif config.project and config.begins_in is not None:
            shutil.copyfile(config.begins_in / MEMORY_FILE, out / MEMORY_FILE)
        folder = located(config.encoder)
        Settings(
            encoder=os.path.relpath(folder, out) if Path(folder).is_dir() else folder,
            num_frames=config.max_frames,
            project=config.data is None or config.project,
            temperature=config.temperature,
            form=config.form,
            reduction=config.reduction,
        ).save(out)
        shutil.rmtree(out / "steps", ignore_errors=True)
    processes.wait()
    return out


@dataclass(frozen=True, kw_only=True)
class _Data:
    """The model before training, what it learns from, and the rows of the memory. `projected` may be empty."""

    model: PrefixLM
    tideos: Sequence[Tideo]
    features: StoredFeatures
    projected: Sequence[Features] = ()
    rows: StoredFeatures


def _texts(config: PrealignConfig, encoder: DualEncoder, *, out: Path) -> _Data:
    processes = Processes.launched()
    tideos = read_tideos(config)
    rows = features = _features(config, tideos, encoder, out=out)
    if config.memory == "captions":
        rows = caption_rows(tideos, encoder, num_rows=config.memory_rows, folder=out / "steps" / "captions")
    model = new_prefix_lm(config, encoder)
    if config.from_llm and config.start is None:
        if not processes.first:
            processes.wait()  # the first one encodes the captions for all
        init_from_llm_(model, tideos, features, encoder, cache_dir=out.parent / "text_features")
        if processes.first:
            processes.wait()
    projected: Sequence[Features] = ()
    if config.projected:
        projected = projected_texts(
            features,
            num_rows=config.memory_rows,
            temperature=config.temperature,
            noise_std=config.noise_std,
            seed=config.seed,
            folder=out / "steps",
            device=getattr(encoder, "device", "cpu"),
        )
    return _Data(model=model, tideos=tideos, features=features, projected=projected, rows=rows)


def _videos(config: PrealignConfig, encoder: DualEncoder, *, out: Path) -> _Data:
    tideos, features = image_features(config, annotated_questions(config), encoder, out=out)
    if config.project and config.begins_in is not None:
        features = projected_images(
            features,
            start=config.begins_in,
            temperature=config.temperature,
            folder=out / "steps",
            device=getattr(encoder, "device", torch.device("cpu")),
        )
    return _Data(model=new_prefix_lm(config, encoder), tideos=tideos, features=features, rows=features)


def read_tideos(config: PrealignConfig) -> list[Tideo]:
    """The Tideos with their questions; if a file has more than `num_tideos`, evenly spaced ones of them.

    With `data` a benchmark's questions, in the form of Tideos without captions.
    """
    if config.data is not None:
        return [tideo for _, tideo in annotated_questions(config)]
    assert config.tideos is not None
    if config.tideos in registry.targets("tideos"):
        return list(registry.load("tideos", config.tideos)(num=config.num_tideos, seed=config.seed))
    tideos = [to_tideo(record) for record in load(config.tideos)]
    return list(tideos if config.num_tideos is None else sampled(tideos, config.num_tideos))


def _features(
    config: PrealignConfig, tideos: Sequence[Tideo], encoder: DualEncoder, *, out: Path
) -> StoredFeatures:
    """The Tideos' features, from the recipe's folder or encoded by all processes together, beside the run."""
    if config.features is not None:
        return features_in(config.features, tideos, encoder=encoder, num_frames=config.max_frames)
    dtype = getattr(encoder, "dtype", "float32")  # which an encoder of another package need not have
    folder = out.parent / "text_features" / f"tideos-{encoder.id}-{dtype}"
    return encoded_tideos(tideos, encoder, num_frames=config.max_frames, folder=folder)


def new_prefix_lm(config: PrealignConfig, encoder: DualEncoder) -> PrefixLM:
    """The PrefixLM of a recipe, before training."""
    prefix_config = PrefixLMConfig(
        llm=located(config.llm),
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
        dtype=config.dtype,
    )
    if config.begins_in is not None:
        prefix_config = begun(prefix_config, config.begins_in)
    # Weights that the GPUs share stay in the host's memory until they are sharded: they may be too many for one.
    whole = not sharding(config.train.parallel).weights
    llm, tokenizer = load_llm(
        prefix_config.llm, loading=config.loading, rope_theta=prefix_config.rope_theta, place=whole
    )
    model = PrefixLM(prefix_config, llm=llm, tokenizer=tokenizer)
    if config.begins_in is not None:
        model.load_trained(config.begins_in)
    return model


def _trainer(config: PrealignConfig, data: _Data, *, out: Path) -> PrealignTrainer:
    train, processes = config.train, Processes.launched()
    per_step = train.per_step(processes.size)
    steps = train.num_steps(len(data.tideos), processes=processes.size)
    if processes.first:
        print(train.rate_line(processes.size), file=sys.stderr)
    arguments = trainer_arguments(
        out,
        steps=steps,
        batch=train.batch,
        accumulate=train.accumulate,
        seed=config.seed,
        bf16=train.bf16,
        save_steps=train.save_steps,
        save_total_limit=train.save_limit,
        log_steps=train.log_steps,
        device=config.torch_device(),
        learning_rate=train.rate(processes.size),
        warmup_steps=round(train.warmup * steps),
        gradient_checkpointing=train.gradient_checkpointing,
        ddp_find_unused_parameters=False,
        deepspeed=deepspeed_file(train.parallel),
        fsdp=train.parallel == FSDP,
    )
    if train.parallel == FSDP:
        arguments.fsdp_plugin_args["transformer_cls_names_to_wrap"] = ",".join(layers(data.model.llm))
    examples = Examples(
        data.tideos,
        data.features,
        data.model,
        batch=per_step,
        steps=steps,
        weights=config.tasks_used,
        choose_form=config.choose_form,
        noise_std=config.noise_std if config.data is None else 0.0,
        projected=data.projected,
        share_projected=config.projected if data.projected else 0.0,
        uneven=config.uneven,
        seed=config.seed,
    )
    return PrealignTrainer(model=data.model, args=arguments, train_dataset=examples, training=train)


def _save_memory(config: PrealignConfig, rows: StoredFeatures, *, out: Path) -> None:
    """Write the memory, a block at a time, with the threshold of the calibration."""
    num, blocks = memory_rows(config.memory, rows, num_rows=config.memory_rows)
    shape, dtype, name = (num, rows.store.dim), torch.float16, rows.store.about["encoder"]
    if config.calibration is None:
        write_memory(out / MEMORY_FILE, map(torch.from_numpy, blocks), shape=shape, dtype=dtype, encoder=name)
        return
    unfinished = out / "steps" / MEMORY_FILE
    write_memory(unfinished, map(torch.from_numpy, blocks), shape=shape, dtype=dtype, encoder=name)
    encoder = load_encoder(config.encoder, loading=Loading(device=config.device))
    known = calibration_frames(config.calibration, num_frames=config.max_frames, seed=config.seed)
    familiar = [frame_features(frames, encoder) for frames in known]
    calibrated(Memory.load(unfinished), familiar, temperature=config.temperature).save(out / MEMORY_FILE)
