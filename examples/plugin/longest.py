"""A model: it takes the longest option, which shows how much the length of the options gives away."""

from __future__ import annotations

from collections.abc import Sequence

from tideo.models.interface import AS_TRAINED, Controls, ModelSettings, VideoModel
from tideo.types import Answer, Frames, Sample, Tideo, Video


class Longest(VideoModel):
    """Takes the longest option."""

    name = "longest"
    settings = ModelSettings(num_frames=0)  # looks at no frame

    def answer(
        self,
        video: Video,
        samples: Sequence[Sample],
        *,
        seen: Frames | Tideo | None,
        controls: Controls = AS_TRAINED,
    ) -> list[Answer]:
        """A log-likelihood for each option, higher is better, and the number of tokens that it sums over."""
        return [
            Answer(
                sample_id=s.id,
                loglikelihoods=tuple(float(len(option)) for option in s.options),
                num_tokens=(1,) * len(s.options),
            )
            for s in samples
        ]
