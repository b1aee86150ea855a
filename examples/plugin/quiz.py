"""A benchmark: lines of `video | question | right option | wrong option | …`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from tideo.store.text import lines_of
from tideo.store.video_files import VideoFolder
from tideo.types import Sample, UserError, Video

SCORE = "mean_of_kinds"  # the official figure; without this line it is "accuracy"


def quiz(data: str | Path, *, videos: str | Path) -> list[Sample]:
    """Questions of one's own, a line each."""
    folder, samples = VideoFolder(videos), []
    for number, line in enumerate(lines_of(data), start=1):
        name, question, *options = (part.strip() for part in line.split("|"))
        if len(options) < 2:
            raise UserError(
                f"{data} line {number}: expected video | question | right option | wrong option | …"
            )
        shuffled = random.Random(line).sample(options, len(options))
        samples.append(
            Sample(
                id=str(number),
                video=Video(id=name, path=folder.find(name)),
                question=question,
                options=tuple(shuffled),
                answer=shuffled.index(options[0]),
                kind=question.split()[0].lower(),
            )
        )
    return samples


def export(samples: Sequence[Sample], choices: Mapping[str, int]) -> str:
    """What `tideo export` writes: the line and the letter of each choice, "-" if the question failed."""
    letters = {sample.id: "ABCDEFGH-"[choices[sample.id]] for sample in samples}
    return "".join(f"{line}: {letter}\n" for line, letter in letters.items())
