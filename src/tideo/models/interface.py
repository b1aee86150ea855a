"""What an evaluation asks of a model that answers questions about video."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from tideo.types import Answer, Frames, Sample, Video


@dataclass(frozen=True, kw_only=True)
class Controls:
    """What is changed to see where an answer comes from; the defaults change nothing.

    `shuffled`: the frames in another order, drawn from this seed and the video's id. `blind`: zero vectors
    instead of frames. `source` "text": the captions of the same frames instead of pictures, which only the
    dollhouse has. `num_frames`, `form`: others than the model's settings say. `rotated`: the options in another cyclic
    order, of which the model itself is not told.
    """

    num_frames: int | None = None
    shuffled: int | None = None
    project: bool = True
    blind: bool = False
    source: Literal["video", "text"] = "video"
    form: str | None = None
    rotated: int = 0


AS_TRAINED = Controls()


class VideoModel(Protocol):
    """A model that answers questions about video.

    `key` hashes everything of it that an answer depends on, but for its `settings`, a dataclass. `controls`: the
    fields of Controls that it heeds. `concurrency`: how many questions are asked at a time, each by itself from
    a thread of its own; 0: all questions about a segment together, one segment after another.
    """

    name: str
    key: str
    concurrency: int
    settings: Any  # with num_frames, form and reduction: Settings, or GridSettings
    controls: frozenset[str]

    def look(self, video: Video, *, controls: Controls = AS_TRAINED) -> Frames | None:
        """The frames that `answer` needs, None where it needs none. Only decodes: it may run in a thread."""

    def answer(
        self,
        video: Video,
        samples: Sequence[Sample],
        *,
        controls: Controls = AS_TRAINED,
        frames: Frames | None = None,
    ) -> list[Answer]:
        """Answers about one segment, with log-likelihoods and without choice; `frames` as `look` returned."""

    def strange(self, frames: Frames) -> str | None:
        """One line where the frames are unlike what the model was trained on, else None."""


def other_order(num: int, *, rng: random.Random) -> np.ndarray:
    """A permutation of `num` that is not the identity, where there is another one."""
    order = list(range(num))
    while num > 1 and order == sorted(order):
        rng.shuffle(order)
    return np.array(order, dtype=np.intp)
