"""What a model that reads grids sees of a video: which frames, in which images, for which questions."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from PIL import Image

from tideo.encoders.dual import DualEncoder, load_encoder
from tideo.encoders.relevance import CANDIDATES, relevant_frames
from tideo.models.grid.settings import QUESTION, GridSettings
from tideo.models.interface import AS_TRAINED, Controls, other_order
from tideo.types import Frames, Sample, Video
from tideo.video.samplers import sample_frames


class GridSight:
    """The seeing half of a model: `settings` say how."""

    settings: GridSettings
    _encoder: DualEncoder | None = None  # of the sampler `question`, loaded when first needed

    def look(self, video: Video, *, controls: Controls = AS_TRAINED) -> Frames | None:
        """The frames of the cells, or those that the question chooses among. Raises VideoError."""
        if controls.blind:
            return None
        num = controls.num_frames or self.settings.num_frames
        if self.settings.sampler == QUESTION:
            return sample_frames(video, CANDIDATES * num)
        return sample_frames(video, num, sampler=self.settings.sampler)

    def strange(self, frames: Frames) -> str | None:
        return None

    def seen(
        self, frames: Frames | None, samples: Sequence[Sample], *, controls: Controls
    ) -> Iterator[tuple[Frames | None, Sequence[Sample]]]:
        """The frames shown, and the questions asked about them."""
        if frames is None or self.settings.sampler != QUESTION:
            yield frames, samples
            return
        if self._encoder is None:
            self._encoder = load_encoder(str(self.settings.encoder))
        num = controls.num_frames or self.settings.num_frames
        for sample in samples:
            yield relevant_frames(frames, num, question=sample.question, encoder=self._encoder), [sample]

    def images(self, frames: Frames | None, video: Video, *, controls: Controls) -> list[Image.Image]:
        """The frames as images; none for none."""
        if frames is None:
            return []
        if controls.shuffled is not None:
            order = other_order(len(frames), rng=random.Random(f"{controls.shuffled}/{video.id}"))
            frames = replace(frames, rgb_THWC=frames.rgb_THWC[order])
        return self.settings.images(frames, one_frame=controls.num_frames == 1)
