"""A pass over videos in a folder that others share, whose videos change, or that a limit ends."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from tideo.encoders.dual import DualEncoder, load_encoder
from tideo.encoders.features import open_features
from tideo.encoders.pool_pass import each, make_pools, pool_key
from tideo.encoders.pools import Pools
from tideo.store.features import FeatureStore
from tideo.store.remote import content_of
from tideo.types import Frames, UserError, Video, VideoError
from tideo.video.limits import OutOfTime, current, limited
from tideo.video.pool import Part, PoolSettings, decode_part
from tiny_encoders import save_tiny_clip
from videos import encode


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> DualEncoder:
    return load_encoder(str(save_tiny_clip(tmp_path_factory.mktemp("clip"))))


@pytest.fixture
def video(tmp_path: Path) -> Video:
    encode(tmp_path / "v.mp4", num=50)
    return Video(id="v", path=str(tmp_path / "v.mp4"))


def test_a_video_that_changed_before_its_pass_has_no_pool(
    video: Video, clip: DualEncoder, tmp_path: Path
) -> None:
    key = pool_key(content_of(video.path), video, PoolSettings())
    encode(Path(video.path), num=30)
    store = open_features(tmp_path / "pools", clip, modality="image")
    failed = make_pools({key: video}, store, settings=PoolSettings(), load=lambda: clip)
    assert "it changed while it was read" in failed[key].reason
    assert len(store) == 0


def test_a_pass_leaves_the_parts_of_another_that_is_under_way(
    video: Video, clip: DualEncoder, tmp_path: Path
) -> None:
    live, ended = tmp_path / "pools" / "parts-a", tmp_path / "pools" / "parts-b"
    for folder in (live, ended):
        folder.mkdir(parents=True)
    with (live / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        Pools(clip, settings=PoolSettings(), folder=tmp_path / "pools").pool(video)
        assert [path.name for path in (tmp_path / "pools").glob("*parts-*")] == ["parts-a"]
        assert [path.name for path in live.iterdir()] == ["lock"]


def test_a_folder_of_another_encoder_is_known_without_videos(clip: DualEncoder, tmp_path: Path) -> None:
    FeatureStore(tmp_path, dim=3, about={"encoder": "other", "modality": "image"})
    with pytest.raises(UserError, match=r"holds features of width 3 made by .*other"):
        Pools(clip, settings=PoolSettings(), folder=tmp_path).make([])


def test_a_pass_that_a_limit_ends_goes_on(
    video: Video, clip: DualEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tideo.video.pool.PART_FRAMES", 1)
    encode(Path(video.path), num=50, options={"x264-params": "keyint=10:scenecut=0"})
    decoded: list[int] = []

    def slow(part: Part) -> Frames:
        decoded.append(part.first)
        if len(decoded) == 4:
            raise OutOfTime("reading it takes more than 60 s")
        return decode_part(part)

    monkeypatch.setattr("tideo.encoders.pool_pass.decode_part", slow)
    monkeypatch.setattr("tideo.encoders.stages.AHEAD", 1)
    pools = Pools(clip, settings=PoolSettings(), folder=tmp_path / "pools")
    with (
        pytest.raises(VideoError, match="reading it takes more than 60 s"),
        limited(seconds=60, max_pixels=10**8, max_bytes=10**9),
    ):
        pools.pool(video)
    assert decoded == [0, 1, 2, 3]
    assert len(pools.pool(video).times_s_P) == 5
    assert decoded == [0, 1, 2, 3, 3, 4]


def test_threads_are_under_the_limits_of_who_asks() -> None:
    with limited(seconds=60, max_pixels=100, max_bytes=10**9):
        assert each({"a": None}, lambda _: current().max_pixels, cluster=None) == {"a": 100}
