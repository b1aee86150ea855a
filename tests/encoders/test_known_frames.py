"""Videos that look unlike those of a model's training are warned of, and only those; no answer's key knows of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tideo.encoders.known_frames import FILE, KnownFrames, known_frames
from tideo.lab.unlike_videos import pictures_of_nothing, warned
from tideo.models.grid.vlm import GridVLM
from tideo.models.interface import VideoModel
from tideo.models.load import load_model
from tideo.train.calibration import calibrate
from tideo.types import Frames, UserError, Video
from tiny import videos_in
from tiny_vlms import saved
from videos import SHARED, encode

H, W = 180, 320


def frames_of(rgb: np.ndarray) -> Frames:
    rgb_THWC = np.broadcast_to(rgb, (16, H, W, 3)).astype(np.uint8)
    return Frames(rgb_THWC=rgb_THWC, pts_s_T=np.arange(16.0), video_id="v")


UNLIKE = {frames.video_id: frames for frames in pictures_of_nothing()}


@pytest.fixture(
    scope="module",
    params=["dollhouse-topa", "dollhouse-grid", pytest.param("dollhouse-fusion", marks=pytest.mark.slow)],
)
def bundled(request: pytest.FixtureRequest) -> VideoModel:
    return load_model(request.param)


def test_videos_of_its_own_world_are_not_warned_of(
    bundled: VideoModel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    paths = (videos_in(tmp_path_factory.getbasetemp()) / "videos").iterdir()
    assert warned(bundled, [Video(id=path.stem, path=str(path)) for path in paths]) == []


@pytest.mark.parametrize("name", ["dollhouse-topa", pytest.param("dollhouse-grid", marks=pytest.mark.slow)])
def test_pictures_of_no_world_are_warned_of(name: str) -> None:
    model = load_model(name)
    for what, frames in UNLIKE.items():
        warning = str(model.out_of_distribution(frames))
        assert warning.startswith(f"video {what} is unlike what {name} was trained on (distance ")


def test_a_file_of_another_world_is_warned_of(bundled: VideoModel, tmp_path: Path) -> None:
    encode(tmp_path / "slope.mp4", size=(W, H))
    assert warned(bundled, [Video(id="slope", path=str(tmp_path / "slope.mp4"))]) == ["slope"]


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real videos are not here")
def test_real_videos_are_warned_of(bundled: VideoModel) -> None:
    videos = [Video(id=path.name, path=str(path)) for path in sorted(SHARED.iterdir())]
    assert warned(bundled, videos) == [video.id for video in videos]


@pytest.mark.parametrize("family", ["llava", pytest.param("llava_next", marks=pytest.mark.slow)])
def test_known_frames_know_their_own_and_not_others(family: str, tmp_path: Path) -> None:
    model = GridVLM.load(saved(family, tmp_path / "model"))
    rng = np.random.default_rng(1)

    def striped(k: int) -> Frames:  # three colours in upright stripes
        return frames_of(rng.integers(40, 90, (16, 1, 3, 3)).repeat(W // 3 + 1, axis=2)[:, :, :W])

    known = known_frames(model.frame_rows(striped(k)) for k in range(30))
    assert known.distance(model.frame_rows(striped(0))) < known.threshold
    for name in ("noise", "checks", "bars"):
        assert known.distance(model.frame_rows(UNLIKE[name])) > known.threshold
    known.save(tmp_path)
    read = KnownFrames.load(tmp_path)
    assert read is not None
    assert read.threshold == known.threshold
    np.testing.assert_array_equal(read.directions_KD, known.directions_KD)
    np.testing.assert_array_equal(read.mean_D, known.mean_D)
    assert KnownFrames.load(tmp_path / "none") is None


def test_a_folder_learns_to_warn_and_keeps_its_key(tmp_path: Path) -> None:
    folder = saved("llava", tmp_path / "model")
    before = GridVLM.load(folder)
    (tmp_path / "videos").mkdir()
    for k in range(5):
        encode(tmp_path / "videos" / f"{k}.mp4", num=12 + k)
    frames = frames_of(np.array(255))
    assert before.out_of_distribution(frames) is None
    assert calibrate(str(folder), videos=str(tmp_path / "videos")) == folder / FILE
    after = load_model(str(folder))
    assert after.key == before.key
    assert "is unlike what" in str(after.out_of_distribution(frames))


@pytest.mark.slow
def test_what_cannot_be_calibrated_is_refused(tmp_path: Path) -> None:
    other = GridVLM.load(saved("idefics3", tmp_path / "other"))
    with pytest.raises(UserError, match="known frames are for models with a vision tower as LLaVA's"):
        other.frame_rows(frames_of(np.array(0)))
    with pytest.raises(UserError, match="2 videos: known frames need 5 at least"):
        known_frames([np.zeros((8, 4), np.float32)] * 2)
    for name in ("openai:m", "dollhouse-fusion"):
        with pytest.raises(
            UserError, match=f"{name}: expected the folder of a model that `prealign` or `finetune`"
        ):
            calibrate(name, videos=str(tmp_path))
    (tmp_path / FILE).parent.mkdir()
    (tmp_path / FILE).write_bytes(b"no tensors")
    with pytest.raises(UserError, match="holds no known frames"):
        KnownFrames.load(tmp_path)
