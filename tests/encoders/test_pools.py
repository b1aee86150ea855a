"""Pools: which frames they hold, one pass that a kill cannot spoil, and what is lost."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from conftest import REPOSITORY, Tideo
from tideo.cluster import Cluster
from tideo.encoders import pool_pass
from tideo.encoders.dual import DualEncoder, load_encoder
from tideo.encoders.encode import EncodedFolder, encode_videos
from tideo.encoders.features import frame_features
from tideo.encoders.pools import Pools
from tideo.store.features import FeatureStore
from tideo.types import UserError, Video, VideoError
from tideo.video.decode import decode_at
from tideo.video.pool import Part, PoolSettings, decode_part, pool_parts, pool_times
from tideo.video.streams import OpenVideo
from tiny_encoders import save_tiny_clip
from videos import encode, index_of, read_all

LONG = {
    "num": 240,
    "fps": 10,
    "options": {"x264-params": "keyint=30:scenecut=0"},
}  # 24 s, a key frame every 3


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Video:
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    encode(path, **LONG)
    return Video(id="long", path=str(path))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> DualEncoder:
    return load_encoder(str(save_tiny_clip(tmp_path_factory.mktemp("clip"))))


class Counting:
    """An encoder that counts its images, and raises before the one of number `stops_at`."""

    def __init__(
        self, encoder: DualEncoder, *, stops_at: int | None = None, error: BaseException | None = None
    ):
        self.encoder, self.id, self.dim, self.num = encoder, encoder.id, encoder.dim, 0
        self.stops_at, self.error = stops_at, error or KeyboardInterrupt()

    def encode_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        if self.stops_at is not None and self.num + len(images) > self.stops_at:
            raise self.error
        self.num += len(images)
        return self.encoder.encode_images(images)


def times(video: Video, **settings: object) -> list[float]:
    with OpenVideo(video.path) as opened:
        return pool_times(opened, video, PoolSettings(**settings))  # type: ignore[arg-type]


def shards(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith("parts-")}


# --- which frames ----------------------------------------------------------------------------------


def test_a_pool_has_a_frame_a_second_and_is_thinned_evenly(long: Video) -> None:
    assert times(long) == [k + 0.5 for k in range(24)]
    assert times(long, pool_fps=0.5) == [2 * k + 1.0 for k in range(12)]
    assert times(long, pool_max=6) == [4 * k + 2.0 for k in range(6)]
    part = Video(id="part", path=long.path, start_s=6.0, end_s=8.5)
    np.testing.assert_allclose(times(part), [6 + 2.5 * (k + 0.5) / 3 for k in range(3)])


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_key_frames_alone(tmp_path: Path, container: str) -> None:
    encode(tmp_path / "v", **LONG, container_format=container)
    video = Video(id="v", path=str(tmp_path / "v"))
    found = decode_at(video.path, times(video, pool="keyframes"))
    assert [index_of(rgb) for rgb in found.rgb_THWC] == [0, 30, 60, 90, 120, 150, 180, 210]
    assert len(times(video, pool="keyframes", pool_max=3)) == 3
    none = Video(id="v", path=video.path, start_s=times(video, pool="keyframes")[0] + 0.5, end_s=2.9)
    with pytest.raises(VideoError, match=r"no key frame lies between .* use pool=exact"):
        times(none, pool="keyframes")


def test_a_part_begins_with_a_key_frame(long: Video, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tideo.video.pool.PART_FRAMES", 8)
    parts = pool_parts(long, PoolSettings())
    assert [(p.first, p.last) for p in parts] == [(0, 6), (6, 12), (12, 18), (18, 24)]  # 3 frames a key frame
    monkeypatch.setattr("tideo.video.pool.PART_FRAMES", 1)
    assert max(p.last - p.first for p in pool_parts(long, PoolSettings())) <= 3


@pytest.mark.parametrize(
    "container", ["mp4", *(pytest.param(c, marks=pytest.mark.slow) for c in ("matroska", "mpegts", "avi"))]
)
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [0, 2, 1, 3, 4], [3, 0]])
def test_parts_are_the_frames_of_a_decode_from_first_to_last(
    tmp_path: Path, container: str, order: list[int]
) -> None:
    encode(tmp_path / "v", **LONG, container_format=container)
    with OpenVideo(tmp_path / "v") as opened:
        all_s = tuple(pool_times(opened, None, PoolSettings(pool_fps=2)))
    everything = read_all(tmp_path / "v")
    for k in order:
        part = Part(
            video=Video(id="v", path=str(tmp_path / "v")),
            times_s=all_s,
            first=10 * k,
            last=min(10 * k + 10, 48),
        )
        frames = decode_part(part)
        places = (
            np.searchsorted(everything.pts_s_T, np.array(all_s[part.first : part.last]) + 1e-9, "right") - 1
        )
        np.testing.assert_array_equal(frames.rgb_THWC, everything.rgb_THWC[places])
        np.testing.assert_allclose(frames.pts_s_T, everything.pts_s_T[places])


# --- one pass --------------------------------------------------------------------------------------


def test_a_pool_is_encoded_once_and_read_again(long: Video, clip: DualEncoder, tmp_path: Path) -> None:
    counting = Counting(clip)
    pools = Pools(counting, settings=PoolSettings(), folder=tmp_path)  # type: ignore[arg-type]
    pool = pools.pool(long)
    frames = decode_at(long.path, times(long))
    expected = frame_features(frames, clip)
    np.testing.assert_allclose(pool.features.values_TD, expected.values_TD, atol=1e-3)  # float16
    np.testing.assert_array_equal(pool.times_s_P, frames.pts_s_T)
    assert (pool.missing_s, counting.num) == ((), 24)
    again = Pools(counting, settings=PoolSettings(), folder=tmp_path).pool(long)  # type: ignore[arg-type]
    np.testing.assert_array_equal(again.features.values_TD, pool.features.values_TD)
    assert counting.num == 24
    assert not list(tmp_path.glob("parts-*"))
    for settings in (PoolSettings(pool_max=5), PoolSettings(pool="keyframes")):
        assert len(Pools(clip, settings=settings, folder=tmp_path).pool(long).times_s_P) in (5, 8)
    part = Video(id="part", path=long.path, end_s=4.0)
    assert len(Pools(clip, settings=PoolSettings(), folder=tmp_path).pool(part).times_s_P) == 4


def test_a_frame_that_stands_still_counts_once(tmp_path: Path, clip: DualEncoder) -> None:
    encode(tmp_path / "slides.mp4", num=3, pts_ms=[0, 4000, 8000])
    pool = Pools(clip, settings=PoolSettings()).pool(Video(id="s", path=str(tmp_path / "slides.mp4")))
    assert pool.times_s_P.tolist() == [0.0, 4.0]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_pass_that_is_ended_goes_on(
    long: Video, clip: DualEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr("tideo.video.pool.PART_FRAMES", 3)
    settings = PoolSettings()
    if isinstance(error, KeyboardInterrupt):
        stopped = Counting(clip, stops_at=12, error=error)
        with pytest.raises(KeyboardInterrupt):
            Pools(stopped, settings=settings, folder=tmp_path).pool(long)  # type: ignore[arg-type]
    else:
        write = FeatureStore.write
        monkeypatch.setattr(pool_pass, "PART_S", 0.0)

        def full(self: FeatureStore, *args: object, **kwargs: object) -> None:
            if len(self) >= 4:
                raise error
            write(self, *args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(FeatureStore, "write", full)
        with pytest.raises(OSError, match="No space left"):
            Pools(clip, settings=settings, folder=tmp_path).pool(long)
        monkeypatch.setattr(FeatureStore, "write", write)
    assert shards(tmp_path) == {"store.json"}  # no half pool
    counting = Counting(clip)
    pool = Pools(counting, settings=settings, folder=tmp_path).pool(long)  # type: ignore[arg-type]
    assert counting.num == 12
    np.testing.assert_array_equal(pool.times_s_P, decode_at(long.path, times(long)).pts_s_T)
    assert not list(tmp_path.glob("parts-*"))


@pytest.mark.slow
def test_a_killed_pass_goes_on(long: Video, tmp_path: Path) -> None:
    program = f"""
import os, signal
from tideo.encoders import pool_pass
from tideo.encoders.dual import load_encoder
from tideo.encoders.pools import Pools
from tideo.types import Video
from tideo.video import pool
pool.PART_FRAMES, pool_pass.PART_S = 3, 0.0
encoder = load_encoder({str(save_tiny_clip(tmp_path / "clip"))!r})
num, plain = [0], encoder.encode_images
def encode_images(images):
    num[0] += len(images)
    if num[0] > 12:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(images)
encoder.encode_images = encode_images
Pools(encoder, settings=pool.PoolSettings(), folder={str(tmp_path / "pools")!r}).pool(Video(id="v", path={long.path!r}))
"""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    assert subprocess.run([sys.executable, "-c", program], env=env, timeout=120).returncode == -9
    assert shards(tmp_path / "pools") == {"store.json"}
    clip = load_encoder(str(tmp_path / "clip"))
    pool = Pools(clip, settings=PoolSettings(), folder=tmp_path / "pools").pool(long)
    np.testing.assert_allclose(
        pool.features.values_TD, frame_features(decode_at(long.path, times(long)), clip).values_TD, atol=1e-3
    )


# --- what goes wrong -------------------------------------------------------------------------------


def damaged(path: Path, *, start: float, stop: float) -> Path:
    """The file with its pictures between these shares of their bytes overwritten."""
    data = bytearray(path.read_bytes())
    begin = data.index(b"mdat") + 4
    size = int.from_bytes(data[begin - 8 : begin - 4]) - 8
    where = slice(begin + int(start * size), begin + int(stop * size))
    data[where] = bytes(len(data[where]))
    out = path.with_stem("damaged")
    out.write_bytes(data)
    return out


def test_what_is_lost_is_named_and_the_rest_serves(long: Video, clip: DualEncoder, tmp_path: Path) -> None:
    whole = tmp_path / "long.mp4"
    whole.write_bytes(Path(long.path).read_bytes())
    video = Video(id="d", path=str(damaged(whole, start=0.3, stop=0.5)))
    pool = Pools(clip, settings=PoolSettings(), folder=tmp_path / "pools").pool(video)
    assert 0 < len(pool.missing_s) < 12
    assert len(pool.missing_s) + len(pool.times_s_P) == 24
    with pytest.warns(UserWarning, match="could not be decoded"):
        expected = decode_at(video.path, times(video))
    assert (pool.missing_s, pool.times_s_P.tolist()) == (expected.missing_s, expected.pts_s_T.tolist())
    np.testing.assert_allclose(pool.features.values_TD, frame_features(expected, clip).values_TD, atol=1e-3)
    first, last = min(pool.missing_s), max(pool.missing_s)
    assert pool.lost() == (
        f"of the 24 frames of its pool {len(pool.missing_s)} could not be decoded (damaged or cut off, from "
        f"{first:.0f} to {last:.0f} s)"
    )
    again = Pools(clip, settings=PoolSettings(), folder=tmp_path / "pools").pool(video)
    assert again.missing_s == pool.missing_s


def test_nothing_but_damage_is_an_error(long: Video, clip: DualEncoder, tmp_path: Path) -> None:
    whole = tmp_path / "long.mp4"
    encode(whole, **LONG, faststart=True)
    video = Video(id="d", path=str(damaged(whole, start=0.0, stop=1.0)))
    counting = Counting(clip)
    pools = Pools(counting, settings=PoolSettings(), folder=tmp_path / "pools")  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(VideoError, match=r"damaged\.mp4: none of its frames could be decoded"):
            pools.pool(video)
    assert shards(tmp_path / "pools") == {"store.json"}


def test_a_video_that_grows_while_it_is_read(clip: DualEncoder, tmp_path: Path) -> None:
    path = tmp_path / "grows.mp4"
    encode(path, num=50)

    class Growing(Counting):
        def encode_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
            with path.open("ab") as file:
                file.write(b"more")
            return super().encode_images(images)

    pools = Pools(Growing(clip), settings=PoolSettings(), folder=tmp_path / "pools")  # type: ignore[arg-type]
    with pytest.raises(
        VideoError, match=r"grows\.mp4: it changed while it was read; try again when it is complete"
    ):
        pools.pool(Video(id="g", path=str(path)))
    assert shards(tmp_path / "pools") == {"store.json"}


def test_another_file_of_the_same_name_has_its_own_pool(clip: DualEncoder, tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    encode(path, num=50)
    pools = Pools(clip, settings=PoolSettings(), folder=tmp_path / "pools")
    first = pools.pool(Video(id="v", path=str(path)))
    encode(path, num=30)
    second = pools.pool(Video(id="v", path=str(path)))
    assert (len(first.times_s_P), len(second.times_s_P)) == (5, 3)


def test_features_of_another_encoder_are_refused(long: Video, clip: DualEncoder, tmp_path: Path) -> None:
    Pools(clip, settings=PoolSettings(), folder=tmp_path / "pools").pool(long)
    other = load_encoder(str(save_tiny_clip(tmp_path / "other", seed=1)))
    with pytest.raises(
        UserError, match=f"holds features of width 24 made by .*{clip.id}.*use another directory"
    ):
        Pools(other, settings=PoolSettings(), folder=tmp_path / "pools").pool(long)


# --- tideo encode ----------------------------------------------------------------------------------


def test_encode_writes_the_same_pools(
    long: Video, clip: DualEncoder, tmp_path: Path, tideo: Tideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "pools"
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "long.mp4").write_bytes(Path(long.path).read_bytes())
    (tmp_path / "videos" / "no.mp4").write_bytes(b"no video")
    args = ("encode", str(tmp_path / "videos"), "--encoder", clip.name, "--pool", "exact", "--out", str(out))
    done = tideo(*args)
    assert (done.returncode, "1 items in" in done.stderr) == (3, True), done.stderr
    counting = Counting(clip)
    pool = Pools(counting, settings=PoolSettings(), folder=out).pool(long)  # type: ignore[arg-type]
    assert (counting.num, len(pool.times_s_P)) == (0, 24)
    assert EncodedFolder(out)["long"].values_TD.shape == (24, 24)
    assert "0 of them encoded now" in tideo(*args).stderr


@pytest.mark.slow
def test_a_cluster_writes_the_same_pools(
    long: Video, clip: DualEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    result = encode_videos(
        [long], encoder=clip.name, out=tmp_path / "ray", pool=PoolSettings(), cluster=Cluster(address="local")
    )
    assert (result.encoded, result.failed) == (1, {})
    counting = Counting(clip)
    there = Pools(counting, settings=PoolSettings(), folder=tmp_path / "ray").pool(long)  # type: ignore[arg-type]
    here = Pools(clip, settings=PoolSettings()).pool(long)
    np.testing.assert_array_equal(there.features.values_TD, here.features.values_TD)
    assert counting.num == 0
