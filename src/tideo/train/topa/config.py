"""The recipe of a pre-alignment: the models, the Tideos, the tasks, the memory and the optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from tideo import registry
from tideo.bundled import check_encoder, located, model_source
from tideo.device import has_bfloat16
from tideo.loading import Loading
from tideo.models.topa.settings import MEMORY_FILE, SETTINGS_FILE
from tideo.train.parallel import check_loading, deepspeed_file
from tideo.types import UserError

PUBLISHED_BATCH = 256  # of which base_lr is the rate, in the code of TOPA


@dataclass(frozen=True, kw_only=True)
class TaskWeights:
    """Shares of the steps. With `choose` 0 there is no multiple choice, which is the paper's ablation."""

    choose: float = 0.5
    answer: float = 0.25
    summarise: float = 0.25

    def __post_init__(self) -> None:
        if (
            min(self.choose, self.answer, self.summarise) < 0
            or self.choose + self.answer + self.summarise <= 0
        ):
            raise UserError(f"task weights must not be negative and not all 0: {self}")


@dataclass(frozen=True, kw_only=True)
class PrealignTraining:
    """AdamW, cosine to 0 after the warm-up. A step is `batch` × `accumulate` examples on each process.

    `base_lr` is the learning rate of a step of 256 examples, as published: the rate is `base_lr` × examples of a step
    over all processes / 256. Without it the rate is `lr`. `proj_lr` is a factor of the rate, for the projection and
    the temporal embedding. `parallel` is `fsdp`, `zero2`, `zero3`, `zero3_offload` or a DeepSpeed file
    (train/parallel.py). `gradient_checkpointing` computes each layer twice and keeps only its input. A checkpoint is
    written every `save_steps`, `save_minutes` after the last one and at the end of each epoch; the last `save_limit`
    are kept. `report_to` draws the curves elsewhere.
    """

    renamed: ClassVar[dict[str, str]] = {"deepspeed": "parallel"}  # in run.json of earlier versions

    steps: int | None = None
    epochs: float | None = None
    batch: int = 64
    accumulate: int = 1
    lr: float = 2e-3
    base_lr: float | None = None
    proj_lr: float = 1.0
    warmup: float = 0.05  # share of the steps
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    bf16: bool = field(default_factory=has_bfloat16)  # where it is emulated, it is far slower than float32
    save_steps: int = 500
    save_minutes: float | None = 30.0
    save_limit: int = 1
    log_steps: int = 50
    report_to: Literal["tensorboard", "wandb", "trackio"] | None = None
    gradient_checkpointing: bool = False
    parallel: str | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise UserError("give either train.steps or train.epochs, and set the other to none")
        for name in ("steps", "batch", "accumulate", "save_steps", "save_limit", "log_steps"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"train.{name}={value}: expected at least 1")
        if (self.epochs is not None and self.epochs <= 0) or self.rate(1) <= 0:
            raise UserError(
                f"train.epochs={self.epochs}, train.lr={self.lr}, train.base_lr={self.base_lr}: expected more than 0"
            )
        if self.save_minutes is not None and self.save_minutes <= 0:
            raise UserError(f"train.save_minutes={self.save_minutes}: expected minutes above 0, or none")
        deepspeed_file(self.parallel)

    def per_step(self, processes: int) -> int:
        """The examples of a step, the effective batch."""
        return self.batch * self.accumulate * processes

    def num_steps(self, num_tideos: int, *, processes: int) -> int:
        return self.steps or max(1, round((self.epochs or 0) * num_tideos / self.per_step(processes)))

    def rate(self, processes: int) -> float:
        """The learning rate after the warm-up."""
        return self.lr if self.base_lr is None else self.base_lr * self.per_step(processes) / PUBLISHED_BATCH

    def rate_line(self, processes: int) -> str:
        examples = f"{self.batch} x {self.accumulate} x {processes} processes = {self.per_step(processes)}"
        rule = (
            "train.lr"
            if self.base_lr is None
            else f"train.base_lr {self.base_lr:g} x {self.per_step(processes)} / {PUBLISHED_BATCH}"
        )
        return f"examples of a step: {examples} · learning rate {self.rate(processes):.4g} ({rule})"


@dataclass(frozen=True, kw_only=True)
class PrealignConfig(Loading):
    """A pre-alignment. `llm` and `encoder` are bundled names, directories or Hugging Face ids.

    `tideos` is a TextVid file, a folder that `tideo textvid` wrote or a registered source of Tideos; at most
    `num_tideos` of them are used. `features` is a folder that `tideo encode` made of them; without it the training
    encodes the captions. `calibration` is a folder of videos like those of later questions, or a registered source
    of frames; they set the threshold of familiarity. `memory` is what the rows of the projection's memory are:
    single captions, as published, or whole textual frames. `from_llm` initialises the projection by ridge
    regression onto the LLM's own embeddings of the captions. `projected` is the share of examples whose text
    features are projected onto the memory, as image features are. `uneven` is the share of examples whose frames are at
    uneven times, as a selector chooses them; `pad_frames` says whether the model sees these times (PrefixLMConfig).

    `start` is a folder that a pre-alignment wrote, or a bundled model, from whose weights this training goes on. With
    `data`, the name of a benchmark, it learns from videos instead of Tideos: from the questions of the training file at
    `path` and the image features of the files in `videos`, of a `share` of these, drawn by the seed, so that a smaller
    share is part of a larger one. Its tasks are to choose and to answer. The model then takes image features as they
    are or, with `project`, projected onto the memory of `start`. A training stops where more than the share
    `max_unreadable` of the videos cannot be read.
    """

    llm: str
    encoder: str
    tideos: str | None = None
    num_tideos: int | None = None
    start: str | None = None
    data: str | None = None
    path: str | None = None
    videos: str | None = None
    share: float = 1.0
    project: bool = False
    max_unreadable: float = 0.05
    features: str | None = None
    prompt_style: str = "topa"
    adapter: Literal["llama-adapter", "lora", "none"] = "llama-adapter"
    adapter_len: int = 50
    lora_rank: int = 16
    lora_targets: tuple[str, ...] = ("all-linear",)
    pad_frames: Literal["zeros", "spread", "time"] = "zeros"
    max_frames: int = 10
    init_std: float = 1.0
    from_llm: bool = False
    tasks: TaskWeights = field(default_factory=TaskWeights)
    choose_form: str = "letter"
    noise_std: float = 0.0
    projected: float = 0.0
    uneven: float = 0.0
    memory: Literal["captions", "frames"] = "captions"
    memory_rows: int = 1_000_000
    form: str = "letter"
    reduction: str = "mean"
    temperature: float = 100.0
    calibration: str | None = None
    train: PrealignTraining
    seed: int = 0

    @property
    def unused(self) -> dict[str, str]:
        """Field that changes nothing → the reason."""
        unused = {}
        if self.adapter != "llama-adapter":
            unused["adapter_len"] = f"adapter={self.adapter} has no length"
        if self.adapter != "lora":
            unused |= dict.fromkeys(("lora_rank", "lora_targets"), f"adapter={self.adapter} is no LoRA")
        if not self.tasks.choose:
            unused["choose_form"] = "tasks.choose=0 trains no choice"
        if self.train.base_lr is not None:
            unused["train.lr"] = "train.base_lr sets the rate; with train.base_lr=none it is train.lr"
        if self.start is not None:
            unused |= dict.fromkeys(("init_std", "from_llm"), "the weights of start are where it begins")
        if self.data is None:
            names = ("path", "videos", "share", "project", "max_unreadable")
            unused |= dict.fromkeys(names, "without data it learns from Tideos")
            return unused
        of_texts = (
            "tideos",
            "num_tideos",
            "from_llm",
            "noise_std",
            "projected",
            "calibration",
            "memory",
            "memory_rows",
        )
        unused |= dict.fromkeys(
            (*of_texts, "tasks.summarise"), f"with data={self.data} it learns from videos"
        )
        if not self.project:
            unused["temperature"] = "project=false projects nothing"
        return unused

    def __post_init__(self) -> None:
        super().__post_init__()
        check_loading(self, self.train.parallel)
        if self.attn != "auto" and self.adapter == "llama-adapter":
            raise UserError(f"attn={self.attn}: adapter llama-adapter has its own attention; set attn=auto")
        if not 0 <= self.projected <= 1 or (self.projected and self.memory != "frames"):
            raise UserError(
                f"projected={self.projected} with memory={self.memory}: expected a share of the examples, from 0 to 1, "
                "and memory=frames for any share but 0"
            )
        if not 0 <= self.uneven <= 1:
            raise UserError(f"uneven={self.uneven}: expected a share of the examples, from 0 to 1")
        if self.data is None:
            if self.tideos is None:
                raise UserError(
                    "set tideos to what it learns from, or data to a benchmark for its training videos"
                )
            return
        if not (self.path and self.videos):
            raise UserError(
                f"data={self.data}: set path to its training file and videos to its folder of videos"
            )
        if not 0 < self.share <= 1 or not 0 <= self.max_unreadable <= 1:
            raise UserError(
                f"share={self.share}, max_unreadable={self.max_unreadable}: expected shares of the videos, the first "
                "above 0 and both at most 1"
            )
        if self.project and self.start is None:
            raise UserError(
                "project=true projects onto the memory of a pre-alignment: set start to its folder"
            )
        if not self.tasks.choose + self.tasks.answer:
            raise UserError(f"data={self.data} has questions alone: set tasks.choose or tasks.answer above 0")

    @property
    def tasks_used(self) -> TaskWeights:
        """Videos have nothing to summarise."""
        return self.tasks if self.data is None else replace(self.tasks, summarise=0.0)

    @property
    def begins_in(self) -> Path | None:
        """The folder of `start`, which may also be the name of a bundled model."""
        return None if self.start is None else Path(located(self.start))

    def check_inputs(self) -> None:
        """Raises UserError for a file, folder or model that is not there, before any of them is read."""
        if self.begins_in is not None and not (self.begins_in / SETTINGS_FILE).is_file():
            raise UserError(
                f"start={self.start} is no folder that `tideo prealign` wrote: {SETTINGS_FILE} is missing"
            )
        projects = self.data is not None and self.project
        if self.begins_in is not None and projects and not (self.begins_in / MEMORY_FILE).is_file():
            raise UserError(
                f"project=true projects onto the memory of start={self.start}, which has no {MEMORY_FILE}: start from "
                "a pre-alignment on texts, or set project=false"
            )
        if self.train.report_to is not None:
            registry.require(self.train.report_to)
        sources: dict[str, str | None] = {"tideos": "tideos", "calibration": "frames"}
        if self.data is not None:
            registry.check("benchmarks", self.data)
            sources = {"path": None, "videos": None}
        for field_name, kind in (sources | {"features": None}).items():
            registry.check_path(getattr(self, field_name), field=field_name, kind=kind)
        model_source(self.llm, failure=f"the language model {self.llm!r} cannot be loaded")
        check_encoder(self.encoder)

    def as_begun(self, recorded: Mapping[str, Any]) -> PrealignConfig:
        """This recipe with the learning rate of an earlier version, which recorded the result of the published rule."""
        train = recorded.get("train") or {}
        if "base_lr" in train or self.train.base_lr is None or "lr" not in train:
            return self
        return replace(self, train=replace(self.train, lr=train["lr"], base_lr=None))
