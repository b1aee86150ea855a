"""Finetuning an image-text model on transformers' Trainer: on grids of frames (top-down grid, arXiv 2409.07748), on
single frames, or through the model's own video input.

By default the vision tower is frozen, and projector and language model learn. Three options reduce forgetting: captions
in the training set, LoRA, and a KL penalty towards the starting model. One run is one stage: LLaVA's alignment on
captions is a run with modules=projector, and another run starts from its folder.
"""

from __future__ import annotations

import json
import logging
import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState  # type: ignore[import-untyped]

from tideo import registry
from tideo.models.grid.families import family_of
from tideo.models.grid.inputs import matching_tokens
from tideo.models.grid.loading import check_image_size, check_shown, load_parts, load_vlm
from tideo.models.grid.settings import GRID_FILE, GridSettings
from tideo.runs import RUN_FILE, read_run
from tideo.store.files import atomic_write_text
from tideo.train import workers
from tideo.train.grid.config import LLAVA, FinetuneConfig
from tideo.train.grid.conversations import Conversation, annotated, pasted
from tideo.train.grid.examples import check_packing
from tideo.train.grid.llava_json import read_llava, write_llava
from tideo.train.grid.single_frames import check_alike
from tideo.train.grid.stage import freeze, mean_loss, run_stage, training_arguments
from tideo.train.grid.trainer import GridTrainer
from tideo.train.grid.validation import check_apart
from tideo.train.parallel import deepspeed_file
from tideo.train.skipped import SKIPPED_FILE, Skipped
from tideo.train.trainer import begin
from tideo.types import UserError

log = logging.getLogger(__name__)
HELD_OUT_CAPTIONS = 200


def finetune(config: FinetuneConfig, *, out: str | Path, resume: bool = False) -> Path:
    """Train and write a folder that `tideo ask` and `tideo eval` load. Checkpoints go to `out`/steps.

    If the recipe has a `captions_path` and does not shard the model, forgetting.json has the loss on held-out captions
    before and after. With `resume` a stopped run continues from its last checkpoint, with the losses of a run without
    a break; a finished run is not changed.
    """
    if not isinstance(config, FinetuneConfig):
        raise UserError(f"this recipe is not for finetuning: it returns a {type(config).__name__}")
    out = Path(out)
    _refuse_earlier_stages(out)
    if not begin(out, recipe=config, resume=resume, last_file=GRID_FILE):
        return out
    # Made before the model, since ZeRO-3 shards weights while they are read.
    device = config.torch_device()
    arguments = training_arguments(config.train, seed=config.seed, out=out / "steps", device=device)
    load_parts(config.model, check=partial(_check, config))  # before a training file is read, and the weights
    torch.manual_seed(config.seed)
    failed: list[tuple[str, str]] = []
    conversations, held_out = training_set(config, failed=failed)
    skipped = Skipped(out / SKIPPED_FILE, share=config.max_unreadable, resume=resume)
    skipped.num = len(conversations) + len(failed)
    skipped.add(failed)
    skipped.check()
    validation = validation_set(config)
    check_apart(conversations, validation)
    base, processor = starting_model(config)
    check_image_size(processor, config.grid, name=config.model)
    check_alike(
        [*conversations, *validation],
        batch=config.train.batch,
        alike=family_of(base.config).videos_alike,
        name=config.model,
    )
    if not (config.quantised or config.train.parallel):
        base.to(device)  # the tower and the captions' loss run before the Trainer
    model = freeze(base, config)
    measured = [] if config.train.parallel else held_out  # a sharded model runs in the Trainer only
    with matching_tokens(config.model):
        before = mean_loss(model, measured, processor=processor, config=config)
    with matching_tokens(config.model), workers.ended():
        trainer = run_stage(
            model, conversations, validation=validation, base=base, processor=processor, config=config,
            arguments=arguments, features_dir=out.parent / "patch_features", skipped=skipped, resume=resume,
        )  # fmt: skip
    after = mean_loss(model, measured, processor=processor, config=config)
    _save(trainer, config, out=out)
    skipped.tell()
    PartialState().wait_for_everyone()
    if not PartialState().is_main_process:
        return out
    processor.save_pretrained(out)
    config.grid.save(out)
    if measured:
        losses = {"caption_loss_before": before, "caption_loss_after": after, "num_captions": len(measured)}
        atomic_write_text(out / "forgetting.json", json.dumps(losses, indent=2) + "\n")
    shutil.rmtree(out / "steps", ignore_errors=True)
    return out


def _refuse_earlier_stages(out: Path) -> None:
    """Raises UserError for an unfinished run of an earlier version, in which one run had several stages."""
    if (out / GRID_FILE).is_file() or not (out / RUN_FILE).is_file():
        return
    recorded = read_run(out).recipe
    if stages := [name for name in ("imitate", "align") if recorded.get(name) is not None]:
        raise UserError(
            f"{out} is an unfinished run of an earlier version with a stage {' and '.join(stages)}, which is now a "
            "recipe of its own: run that first, start this one from its folder (--set model=FOLDER), with another --out"
        )


def export_llava(config: FinetuneConfig, *, out: str | Path) -> Path:
    """Write a recipe's training set, with its captions, in LLaVA's format; returns the path of train.json."""
    return write_llava(training_set(config)[0], out)


# --- the training set -----------------------------------------------------------------------------


def training_set(
    config: FinetuneConfig, *, failed: list[tuple[str, str]] | None = None
) -> tuple[list[Conversation], list[Conversation]]:
    """The conversations with `captions` mixed in, and the held-out captions that measure forgetting.

    `failed` gets the ids of conversations whose videos cannot be opened, and why.
    """
    conversations = _conversations(
        config, path=config.path, videos=config.videos, num=config.num, split="train", failed=failed
    )
    conversations = with_uneven(conversations, share=config.uneven, seed=config.seed)
    if not config.captions_path:
        return conversations, []
    captions, held_out = _captions(config)
    return mix(conversations, captions, share=config.captions, seed=config.seed), held_out


def validation_set(config: FinetuneConfig) -> list[Conversation]:
    """The conversations that are scored while training; none if the recipe names none."""
    if not config.validates:
        return []
    videos = config.val_videos or config.videos
    return _conversations(
        config, path=config.val_path, videos=videos, num=config.val_num, split="val", failed=None
    )


def _conversations(
    config: FinetuneConfig,
    *,
    path: str | None,
    videos: str | None,
    num: int | None,
    split: str,
    failed: list[tuple[str, str]] | None,
) -> list[Conversation]:
    """A file in the form of `data` with its videos, or the split of a registered source."""
    if config.data == LLAVA:
        return read_llava(str(path), images=str(videos), settings=config.grid, num=num, failed=failed)
    if config.data in registry.targets("conversations"):
        read = registry.load("conversations", config.data)
        return list(read(num=num, settings=config.grid, split=split, seed=config.seed))
    return annotated(
        config.data, data=str(path), videos=str(videos), settings=config.grid, num=num, failed=failed
    )


def _captions(config: FinetuneConfig) -> tuple[list[Conversation], list[Conversation]]:
    """Captioned images to mix in, and held-out ones; with `paste_captions`, as grids."""
    settings = config.grid
    if not config.paste_captions:
        return _captioned_images(config, settings=settings)
    cell = replace(
        settings, rows=1, cols=1, image_size=settings.image_size // max(settings.rows, settings.cols)
    )
    captions, held_out = _captioned_images(config, settings=cell)
    return pasted(captions, settings=settings), pasted(held_out, settings=settings)


def _captioned_images(
    config: FinetuneConfig, *, settings: GridSettings
) -> tuple[list[Conversation], list[Conversation]]:
    path, num = str(config.captions_path), config.num_captions
    if path in registry.targets("conversations"):
        read = registry.load("conversations", path)
        held_out = read(num=HELD_OUT_CAPTIONS, settings=settings, split="val", seed=config.seed)
        return read(num=num, settings=settings, split="train", seed=config.seed), held_out
    rows = read_llava(path, images=config.captions_images or ".", settings=settings)
    if len(rows) <= HELD_OUT_CAPTIONS:
        raise UserError(f"{path}: expected more than {HELD_OUT_CAPTIONS} rows, found {len(rows)}")
    return rows[HELD_OUT_CAPTIONS:][:num], rows[:HELD_OUT_CAPTIONS]


def with_uneven(conversations: Sequence[Conversation], *, share: float, seed: int) -> list[Conversation]:
    """The conversations, about `share` of which show their frames at uneven times.

    Raises UserError if none can, as pictures cannot.
    """
    if share and not any(c.uneven for c in conversations):
        raise UserError(f"uneven={share}: none of the conversations is about a video; set uneven=0")
    drawn = [random.Random(f"uneven/{seed}/{c.id}").random() < share for c in conversations]
    return [
        c.uneven(f"{seed}/{c.id}") if uneven and c.uneven is not None else c
        for c, uneven in zip(conversations, drawn, strict=True)
    ]


def mix(
    conversations: Sequence[Conversation], captions: Sequence[Conversation], *, share: float, seed: int
) -> list[Conversation]:
    """The conversations, and captions that make up `share` of the result; warns if there are too few captions."""
    num = round(len(conversations) * share / (1 - share))
    if num > len(captions):
        log.warning("there are %d captions, but a share of %s needs %d", len(captions), share, num)
    return [*conversations, *random.Random(seed).sample(list(captions), min(num, len(captions)))]


# --- the model ------------------------------------------------------------------------------------


def starting_model(config: FinetuneConfig) -> tuple[Any, Any]:
    """The model before finetuning, and its processor."""
    # bfloat16 is enough if other weights learn (LoRA), or if DeepSpeed keeps a copy in float32.
    low_precision = config.train.bf16 and (config.lora_rank or deepspeed_file(config.train.parallel))
    dtype = config.dtype if config.dtype != "auto" else "bf16" if low_precision else "fp32"
    loading = replace(config.loading, dtype=dtype)
    return load_vlm(config.model, loading=loading, place=False, check=partial(_check, config))


def _check(config: FinetuneConfig, model_config: Any, processor: Any) -> None:
    """Raises UserError if the recipe does not suit the model, of which this is the config and the processor."""
    check_packing(model_config, config.packed)
    check_shown(processor, config.grid, config=model_config, name=config.model)


def _save(trainer: GridTrainer, config: FinetuneConfig, *, out: Path) -> None:
    """Save the whole model: shards are gathered, and adapters merged into weights of the starting model's dtype."""
    model: Any = trainer.model
    if not config.lora_rank:
        if config.train.parallel:
            trainer.save_model(str(out))
        elif trainer.is_world_process_zero():
            model.save_pretrained(out)
        return
    trainer.save_model(str(out / "lora"))
    if not trainer.is_world_process_zero():
        return
    if (
        config.quantised or config.train.parallel
    ):  # merged into 4-bit weights, the adapter would be rounded away
        from peft import PeftModel

        whole, _ = starting_model(replace(config, load_4bit=False, load_8bit=False))
        model = PeftModel.from_pretrained(whole, str(out / "lora"))
    merged = model.merge_and_unload()
    merged.to(merged.get_input_embeddings().weight.dtype).save_pretrained(out)
