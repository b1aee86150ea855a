"""The settings of models whose sampler may be a selector, which chooses frames for each question."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tideo.bundled import check_encoder
from tideo.types import Sample, UserError
from tideo.video.pool import PoolSettings, check_pool
from tideo.video.selectors import check_even, is_selector


@dataclass(frozen=True, kw_only=True)
class Selecting(PoolSettings):
    """`selector`: the dual encoder that compares frames with the question, a name that `load_encoder` takes.

    `subtitles`: what is said at a frame counts too, where a benchmark has subtitles. `even`: the share of the frames
    that are even, whatever the question, of several at least one if it is above 0. The pool is as of `PoolSettings`.

    These settings count only with a sampler that is a selector.
    """

    selector: str | None = None
    subtitles: bool = False
    even: float = 0.0

    @property
    def chooses(self) -> bool:
        """Whether frames are chosen for each question."""
        return is_selector(self.sampler)  # type: ignore[attr-defined]

    @property
    def of_pool(self) -> PoolSettings:
        """The settings of the pool alone."""
        return PoolSettings(pool=self.pool, pool_fps=self.pool_fps, pool_max=self.pool_max)

    @property
    def unused(self) -> dict[str, str]:
        """Field that changes nothing → the reason."""
        if self.chooses:
            one = self.num_frames == 1  # type: ignore[attr-defined]
            return {"even": "one frame is the selector's, of several some can be even"} if one else {}
        return dict.fromkeys(FIELDS, "only a sampler that chooses for the question uses it, as bolt")

    @property
    def keyed(self) -> dict[str, Any]:
        """What an answer depends on: what only a selector uses is left out with another sampler."""
        fields = vars(self).copy()
        if self.chooses:
            return fields | {"compared": COMPARED}
        return {k: v for k, v in fields.items() if k not in FIELDS}


COMPARED = (
    "moment"  # of a question, with the frames: answers of before, when it was the whole question, are others
)
_LISTED = re.compile(r"\s*[(\[]?([A-Za-z]|\d)[.):\]]\s")  # "A. pours tea", "(b) reads", "2) sleeps"
FIELDS = tuple(field.name for field in dataclasses.fields(Selecting))


def chooses(settings: Any) -> bool:
    """Whether a model of these settings looks at other frames for each question."""
    return isinstance(settings, Selecting) and settings.chooses


def check_selecting(settings: Any) -> None:
    """Raise UserError for a selector without the settings that it needs, or a pool that it cannot choose from."""
    if isinstance(settings, Selecting):
        check_pool(settings)
        check_even(settings.even)
    if not is_selector(settings.sampler):
        return
    if not isinstance(settings, Selecting):
        raise UserError(f"sampler {settings.sampler!r} chooses for each question, and this model does not")
    if settings.num_frames > settings.pool_max:  # type: ignore[attr-defined]
        raise UserError(
            f"pool_max={settings.pool_max}: expected at least the {settings.num_frames} frames "  # type: ignore[attr-defined]
            "that are chosen from the pool"
        )


def check_selector(settings: Selecting) -> None:
    """Raise UserError for an encoder that cannot be had, before a video is read for it."""
    if settings.chooses and settings.selector is not None:
        check_encoder(settings.selector)


def stem(sample: Sample) -> str:
    """What the frames are chosen for: the question without options, also where a prompt lists them in its lines."""
    question = sample.question if sample.stem is None else sample.stem
    lines = question.splitlines()
    marks = [match[1] if (match := _LISTED.match(line)) else "" for line in lines]
    for first in "Aa01":
        if (items := _list_from(first, marks)) is None:
            continue
        before, after = "\n".join(lines[: items.start]), "\n".join(lines[items.stop :])
        if "?" in after and "?" not in before:  # the list comes first: of steps, or of options
            return after
        return before if before.strip() else question
    return question


def _list_from(first: str, marks: Sequence[str]) -> range | None:
    """The lines of the list that this mark begins, up to its last item; None for a single item.

    Marks that do not go on with it are no part of it, as in "Q: what does he do?".
    """
    places: list[int] = []
    for place, mark in enumerate(marks):
        if mark == first and len(places) < 2:
            places = [place]
        elif places and mark == chr(ord(first) + len(places)):
            places.append(place)
    return range(places[0], places[-1] + 1) if len(places) > 1 else None


def no_selector(sampler: str) -> str:
    """The message for a selector without an encoder."""
    return (
        f"sampler {sampler!r} needs an encoder that compares frames with the question: set selector, as in "
        "selector=openai/clip-vit-large-patch14"
    )
