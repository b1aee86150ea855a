"""Validation pictures of the dollhouse: the registered frames `dollhouse`, for the threshold of familiarity."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tideo.dollhouse.captions import frame_times
from tideo.dollhouse.render import draw_frame
from tideo.dollhouse.script import sample_episode
from tideo.types import Frames

VAL_EPISODES = 60


def held_in_frames(*, seed: int) -> Iterator[Frames]:
    """Ten even frames of each of the first validation episodes."""
    for index in range(VAL_EPISODES):
        episode = sample_episode("val", index, seed=seed)
        times = np.array(frame_times(episode.duration_s))
        style = episode.style
        rgb = np.stack(
            [draw_frame(episode.state_at(t), width=style.width, height=style.height) for t in times]
        )
        yield Frames(rgb_THWC=rgb, pts_s_T=times, video_id=episode.id)
