"""The language model alone, without the video: what the words of a question give away."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from tideo.device import threads_for
from tideo.loading import Loading
from tideo.models.answering import timed
from tideo.models.interface import AS_TRAINED, Controls, VideoInput, VideoModel
from tideo.models.topa.model import ask_lm, llm_key
from tideo.models.topa.prefix_lm import PrefixLM
from tideo.models.topa.settings import TRAINED_FILES, Settings
from tideo.store.files import files_key, key_of
from tideo.types import Answer, Sample, Video


class Blind(VideoModel):
    """A `ZeroShot` that never looks; it loads no encoder and opens no video."""

    controls = frozenset({"form"})

    @classmethod
    def unused(cls, settings: Settings) -> dict[str, str]:
        """All that a video is looked at with."""
        names = ("encoder", "num_frames", "sampler", "temperature")
        return dict.fromkeys(names, "this model looks at no frame")

    def __init__(self, lm: PrefixLM, *, settings: Settings, name: str, key: str) -> None:
        self.lm, self.settings, self.name, self.key = lm, settings, name, key

    @classmethod
    def load(cls, directory: str | Path, *, name: str = "blind", loading: Loading | None = None) -> Blind:
        """From the directory of a `ZeroShot`. Raises UserError where a file is missing."""
        directory = Path(directory)
        lm = PrefixLM.from_pretrained(directory, loading=loading)
        key = key_of(["blind", files_key(directory, TRAINED_FILES), llm_key(lm, beside=directory)])
        return cls(lm, settings=Settings.load(directory), name=name, key=key)

    def num_frames(self, controls: Controls = AS_TRAINED) -> int:
        return 0

    def answer(
        self, video: Video, samples: Sequence[Sample], *, seen: VideoInput, controls: Controls = AS_TRAINED
    ) -> list[Answer]:
        """As `ZeroShot.answer` with the control `blind`, whatever is shown."""
        started_s = time.perf_counter()
        with threads_for(self.lm):
            answers = ask_lm(self.lm, None, samples, form=controls.form or self.settings.form)
        return timed(answers, started_s=started_s)
