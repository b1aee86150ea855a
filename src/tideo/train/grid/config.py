"""The recipe of a finetuning: the model, the data, the modules that learn and the optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from tideo import registry
from tideo.device import has_bfloat16
from tideo.loading import Loading
from tideo.models.grid.settings import GridSettings
from tideo.train.grid.modules import MODULES, ModuleName
from tideo.train.parallel import deepspeed_file
from tideo.types import UserError

LLAVA = "llava"


@dataclass(frozen=True, kw_only=True)
class GridTraining:
    """AdamW, cosine to 0 after the warm-up. A step is `batch` × `accumulate` examples on each process.

    `projector_lr` and `tower_lr` are the learning rates of these modules, by default `lr`. With `muon_lr` Muon trains
    the matrices, which suits small models that train from scratch. `parallel` is `fsdp`, `zero2`, `zero3`,
    `zero3_offload` or a DeepSpeed file (train/parallel.py). `workers` processes decode the next examples; by default
    none on a CPU, else as many as the cores allow, at most eight. A checkpoint is written every `save_steps` steps,
    `save_minutes` after the last one and at the end of each epoch; the last `save_limit` are kept. A validation set is
    scored every `eval_steps` steps, by default at the end of each epoch. `report_to` draws the curves elsewhere.
    The defaults are LLaVA-1.5's (arXiv 2310.03744 and its scripts).
    """

    # What may change when a run goes on: nothing of it changes what is learned.
    free: ClassVar[tuple[str, ...]] = (
        "gradient_checkpointing", "workers", "save_steps", "save_minutes", "save_limit", "log_steps", "eval_steps",
        "report_to",
    )  # fmt: skip

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
    bf16: bool = field(default_factory=has_bfloat16)  # where it is emulated, it is far slower than float32
    gradient_checkpointing: bool = False
    workers: int | None = None
    save_steps: int = 500
    save_minutes: float | None = 30.0
    save_limit: int = 1
    log_steps: int = 10
    eval_steps: int | None = None
    report_to: Literal["tensorboard", "wandb", "trackio"] | None = None
    parallel: str | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise UserError("give either train.steps or train.epochs, and set the other to none")
        _at_least_one(
            self, "steps", "batch", "accumulate", "save_steps", "save_limit", "log_steps", "eval_steps"
        )
        if (self.workers or 0) < 0 or (self.save_minutes is not None and self.save_minutes <= 0):
            raise UserError(
                f"workers={self.workers}, save_minutes={self.save_minutes}: expected workers from 0 on, and minutes "
                "above 0 or none"
            )
        if self.epochs is not None and self.epochs <= 0:
            raise UserError(f"epochs={self.epochs}: expected more than 0")
        adamw_only = (self.projector_lr, self.tower_lr, self.weight_decay)
        if self.muon_lr is not None and adamw_only != (None, None, 0):
            raise UserError(
                "muon_lr goes with none of projector_lr, tower_lr and weight_decay, which are AdamW's: leave them out, "
                "or set muon_lr=none"
            )
        deepspeed_file(self.parallel)

    def as_begun(self, recorded: Mapping[str, Any]) -> GridTraining:
        """This training in the words of the one that it goes on with, where both learn the same.

        A smaller batch that is accumulated more often has the same steps; so a run that had too little memory goes on.
        """
        same = {name: recorded[name] for name in self.free if name in recorded}
        batch, accumulate = recorded.get("batch"), recorded.get("accumulate")
        if (
            isinstance(batch, int)
            and isinstance(accumulate, int)
            and batch * accumulate == self.batch * self.accumulate
        ):
            same |= {"batch": batch, "accumulate": accumulate}
        return replace(self, **same)


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(Loading):
    """A finetuning. `model` is a folder, the name of a bundled model or a Hugging Face id.

    `data` is the name of a benchmark, with its training file at `path` and its `videos`; or `llava`, for a file in
    LLaVA's format with its images in `videos`; or a registered source of conversations. `num` is the largest number
    of conversations. `modules` learn, the others are frozen. `captions` is the share of captioned images in the
    training set, from `captions_path` (a file in LLaVA's format with images in `captions_images`) or a registered
    source, at most `num_captions` of them. With `paste_captions` they become the cells of grids, and each question is
    about one cell. `kl` is the weight of the KL divergence from the starting model on the replies' tokens. Up to
    `packed` questions about the same images share a sequence. With `keep_features` a frozen tower runs only once for
    each image. A training stops where more than the share `max_unreadable` of the examples cannot be read. `uneven` is
    the share of the videos whose frames are shown at uneven times, as a selector chooses them.
    """

    renamed: ClassVar[dict[str, str]] = {
        "parts": "modules",
        "distill": "kl",
    }  # in run.json of earlier versions

    model: str
    data: str
    path: str | None = None
    videos: str | None = None
    num: int | None = None
    grid: GridSettings = field(default_factory=GridSettings)
    modules: tuple[ModuleName, ...] = ("projector", "llm")
    lora_rank: int = 0
    lora_alpha: int = 0
    keep_features: bool = True
    packed: int = 1
    captions: float = 0.0
    captions_path: str | None = None
    captions_images: str | None = None
    num_captions: int | None = None
    val_path: str | None = None
    val_videos: str | None = None
    val_num: int | None = None
    keep_best: bool = False
    max_unreadable: float = 0.05
    paste_captions: bool = False
    uneven: float = 0.0
    kl: float = 0.0
    train: GridTraining
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.modules or set(self.modules) - set(MODULES):
            raise UserError(f"modules={','.join(self.modules)}: expected some of {', '.join(MODULES)}")
        if not 0 <= self.captions < 1 or self.kl < 0 or self.packed < 1 or self.lora_rank < 0:
            raise UserError(
                f"captions={self.captions}, kl={self.kl}, packed={self.packed}, lora_rank={self.lora_rank}: "
                "expected captions from 0 to below 1, packed at least 1 and the others at least 0"
            )
        if self.train.parallel and (self.train.muon_lr is not None or (self.kl and not self.lora_rank)):
            raise UserError(
                f"train.parallel={self.train.parallel} goes with AdamW, and with kl only where there is LoRA: set "
                "train.muon_lr=none, and kl=0 or lora_rank"
            )
        _at_least_one(self, "num", "num_captions", "val_num")
        for name in ("max_unreadable", "uneven"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                raise UserError(f"{name}={share}: expected a share from 0 to 1")
        if self.lora_rank and "llm" not in self.modules:
            raise UserError("LoRA is of the language model: set lora_rank=0, or have llm among the modules")
        if self.captions and not self.captions_path:
            raise UserError(
                "captions are to be mixed in: set captions_path to a file in LLaVA's format, and captions_images"
            )
        if not self.grid.shows_grids and self.paste_captions:
            raise UserError(
                f"grid.look={self.grid.look}: captioned images are pasted into grids; set paste_captions=false"
            )
        if self.quantised and not self.lora_rank:
            bits = "4" if self.load_4bit else "8"
            raise UserError(
                f"{bits}-bit weights cannot be trained themselves: set lora_rank, as in lora_rank=128"
            )
        if not (self.path and self.videos) and self.data not in registry.targets("conversations"):
            raise UserError(
                f"data={self.data}: set path to its training file and videos to its folder of videos"
            )

    @property
    def unused(self) -> dict[str, str]:
        """Dotted field that changes nothing → the reason."""
        unused = {f"grid.{name}": reason for name, reason in self.grid.unused.items()}
        unused["device_map"] = "a training has train.parallel"
        if not self.lora_rank:
            unused["lora_alpha"] = "lora_rank=0 is no LoRA"
        sources = registry.targets("conversations")
        if self.data in sources and self.data != LLAVA:
            unused |= dict.fromkeys(("path", "videos"), f"data={self.data} is a source that needs no file")
        if not self.captions_path:
            names = ("captions_images", "num_captions", "paste_captions")
            unused |= dict.fromkeys(names, "there is no captions_path")
        elif self.captions_path in sources:
            unused["captions_images"] = f"captions_path={self.captions_path} is a source that needs no file"
        if "tower" in self.modules or self.train.parallel:
            unused["keep_features"] = "it is for a frozen tower, without train.parallel"
        if not self.grid.shows_grids:
            unused["keep_features"] = f"grid.look={self.grid.look} shows frames, and it is for grids"
        if not self.validates:
            names = ("keep_best", "train.eval_steps", "val_videos")
            unused |= dict.fromkeys(names, "there is no validation set: set val_path, or val_num of a source")
            if self.data not in sources or self.data == LLAVA:
                unused["val_num"] = "there is no val_path"
        elif self.data in sources and self.data != LLAVA:
            unused |= dict.fromkeys(
                ("val_path", "val_videos"), f"data={self.data} is a source that needs no file"
            )
        for module in ("projector", "tower"):
            if module not in self.modules:
                unused[f"train.{module}_lr"] = f"{module} is not among the modules that learn"
        return unused

    @property
    def validates(self) -> bool:
        """Whether there is a validation set."""
        if self.data in registry.targets("conversations") and self.data != LLAVA:
            return self.val_num is not None
        return self.val_path is not None

    def check_inputs(self) -> None:
        """Raises UserError for a file or folder that is not there, before any of them is read."""
        if self.train.report_to is not None:
            registry.require(self.train.report_to)
        kind = "conversations"
        if self.data not in registry.targets(kind):
            for name in ("path", "videos"):
                registry.check_path(getattr(self, name), field=name)
        self.grid.check_inputs()
        registry.check_path(self.captions_path, field="captions_path", kind=kind)
        for name in ("captions_images", "val_path", "val_videos"):
            registry.check_path(getattr(self, name), field=name)

    def as_begun(self, recorded: Mapping[str, Any]) -> FinetuneConfig:
        """This recipe with what earlier versions recorded and did not use: an encoder, a number of captions."""
        num, earlier = self.num_captions, "num_watched" in recorded  # a field that has left the recipe
        if earlier and num is None:
            num = recorded.get("num_captions")
        grid, train = recorded.get("grid") or {}, recorded.get("train") or {}
        return replace(
            self,
            grid=self.grid.as_begun(grid),
            train=self.train.as_begun(train),
            num_captions=num,
            max_unreadable=recorded.get("max_unreadable", self.max_unreadable),
        )


def _at_least_one(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise UserError(f"{name}={value}: expected at least 1")
