"""What a model that reads grids is shown of a video: which frames, in which images, for which questions."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from tideo.encoders.dual import DualEncoder, load_encoder
from tideo.encoders.relevance import CANDIDATES, relevant_frames
from tideo.loading import Loading
from tideo.models.grid.settings import QUESTION, GridSettings
from tideo.models.interface import AS_TRAINED, Controls, VideoInput, VideoModel, other_order
from tideo.types import Frames, Sample, Tideo, Video
from tideo.video.samplers import sample_frames


class GridModel(VideoModel):
    """A model that is shown grids of frames as its `settings` say; `answer` is left to the class below it."""

    settings: GridSettings
    loading: Loading = Loading()  # its device is also that of the encoder
    _encoder: DualEncoder | None = None  # of the sampler `question`, loaded when first needed

    @classmethod
    def unused(cls, settings: GridSettings) -> dict[str, str]:
        """What the settings say, and how options are scored if the model scores none."""
        in_words = dict.fromkeys(("form", "reduction"), "this model replies in words")
        return settings.unused | ({} if "form" in cls.controls else in_words)

    def look(self, video: Video, *, controls: Controls = AS_TRAINED) -> Frames | None:
        """The frames of the cells, or those that the question chooses among. Raises VideoError."""
        if self.settings.sampler == QUESTION and controls.shows_video:
            return sample_frames(video, CANDIDATES * self.num_frames(controls))
        return super().look(video, controls=controls)

    def shown(
        self, seen: VideoInput, samples: Sequence[Sample], *, controls: Controls
    ) -> Iterator[tuple[Frames | None, Sequence[Sample]]]:
        """The frames shown, and the questions about them."""
        assert not isinstance(seen, Tideo), (
            "`source` is none of the controls of a model that is shown pictures"
        )
        if seen is None or self.settings.sampler != QUESTION:
            yield seen, samples
            return
        if self._encoder is None:
            device = Loading(device=self.loading.device)
            self._encoder = load_encoder(str(self.settings.encoder), loading=device)
        num = self.num_frames(controls)
        for sample in samples:
            yield relevant_frames(seen, num, question=sample.question, encoder=self._encoder), [sample]

    @property
    def keyed_settings(self) -> Mapping[str, Any]:
        return self.settings.keyed

    def images(
        self, frames: Frames | None, video: Video, *, controls: Controls, square: bool = False
    ) -> list[Image.Image]:
        """The frames as images; no image without frames. `square` as in `GridSettings.images`."""
        if frames is None:
            return []
        if controls.shuffled is not None:
            order = other_order(len(frames), rng=random.Random(f"{controls.shuffled}/{video.id}"))
            frames = replace(frames, rgb_THWC=frames.rgb_THWC[order])
        return self.settings.images(frames, one_frame=controls.num_frames == 1, square=square)
