"""What a model that answers questions about video has to do: `answer`; all else has a default."""

from __future__ import annotations

import dataclasses
import inspect
import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from tideo import registry
from tideo.loading import Loading
from tideo.models.batching import Batching, BatchSize
from tideo.models.listener import Listener
from tideo.models.prompts import FORMS
from tideo.models.selecting import Selecting, check_selecting, chooses, no_selector, stem
from tideo.scoring import REDUCTIONS
from tideo.store.files import content_key, key_of
from tideo.types import Answer, Frames, Sample, Tideo, UserError, Video
from tideo.video.samplers import sample_frames

if TYPE_CHECKING:
    from tideo.encoders.relevance import Chooser


@dataclass(frozen=True, kw_only=True)
class Controls:
    """What is changed to see where an answer comes from; the defaults change nothing.

    `shuffled`: the frames in another order, drawn from this seed and the video's id. `blind`: the model is shown
    nothing. `source` "text": it is shown a Tideo, the captions of as many frames, instead of pictures. `num_frames`,
    `form`: others than the model's settings say. `rotated`: the options are in another cyclic order, which the
    evaluation changes and the model does not know. The keys of stored answers hash these fields.
    """

    num_frames: int | None = None
    shuffled: int | None = None
    project: bool = True
    blind: bool = False
    source: Literal["video", "text"] = "video"
    form: str | None = None
    rotated: int = 0

    @property
    def shows_video(self) -> bool:
        return not self.blind and self.source == "video"


AS_TRAINED = Controls()
_LOCK = threading.Lock()
VideoInput: TypeAlias = Frames | Tideo | None  # all that a model is shown of a segment


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """Questions about one segment, and what the model is shown of it, as for `VideoModel.answer`.

    `listeners`: who waits for the answer of a question, by its sample's id; a model need not know of them.
    """

    video: Video
    samples: Sequence[Sample]
    seen: VideoInput
    controls: Controls = AS_TRAINED
    listeners: Mapping[str, Listener] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ModelSettings(Selecting):
    """The settings that every model has; one that has others too brings a frozen dataclass of its own.

    `num_frames`: how many frames it looks at, 0 for none; `sampler`: a name of `tideo list samplers`; `form`: how the
    options are asked (models/prompts.py, FORMS); `reduction`: how likelihoods become a choice (scoring.py).
    """

    num_frames: int = 10
    sampler: str = "middle"
    form: str = "text"
    reduction: str = "mean"

    def __post_init__(self) -> None:
        check_settings(self)
        if self.num_frames < 0:
            raise UserError(f"num_frames={self.num_frames}: expected at least 0")


def check_settings(settings: Any) -> None:
    """Raise UserError unless `sampler`, `form` and `reduction` are known names, and what a selector needs is there."""
    for field, known in (
        ("sampler", registry.targets("samplers")), ("form", FORMS), ("reduction", REDUCTIONS),
    ):  # fmt: skip
        if (value := getattr(settings, field)) not in known:
            raise UserError(f"{field} {value!r}: expected one of {', '.join(known)}")
    check_selecting(settings)


class VideoModel(ABC):
    """A model that answers questions about video.

    `settings`: at least the fields of `ModelSettings`. `controls`: the fields of `Controls` that the model heeds.
    `concurrency`: how many questions it answers at a time, each in a thread of its own; 0: all questions about a
    segment together, one segment after another. `no_other_controls`: why it heeds no other controls, if there is a
    reason to tell. `paid`: an answer may cost money, so that `tideo eval` runs only the controls that are named.
    `runs`: how many forward passes or requests an answer takes. `pools_dir`: see
    `keep_pools`.
    """

    name: str
    settings: Any = ModelSettings()
    controls: frozenset[str] = frozenset()
    no_other_controls: str = ""
    concurrency: int = 0
    paid: bool = False
    runs: int = 1
    loading: Loading = Loading()  # its device is also that of the selector
    pools_dir: str | Path | None = None
    _chooser: tuple[Any, str | Path | None, Chooser] | None = None

    @classmethod
    def unused(cls, settings: Any) -> dict[str, str]:
        """Field of these settings that changes nothing for this model → the reason; `--model-args` refuses it.

        By default `form`, unless the model heeds the control of that name, and how frames are sampled, for a model
        that looks at none.
        """
        unused = dict(getattr(settings, "unused", {}))
        unused |= {} if "form" in cls.controls else {"form": "this model heeds no form"}
        if getattr(cls.settings, "num_frames", None) == 0:
            unused |= dict.fromkeys(("num_frames", "sampler"), "this model looks at no frame")
        return unused

    @cached_property
    def key(self) -> str:
        """A hash of everything that an answer depends on, except for the settings: of its name and source file.

        A model with weights needs a key of its own, which hashes them too: a stored answer is taken for the same key.
        """
        return key_of([self.name, content_key(inspect.getfile(type(self)))])

    @property
    def keyed_settings(self) -> Any:
        """What the keys of stored answers hash of the settings: by default all that count."""
        if not isinstance(self.settings, Selecting):
            return self.settings
        selector = {"selector_id": self.chooser.pools.encoder.id} if self.chooses else {}
        return self.settings.keyed | selector

    def num_frames(self, controls: Controls = AS_TRAINED) -> int:
        """How many frames it looks at, or captions it reads, under these controls."""
        num: int = self.settings.num_frames if controls.num_frames is None else controls.num_frames
        return num

    @property
    def chooses(self) -> bool:
        """Whether it looks at other frames for each question."""
        return chooses(self.settings) and self.num_frames() > 0

    @property
    def selector(self) -> Any:
        """The encoder that compares frames with questions, or its name. Raises UserError where none is named."""
        if not self.settings.selector:
            raise UserError(no_selector(self.settings.sampler))
        return self.settings.selector

    @property
    def chooser(self) -> Chooser:
        """What chooses the frames for a question."""
        from tideo.encoders.relevance import Chooser  # with torch

        settings = self.settings
        with _LOCK:
            if self._chooser is None or self._chooser[:2] != (settings, self.pools_dir):
                chooser = Chooser(
                    self.selector,
                    sampler=settings.sampler,
                    settings=settings.of_pool,
                    subtitles=settings.subtitles,
                    even=settings.even,
                    folder=self.pools_dir,
                    loading=Loading(device=self.loading.device),
                )
                self._chooser = settings, self.pools_dir, chooser
            return self._chooser[2]

    def keep_pools(self, folder: str | Path) -> None:
        """Read the pools that frames are chosen from in a folder of `tideo encode`, and keep there those it lacks.

        {encoder} in its name stands for the encoder's id.
        """
        self.pools_dir = folder

    def prepare(self, videos: Sequence[Video]) -> None:
        """Make what all questions about these videos need: the pools that frames are chosen from."""
        if self.chooses:
            self.chooser.make(videos)

    def look(
        self, video: Video, *, controls: Controls = AS_TRAINED, sample: Sample | None = None
    ) -> Frames | None:
        """The frames that `answer` needs, None if it needs none; those for a sample's question if it `chooses`.

        It may run in a thread. Raises VideoError.
        """
        num = self.num_frames(controls)
        if not controls.shows_video or num == 0:
            return None
        if not self.chooses:
            return sample_frames(video, num, sampler=self.settings.sampler)
        if sample is None:
            raise UserError(f"the sampler {self.settings.sampler!r} chooses frames for a question: give one")
        return self.chooser.frames(video, num, question=stem(sample), cues=sample.cues)

    def look_for(self, sample: Sample, *, controls: Controls = AS_TRAINED) -> Frames | None:
        """`look` at the sample's video, for its question if that matters."""
        if self.chooses:
            return self.look(sample.video, controls=controls, sample=sample)
        return self.look(sample.video, controls=controls)

    @abstractmethod
    def answer(
        self, video: Video, samples: Sequence[Sample], *, seen: VideoInput, controls: Controls = AS_TRAINED
    ) -> list[Answer]:
        """An Answer to each question about one segment, with log-likelihoods of the options and without choice.

        `seen`: the frames that `look` returned, or a Tideo; None is nothing. Without options an answer is text. A
        model that gives no likelihoods sets the choice itself.
        """

    def answer_many(self, asked: Sequence[Asked], *, at_once: int) -> list[list[Answer]]:
        """The answers of `answer` for each segment. A model that computes several together is a `BatchedModel`."""
        return [self.answer(a.video, a.samples, seen=a.seen, controls=a.controls) for a in asked]

    def batch_size(self) -> BatchSize:
        """How many questions it is given at a time; by default one segment's."""
        return BatchSize(1)

    def usage(self) -> str | None:
        """What its answers have taken so far, such as tokens, in a few words; None if nothing is counted."""
        return None

    def out_of_distribution(self, frames: Frames) -> str | None:
        """One line that warns if the frames, as `look` returned them, are unlike those it was trained on, else None."""
        return None


class BatchedModel(VideoModel):
    """A model of which `answer_many` computes questions about several segments together, `at_once` in a forward pass.

    It raises UserError for one that it cannot take, so that `in_batches` finds it, and lets errors of
    too little memory pass. `batching` is set by `--model-args batch=…`.
    """

    batching = Batching()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """One that brings another `answer` has it called for each segment."""
        super().__init_subclass__(**kwargs)
        if "answer" in vars(cls) and "answer_many" not in vars(cls):
            cls.answer_many = VideoModel.answer_many  # type: ignore[method-assign]

    @abstractmethod
    def answer_many(self, asked: Sequence[Asked], *, at_once: int) -> list[list[Answer]]: ...

    @abstractmethod
    def batch_size(self) -> BatchSize: ...

    def answer(
        self, video: Video, samples: Sequence[Sample], *, seen: VideoInput, controls: Controls = AS_TRAINED
    ) -> list[Answer]:
        """One question in a forward pass. One that the model cannot take becomes an Answer with its error."""
        from tideo.device import memory_reported

        with memory_reported():
            asked = Asked(video=video, samples=samples, seen=seen, controls=controls)
            (answers,) = self.answer_many([asked], at_once=1)
        return answers


NO_POOLS = "--features is for a sampler that chooses from a pool, as --model-args sampler=bolt: leave it out"
# What a command says after that warning.
DO_NOT_TRUST = (
    "do not trust the answers; for such videos name another model, as in --model llava-hf/llava-1.5-7b-hf"
)


def other_order(num: int, *, rng: random.Random) -> np.ndarray:
    """A permutation of `num` that is not the identity, if there is another one."""
    order = list(range(num))
    while num > 1 and order == sorted(order):
        rng.shuffle(order)
    return np.array(order, dtype=np.intp)
