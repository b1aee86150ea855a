"""Shot boundaries in pictures made for it, and frames shared out among the shots."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from tideo.video.samplers import sample_frames
from tideo.video.scenes import boundaries, cuts
from tideo.video.streams import OpenVideo


def shots(path: Path, lengths_s: list[float], *, fps: int = 10) -> Path:
    """A flat colour a shot, with a small square that moves all the time."""
    colors = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (220, 220, 40), (10, 10, 10)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "20", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        number = 0
        for color, length_s in zip(colors, lengths_s, strict=False):
            for _ in range(round(length_s * fps)):
                rgb = np.full((64, 96, 3), color, np.uint8)
                left = number * 3 % 80
                rgb[20:30, left : left + 10] = 255
                container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
                number += 1
        container.mux(stream.encode(None))
    return path


def test_cuts_lie_between_the_shots(tmp_path: Path) -> None:
    with OpenVideo(shots(tmp_path / "v.mp4", [2, 5, 3])) as video:
        found = cuts(video, 0.0, 9.9)
    assert found == pytest.approx([2.0, 7.0], abs=0.3)


@pytest.mark.parametrize(
    ("num", "counts"),
    [
        (3, [1, 1, 1]),
        (5, [1, 2, 2]),
        (10, [2, 5, 3]),
        (2, [0, 1, 1]),
    ],  # of more shots than frames the longest
)
def test_every_shot_gets_frames_by_its_length(tmp_path: Path, num: int, counts: list[int]) -> None:
    frames = sample_frames(shots(tmp_path / "v.mp4", [2, 5, 3]), num, sampler="scenes")
    bounds = [(0.0, 2.0), (2.0, 7.0), (7.0, 10.0)]
    assert [sum(a <= t < b for t in frames.pts_s_T) for a, b in bounds] == counts


def test_one_shot_is_sampled_as_by_middle(tmp_path: Path) -> None:
    path = shots(tmp_path / "v.mp4", [4])
    middle = sample_frames(path, 6, sampler="middle").pts_s_T
    np.testing.assert_allclose(sample_frames(path, 6, sampler="scenes").pts_s_T, middle)


def test_a_moving_camera_makes_no_cut_and_a_cut_in_it_does() -> None:
    ramp = np.stack([np.roll(np.linspace(0, 255, 48), 4 * k) for k in range(12)]).astype(np.uint8)
    moving = np.broadcast_to(ramp[:, None, :, None], (12, 27, 48, 3)).copy()
    assert boundaries(moving) == []
    still = np.zeros((8, 27, 48, 3), np.uint8)
    still[5:] = 90
    assert boundaries(still) == [4]
    assert boundaries(still[:2]) == []
