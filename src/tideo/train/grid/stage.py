"""A training stage of an image-text model: the freeze policy, the tower's features, the Trainer and its arguments.

A frozen tower runs once for each image, before training; other runs read its output from the same store.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from accelerate.utils import broadcast_object_list  # type: ignore[import-untyped]
from PIL import Image
from torch import Tensor
from transformers import TrainingArguments

from tideo.models.likelihood import context
from tideo.models.prompts import IGNORE
from tideo.store.files import key_of
from tideo.train.grid.config import FinetuneConfig, GridTraining
from tideo.train.grid.conversations import Conversation, Pictures
from tideo.train.grid.examples import Chat, ChatExamples, collate_chats
from tideo.train.grid.modules import train_only, with_lora
from tideo.train.grid.patch_features import (
    PatchFeatures,
    patch_features,
    restore_tower,
    tower_of,
    use_features,
)
from tideo.train.grid.trainer import GridTrainer, reply_loss
from tideo.train.grid.validation import Evaluating, Validation
from tideo.train.parallel import FSDP, check_parallel, deepspeed_file, layers
from tideo.train.skipped import Skipped
from tideo.train.trainer import fit, trainer_arguments
from tideo.train.workers import loader_arguments, num_workers


def freeze(model: Any, config: FinetuneConfig) -> Any:
    """Freeze all but the recipe's modules; with LoRA in the recipe, returns the PEFT model."""
    train_only(model, config.modules)
    if not config.lora_rank:
        return model
    if config.quantised:
        from peft import prepare_model_for_kbit_training

        model = prepare_model_for_kbit_training(model)
    adapted = with_lora(model, rank=config.lora_rank, alpha=config.lora_alpha, modules=config.modules)
    if not deepspeed_file(config.train.parallel):  # DeepSpeed keeps its own float32 copy
        for parameter in adapted.parameters():
            if parameter.requires_grad:  # bfloat16 would round small steps away
                parameter.data = parameter.data.float()
    return adapted


def run_stage(
    model: Any,
    conversations: Sequence[Conversation],
    *,
    validation: Sequence[Conversation],
    base: Any,
    processor: Any,
    config: FinetuneConfig,
    arguments: TrainingArguments,
    features_dir: Path,
    skipped: Skipped,
    resume: bool,
) -> GridTrainer:
    """Train `model`, which is `base` or its PEFT model; returns the Trainer.

    With kept features, which are in `features_dir`, the tower is not part of `base` during training. What cannot be
    read is left out of the training and noted in `skipped`; in `validation` it counts as wrong.
    """
    training, features = config.train, None
    unread: list[tuple[Conversation, str]] = []  # of the validation set
    workers = num_workers(training.workers, on_cpu=arguments.use_cpu)
    # A sharded model has no whole tower that could run here, and in a large model the tower's share of a step is small.
    keeps = config.keep_features and config.grid.shows_grids
    if keeps and not training.parallel and "tower" not in config.modules:
        chat = Chat(processor, image_size=config.grid.image_size)
        _try_image(base, chat)
        features, changed = tower_features(
            base, [*conversations, *validation], chat=chat, features_dir=features_dir, workers=workers
        )
        skipped.add(
            (c.id, reason) for c in conversations if isinstance(reason := changed.get(c.pictures.key), str)
        )
        skipped.check()
        unread = [(c, reason) for c in validation if isinstance(reason := changed.get(c.pictures.key), str)]
        conversations, validation = _as_read(conversations, changed), _as_read(validation, changed)
        workers = 0  # the features are read through a memory map
    per_step = training.batch * training.accumulate * PartialState().num_processes
    num_examples = sum(-(-len(c.turns) // config.packed) for c in conversations)
    set_steps(arguments, training, num_examples=num_examples, per_step=per_step)
    arguments.dataloader_num_workers = workers
    if (
        config.keep_best
    ):  # besides the last one; with 1 the Trainer would remove that at the end, also at SIGTERM
        arguments.save_total_limit = max(2, training.save_limit)
    arguments.dataloader_multiprocessing_context = loader_arguments(workers)["multiprocessing_context"]
    if training.parallel == FSDP:
        arguments.fsdp_plugin_args["transformer_cls_names_to_wrap"] = ",".join(layers(model))

    def examples_of(sets: Sequence[Conversation], num: int) -> ChatExamples:
        return ChatExamples(
            sets, processor=processor, image_size=config.grid.image_size, num=num, settings=config.grid,
            most=context(base), packed=config.packed, features=features, seed=config.seed,
        )  # fmt: skip

    rates = {"projector": training.projector_lr, "tower": training.tower_lr}
    epoch_steps = num_examples / per_step
    tower = use_features(base) if features is not None else None
    try:
        trainer = GridTrainer(
            model=model,
            args=arguments,
            train_dataset=examples_of(conversations, arguments.max_steps * per_step),
            data_collator=partial(collate, processor=processor),
            compute_loss_func=reply_loss,
            rates={module: rate for module, rate in rates.items() if rate is not None},
            muon_lr=training.muon_lr,
            kl=config.kl,
            skipped=skipped,
            validation=Validation(
                examples_of(validation, 0), packed=config.packed, batch=training.batch,
                reduction=config.grid.reduction, pad_id=pad_id(processor), workers=workers,
                unread=unread,
            ) if validation else None,
            keep_best=config.keep_best,
        )  # fmt: skip
        if validation:
            trainer.add_callback(Evaluating(steps=training.eval_steps, epoch_steps=epoch_steps))
        fit(
            trainer,
            resume=resume,
            save_minutes=training.save_minutes,
            epoch_steps=epoch_steps,
            report_to=training.report_to,
        )
        if config.keep_best:
            trainer.load_best()
    finally:
        if tower is not None:
            restore_tower(base, tower)
    return trainer


@torch.inference_mode()
def _try_image(model: Any, chat: Chat) -> None:
    """One forward pass with a black image: what it raises would come only after the tower has seen all images."""
    side = (chat.image_size, chat.image_size)
    inputs = chat.template.encode(chat.template.opening("What?", num_images=1), [Image.new("RGB", side)])
    floats = {k: v.to(model.dtype) if v.is_floating_point() else v for k, v in inputs.items()}
    model(**{k: v.to(model.device) for k, v in floats.items()}, logits_to_keep=1)


def _as_read(
    conversations: Sequence[Conversation], changed: Mapping[str, Conversation | str]
) -> list[Conversation]:
    """The conversations as their files give them, without those that cannot be read."""
    read = (changed.get(c.pictures.key, c) for c in conversations)
    return [conversation for conversation in read if isinstance(conversation, Conversation)]


def tower_features(
    model: Any, conversations: Sequence[Conversation], *, chat: Chat, features_dir: Path, workers: int = 0
) -> tuple[PatchFeatures, dict[str, Conversation | str]]:
    """The frozen tower's output for every image of the conversations, read from the store or computed.

    Also returns what the files give otherwise than expected, as `patch_features` does; it is the main process's word
    for all.
    """
    with PartialState().main_process_first():
        features, changed = patch_features(
            model,
            conversations,
            pixels=partial(_tower_pixels, chat),
            blank=chat.black(1)["pixel_values"],
            tower_key=key_of([weights_key(tower_of(model)[0].state_dict()), pixels_key(chat.processor)]),
            cache_dir=features_dir,
            workers=workers,
        )
    if PartialState().num_processes > 1:
        changed = broadcast_object_list([changed])[0]
    return features, changed


def _tower_pixels(chat: Chat, pictures: Pictures) -> Tensor:
    return chat.pixels(pictures)["pixel_values"].half()


@torch.inference_mode()
def mean_loss(
    model: Any, conversations: Sequence[Conversation], *, processor: Any, config: FinetuneConfig
) -> float:
    """The mean negative log-likelihood of a token of the replies, in nats; NaN without conversations."""
    if not conversations:
        return math.nan
    chat = Chat(processor, image_size=config.grid.image_size)
    total = count = 0.0
    was_training = model.training
    model.eval()
    for start in range(0, len(conversations), 8):
        chunk = conversations[start : start + 8]
        examples = [chat.encode(c.pictures, c.turns) | chat.pixels(c.pictures) for c in chunk]
        batch = {k: v.to(model.device) for k, v in collate(examples, processor).items()}
        scored = int((batch["labels"][:, 1:] != IGNORE).sum())
        with torch.autocast(model.device.type, torch.bfloat16, enabled=config.train.bf16):
            total += float(model(**batch).loss) * scored
        count += scored
    model.train(was_training)
    return total / count


def collate(examples: Sequence[dict[str, Any]], processor: Any) -> dict[str, Any]:
    """Examples as one batch, padded as `pad_id` says."""
    return collate_chats(examples, pad_id=pad_id(processor))


def pad_id(processor: Any) -> int:
    """The tokenizer's pad token or, if it has none, its end token; any will do if it has neither, as none is read."""
    pad, end = processor.tokenizer.pad_token_id, processor.tokenizer.eos_token_id
    return int(pad if pad is not None else end if end is not None else 0)


def set_steps(
    arguments: TrainingArguments, training: GridTraining, *, num_examples: int, per_step: int
) -> None:
    """Set the numbers of steps and of warm-up steps, which depend on the number of examples."""
    arguments.max_steps = training.steps or max(
        1, math.ceil((training.epochs or 0) * num_examples / per_step)
    )
    arguments.warmup_steps = math.ceil(training.warmup * arguments.max_steps)


def training_arguments(
    training: GridTraining, *, seed: int, out: Path, device: torch.device
) -> TrainingArguments:
    """The Trainer's arguments, for one step until `set_steps` sets the number."""
    check_parallel(training.parallel)
    return trainer_arguments(
        out,
        steps=1,
        batch=training.batch,
        accumulate=training.accumulate,
        seed=seed,
        bf16=training.bf16,
        save_steps=training.save_steps,
        log_steps=training.log_steps,
        device=device,
        learning_rate=training.lr,
        weight_decay=training.weight_decay,
        gradient_checkpointing=training.gradient_checkpointing,
        deepspeed=deepspeed_file(training.parallel),
        fsdp=training.parallel == FSDP,
        save_total_limit=training.save_limit,
        include_num_input_tokens_seen="all",
    )


def pixels_key(processor: Any) -> str:
    """A hash of how the processor prepares images for the tower."""
    return key_of(processor.image_processor.to_dict())


def weights_key(weights: Mapping[str, Tensor]) -> str:
    """A hash of tensors and their names."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
