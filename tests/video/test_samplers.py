"""Which frames are taken, by number: the tests' pictures carry theirs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tideo.models.grid.settings import GridSettings
from tideo.registry import BUILTIN
from tideo.types import UserError, Video
from tideo.video.samplers import frame_times, sample_frames
from tideo.video.selectors import is_selector
from videos import SHARED, encode, index_of, read_all

EVEN = [name for name in BUILTIN["samplers"] if not is_selector(name)]  # those that need no question


@pytest.fixture(scope="module")
def forty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 frames in 4 seconds, a key frame every 8."""
    path = tmp_path_factory.mktemp("videos") / "forty.mp4"
    encode(path, options={"x264-params": "keyint=8:min-keyint=8:scenecut=0:bframes=2"})
    return path


def indices(video: Video | Path | bytes, num: int, sampler: str) -> list[int]:
    return [index_of(rgb) for rgb in sample_frames(video, num, sampler=sampler).rgb_THWC]


@pytest.mark.parametrize(
    ("sampler", "num", "expected"),
    [
        ("middle", 1, [20]),
        ("middle", 4, [5, 15, 25, 35]),
        ("middle", 40, list(range(40))),
        ("middle", 64, list(range(40))),
        ("uniform", 6, [0, 6, 12, 18, 24, 30]),
        ("uniform", 64, list(range(40))),
        ("fps", 16, [0, 10, 20, 30]),
        ("fps", 2, [0, 20]),
        ("keyframes", 2, [8, 32]),
        ("keyframes", 3, [8, 16, 32]),
        ("keyframes", 5, [0, 8, 16, 24, 32]),
        ("keyframes", 16, [0, 8, 16, 24, 32]),
    ],
)
def test_which_frames(forty: Path, sampler: str, num: int, expected: list[int]) -> None:
    assert indices(forty, num, sampler) == expected


@pytest.mark.parametrize(
    ("sampler", "num", "expected"),
    [("middle", 2, [12, 17]), ("uniform", 2, [10, 15]), ("fps", 9, [10]), ("keyframes", 9, [16])],
)
def test_a_segment(forty: Path, sampler: str, num: int, expected: list[int]) -> None:
    assert indices(Video(id="v", path=str(forty), start_s=1.0, end_s=2.0), num, sampler) == expected


def test_a_segment_is_cut_to_the_video(forty: Path, tmp_path: Path) -> None:
    assert indices(Video(id="v", path=str(forty), start_s=0.0, end_s=60.0), 4, "middle") == [5, 15, 25, 35]
    encode(tmp_path / "late.mkv", pts_ms=[5000 + 100 * k for k in range(40)])
    late = Video(id="v", path=str(tmp_path / "late.mkv"), start_s=1.0, end_s=60.0)
    assert indices(late, 4, "middle") == [5, 15, 25, 35]


@pytest.mark.parametrize("sampler", EVEN)
@pytest.mark.parametrize(
    "kind",
    [
        {"container_format": "matroska", "options": {"x264-params": "keyint=8"}},
        {"container_format": "mpegts", "options": {"x264-params": "keyint=8"}},
        {"container_format": "gif", "codec": "gif", "pix_fmt": "rgb8"},
        {"container_format": "mp4", "pts_ms": [5000 + k * k * 10 + k for k in range(40)]},
    ],
    ids=lambda kind: kind["container_format"],
)
def test_every_sampler_on_other_files(tmp_path: Path, sampler: str, kind: dict) -> None:
    path = tmp_path / "other"
    encode(path, **kind)
    frames = sample_frames(path, 7, sampler=sampler)
    everything = read_all(path)
    places = np.searchsorted(everything.pts_s_T, frames.pts_s_T)
    assert 1 <= len(frames) <= 7
    assert len(set(places.tolist())) == len(frames)
    np.testing.assert_array_equal(frames.rgb_THWC, everything.rgb_THWC[places])


@pytest.mark.parametrize("sampler", EVEN)
def test_one_frame_is_never_repeated(tmp_path: Path, sampler: str) -> None:
    path = tmp_path / "one.mp4"
    encode(path, num=1)
    assert indices(path, 16, sampler) == [0]


def test_names_bytes_and_size(forty: Path) -> None:
    assert sample_frames(forty, 2).video_id == "forty"
    assert sample_frames(Video(id="clip", path=str(forty)), 2).video_id == "clip"
    from_bytes = sample_frames(forty.read_bytes(), 2, size=(20, 10))
    assert from_bytes.video_id == ""
    assert from_bytes.rgb_THWC.shape == (2, 10, 20, 3)
    np.testing.assert_array_equal(from_bytes.rgb_THWC, sample_frames(forty, 2, size=(20, 10)).rgb_THWC)


def test_uniform_is_igvlms() -> None:
    path = SHARED / "rlQ2kW-FvMk_66_79.mp4"
    if not path.exists():
        pytest.skip("the shared videos are not here")
    frames = sample_frames(path, 12, sampler="uniform")
    # frames k * floor(390 / 12), as in IG-VLM's own published grid of this video
    np.testing.assert_allclose(frames.pts_s_T, np.arange(12) * 32 * 1001 / 30000, atol=1e-9)


@pytest.mark.parametrize(
    ("num", "sampler", "segment", "message"),
    [
        (4, "best", (None, None), "unknown sampler 'best'; known: aks, bolt, coverage, fps"),
        (4, "bolt", (None, None), "the sampler 'bolt' chooses frames for a question, from a pool"),
        (0, "middle", (None, None), "0 frames: expected at least 1"),
        (
            4,
            "middle",
            (9.0, 12.0),
            r"its frames lie between 0\.00 and 4\.00 s, outside the segment",
        ),
        (4, "keyframes", (0.9, 1.5), r"'keyframes' finds no frame from 0\.90 to 1\.50 s; use 'middle'"),
    ],
)
def test_bad_questions(
    forty: Path, num: int, sampler: str, segment: tuple[float | None, float | None], message: str
) -> None:
    video = Video(id="v", path=str(forty), start_s=segment[0], end_s=segment[1])
    with pytest.raises(UserError, match=message):
        sample_frames(video, num, sampler=sampler)


def test_a_sampler_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs.py").write_text("def first(video, num, start_s, end_s):\n    return [start_s]\n")
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tideo.samplers]\nfirst = theirs:first\n")
    monkeypatch.syspath_prepend(tmp_path)
    encode(tmp_path / "v.mp4", num=20)
    assert sample_frames(tmp_path / "v.mp4", 4, sampler="first").pts_s_T.tolist() == [0.0]
    assert GridSettings(sampler="first").sampler == "first"


@pytest.mark.parametrize("num", [1, 3, 16, 64])
@pytest.mark.parametrize("sampler", EVEN)
def test_the_times_of_frames_are_known_before_they_are_decoded(forty: Path, sampler: str, num: int) -> None:
    for video in (forty, Video(id="v", path=str(forty), start_s=1.03, end_s=3.55)):
        if sampler == "scenes":  # the pictures differ too little
            continue
        frames = sample_frames(video, num, sampler=sampler)
        exact = frame_times(video, num, sampler=sampler, exact=True)
        assert exact == pytest.approx(frames.pts_s_T.tolist())
        assert len(frame_times(video, num, sampler=sampler)) == len(frames)
        bounds_s = (0.0, 4.0) if video is forty else (1.03, 3.55)
        assert frames.bounds_s == pytest.approx(bounds_s)


def test_a_sampler_may_be_a_function(forty: Path) -> None:
    frames = sample_frames(forty, 2, sampler=lambda video, num, start_s, end_s: [start_s + 1, end_s - 1])
    assert [index_of(rgb) for rgb in frames.rgb_THWC] == [10, 30]
    assert frames.places_T == pytest.approx([0.25, 0.75])
