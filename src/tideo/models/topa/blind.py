"""The language model alone, without the video: what the words of a question give away."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from tideo.device import threads_for
from tideo.loading import Loading
from tideo.models.answering import Shown, timed
from tideo.models.batching import BatchSize
from tideo.models.interface import AS_TRAINED, Asked, BatchedModel, Controls
from tideo.models.likelihood import one_by_one
from tideo.models.selecting import FIELDS as SELECTING
from tideo.models.topa.model import ask_lm, llm_key
from tideo.models.topa.prefix_lm import PrefixLM
from tideo.models.topa.settings import TRAINED_FILES, Settings
from tideo.store.files import files_key, key_of
from tideo.types import Answer


class Blind(BatchedModel):
    """A `ZeroShot` that never looks; it loads no encoder and opens no video."""

    controls = frozenset({"form"})

    @classmethod
    def unused(cls, settings: Settings) -> dict[str, str]:
        """All that a video is looked at with."""
        names = ("encoder", "num_frames", "sampler", "project", "temperature", *SELECTING)
        return dict.fromkeys(names, "this model looks at no frame")

    def __init__(self, lm: PrefixLM, *, settings: Settings, name: str, key: str) -> None:
        self.lm, self.settings, self.name, self.key = lm, settings, name, key

    @classmethod
    def load(cls, directory: str | Path, *, name: str = "blind", loading: Loading | None = None) -> Blind:
        """From the directory of a `ZeroShot`. Raises UserError where a file is missing."""
        directory = Path(directory)
        loading = loading or Loading()
        lm = PrefixLM.from_pretrained(directory, loading=loading)
        files = [files_key(directory, TRAINED_FILES), llm_key(lm, beside=directory)]
        key = key_of(["blind", *files, *loading.conversion])
        return cls(lm, settings=Settings.load(directory), name=name, key=key)

    def num_frames(self, controls: Controls = AS_TRAINED) -> int:
        return 0

    def batch_size(self) -> BatchSize:
        return self.batching.size(self.lm, alone=one_by_one(self.lm.llm))

    def answer_many(self, asked: Sequence[Asked], *, at_once: int) -> list[list[Answer]]:
        """As `ZeroShot` with the control `blind`, whatever is shown."""
        started_s = time.perf_counter()
        shown = [
            Shown(
                what=None,
                samples=a.samples,
                form=a.controls.form or self.settings.form,
                listeners=a.listeners,
            )
            for a in asked
        ]
        with threads_for(self.lm):
            answers = ask_lm(self.lm, shown, at_once=at_once)
        return timed(answers, started_s=started_s)
