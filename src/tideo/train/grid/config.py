"""The recipe of a finetuning: model, data, what learns, how."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tideo.device import has_bfloat16
from tideo.models.grid.settings import GridSettings
from tideo.train.grid.modules import PARTS, Part
from tideo.types import UserError

DOLLHOUSE, LLAVA, FSDP = "dollhouse", "llava", "fsdp"
RECIPES = Path(__file__).parents[2] / "recipes"


def deepspeed_file(parallel: str | None) -> str | None:
    """The DeepSpeed file that `train.parallel` names, `zero3` and `zero3_offload` being ours; None for none.

    Raises UserError where there is no such file.
    """
    if parallel is None or parallel == FSDP:
        return None
    ours = RECIPES / f"{parallel}.json"
    path = ours if ours.is_file() else Path(parallel)
    if path.suffix != ".json" or not path.is_file():
        raise UserError(
            f"train.parallel={parallel}: expected fsdp, zero3, zero3_offload or a DeepSpeed file that is there, *.json"
        )
    return str(path)


@dataclass(frozen=True, kw_only=True)
class GridTraining:
    """AdamW, cosine to 0 after the warm-up. A step is `batch` × `accumulate` examples on each process.

    `projector_lr` and `tower_lr` are other rates of these parts; None: `lr`. With `muon_lr` Muon moves the matrices, as
    for our tiny models. `parallel` is `fsdp`, `zero3`, `zero3_offload` or a file of DeepSpeed's. The
    defaults are LLaVA-1.5's (arXiv 2310.03744 and its scripts), for one epoch.
    """

    steps: int | None = None
    epochs: float | None = None
    batch: int = 16
    accumulate: int = 1
    lr: float = 2e-5
    projector_lr: float | None = None
    tower_lr: float | None = None
    muon_lr: float | None = None
    warmup: float = 0.03  # share of the steps
    weight_decay: float = 0.0
    bf16: bool = field(default_factory=has_bfloat16)  # emulated, it would be far slower than float32
    gradient_checkpointing: bool = False
    save_steps: int = 500
    log_steps: int = 10
    parallel: str | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise UserError("give either train.steps or train.epochs, and set the other to none")
        _at_least_one(self, "steps", "batch", "accumulate", "save_steps", "log_steps")
        if self.epochs is not None and self.epochs <= 0:
            raise UserError(f"epochs={self.epochs}: expected more than 0")
        if self.muon_lr is not None and (self.projector_lr, self.tower_lr, self.weight_decay) != (
            None,
            None,
            0,
        ):
            raise UserError(
                "muon_lr goes with none of projector_lr, tower_lr and weight_decay, which are AdamW's: leave them out, "
                "or set muon_lr=none"
            )
        deepspeed_file(self.parallel)


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """A finetuning. `model` is a folder or a Hugging Face id, or `dollhouse`: a tiny LLaVA of our own, untrained.

    `data` is a benchmark's name, with its training file at `path` and its `videos`; or `llava`, a file in LLaVA's
    format with its images in `videos`; or `dollhouse`, `num` training episodes that are drawn. `parts` learn.

    The dollhouse's LLaVA: its language model is that of `teacher`, if given, a model that `tideo prealign` wrote or its
    bundled name. With `imitate` tower and projector first learn to give a cell the vector that the teacher has for its
    frame (imitate.py), on `num_watched` episodes. `tile_places`: the tower has its places anew in each cell;
    `patch_size`: larger patches than the CLIP's, so fewer tokens. `lookups`: its episodes also come as lessons.

    `align` trains the projector on captions alone, LLaVA's first stage. `captions` is the share of captions mixed in,
    from `captions_path` (LLaVA's format, images in `captions_images`); the dollhouse draws `num_captions` pictures of
    its own. With `paste_captions` the pictures are pasted into grids as the videos are, and each cell's caption is
    asked for. `distill` weighs the divergence from the starting model on the replies. `packed` questions about the same
    images share a sequence.
    """

    model: str
    data: str = DOLLHOUSE
    path: str | None = None
    videos: str | None = None
    num: int | None = None
    grid: GridSettings = field(default_factory=GridSettings)
    parts: tuple[Part, ...] = ("projector", "llm")
    lora_rank: int = 0
    lora_alpha: int = 0
    load_4bit: bool = False
    keep_features: bool = True
    packed: int = 1
    captions: float = 0.0
    captions_path: str | None = None
    captions_images: str | None = None
    num_captions: int = 8000
    paste_captions: bool = False
    tile_places: bool = False
    patch_size: int | None = None
    lookups: int = 0
    distill: float = 0.0
    teacher: str | None = None
    imitate: GridTraining | None = None
    num_watched: int = 4000
    align: GridTraining | None = None
    train: GridTraining
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.parts or set(self.parts) - set(PARTS):
            raise UserError(f"parts={','.join(self.parts)}: expected some of {', '.join(PARTS)}")
        if not 0 <= self.captions < 1 or self.distill < 0 or self.packed < 1 or self.lora_rank < 0:
            raise UserError(
                f"captions={self.captions}, distill={self.distill}, packed={self.packed}, lora_rank={self.lora_rank}: "
                "expected captions from 0 to below 1, packed at least 1 and the others at least 0"
            )
        if self.train.parallel and (self.train.muon_lr is not None or (self.distill and not self.lora_rank)):
            raise UserError(
                f"train.parallel={self.train.parallel} goes with AdamW, and with distill only where there is LoRA: set "
                "train.muon_lr=none, and distill=0 or lora_rank"
            )
        if self.imitate is not None and not (self.teacher and self.model == DOLLHOUSE):
            raise UserError("imitate needs a teacher, as in teacher=dollhouse-topa, and model=dollhouse")
        _at_least_one(self, "num", "num_watched", "num_captions", "patch_size")
        if self.lora_rank and "llm" not in self.parts:
            raise UserError("LoRA is of the language model: set lora_rank=0, or have llm among the parts")
        if (self.captions or self.align) and not self.captions_path and self.data != DOLLHOUSE:
            raise UserError(
                "captions are asked for: set captions_path to a file in LLaVA's format, and captions_images"
            )
        if self.load_4bit and not self.lora_rank:
            raise UserError("4-bit weights cannot be trained themselves: set lora_rank, as in lora_rank=128")
        if self.data not in (DOLLHOUSE,) and not (self.path and self.videos):
            raise UserError(
                f"data={self.data}: set path to its training file and videos to its folder of videos"
            )


def _at_least_one(config: GridTraining | FinetuneConfig, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise UserError(f"{name}={value}: expected at least 1")
