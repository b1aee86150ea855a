"""A segment as a file: the frames that the segment shows, turned as the file asks, with their distances in time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tideo.types import UserError, Video, VideoError
from tideo.video.clip import clip, is_whole
from tideo.video.decode import decode_at
from tideo.video.samplers import sample_frames
from videos import encode, encode_audio


def segment(path: Path, start_s: float | None, end_s: float | None) -> Video:
    return Video(id="v", path=str(path), start_s=start_s, end_s=end_s)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("steady.mp4", {"options": {"g": "12"}}),
        ("turned.mp4", {"rotation": (90, False, False)}),
        ("uneven.mp4", {"pts_ms": [k * 100 + 30 * (k % 3) for k in range(40)]}),
        ("gif.gif", {"codec": "gif", "pix_fmt": "rgb8", "size": (63, 47)}),
        ("sound.mp4", {"audio": True}),
    ],
)
def test_a_clip_shows_what_the_segment_shows(tmp_path: Path, name: str, how: dict[str, object]) -> None:
    encode(tmp_path / name, **how)  # type: ignore[arg-type]
    data = clip(segment(tmp_path / name, 1.25, 2.75), max_bytes=10**6)
    times_s = [1.26, 1.45, 1.75, 2.05, 2.45, 2.74]
    expected = decode_at(str(tmp_path / name), times_s)
    cut = decode_at(data, [time_s - 1.25 for time_s in times_s])
    assert cut.pts_s_T + 1.25 == pytest.approx(np.maximum(expected.pts_s_T, 1.25), abs=1e-3)
    height, width = expected.rgb_THWC.shape[1:3]
    assert cut.rgb_THWC.shape[1:3] == (height + height % 2, width + width % 2)
    error = np.abs(cut.rgb_THWC[:, :height, :width].astype(int) - expected.rgb_THWC)
    assert error.mean() < 20, "the frames are those of the file, encoded once more"
    assert len(sample_frames(data, 100)) == pytest.approx(15, abs=2), "and no others"


def test_the_whole_file_needs_no_clip(tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4", num=20)
    assert is_whole(segment(tmp_path / "a.mp4", None, None))
    assert is_whole(segment(tmp_path / "a.mp4", 0.0, 9.0))
    assert not is_whole(segment(tmp_path / "a.mp4", 0.0, 1.0))
    with pytest.raises(VideoError, match=r"outside the segment from 3\.00 s to the end"):
        is_whole(segment(tmp_path / "a.mp4", 3.0, None))


def test_what_cannot_be_cut_is_said(tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4", num=20)
    encode_audio(tmp_path / "b.mp4")
    with pytest.raises(UserError, match="the segment takes more than 0 MB"):
        clip(segment(tmp_path / "a.mp4", 0.2, 1.5), max_bytes=100)
    with pytest.raises(VideoError, match="holds no video stream"):
        clip(segment(tmp_path / "b.mp4", 0.2, 1.5), max_bytes=10**6)
    assert len(sample_frames(clip(segment(tmp_path / "a.mp4", 0.55, 0.56), max_bytes=10**6), 9)) == 1
