"""Feature distillation: the tower and projector of a LLaVA learn the frame vectors of a text-only pre-aligned model.

A model that `tideo prealign` wrote turns a frame into one vector that its language model can read. A LLaVA with the
same language model gets a grid of frames instead. Here its tower and projector learn to give each patch the vector of
the frame in its cell (mean squared error). No language model runs and no question is needed. The finetuning on grids
starts from the folder that this writes. Shapes: B grids, K cells, N patches, H width.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from tideo.bundled import located
from tideo.encoders.features import frame_features
from tideo.encoders.memory import project
from tideo.loading import Loading
from tideo.models.grid.settings import GRID_FILE, GridSettings
from tideo.models.topa.model import ZeroShot
from tideo.tiny.grid_episodes import grids_with_frames
from tideo.tiny.llava import tiny_llava
from tideo.tiny.trainer import fit
from tideo.train.grid.config import GridTraining
from tideo.train.grid.conversations import Conversation, Pictures
from tideo.train.grid.examples import Chat
from tideo.train.grid.modules import train_only
from tideo.train.grid.patch_features import tower_of
from tideo.train.grid.stage import set_steps, tower_features, training_arguments
from tideo.train.grid.trainer import GridTrainer
from tideo.train.trainer import begin
from tideo.types import Frames, UserError


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """A feature distillation. `teacher` is a model that `tideo prealign` wrote with LoRA, or None for a plain `llm`.

    The LLaVA consists of the CLIP's tower, a new projector and the language model. With `tiled_positions` the tower's
    position embeddings are tiled over the cells. `patch_size` may be larger than the CLIP's, for fewer tokens. With
    `train` None the LLaVA is written untrained. `num` is the number of training episodes.
    """

    teacher: str | None = "dollhouse-topa"
    llm: str = "dollhouse-lm"
    clip: str = "dollhouse-clip"
    grid: GridSettings
    tiled_positions: bool = True
    patch_size: int | None = None
    num: int = 4000
    train: GridTraining | None
    seed: int = 0

    @property
    def unused(self) -> dict[str, str]:
        """Dotted field that changes nothing → the reason."""
        unused = {f"grid.{name}": reason for name, reason in self.grid.unused.items()}
        unused |= dict.fromkeys(("train.projector_lr", "train.tower_lr"), "all that learns has one rate")
        if self.teacher:
            unused["llm"] = "the teacher brings its language model; set teacher=none for another"
        unused["train.eval_steps"] = "a distillation has no validation set"
        unused["train.workers"] = "the teacher's vectors are computed in this process"
        if self.train is None:
            unused["num"] = "train=none trains nothing"
        return unused

    def __post_init__(self) -> None:
        for name in ("num", "patch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name}={value}: expected at least 1")
        if self.train is not None and not self.teacher:
            raise UserError(
                "distillation needs a teacher, as in teacher=dollhouse-topa; without one, set train=none"
            )
        if self.train is not None and self.train.parallel:
            raise UserError("a model this small is not sharded: leave train.parallel out")


def distill(config: DistillConfig, *, out: str | Path, resume: bool = False) -> Path:
    """Train and write the folder of a LLaVA. Checkpoints go to `out`/steps; with `resume` a run continues from them."""
    out = Path(out)
    if not begin(out, recipe=config, resume=resume, last_file=GRID_FILE):
        return out
    torch.manual_seed(config.seed)
    model, processor = tiny_llava(
        clip=folder_of(config.clip),
        llm=folder_of(config.teacher or config.llm),
        image_size=config.grid.image_size,
        cells=(config.grid.rows, config.grid.cols) if config.tiled_positions else (1, 1),
        patch_size=config.patch_size,
    )
    if config.train is not None:
        _distill(model, processor, config, training=config.train, out=out, resume=resume)
    if PartialState().is_main_process:
        model.save_pretrained(out)
        processor.save_pretrained(out)
        config.grid.save(out)
        shutil.rmtree(out / "steps", ignore_errors=True)
    PartialState().wait_for_everyone()
    return out


def _distill(
    model: Any, processor: Any, config: DistillConfig, *, training: GridTraining, out: Path, resume: bool
) -> None:
    teacher = ZeroShot.load(folder_of(str(config.teacher)))
    train_only(model, ("tower", "projector"))
    grids = grids_with_frames(num=config.num, settings=config.grid, seed=config.seed)
    chat = _CachedChat(processor, image_size=config.grid.image_size)
    device = Loading().torch_device()
    arguments = training_arguments(training, seed=config.seed, out=out / "steps", device=device)
    world = PartialState().num_processes
    per_step = training.batch * training.accumulate * world
    set_steps(arguments, training, num_examples=len(grids), per_step=per_step)
    trainer = GridTrainer(
        model=Distillation(model, rows=config.grid.rows, cols=config.grid.cols),
        args=arguments,
        train_dataset=DistillExamples(
            grids, teacher=teacher, chat=chat, num=arguments.max_steps * per_step, seed=config.seed
        ),
        muon_lr=training.muon_lr,
    )
    fit(
        trainer,
        resume=resume,
        save_minutes=training.save_minutes,
        epoch_steps=len(grids) / per_step,
        report_to=training.report_to,
    )
    # A finetuning on the same episodes reads the tower's output from the store; here the grids are drawn already.
    tower_features(model, [c for c, _ in grids], chat=chat, features_dir=out.parent / "patch_features")


def folder_of(name: str) -> Path:
    """The folder of a bundled model, or of one that training wrote. Raises UserError if there is none."""
    folder = Path(located(name))
    if not folder.is_dir():
        raise UserError(f"{name}: expected a folder that training wrote, or the name of a bundled model")
    return folder


class _CachedChat(Chat):
    """Keeps each grid's pixels in float16, since the distillation and the tower's features need the same ones."""

    def __init__(self, processor: Any, *, image_size: int) -> None:
        super().__init__(processor, image_size=image_size)
        self._pixels: dict[str, Tensor] = {}

    def pixels(self, pictures: Pictures) -> dict[str, Tensor]:
        if pictures.key not in self._pixels:
            self._pixels[pictures.key] = super().pixels(pictures)["pixel_values"].half()
        return {"pixel_values": self._pixels[pictures.key]}


class Distillation(nn.Module):
    """The tower and the projector of a LLaVA for one image of rows × cols cells, with the loss of the distillation."""

    def __init__(self, model: Any, *, rows: int, cols: int) -> None:
        super().__init__()
        self.tower, self.layer = tower_of(model)
        self.projector = model.model.multi_modal_projector
        side = model.config.vision_config.image_size // model.config.vision_config.patch_size
        self.register_buffer("cell_N", self.cells(side, rows=rows, cols=cols), persistent=False)

    @staticmethod
    def cells(side: int, *, rows: int, cols: int) -> Tensor:
        """The cell of each of side × side patches; a patch on an edge belongs to the cell of its upper left corner."""
        index_S = torch.arange(side)
        row_S, col_S = index_S * rows // side, index_S * cols // side
        return (row_S[:, None] * cols + col_S[None, :]).flatten()

    def forward(self, pixel_values: Tensor, vectors_BKH: Tensor) -> dict[str, Tensor]:
        hidden = self.tower(pixel_values, output_hidden_states=True).hidden_states[self.layer]
        vectors_BNH = self.projector(hidden[:, 1:])  # without the class token, as LLaVA reads it
        return {"loss": F.mse_loss(vectors_BNH.float(), vectors_BKH[:, self.cell_N])}


class DistillExamples(Dataset[dict[str, Tensor]]):
    """Example `index` is a grid's pixels and its frames' vectors, each computed once and cached in float16."""

    def __init__(
        self,
        grids: Sequence[tuple[Conversation, Callable[[], Frames]]],
        *,
        teacher: ZeroShot,
        chat: Chat,
        num: int,
        seed: int = 0,
    ) -> None:
        self.num = num
        rng = np.random.default_rng(seed)
        passes = -(-num // len(grids))
        self.order = np.concatenate([rng.permutation(len(grids)) for _ in range(passes)])

        @cache
        def example(index: int) -> dict[str, Tensor]:
            conversation, frames = grids[index]
            return {
                "pixel_values": chat.pixels(conversation.pictures)["pixel_values"][0].half(),
                "vectors_BKH": frame_vectors(teacher, frames()).half(),
            }

        self._example = example

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: value.float() for name, value in self._example(int(self.order[index])).items()}


@torch.no_grad()
def frame_vectors(teacher: ZeroShot, frames: Frames) -> Tensor:
    """The vector of each frame in a text-only model's sequence, with the mean of the temporal embeddings: [K, H]."""
    features = frame_features(frames, teacher.encoder)
    if teacher.memory is not None:
        features = project(features, teacher.memory, temperature=teacher.settings.temperature)
    values_KD = torch.from_numpy(features.values_TD)
    return teacher.lm.visual_proj(values_KD) + teacher.lm.temporal_emb.weight.mean(0)
