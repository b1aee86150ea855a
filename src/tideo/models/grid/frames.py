"""What a model that reads grids is shown of a video: which frames, in which images, for which questions."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from tideo.models.grid.settings import GridSettings
from tideo.models.interface import Controls, VideoInput, VideoModel, other_order
from tideo.types import Frames, Tideo, Video


class GridModel(VideoModel):
    """A model that is shown grids of frames as its `settings` say; `answer` is left to the class below it."""

    settings: GridSettings

    @classmethod
    def unused(cls, settings: GridSettings) -> dict[str, str]:
        """What the settings say, and how options are scored if the model scores none."""
        in_words = dict.fromkeys(("form", "reduction"), "this model replies in words")
        return settings.unused | ({} if "form" in cls.controls else in_words)

    @property
    def selector(self) -> str:
        """The encoder that the settings name."""
        return str(self.settings.selector or self.settings.encoder)

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


def video_of(images: Sequence[Image.Image], frames: Frames) -> Frames:
    """The images of frames as those of a video, at least two, since Qwen-VL joins them by twos."""
    shown = np.stack([np.asarray(image) for image in images])
    at_least = max(2, len(frames))
    return replace(
        frames,
        rgb_THWC=np.resize(shown, (at_least, *shown.shape[1:])),
        pts_s_T=np.resize(frames.pts_s_T, at_least),
    )


def frames_of(seen: VideoInput) -> Frames | None:
    """The frames that a model of pictures is shown; `source` is none of its controls."""
    assert not isinstance(seen, Tideo), "a model that is shown pictures has no Tideo"
    return seen
