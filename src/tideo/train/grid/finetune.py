"""Finetuning an image-text model on grids of frames (top-down grid, arXiv 2409.07748), on transformers' Trainer.

The vision tower is frozen, projector and language model are trained; LoRA, QLoRA and an unfrozen tower are options.
Against forgetting: captions mixed in, LoRA, and a penalty on leaving the starting model's predictions.
"""

from __future__ import annotations

import json
import logging
import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState  # type: ignore[import-untyped]

from tideo.bundled import ASSETS
from tideo.models.grid.loading import Loading, load_vlm
from tideo.models.grid.settings import GRID_FILE
from tideo.store.files import atomic_write_text
from tideo.tiny.grid_episodes import captioned, grid_conversations
from tideo.tiny.llava import tiny_llava
from tideo.train.grid.config import DOLLHOUSE, LLAVA, FinetuneConfig, deepspeed_file
from tideo.train.grid.conversations import Conversation, annotated, pasted
from tideo.train.grid.llava_json import read_llava, write_llava
from tideo.train.grid.stage import ALIGNED_FILE, GridWork, folder_of, training_arguments
from tideo.train.grid.trainer import GridTrainer
from tideo.train.trainer import begin
from tideo.types import UserError

log = logging.getLogger(__name__)
HELD_OUT_CAPTIONS = 200
STEPS = ("imitate", "align", "steps")  # the folders of checkpoints


def finetune(config: FinetuneConfig, *, out: str | Path, resume: bool = False) -> Path:
    """Train and write a folder that `tideo ask` and `tideo eval` load. Checkpoints in `out`/align and `out`/steps.

    forgetting.json tells the loss on held-out captions before and after, where there are captions and the model is not
    parted. With `resume` it
    goes on from the last checkpoint, with the same losses as without a break; a run that is done is left as it is.
    """
    if not isinstance(config, FinetuneConfig):
        raise UserError(f"this recipe is not for finetuning: it makes a {type(config).__name__}")
    out = Path(out)
    if not begin(out, recipe=config, resume=resume, steps=STEPS, done=GRID_FILE):
        return out
    # Before the model: ZeRO-3 parts its weights as they are read.
    arguments = training_arguments(config.train, seed=config.seed, out=out / "steps")
    torch.manual_seed(config.seed)
    conversations = _conversations(config)
    captions, held_out = _captions(config)
    model, processor = starting_model(config)
    if torch.accelerator.is_available() and not (config.load_4bit or config.train.parallel):
        model.to(PartialState().device)  # the tower's features and the captions' loss come before the Trainer
    work = GridWork(config, model=model, processor=processor, shared=out.parent)
    if config.imitate is not None:
        work.imitate(out=out, resume=resume)
    if config.align is not None:
        work.align(captions, out=out, resume=resume)
    mixed = mix(conversations, captions, share=config.captions, seed=config.seed)
    trained = work.prepared(parts=config.parts)
    measured = (
        held_out if not config.train.parallel else []
    )  # a parted model is whole in the Trainer's hands alone
    before = work.loss_on(trained, measured)
    trainer = work.train(
        trained,
        mixed,
        parts=config.parts,
        arguments=arguments,
        training=config.train,
        resume=resume,
        distill=config.distill,
    )
    after = work.loss_on(trained, measured)
    _save(trainer, config, out=out)
    PartialState().wait_for_everyone()
    if not PartialState().is_main_process:
        return out
    processor.save_pretrained(out)
    config.grid.save(out)
    if measured:
        told = {"caption_loss_before": before, "caption_loss_after": after, "num_captions": len(measured)}
        atomic_write_text(out / "forgetting.json", json.dumps(told, indent=2) + "\n")
    for folder in STEPS:
        shutil.rmtree(out / folder, ignore_errors=True)
    (out / ALIGNED_FILE).unlink(missing_ok=True)
    return out


def export_llava(config: FinetuneConfig, *, out: str | Path) -> Path:
    """The training set of a recipe, captions mixed in, as LLaVA's own code reads it; returns its train.json."""
    captions, _ = _captions(config)
    return write_llava(mix(_conversations(config), captions, share=config.captions, seed=config.seed), out)


# --- what it is trained on ------------------------------------------------------------------------


def _conversations(config: FinetuneConfig) -> list[Conversation]:
    if config.data == DOLLHOUSE:
        return grid_conversations(
            num=config.num or 4000, settings=config.grid, lookups=config.lookups, seed=config.seed
        )
    path, videos = str(config.path), str(config.videos)
    if config.data == LLAVA:
        return read_llava(path, images=videos, image_size=config.grid.image_size)
    return annotated(config.data, data=path, videos=videos, settings=config.grid)


def _captions(config: FinetuneConfig) -> tuple[list[Conversation], list[Conversation]]:
    """Captioned images to align and mix with, and those held out to measure forgetting; none where there is no file."""
    if not config.paste_captions:
        return _pictures(config, size=config.grid.image_size)
    cell = config.grid.image_size // max(config.grid.rows, config.grid.cols)
    learned, held_out = _pictures(config, size=cell)
    return pasted(learned, settings=config.grid), pasted(held_out, settings=config.grid)


def _pictures(config: FinetuneConfig, *, size: int) -> tuple[list[Conversation], list[Conversation]]:
    if config.captions_path:
        rows = read_llava(config.captions_path, images=config.captions_images or ".", image_size=size)
        if len(rows) <= HELD_OUT_CAPTIONS:
            raise UserError(
                f"{config.captions_path}: expected more than {HELD_OUT_CAPTIONS} rows, found {len(rows)}"
            )
        return rows[HELD_OUT_CAPTIONS:], rows[:HELD_OUT_CAPTIONS]
    if not (config.captions or config.align):
        return [], []
    held_out = captioned(num=HELD_OUT_CAPTIONS, image_size=size, split="val", seed=config.seed)
    return captioned(num=config.num_captions, image_size=size, seed=config.seed), held_out


def mix(
    conversations: Sequence[Conversation], captions: Sequence[Conversation], *, share: float, seed: int
) -> list[Conversation]:
    """The conversations with so many captions among them that these are `share` of all; too few are told."""
    num = round(len(conversations) * share / (1 - share))
    if num > len(captions):
        log.warning("%d captions are fewer than the share of %s asks for: %d", len(captions), share, num)
    return [*conversations, *random.Random(seed).sample(list(captions), min(num, len(captions)))]


# --- the model ------------------------------------------------------------------------------------


def starting_model(config: FinetuneConfig) -> tuple[Any, Any]:
    """The model that the finetuning begins with, and its processor."""
    if config.model == DOLLHOUSE:
        return tiny_llava(
            clip=ASSETS / "dollhouse-clip",
            llm=folder_of(config.teacher or "dollhouse-lm"),
            image_size=config.grid.image_size,
            cells=(config.grid.rows, config.grid.cols) if config.tile_places else (1, 1),
            patch_size=config.patch_size,
        )
    # Where the trained weights are others' (LoRA) or DeepSpeed keeps them in float32 too, bfloat16 is enough.
    low = config.train.bf16 and (config.lora_rank or deepspeed_file(config.train.parallel))
    loading = Loading(
        dtype="bfloat16" if low else "float32", load_4bit=config.load_4bit, place=config.load_4bit
    )
    bundled = ASSETS / config.model
    return load_vlm(str(bundled) if bundled.is_dir() else config.model, loading=loading)


def _save(trainer: GridTrainer, config: FinetuneConfig, *, out: Path) -> None:
    """The whole model, gathered where it is parted, adapters merged into weights of the starting model's own kind."""
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
    if config.load_4bit or config.train.parallel:  # merging into 4-bit weights would round the adapter away
        from peft import PeftModel

        whole, _ = starting_model(replace(config, load_4bit=False))
        model = PeftModel.from_pretrained(whole, str(out / "lora"))
    merged = model.merge_and_unload()
    merged.to(merged.get_input_embeddings().weight.dtype).save_pretrained(out)
