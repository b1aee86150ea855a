"""Feature distillation for several looks: one SmolVLM learns to see frames in grids, in panels and by themselves.

As tiny/distill.py, with the frame vectors of a text-only pre-aligned model: each token of an image learns the vector of
the frame that it is of. All looks have the same number of visual tokens, and the same pixels of each frame. Every step
shows one of the three shapes of images; frames of a video have the shape of single frames. One folder is written for
each look: the weights are the same, the processors make images of another size.
Shapes: B episodes, P images of one, K frames, N tokens, H width.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from tideo.loading import Loading
from tideo.models.grid.settings import GRID_FILE, GridSettings
from tideo.models.topa.model import ZeroShot
from tideo.tiny.distill import Distillation, folder_of, frame_vectors
from tideo.tiny.grid_episodes import grids_with_frames
from tideo.tiny.smolvlm import processor_of, tiny_smolvlm
from tideo.tiny.trainer import fit
from tideo.train.grid.config import GridTraining
from tideo.train.grid.conversations import Conversation
from tideo.train.grid.modules import train_only
from tideo.train.grid.stage import set_steps, training_arguments
from tideo.train.grid.trainer import GridTrainer
from tideo.train.trainer import begin
from tideo.types import Frames, UserError

CELL = 48  # pixels a side of every frame, in all looks
LONGEST = 64  # of a single frame before it is made square
_WORDS: dict[str, Any] = {"prompt_style": "plain", "form": "text", "intro": ""}
# 16 frames each.
LOOKS: Mapping[str, GridSettings] = MappingProxyType(
    {
        "grid": GridSettings(look="grid", rows=4, cols=4, image_size=4 * CELL, **_WORDS),
        "panels": GridSettings(look="panels", panels=4, rows=2, cols=2, image_size=2 * CELL, **_WORDS),
        "frames": GridSettings(look="frames", frames=16, image_size=LONGEST, **_WORDS),
        "video": GridSettings(look="video", frames=16, image_size=LONGEST, **_WORDS),
    }
)
SHAPES = ("grid", "panels", "frames")


@dataclass(frozen=True, kw_only=True)
class LooksConfig:
    """The distillation of a SmolVLM for all LOOKS. `teacher` is a model that `tideo prealign` wrote with LoRA.

    The SmolVLM has the teacher's language model, and a tower that starts from the CLIP's. `merged` × `merged` patches
    of `patch_size` pixels, by default the CLIP's, become a token. `num` is the number of training episodes.
    """

    teacher: str = "dollhouse-topa"
    clip: str = "dollhouse-clip"
    patch_size: int | None = None
    merged: int = 2
    num: int = 1000
    train: GridTraining
    seed: int = 0

    @property
    def unused(self) -> dict[str, str]:
        """Dotted field that changes nothing → the reason."""
        unused = dict.fromkeys(("train.projector_lr", "train.tower_lr"), "all that learns has one rate")
        unused["train.eval_steps"] = "a distillation has no validation set"
        unused["train.workers"] = "the teacher's vectors are computed in this process"
        return unused

    def __post_init__(self) -> None:
        for name in ("num", "patch_size", "merged"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name}={value}: expected at least 1")
        if self.train.parallel:
            raise UserError("a model this small is not sharded: leave train.parallel out")
        if self.train.accumulate != 1:
            raise UserError(
                f"train.accumulate={self.train.accumulate}: every step shows one shape; expected 1, and a larger batch"
            )


def train_looks(config: LooksConfig, *, out: str | Path, resume: bool = False) -> Path:
    """Train, and write OUT/LOOK for each of LOOKS. Checkpoints go to OUT/steps; with `resume` a run continues."""
    out = Path(out)
    if not begin(out, recipe=config, resume=resume, last_file=f"{list(LOOKS)[-1]}/{GRID_FILE}"):
        return out
    torch.manual_seed(config.seed)
    model, tokenizer = tiny_smolvlm(
        clip=folder_of(config.clip),
        llm=folder_of(config.teacher),
        image_size=LOOKS["grid"].image_size,
        patch_size=config.patch_size,
        merged=config.merged,
    )
    processors = {look: _processor(look, model, tokenizer) for look in LOOKS}
    _train(model, processors, config, out=out, resume=resume)
    if PartialState().is_main_process:
        for look, processor in processors.items():
            model.save_pretrained(out / look)
            processor.save_pretrained(out / look)
            LOOKS[look].save(out / look)
        shutil.rmtree(out / "steps", ignore_errors=True)
    PartialState().wait_for_everyone()
    return out


def _processor(look: str, model: Any, tokenizer: Any) -> Any:
    settings = LOOKS[look]
    side = settings.image_size if settings.shows_grids else CELL
    tokens = _tokens_on_side(model, side) ** 2
    return processor_of(tokenizer, side=side, tokens=tokens, longest=settings.image_size)


def _tokens_on_side(model: Any, side: int) -> int:
    return int(side // (model.config.vision_config.patch_size * model.config.scale_factor))


def _train(
    model: Any, processors: Mapping[str, Any], config: LooksConfig, *, out: Path, resume: bool
) -> None:
    teacher = ZeroShot.load(folder_of(config.teacher))
    train_only(model, ("tower", "projector"))
    episodes = grids_with_frames(num=config.num, settings=LOOKS["grid"], seed=config.seed)
    arguments = training_arguments(
        config.train, seed=config.seed, out=out / "steps", device=Loading().torch_device()
    )
    per_step = config.train.batch * PartialState().num_processes
    set_steps(arguments, config.train, num_examples=len(episodes), per_step=per_step)
    trainer = GridTrainer(
        model=LooksDistillation(model),
        args=arguments,
        train_dataset=LooksExamples(
            episodes,
            teacher=teacher,
            processors={look: processors[look] for look in SHAPES},
            num=arguments.max_steps * per_step,
            batch=config.train.batch,
            seed=config.seed,
        ),
        muon_lr=config.train.muon_lr,
    )
    fit(
        trainer,
        resume=resume,
        save_minutes=config.train.save_minutes,
        epoch_steps=len(episodes) / per_step,
        report_to=config.train.report_to,
    )


class LooksDistillation(nn.Module):
    """The tower and the connector of a SmolVLM, with the loss of the distillation, for images of every shape."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.tower, self.connector = model.model.vision_model, model.model.connector
        for look in SHAPES:
            side = LOOKS[look].image_size if LOOKS[look].shows_grids else CELL
            frame_N = frame_of_tokens(LOOKS[look], side=_tokens_on_side(model, side))
            self.register_buffer(f"{look}_N", frame_N, persistent=False)

    def forward(self, pixel_values: Tensor, vectors_BKH: Tensor) -> dict[str, Tensor]:
        """`pixel_values`: [B, P, 3, height, width] of one shape."""
        num = pixel_values.shape[1]
        look = next(name for name in SHAPES if _num_images(LOOKS[name]) == num)
        hidden = self.tower(pixel_values.flatten(0, 1)).last_hidden_state
        vectors_BNH = self.connector(hidden).unflatten(0, (-1, num)).flatten(1, 2)
        return {"loss": F.mse_loss(vectors_BNH.float(), vectors_BKH[:, getattr(self, f"{look}_N")])}


def _num_images(settings: GridSettings) -> int:
    return settings.panels if settings.shows_grids else settings.frames


def frame_of_tokens(settings: GridSettings, *, side: int) -> Tensor:
    """Of every token of all images in turn the number of its frame; an image has `side` × `side` tokens."""
    rows, cols = (settings.rows, settings.cols) if settings.shows_grids else (1, 1)
    cell_N = Distillation.cells(side, rows=rows, cols=cols)
    return torch.cat([image * rows * cols + cell_N for image in range(_num_images(settings))])


class LooksExamples(Dataset[dict[str, Tensor]]):
    """Example `index` is the pixels of an episode in one look and its frames' vectors.

    Both are computed once, for all looks, and cached in float16. The examples of a batch have one look. Three batches
    one after another have all three, in an order that is drawn for each three, so that no part of the passes over the
    episodes goes with one look.
    """

    def __init__(
        self,
        episodes: Sequence[tuple[Conversation, Callable[[], Frames]]],
        *,
        teacher: ZeroShot,
        processors: Mapping[str, Any],
        num: int,
        batch: int,
        seed: int = 0,
    ) -> None:
        self.num, self.batch, self.seed = num, batch, seed
        rng = np.random.default_rng(seed)
        passes = -(-num // len(episodes))
        self.order = np.concatenate([rng.permutation(len(episodes)) for _ in range(passes)])

        @cache
        def example(episode: int) -> tuple[dict[str, Tensor], Tensor]:
            frames = episodes[episode][1]()
            pixels = {}
            for look, processor in processors.items():
                shown = processor.image_processor(images=[LOOKS[look].images(frames)], return_tensors="pt")
                pixels[look] = shown["pixel_values"][0].half()
            return pixels, frame_vectors(teacher, frames).half()

        self._example = example

    def __len__(self) -> int:
        return self.num

    def look_of(self, index: int) -> str:
        three, place = divmod(index // self.batch, len(SHAPES))
        return random.Random(f"look/{self.seed}/{three}").sample(SHAPES, len(SHAPES))[place]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        pixels, vectors_BKH = self._example(int(self.order[index]))
        return {
            "pixel_values": pixels[self.look_of(index)].float(),
            "vectors_BKH": vectors_BKH.float(),
        }
