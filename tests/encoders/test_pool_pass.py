"""A pass over videos in a folder that others share, that cannot be written, or whose videos change."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from tideo.encoders.dual import DualEncoder, load_encoder
from tideo.encoders.features import open_features
from tideo.encoders.pool_pass import make_pools, pool_key
from tideo.encoders.pools import Pools
from tideo.store.remote import content_of
from tideo.types import UserError, Video
from tideo.video.pool import PoolSettings
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


def test_a_folder_that_cannot_be_written_serves_what_it_has(
    video: Video, clip: DualEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pools"
    Pools(clip, settings=PoolSettings(), folder=folder).pool(video)

    def read_only(path: str, *_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "mkdir", read_only)
    pools = Pools(clip, settings=PoolSettings(), folder=folder)
    assert len(pools.pool(video).times_s_P) == 5
    encode(Path(video.path), num=30)
    with pytest.raises(UserError, match=r"pools cannot be written \(Read-only file system\): give another"):
        pools.pool(video)
