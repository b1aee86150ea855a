"""A benchmark and a model of one's own.

    pip install examples/plugin
    tideo eval quiz --data examples/plugin/quiz.txt --videos VIDEOS --model longest --out runs/quiz

The benchmark reads lines of `video | question | right option | wrong option | …`. The model takes the longest option
without a look at the video, which tells how much the length of the options gives away.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tideo.models.interface import AS_TRAINED, Controls
from tideo.types import Answer, Frames, Sample, Tideo, UserError, Video


def quiz(data: str | Path, *, videos: str | Path) -> list[Sample]:
    """Questions of one's own, a line each."""
    samples = []
    for number, line in enumerate(Path(data).read_text(encoding="utf-8").splitlines(), start=1):
        name, question, *options = (part.strip() for part in line.split("|"))
        if len(options) < 2:
            raise UserError(
                f"{data} line {number}: expected video | question | right option | wrong option | …"
            )
        shuffled = random.Random(line).sample(options, len(options))
        samples.append(
            Sample(
                id=str(number),
                video=Video(id=name, path=str(Path(videos) / name)),
                question=question,
                options=tuple(shuffled),
                answer=shuffled.index(options[0]),
                kind=question.split()[0].lower(),
            )
        )
    return samples


@dataclass(frozen=True)
class Settings:
    """What answers depend on; `tideo eval --model-args` sets it, and the run's record holds it."""

    num_frames: int = 0
    form: str = "text"
    reduction: str = "sum"


class Longest:
    """Takes the longest option."""

    name, key = "longest", "longest-1"  # another key for other answers: stored ones are never read for it
    controls: frozenset[str] = frozenset()  # none changes anything for a model that does not look
    concurrency = 0

    def __init__(self) -> None:
        self.settings = Settings()

    def look(self, video: Video, *, controls: Controls = AS_TRAINED) -> Frames | None:
        """No frames; a model that looks calls tideo.video.samplers.sample_frames."""
        return None

    def answer(
        self,
        video: Video,
        samples: Sequence[Sample],
        *,
        controls: Controls = AS_TRAINED,
        seen: Frames | Tideo | None = None,
    ) -> list[Answer]:
        """A score for each option, higher is better, and the number of tokens that it sums over."""
        return [
            Answer(
                sample_id=s.id,
                loglikelihoods=tuple(float(len(o)) for o in s.options),
                num_tokens=(1,) * len(s.options),
            )
            for s in samples
        ]

    def out_of_distribution(self, frames: Frames) -> str | None:
        """A line where the video is unlike what the model knows."""
        return None
