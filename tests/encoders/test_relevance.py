"""Frames for a question: the relevance of a pool, what is kept of it, and the command that draws them."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from conftest import Tideo
from tideo.encoders.dual import DualEncoder, load_encoder
from tideo.encoders.pools import Pool
from tideo.encoders.relevance import MOMENTS, Chooser, moments
from tideo.types import Cue, Features, UserError, Video
from tideo.video.pool import PoolSettings
from tideo.video.selectors import ROUNDING
from tiny_encoders import save_tiny_clip
from videos import encode, read_all


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    path = tmp_path_factory.mktemp("video") / "v.mp4"
    encode(path, num=200)  # 20 s
    return Video(id="v", path=str(path))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> DualEncoder:
    return load_encoder(str(save_tiny_clip(tmp_path_factory.mktemp("clip"))))


def chooser(clip: DualEncoder, **options: object) -> Chooser:
    of_pool = {k: options.pop(k) for k in ("pool", "pool_fps", "pool_max") if k in options}
    settings = PoolSettings(**of_pool)  # type: ignore[arg-type]
    return Chooser(clip, **({"sampler": "question", "settings": settings} | options))  # type: ignore[arg-type]


def test_frames_of_the_pool_come_exactly_and_in_time_order(video: Video, clip: DualEncoder) -> None:
    frames = chooser(clip).frames(video, 5, question="a dog")
    assert len(frames) == 5
    assert list(frames.pts_s_T) == sorted(set(frames.pts_s_T)) == sorted(set(np.floor(frames.pts_s_T) + 0.5))
    everything = read_all(video.path)
    places = np.searchsorted(everything.pts_s_T, frames.pts_s_T)
    np.testing.assert_array_equal(frames.rgb_THWC, everything.rgb_THWC[places])
    assert [time_s for time_s, _ in frames.relevance] == [k + 0.5 for k in range(20)]
    assert {max(r for _, r in frames.relevance), min(r for _, r in frames.relevance)} == {0.0, 1.0}
    other = chooser(clip).frames(video, 5, question="a man opens the kettle")
    assert other.pts_s_T.tolist() != frames.pts_s_T.tolist()
    with pytest.raises(UserError, match="the question is empty"):
        chooser(clip).frames(video, 5, question=" ")


def test_a_pool_without_a_choice_gives_even_frames_and_says_so(
    video: Video, clip: DualEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    choosing = chooser(clip)
    with caplog.at_level(logging.WARNING):
        frames = [choosing.frames(video, 25, question=q) for q in ("a dog", "a cat")]
    assert [len(f) for f in frames] == [25, 25]
    assert frames[0].relevance == ()
    assert [r.getMessage() for r in caplog.records] == [
        f"video {video.path}: its pool has 20 frames (pool_fps=1, pool_max=1000), and 25 are to be chosen: even frames "
        "are taken; a higher pool_fps leaves a choice"
    ]


def test_a_pool_of_few_key_frames_gives_as_many_frames_as_are_asked(
    clip: DualEncoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encode(
        tmp_path / "v.mp4", num=200, options={"x264-params": "keyint=100:scenecut=0"}
    )  # 20 s, 2 key frames
    video = Video(id="v", path=str(tmp_path / "v.mp4"))
    with caplog.at_level(logging.WARNING):
        frames = chooser(clip, pool="keyframes").frames(video, 5, question="a dog")
    assert frames.pts_s_T.tolist() == [2.0, 6.0, 10.0, 14.0, 18.0]
    (line,) = (record.getMessage() for record in caplog.records)
    assert "its pool has 2 frames" in line
    assert "5 are to be chosen: even frames are taken; pool=exact leaves a choice" in line


def test_frames_that_stand_still_leave_all_different_ones(clip: DualEncoder, tmp_path: Path) -> None:
    encode(tmp_path / "v.mp4", num=6, pts_ms=[0, 100, 200, 6000, 6100, 8000])
    frames = chooser(clip, pool_fps=10).frames(
        Video(id="v", path=str(tmp_path / "v.mp4")), 6, question="a dog"
    )
    assert frames.pts_s_T.tolist() == pytest.approx([0, 0.1, 0.2, 6.0, 6.1, 8.0])


def test_subtitles_join_the_relevance(clip: DualEncoder) -> None:
    same = np.tile(clip.encode_text(["a cup"]), (6, 1))
    times_s = np.arange(6) + 0.5
    features = Features(values_TD=same, pts_s_T=times_s, modality="image", encoder=clip.id)
    cues = [Cue(start_s=1.2, end_s=1.8, text="the garden"), Cue(start_s=3.0, end_s=4.4, text="a red kettle")]
    relevance_P = chooser(clip, subtitles=True).relevance(
        Pool(features=features), question="a red kettle", cues=cues
    )
    assert np.flatnonzero(relevance_P == relevance_P.max()).tolist() == [
        2,
        3,
        4,
    ]  # frames stand for half a gap too
    assert relevance_P[0] == relevance_P[5] == relevance_P[1] == relevance_P.min()
    without = chooser(clip).relevance(Pool(features=features), question="a red kettle", cues=cues)
    assert np.ptp(without) < ROUNDING


def test_a_share_of_the_frames_stays_even(video: Video, clip: DualEncoder) -> None:
    alone = chooser(clip, sampler="bolt").frames(video, 8, question="a dog")
    half = chooser(clip, sampler="bolt", even=0.5).frames(video, 8, question="a dog")
    assert len(half) == 8
    assert {2.5, 7.5, 12.5, 17.5} <= set(half.pts_s_T.tolist())
    assert half.pts_s_T.tolist() != alone.pts_s_T.tolist()
    with pytest.raises(
        UserError, match=r"even=-0\.1: expected a share of the frames, at least 0 and below 1"
    ):
        chooser(clip, even=-0.1)


def test_of_a_long_pool_the_peaks_are_kept() -> None:
    relevance_P = np.zeros(1000)
    relevance_P[[3, 777]] = 2.0
    kept = moments(np.arange(1000.0), relevance_P)
    assert len(kept) == MOMENTS
    assert [moment for moment in kept if moment[1] == 1.0] == [(3.0, 1.0), (777.0, 1.0)]


def test_the_command_draws_what_the_question_is_about(tideo: Tideo, video: Video, tmp_path: Path) -> None:
    encoder = ("--encoder", "dollhouse-clip")
    grid = ("grid", video.path, "--rows", "2", "--cols", "2")
    pictures = []
    for name, extra in (
        ("plain", ()),
        ("question", ("--question", "who is pouring tea?", *encoder)),
        ("aks", ("--sampler", "aks", "--question", "tea?", *encoder, "--features", str(tmp_path / "pools"))),
    ):
        out = tmp_path / f"{name}.png"
        done = tideo(*grid, *extra, "--out", str(out))
        assert done.returncode == 0, done.stderr
        pictures.append(out.read_bytes())
    assert len(set(pictures)) == 3
    assert (tmp_path / "pools" / "store.json").is_file()
    without = tideo(*grid, "--question", "who?", "--out", str(tmp_path / "x.png"))
    assert (without.returncode, "give --encoder" in without.stderr) == (2, True)
    wrong = tideo(*grid, "--question", " ", *encoder, "--out", str(tmp_path / "x.png"))
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)


@pytest.mark.slow
def test_a_read_only_folder_serves_the_pools_it_has(
    tideo: Tideo, video: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = tmp_path / "pools"
    args = ("--question", "tea?", "--encoder", "dollhouse-clip", "--features", str(pools), "--rows", "2")
    first = tideo("grid", video.path, *args, "--out", str(tmp_path / "a.png"))
    assert first.returncode == 0, first.stderr
    mkdir = os.mkdir

    def read_only(path: str, *args: int, **options: int) -> None:
        if Path(path).is_relative_to(pools):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        mkdir(path, *args, **options)

    monkeypatch.setattr(os, "mkdir", read_only)
    again = tideo("grid", video.path, *args, "--out", str(tmp_path / "b.png"))
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "a.png").read_bytes()
    other = tideo("grid", video.path, *args, "--start", "3", "--out", str(tmp_path / "c.png"))
    assert other.returncode == 2
    assert other.stderr.endswith(
        f"tideo: {pools}: Read-only file system; give another path, or change this one\n"
    )
