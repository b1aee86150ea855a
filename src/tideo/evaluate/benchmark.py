"""What the file of a benchmark defines: its reader and, if it has them, its score, its export and its Tideos."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from tideo import registry
from tideo.benchmarks.annotations import Choices, choices_csv
from tideo.types import Sample, Tideo

Score = Literal["accuracy", "mean_of_kinds", "grounded", "cider"]


class Reader(Protocol):
    def __call__(self, data: str | Path, *, videos: str | Path) -> list[Sample]: ...


class TideoOf(Protocol):
    def __call__(self, samples: Sequence[Sample], *, num: int) -> Tideo: ...


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """`read` is the function of the file's own name; the others are its optional names of module level.

    SCORE: the official figure, by default "accuracy"; "mean_of_kinds" (metrics.py); "grounded", the share of questions
    right and grounded (grounding.py); "cider": videos are described (caption_scores.py). `export(samples, choices)`:
    the text of the file that the benchmark's own script or server reads; of a question that was
    skipped `choices` has -1, and `in` says that it has none. `tideo(samples, num)`: the captions of that
    many frames of the segment that the samples are about, which the control `text_features` shows the model.
    KINDS: what its kinds of questions are called in words, for those whose names do not say it.
    `tideo_key(sample)`: all that its Tideo is made from, which the keys of answers hash; by default the Tideo itself.
    """

    name: str
    read: Reader
    score: Score = "accuracy"
    export: Callable[[Sequence[Sample], Choices], str] = choices_csv
    tideo: TideoOf | None = None
    tideo_key: Callable[[Sample], Any] | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)

    @property
    def describes(self) -> bool:
        """Whether its videos are to be described, where others have questions."""
        return self.score == "cider"


def load_benchmark(name: str) -> Benchmark:
    """Raises UserError for an unknown name, with those that are near."""
    read, module = registry.load("benchmarks", name), registry.module_of("benchmarks", name)
    kinds = getattr(module, "KINDS", {})
    return Benchmark(
        name=name,
        read=read,
        score=getattr(module, "SCORE", "accuracy"),
        export=getattr(module, "export", choices_csv),
        tideo=getattr(module, "tideo", None),
        tideo_key=getattr(module, "tideo_key", None),
        kinds=kinds if isinstance(kinds, Mapping) else {},  # a tuple of names says nothing in words
    )
