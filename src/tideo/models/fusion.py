"""Two or more models that answer together: their log-probabilities of the options, weighted and added.

Each model's scores become log-probabilities over the options; the weights are fitted on validation questions
(evaluate/fit_fusion.py), so a weight is also the model's temperature.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from tideo.config import from_plain
from tideo.models.batching import BatchSize
from tideo.models.interface import AS_TRAINED, Asked, BatchedModel, Controls, VideoInput, VideoModel
from tideo.scoring import scores
from tideo.store.files import atomic_write_text, key_of
from tideo.types import Answer, Frames, Sample, UserError, Video

FUSION_FILE = "fusion.json"


@dataclass(frozen=True, kw_only=True)
class FusionSettings:
    """fusion.json: names or folders of the models (relative to the file's own folder), and a weight for each.

    The other fields are those that every model's settings have: nothing here chooses frames or a form.
    """

    models: tuple[str, ...]
    weights: tuple[float, ...]
    num_frames: int = 0
    form: str = "as each model's"
    reduction: str = "sum"

    def __post_init__(self) -> None:
        if len(self.models) < 2 or len(self.models) != len(self.weights):
            raise UserError(
                f"{len(self.models)} models with {len(self.weights)} weights: expected two or more, a weight for each"
            )
        if (self.num_frames, self.form) != (0, "as each model's"):
            raise UserError("a fusion leaves num_frames and form to its models: set them there")

    def save(self, directory: str | Path) -> None:
        atomic_write_text(Path(directory) / FUSION_FILE, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, directory: str | Path) -> FusionSettings:
        """Raises UserError where the file is missing or holds something else."""
        path = Path(directory) / FUSION_FILE
        try:
            return from_plain(cls, json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise UserError(f"{path} does not describe a fusion: {error}") from error


@dataclass(frozen=True, kw_only=True, eq=False)
class FramesByModel(Frames):
    """What each model of a fusion looks at, in their order; itself, the frames of the one that looks at most."""

    by_model: tuple[Frames | None, ...]

    @property
    def num_bytes(self) -> int:
        return sum(frames.num_bytes for frames in self.by_model if frames is not None)


class Fusion(BatchedModel):
    """`models` in the order of the settings' weights; each looks at its own frames."""

    def __init__(self, models: Sequence[VideoModel], *, settings: FusionSettings, name: str) -> None:
        self.models, self.settings, self.name = list(models), settings, name
        self.key = key_of([[m.key, asdict(m.settings)] for m in models])
        self.controls = frozenset.intersection(*(m.controls for m in models)) - {"num_frames", "form"}
        self.paid, self.runs = any(m.paid for m in models), sum(m.runs for m in models)

    @classmethod
    def unused(cls, settings: FusionSettings) -> dict[str, str]:
        """The reduction: what is decided by are sums, each of one token."""
        return {"reduction": "log-probabilities are added"}

    @property
    def keyed_settings(self) -> Any:
        """With the encoders that choose frames for its models: a name may stand for another one later."""
        selectors = [model.chooser.pools.encoder.id for model in self.models if model.chooses]
        return [self.settings, selectors] if selectors else self.settings

    def num_frames(self, controls: Controls = AS_TRAINED) -> int:
        """Of the model that takes most."""
        return max(model.num_frames(controls) for model in self.models)

    @property
    def chooses(self) -> bool:
        """Whether one of its models does."""
        return any(model.chooses for model in self.models)

    def prepare(self, videos: Sequence[Video]) -> None:
        """What each of its models needs."""
        for model in self.models:
            model.prepare(videos)

    def keep_pools(self, folder: str | Path) -> None:
        """As of each of its models: with two encoders, {encoder} must be in the name."""
        for model in self.models:
            model.keep_pools(folder)

    def look(
        self, video: Video, *, controls: Controls = AS_TRAINED, sample: Sample | None = None
    ) -> FramesByModel | None:
        by_model = tuple(
            model.look(video, controls=controls, **({"sample": sample} if model.chooses else {}))
            for model in self.models
        )
        most = max((frames for frames in by_model if frames is not None), key=len, default=None)
        if most is None:
            return None
        return FramesByModel(**{f.name: getattr(most, f.name) for f in fields(Frames)}, by_model=by_model)

    def out_of_distribution(self, frames: Frames) -> str | None:
        """The warnings of its models, in one line."""
        pairs = zip(self.models, self._seen_by_each(frames), strict=True)
        warnings = [model.out_of_distribution(seen) for model, seen in pairs if isinstance(seen, Frames)]
        return "; ".join(filter(None, warnings)) or None

    def _seen_by_each(self, seen: VideoInput) -> Sequence[VideoInput]:
        return seen.by_model if isinstance(seen, FramesByModel) else [seen] * len(self.models)

    def batch_size(self) -> BatchSize:
        """The smallest that one of its models takes."""
        sizes = [model.batch_size() for model in self.models]
        return BatchSize(min(s.now for s in sizes), most=min(s.most for s in sizes))

    def answer_many(self, asked: Sequence[Asked], *, at_once: int) -> list[list[Answer]]:
        """As each model's own; an error of one is the answer's. An open question goes to the heaviest model,
        to which listeners listen.

        `seen` is what `look` returned; a Tideo is shown to each model as it is.
        """
        seen_by_each = [self._seen_by_each(a.seen) for a in asked]
        heaviest = self._heaviest
        by_model = [
            model.answer_many(
                [
                    replace(a, seen=seen[i], listeners=a.listeners if i == heaviest else {})
                    for a, seen in zip(asked, seen_by_each, strict=True)
                ],
                at_once=at_once,
            )
            for i, model in enumerate(self.models)
        ]
        return [
            [self._fused(answers) for answers in zip(*of_segment, strict=True)]
            for of_segment in zip(*by_model, strict=True)
        ]

    @property
    def _heaviest(self) -> int:
        return max(range(len(self.models)), key=self.settings.weights.__getitem__)

    def _fused(self, answers: Sequence[Answer]) -> Answer:
        seconds = sum(a.seconds or 0.0 for a in answers)
        failed = next((a for a in answers if a.error is not None), None)
        if failed is not None:
            return replace(failed, seconds=seconds)
        if not answers[0].loglikelihoods:
            return replace(answers[self._heaviest], seconds=seconds)
        weighted = [
            weight * option_logprobs(a, reduction=m.settings.reduction)
            for a, m, weight in zip(answers, self.models, self.settings.weights, strict=True)
        ]
        total = np.sum(weighted, axis=0)
        return replace(
            answers[0], loglikelihoods=tuple(total.tolist()), num_tokens=(1,) * len(total), seconds=seconds
        )


def option_logprobs(answer: Answer, *, reduction: str) -> np.ndarray:
    """Log-probabilities over the options, from a model's scores."""
    scored = np.array(scores(answer.loglikelihoods, answer.num_tokens, reduction=reduction))
    shifted = scored - scored.max()
    logprobs: np.ndarray = shifted - np.log(np.exp(shifted).sum())
    return logprobs


def relative(model: str, *, out: Path) -> str:
    """A folder as seen from `out`; another name as it is."""
    return os.path.relpath(model, out) if Path(model).is_dir() else model
