"""One image-text model in training: its stages, its frozen tower's features, and its loss on something else."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import TrainingArguments

from tideo import registry
from tideo.bundled import ASSETS
from tideo.models.grid.loading import check_seen
from tideo.models.topa.model import ZeroShot
from tideo.store.files import atomic_path, key_of
from tideo.tiny.distill import Imitation, ImitationExamples
from tideo.tiny.grid_episodes import watched_episodes
from tideo.train.grid.config import FSDP, FinetuneConfig, GridTraining, deepspeed_file
from tideo.train.grid.conversations import Conversation, Pictures, looks
from tideo.train.grid.examples import Chat, ChatExamples, collate_chats
from tideo.train.grid.modules import Part, part_of, train_only, with_lora
from tideo.train.grid.patch_features import PatchFeatures, keep_tower, patch_features, put_back, tower_of
from tideo.train.grid.trainer import GridTrainer, reply_loss
from tideo.train.packing import IGNORE
from tideo.train.trainer import fit
from tideo.types import UserError

ALIGNED_FILE = "aligned.safetensors"
SHARDS_ON_CPU = False  # Accelerate shards on GPUs only; the tests teach it to do so on a CPU
IMITATING: tuple[Part, ...] = ("tower", "projector")


def folder_of(name: str) -> Path:
    """A bundled model's folder, or the folder of that name."""
    found = next((path for path in (ASSETS / name, Path(name)) if path.is_dir()), None)
    if found is None:
        raise UserError(f"{name}: expected a folder that training wrote, or the name of a bundled model")
    return found


class GridWork:
    """A model, its processor and its recipe. What other runs can use lies in `shared`, keyed by what it depends on."""

    def __init__(self, config: FinetuneConfig, *, model: Any, processor: Any, shared: Path) -> None:
        self.config, self.model, self.processor, self.shared = config, model, processor, shared
        check_seen(processor, config.grid, name=config.model)
        self.chat = Chat(processor, image_size=config.grid.image_size)
        self._drawn: dict[str, Tensor] = {}  # the imitation's grids for the tower, until the training

    def prepared(self, *, parts: Sequence[str]) -> Any:
        """The model with only these parts learning, through LoRA where that is asked for."""
        config = self.config
        train_only(self.model, parts)
        if not config.lora_rank:
            return self.model
        if config.load_4bit:
            from peft import prepare_model_for_kbit_training

            self.model = prepare_model_for_kbit_training(self.model)
        adapted = with_lora(self.model, rank=config.lora_rank, alpha=config.lora_alpha, parts=parts)
        if not deepspeed_file(config.train.parallel):  # which keeps what learns in float32 itself
            for parameter in adapted.parameters():
                if parameter.requires_grad:  # a small step is lost on a weight in bfloat16
                    parameter.data = parameter.data.float()
        return adapted

    def imitate(self, *, out: Path, resume: bool) -> None:
        """Tower and projector learn the teacher's vectors; their weights are kept for every run that begins so."""
        config, imitate = self.config, self.config.imitate
        assert imitate is not None
        assert config.teacher is not None
        teacher = ZeroShot.load(folder_of(config.teacher))
        start = {n: p for n, p in self.model.named_parameters() if part_of(n) in IMITATING}
        depends = [
            teacher.key, _weights_key(start), self._pixels_key(), looks(config.grid), config.num_watched,
            imitate, config.seed, PartialState().num_processes,
        ]  # fmt: skip
        done = self.shared / "imitated" / f"{key_of(depends)}.safetensors"
        if not done.is_file():
            train_only(self.model, IMITATING)
            watched = watched_episodes(num=config.num_watched, settings=config.grid, seed=config.seed)
            arguments = training_arguments(imitate, seed=config.seed, out=out / "imitate")
            arguments.max_steps = imitate.steps or -(
                -round((imitate.epochs or 0) * len(watched)) // imitate.batch
            )
            arguments.warmup_steps = math.ceil(imitate.warmup * arguments.max_steps)
            trainer = GridTrainer(
                model=Imitation(self.model, rows=config.grid.rows, cols=config.grid.cols),
                args=arguments,
                train_dataset=ImitationExamples(
                    watched, teacher=teacher, pixels=self._draw,
                    num=arguments.max_steps * imitate.batch * imitate.accumulate * PartialState().num_processes,
                    seed=config.seed,
                ),
                muon_lr=imitate.muon_lr,
            )  # fmt: skip
            fit(trainer, resume=resume)
            self._keep(IMITATING, done)
        self._take(done)

    def _keep(self, parts: Sequence[str], path: Path) -> None:
        state = {n: p.detach().clone() for n, p in self.model.named_parameters() if part_of(n) in parts}
        if PartialState().is_main_process:
            with atomic_path(path) as part:
                save_file(state, part)
        PartialState().wait_for_everyone()

    def _take(self, path: Path) -> None:
        for name, value in load_file(path).items():
            self.model.get_parameter(name).data.copy_(value)

    def align(self, captions: Sequence[Conversation], *, out: Path, resume: bool) -> None:
        """The projector alone, on captions; its weights are kept in aligned.safetensors for a resumed run."""
        done, align, parts = out / ALIGNED_FILE, self.config.align, ("projector",)
        assert align is not None
        if not (resume and done.is_file()):
            train_only(self.model, parts)
            arguments = training_arguments(align, seed=self.config.seed, out=out / "align")
            self.train(self.model, captions, parts=parts, arguments=arguments, training=align, resume=resume)
            self._keep(parts, done)
        self._take(done)

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
        self._drawn.clear()
        world = PartialState().num_processes
        per_step = training.batch * training.accumulate * world
        num_parts = sum(-(-len(c.turns) // config.packed) for c in conversations)
        arguments.max_steps = training.steps or max(
            1, math.ceil((training.epochs or 0) * num_parts / per_step)
        )
        arguments.warmup_steps = math.ceil(training.warmup * arguments.max_steps)
        if training.parallel == FSDP:
            arguments.fsdp_plugin_args["transformer_cls_names_to_wrap"] = ",".join(_layers(model))
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
                compute_loss_func=reply_loss,
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
                pixels=lambda pictures: {"pixel_values": self._pixels(pictures)},
                tower_key=key_of([_weights_key(tower_of(self.model)[0].state_dict()), self._pixels_key()]),
                cache_dir=self.shared / "patch_features",
            )

    def _draw(self, pictures: Pictures) -> dict[str, Tensor]:
        self._drawn[pictures.key] = self._pixels(pictures)
        return {"pixel_values": self._drawn[pictures.key]}

    def _pixels(self, pictures: Pictures) -> Tensor:
        """In float16, whether they were drawn before or not, so that a resumed run sees the same."""
        drawn = self._drawn.get(pictures.key)
        return self.chat.pixels(pictures)["pixel_values"].half() if drawn is None else drawn

    def _pixels_key(self) -> str:
        """How images are brought to the tower."""
        return key_of(self.processor.image_processor.to_dict())


def _layers(model: Any) -> list[str]:
    """The classes of layers that FSDP shards one by one; a LLaVA also names those of towers that it does not have."""
    return sorted({type(m).__name__ for m in model.modules()} & set(model._no_split_modules))


def _weights_key(weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def training_arguments(training: GridTraining, *, seed: int, out: Path) -> TrainingArguments:
    """Of what the number of steps is not known yet; `GridWork.train` sets it."""
    gpu = torch.accelerator.is_available()
    deepspeed = deepspeed_file(training.parallel)
    if deepspeed:
        registry.require("deepspeed")
    if training.parallel and not gpu and not SHARDS_ON_CPU:
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
        fsdp=training.parallel == FSDP,
    )
