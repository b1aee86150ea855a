"""Tideos and videos into a store: the rows of the functions that trainings use, each once, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import REPOSITORY
from conftest import Tideo as Cli
from tideo.dollhouse.export import ask_split, tideo_of
from tideo.encoders import commits
from tideo.encoders.dual import DualEncoder, load_encoder
from tideo.encoders.encode import EncodedFolder, encode_tideos, encode_videos
from tideo.encoders.features import frame_features, tideo_features
from tideo.encoders.sources import videos_in
from tideo.textvid.schema import dump, from_tideo
from tideo.types import Tideo, UserError, Video
from tideo.video.samplers import sample_frames
from videos import encode as encode_video


@pytest.fixture(scope="module")
def encoder() -> DualEncoder:
    return load_encoder("dollhouse-clip")


@pytest.fixture(scope="module")
def tideos() -> list[Tideo]:
    return [tideo_of(a, seed=0) for a in ask_split("train", num=8, seed=2)]


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    (folder / "sub").mkdir(parents=True)
    for k, name in enumerate(("a.mp4", "b.mp4", "sub/c.mkv")):
        encode_video(folder / name, num=20 + k)
    return folder


def test_tideos_have_the_rows_that_trainings_compute(
    encoder: DualEncoder, tideos: list[Tideo], tmp_path: Path
) -> None:
    done = encode_tideos(tideos, encoder=encoder, out=tmp_path)
    assert (done.num, done.encoded, done.failed) == (len(tideos), len(tideos), {})
    there = EncodedFolder(tmp_path)
    assert sorted(there) == sorted(t.id for t in tideos)
    for tideo, expected in zip(tideos, tideo_features(tideos, encoder), strict=True):
        np.testing.assert_allclose(there[tideo.id].values_TD, expected.values_TD, atol=2e-3)
        assert there[tideo.id].pts_s_T is None


def test_what_is_there_is_not_encoded_again(
    encoder: DualEncoder, tideos: list[Tideo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_tideos(tideos[:4], encoder=encoder, out=tmp_path)
    changed = replace(tideos[0], frames=tideos[0].frames[:3])
    again = encode_tideos([changed, *tideos[1:]], encoder=encoder, out=tmp_path)
    assert again.encoded == len(tideos) - 3
    assert len(EncodedFolder(tmp_path)[tideos[0].id]) == 3
    monkeypatch.setattr(type(encoder), "encode_text", None)  # would fail if anything were encoded
    assert encode_tideos([changed, *tideos[1:]], encoder=encoder, out=tmp_path).encoded == 0


def test_same_content_is_one_row(encoder: DualEncoder, tideos: list[Tideo], tmp_path: Path) -> None:
    done = encode_tideos([tideos[0], replace(tideos[0], id="copy")], encoder=encoder, out=tmp_path)
    there = EncodedFolder(tmp_path)
    assert (done.encoded, len(there.store), len(there)) == (1, 1, 2)
    np.testing.assert_array_equal(there["copy"].values_TD, there[tideos[0].id].values_TD)
    with pytest.raises(KeyError):
        there["absent"]
    with pytest.raises(UserError, match="occurs twice"):
        encode_tideos([tideos[0], tideos[0]], encoder=encoder, out=tmp_path)


def test_videos_have_their_frames_and_times(
    encoder: DualEncoder, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (videos / "broken.mp4").write_bytes(b"no video")
    found = videos_in(videos)
    assert [v.id for v in found] == ["a", "b", "broken", "sub/c"]
    monkeypatch.setattr(commits, "SHARD", 8)  # several shards
    gone = Video(id="gone", path=str(videos / "gone.mp4"))
    done = encode_videos([*found, gone], encoder=encoder, out=tmp_path / "out", num_frames=5)
    assert (done.num, done.encoded, set(done.failed)) == (5, 3, {"broken", "gone"})
    there = EncodedFolder(tmp_path / "out")
    for name in ("a", "b", "sub/c"):
        video = next(v for v in found if v.id == name)
        expected = frame_features(sample_frames(video, 5), encoder)
        np.testing.assert_allclose(there[name].values_TD, expected.values_TD, atol=2e-3)
        assert there[name].pts_s_T is not None
        np.testing.assert_array_equal(there[name].pts_s_T, expected.pts_s_T)
    assert encode_videos(found, encoder=encoder, out=tmp_path / "out", num_frames=5).encoded == 0
    encode_video(videos / "a.mp4", num=31)
    assert encode_videos(found, encoder=encoder, out=tmp_path / "out", num_frames=5).encoded == 1


def test_another_encoders_folder_and_no_video_are_errors(
    encoder: DualEncoder, tideos: list[Tideo], videos: Path, tmp_path: Path
) -> None:
    encode_tideos(tideos[:1], encoder=encoder, out=tmp_path / "out")
    with pytest.raises(UserError, match="use another directory"):
        encode_videos(videos_in(videos), encoder=encoder, out=tmp_path / "out")
    with pytest.raises(
        UserError, match=r"holds no video: expected video files, or folders of numbered pictures"
    ):
        videos_in(tmp_path / "out")
    bare = Tideo(id="bare", frames=(), summary="")
    assert encode_tideos([bare, tideos[0]], encoder=encoder, out=tmp_path / "out").failed == {
        "bare": "a frame without a caption"
    }


@pytest.mark.parametrize("command", [["encode"], ["textvid", "check"]])
def test_a_cluster_that_is_not_there_is_an_error(
    command: list[str], tideos: list[Tideo], tmp_path: Path, tideo: Cli
) -> None:
    pytest.importorskip("ray.data", reason="the extra `ray` is not installed")
    dump([from_tideo(t) for t in tideos[:2]], tmp_path / "tideos.jsonl")
    where = [str(tmp_path / "tideos.jsonl"), "--encoder", "dollhouse-clip", "--out", str(tmp_path / "out")]
    done = tideo(*command, *where, "--ray", "127.0.0.1:9")
    assert done.returncode == 2
    assert "no Ray cluster answers at 127.0.0.1:9" in done.stderr


def test_a_tideo_has_nothing_to_decode(
    tideos: list[Tideo], tmp_path: Path, tideo: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tideo.cluster.Cluster.check", lambda cluster: None)
    dump([from_tideo(t) for t in tideos[:1]], tmp_path / "tideos.jsonl")
    where = [str(tmp_path / "tideos.jsonl"), "--encoder", "dollhouse-clip", "--out", str(tmp_path / "out")]
    done = tideo("encode", *where, "--ray", "local", "--decode-cpus", "1")
    assert (done.returncode, "--decode-cpus is for the frames of videos" in done.stderr) == (2, True)


@pytest.mark.slow
def test_the_command_goes_on_after_a_kill(tideos: list[Tideo], tmp_path: Path, tideo: Cli) -> None:
    many = [replace(t, id=f"{t.id}/{k}", frames=t.frames[k % 3 :]) for t in tideos for k in range(3)]
    many += [replace(t, id=t.id + "/x", frames=t.frames[::-1]) for t in tideos]
    dump([from_tideo(t) for t in many], tmp_path / "tideos.jsonl")
    code = f"""
import sys
from tideo.encoders import commits
commits.SHARD = 4
from tideo.cli import main
main(["encode", {str(tmp_path / "tideos.jsonl")!r}, "--encoder", "dollhouse-clip", "--out", {str(tmp_path / "out")!r}])
"""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.DEVNULL)
    deadline_s = time.monotonic() + 60
    while not list((tmp_path / "out").glob("shard-*.json")) and process.poll() is None:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = tideo(
        "encode",
        str(tmp_path / "tideos.jsonl"),
        "--encoder",
        "dollhouse-clip",
        "--out",
        str(tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    there = EncodedFolder(tmp_path / "out")
    assert sorted(there) == sorted(t.id for t in many)
    rows = [json.loads(p.read_text()) for p in (tmp_path / "out").glob("shard-*.json")]
    ids = [name for index in rows for name in index["ids"]]
    assert len(ids) == len(set(ids)) == len(set(there.keys_of.values()))
