"""Finetuning an image-text model on grids of frames (top-down grid, arXiv 2409.07748), on transformers' Trainer.

The vision tower is frozen, projector and language model are trained; LoRA, QLoRA and an unfrozen tower are options.
Against forgetting: captions mixed in, LoRA, and a penalty on leaving the starting model's predictions.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import TrainingArguments

from tideo import registry
from tideo.config import write_run
from tideo.models.bundled import ASSETS
from tideo.models.grid_settings import Loading, load_vlm
from tideo.store import atomic_path, atomic_write_text, key_of
from tideo.train.chat_examples import Chat, ChatExamples, collate_chats
from tideo.train.conversations import Conversation, annotated, pasted, read_llava, write_llava
from tideo.train.documents import IGNORE
from tideo.train.finetune_config import DOLLHOUSE, FSDP, LLAVA, FinetuneConfig, GridTraining
from tideo.train.grid_episodes import captioned, grid_conversations
from tideo.train.grid_trainer import GridTrainer
from tideo.train.parts import part_of, train_only, with_lora
from tideo.train.tiny_llava import tiny_llava
from tideo.train.tower import PatchFeatures, keep_tower, patch_features, put_back, tower_of
from tideo.train.trainer import fit
from tideo.types import UserError

HELD_OUT_CAPTIONS, ALIGNED_FILE = 200, "aligned.safetensors"


def finetune(config: FinetuneConfig, *, out: str | Path, resume: bool = False) -> Path:
    """Train and write a folder that `tideo ask` and `tideo eval` load. Checkpoints in `out`/align and `out`/steps.

    forgetting.json tells the loss on held-out captions before and after, where there are captions. With `resume` it
    goes on from the last checkpoint, with the same losses as without a break.
    """
    if not isinstance(config, FinetuneConfig):
        raise UserError(f"this recipe is not for finetuning: it makes a {type(config).__name__}")
    out = Path(out)
    write_run(out, recipe=config, seed=config.seed)
    torch.manual_seed(config.seed)
    conversations = _conversations(config)
    captions, held_out = _captions(config)
    # Before the model: ZeRO-3 parts its weights as they are read.
    arguments = _arguments(config.train, seed=config.seed, out=out / "steps")
    model, processor = starting_model(config)
    work = _Work(config, model=model, processor=processor, cache_dir=out.parent / "patch_features")
    if config.align is not None:
        work.align(captions, out=out, resume=resume)
    mixed = mix(conversations, captions, share=config.captions, seed=config.seed)
    trained = work.prepared(parts=config.parts)
    before = work.loss_on(trained, held_out)
    trainer = work.train(
        trained,
        mixed,
        parts=config.parts,
        arguments=arguments,
        training=config.train,
        resume=resume,
        distill=config.distill,
    )
    after = work.loss_on(trained, held_out)
    _save(trainer, config, out=out)
    PartialState().wait_for_everyone()
    if not PartialState().is_main_process:
        return out
    processor.save_pretrained(out)
    config.grid.save(out)
    if held_out:
        told = {"caption_loss_before": before, "caption_loss_after": after, "num_captions": len(held_out)}
        atomic_write_text(out / "forgetting.json", json.dumps(told, indent=2) + "\n")
    for folder in ("align", "steps"):
        shutil.rmtree(out / folder, ignore_errors=True)
    (out / ALIGNED_FILE).unlink(missing_ok=True)
    return out


def export_llava(config: FinetuneConfig, *, out: str | Path) -> Path:
    """The training set of a recipe as LLaVA's own code reads it; returns its train.json."""
    return write_llava(_conversations(config), out)


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
    if config.data == DOLLHOUSE:
        held_out = captioned(num=HELD_OUT_CAPTIONS, image_size=size, split="val", seed=config.seed)
        return captioned(num=config.num_captions, image_size=size, seed=config.seed), held_out
    if config.captions or config.align:
        raise UserError(
            "captions are asked for: set captions_path to a file in LLaVA's format, and captions_images"
        )
    return [], []


def mix(
    conversations: Sequence[Conversation], captions: Sequence[Conversation], *, share: float, seed: int
) -> list[Conversation]:
    """The conversations with so many captions among them that these are `share` of all."""
    num = min(len(captions), round(len(conversations) * share / (1 - share)))
    return [*conversations, *random.Random(seed).sample(list(captions), num)]


# --- the model ------------------------------------------------------------------------------------


def starting_model(config: FinetuneConfig) -> tuple[Any, Any]:
    """The model that the finetuning begins with, and its processor."""
    if config.model == DOLLHOUSE:
        return tiny_llava(
            clip=ASSETS / "dollhouse-clip",
            llm=ASSETS / "dollhouse-lm",
            image_size=config.grid.image_size,
            cells=(config.grid.rows, config.grid.cols) if config.tile_places else (1, 1),
        )
    # Where the trained weights are others' (LoRA) or DeepSpeed keeps them in float32 too, bfloat16 is enough.
    low = config.train.bf16 and (config.lora_rank or (config.train.parallel or "").endswith(".json"))
    loading = Loading(
        dtype="bfloat16" if low else "float32", load_4bit=config.load_4bit, place=config.load_4bit
    )
    bundled = ASSETS / config.model
    return load_vlm(str(bundled) if bundled.is_dir() else config.model, loading=loading)


class _Work:
    """One model in training: its frozen tower's features, its stages, and its loss on something else."""

    def __init__(self, config: FinetuneConfig, *, model: Any, processor: Any, cache_dir: Path) -> None:
        self.config, self.model, self.processor, self.cache_dir = config, model, processor, cache_dir
        self.chat = Chat(processor, image_size=config.grid.image_size)

    def prepared(self, *, parts: Sequence[str]) -> Any:
        """The model with only these parts learning, through LoRA where that is asked for."""
        config = self.config
        train_only(self.model, parts)
        if not config.lora_rank:
            return self.model
        if config.load_4bit:
            from peft import prepare_model_for_kbit_training

            self.model = prepare_model_for_kbit_training(self.model)
        return with_lora(self.model, rank=config.lora_rank, alpha=config.lora_alpha, parts=parts)

    def align(self, captions: Sequence[Conversation], *, out: Path, resume: bool) -> None:
        """`align_parts` alone, on captions; their weights are kept in aligned.safetensors for a resumed run."""
        done, align = out / ALIGNED_FILE, self.config.align
        assert align is not None
        if not (resume and done.is_file()):
            parts = self.config.align_parts
            train_only(self.model, parts)
            arguments = _arguments(align, seed=self.config.seed, out=out / "align")
            self.train(self.model, captions, parts=parts, arguments=arguments, training=align, resume=resume)
            state = {n: p.detach().clone() for n, p in self.model.named_parameters() if part_of(n) in parts}
            if PartialState().is_main_process:
                with atomic_path(done) as part:
                    save_file(state, part)
            PartialState().wait_for_everyone()
        for name, value in load_file(done).items():
            self.model.get_parameter(name).data.copy_(value)

    def train(
        self,
        model: Any,
        conversations: Sequence[Conversation],
        *,
        parts: Sequence[str],
        arguments: TrainingArguments,
        training: GridTraining,
        resume: bool,
        distill: float = 0.0,
    ) -> GridTrainer:
        """Run the Trainer; the tower is out of the model meanwhile where its features are kept."""
        config = self.config
        features = self._features(conversations) if "tower" not in parts else None
        world = PartialState().num_processes
        per_step = training.batch * training.accumulate * world
        num_parts = sum(-(-len(c.turns) // config.packed) for c in conversations)
        arguments.max_steps = training.steps or max(
            1, math.ceil((training.epochs or 0) * num_parts / per_step)
        )
        arguments.warmup_steps = math.ceil(training.warmup * arguments.max_steps)
        examples = ChatExamples(
            conversations, processor=self.processor, image_size=config.grid.image_size,
            num=arguments.max_steps * per_step, packed=config.packed, features=features, seed=config.seed,
        )  # fmt: skip
        rates = {"projector": training.projector_lr, "tower": training.tower_lr}
        tower = keep_tower(self.model) if features is not None else None
        try:
            trainer = GridTrainer(
                model=model,
                args=arguments,
                train_dataset=examples,
                data_collator=self._collate,
                rates={part: rate for part, rate in rates.items() if rate is not None},
                muon_lr=training.muon_lr,
                distill=distill,
            )
            fit(trainer, resume=resume)
        finally:
            if tower is not None:
                put_back(self.model, tower)
        return trainer

    @torch.inference_mode()
    def loss_on(self, model: Any, conversations: Sequence[Conversation]) -> float:
        """Mean negative log-likelihood of a reply's token, in nats; NaN for no conversation."""
        if not conversations:
            return math.nan
        total = count = 0.0
        was_training = model.training
        model.eval()
        for start in range(0, len(conversations), 8):
            some = conversations[start : start + 8]
            batch = self._collate(
                [self.chat.encode(c.pictures, c.turns) | self.chat.pixels(c.pictures) for c in some]
            )
            batch = {k: v.to(model.device) for k, v in batch.items()}
            scored = int((batch["labels"][:, 1:] != IGNORE).sum())
            with torch.autocast(model.device.type, torch.bfloat16, enabled=self.config.train.bf16):
                total += float(model(**batch).loss) * scored
            count += scored
        model.train(was_training)
        return total / count

    def _collate(self, examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        tokenizer = self.processor.tokenizer
        pad = tokenizer.pad_token_id
        return collate_chats(examples, pad_id=tokenizer.eos_token_id if pad is None else pad)

    def _features(self, conversations: Sequence[Conversation]) -> PatchFeatures | None:
        # A parted model has no whole tower to run, and its share of a large model's step is small.
        if not self.config.keep_features or self.config.train.parallel:
            return None
        with PartialState().main_process_first():
            return patch_features(
                self.model,
                conversations,
                pixels=self.chat.pixels,
                tower_key=_tower_key(self.model, self.processor),
                cache_dir=self.cache_dir,
            )


def _tower_key(model: Any, processor: Any) -> str:
    """What the tower's output depends on: its weights and how images are brought to it."""
    tower, _ = tower_of(model)
    digest = hashlib.sha256()
    for name, value in sorted(tower.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return key_of([digest.hexdigest(), processor.image_processor.to_dict()])


def _arguments(training: GridTraining, *, seed: int, out: Path) -> TrainingArguments:
    """Of what the number of steps is not known yet; `_Work.train` sets it."""
    gpu = torch.accelerator.is_available()
    deepspeed = training.parallel if (training.parallel or "").endswith(".json") else None
    if deepspeed:
        registry.require("deepspeed")
    if training.parallel and not gpu:
        # Accelerate would take no notice, and every process would hold the whole model.
        raise UserError(
            f"train.parallel={training.parallel} needs GPUs: leave it out, and processes share the batch"
        )
    return TrainingArguments(
        output_dir=str(out),
        max_steps=1,
        per_device_train_batch_size=training.batch,
        gradient_accumulation_steps=training.accumulate,
        learning_rate=training.lr,
        weight_decay=training.weight_decay,
        lr_scheduler_type="cosine",
        seed=seed,
        bf16=training.bf16,
        use_cpu=not gpu,
        gradient_checkpointing=training.gradient_checkpointing,
        save_steps=training.save_steps,
        save_total_limit=1,
        logging_steps=training.log_steps,
        train_sampling_strategy="sequential",  # the examples shuffle themselves
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to=[],
        deepspeed=deepspeed,
        fsdp="full_shard auto_wrap" if training.parallel == FSDP else "",
    )


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
    model.merge_and_unload().save_pretrained(out)
