"""The stages of a unit: in this process and on a real cluster the same rows, each once, whatever dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import hostile
from conftest import REPOSITORY, Tideo
from tideo.cluster import Cluster
from tideo.encoders import commits, encode
from tideo.encoders.encode import EncodedFolder, encode_videos
from tideo.encoders.sources import videos_in
from tideo.encoders.stages import Encoding, Rows, Stages, passed
from tideo.loading import Loading
from tideo.parallel import Failure
from tideo.tally import Tally
from tideo.types import Features, UserError, Video, VideoError
from tiny_encoders import save_tiny_clip
from videos import encode as encode_video

ENCODER: Any = SimpleNamespace(id="e", name="e")


def halve(unit: int) -> float:
    if unit < 0:
        raise VideoError(f"{unit} is negative")
    return unit / 2


def features(units: Sequence[float], encoder: Any) -> Iterable[Features]:
    """One row of each number; a batch with 13 fails, and so does 13 alone. 1e5 is too large for float16."""
    if 13 in units:
        raise RuntimeError("unlucky")
    for unit in units:
        yield Features(
            values_TD=np.full((1, 2), unit, np.float32), pts_s_T=None, modality="text", encoder=encoder.id
        )


def rows(value: float) -> list[list[float]]:
    return [[value, value]]


def outcome(result: Rows | Failure) -> Any:
    return result if isinstance(result, Failure) else result.values_TD.tolist()


def test_units_pass_in_batches_and_those_that_fail_stay_apart() -> None:
    units = {"a": 2, "bad": -1, "b": 4, "unlucky": 26, "huge": 200_000, "c": 6}
    tally = Tally("decode", "encode", "write")
    results = passed(
        units,
        Stages(decode=halve, encode=features, size=4),
        load=lambda: ENCODER,
        encoder_id="e",
        cluster=None,
        tally=tally,
    )
    assert {key: outcome(result) for key, result in results} == {
        "a": rows(1),
        "bad": Failure(reason="-1 is negative", attempts=3),
        "b": rows(2),
        "unlucky": Failure(reason="RuntimeError: unlucky", attempts=3),
        "huge": Failure(reason="ValueError: a feature is not finite in float16", attempts=3),
        "c": rows(3),
    }
    assert {stage: num for stage, (num, _) in tally.counts().items()} == {
        "decode": 6,
        "encode": 6,
        "write": 0,
    }


def test_an_encoder_that_fails_on_everything_ends_the_run() -> None:
    encoding = Encoding(features, lambda: ENCODER, "e")
    assert [type(result) for result in encoding([13.0] * 5 + [1.0] + [13.0] * 5)] == [Failure] * 5 + [
        Rows
    ] + [Failure] * 5
    with pytest.raises(UserError, match=r"fails on every item, on the last 8 of them: RuntimeError: unlucky"):
        encoding([13.0] * 3)


def test_another_encoder_of_that_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"is e on .*, and f where the run was started"):
        Encoding(features, lambda: ENCODER, "f")


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"decode_cpus": 0}, "decode_cpus must be at least 1"), ({"encode_gpus": 1.5}, r"encode_gpus=1\.5")],
)
def test_a_pool_that_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Cluster(address="local", **settings)


# --- dead letters ---


@pytest.fixture
def videos(tmp_path: Path) -> list[Video]:
    (tmp_path / "videos").mkdir()
    for k, name in enumerate(("a", "b", "crash", "murder", "suicide", os.fsdecode(b"z\xe9"))):
        encode_video(tmp_path / "videos" / f"{name}.mp4", num=8 + k)
    return videos_in(tmp_path / "videos")


@pytest.fixture
def clip(tmp_path: Path) -> str:
    return str(save_tiny_clip(tmp_path / "clip"))


def letters(out: Path) -> dict[str, tuple[str, int]]:
    path = out / "dead-letters.jsonl"
    records = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
    return {record["id"]: (record["reason"], record["attempts"]) for record in records}


def each_once(out: Path, names: Iterable[str]) -> None:
    there = EncodedFolder(out)
    written = [key for path in out.glob("shard-*.json") for key in json.loads(path.read_text())["ids"]]
    assert sorted(there) == sorted(names)
    assert sorted(written) == sorted({there.keys_of[name] for name in names})


def test_what_failed_is_tried_again_on_demand_or_after_a_change(
    videos: list[Video], clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(videos[1].path).write_bytes(b"no video")
    gone = Video(id="gone", path=str(tmp_path / "gone.mp4"))
    run = {"encoder": clip, "out": tmp_path / "out", "num_frames": 2}
    done = encode_videos([*videos, gone], **run)
    assert (done.encoded, set(done.failed)) == (5, {"b", "gone"})
    assert {name: attempts for name, (_, attempts) in letters(tmp_path / "out").items()} == {
        "b": 3,
        "gone": 3,
    }
    opened: list[str] = []
    frames = encode._frames

    def spied(video: Video, **how: Any) -> Any:
        opened.append(video.id)
        return frames(video, **how)

    monkeypatch.setattr(encode, "_frames", spied)
    again = encode_videos([*videos, gone], **run)
    assert (again.encoded, again.failed, opened) == (0, done.failed, [])
    again = encode_videos([*videos, gone], retry_failed=True, **run)
    assert (again.encoded, again.failed, opened) == (0, done.failed, ["b"] * 3)
    assert letters(tmp_path / "out")["b"][1] == 6
    encode_video(Path(videos[1].path), num=30)
    again = encode_videos(videos, **run)
    assert (again.encoded, again.failed) == (1, {})
    assert not (tmp_path / "out" / "dead-letters.jsonl").exists()
    each_once(tmp_path / "out", [video.id for video in videos])


def test_a_video_of_a_url_has_the_rows_of_its_file(videos: list[Video], clip: str, tmp_path: Path) -> None:
    encode_videos(videos[:1], encoder=clip, out=tmp_path / "out", num_frames=2)
    remote = [replace(videos[0], path=Path(videos[0].path).as_uri())]
    assert encode_videos(remote, encoder=clip, out=tmp_path / "out", num_frames=2).encoded == 0
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    found = encode_videos(
        [Video(id="bad", path=bad.as_uri())], encoder=clip, out=tmp_path / "out", num_frames=2
    )
    assert found.failed["bad"].startswith(f"video {bad.as_uri()}: it cannot be read as a video")


# --- a cluster ---


@pytest.mark.slow
def test_workers_that_die_cost_nothing_and_a_hostile_file_only_itself(
    videos: list[Video], clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real Ray cluster: a file crashes its decoder each time, one kills a decoder's worker, one an encoder's."""
    pytest.importorskip("ray.data", reason="the extra `ray` is not installed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY / "tests")]))
    monkeypatch.setenv("HOSTILE_MARK", str(tmp_path / "suicide"))
    monkeypatch.setattr(encode, "_frames", hostile.frames)
    monkeypatch.setattr(encode, "frames_features", hostile.features)
    out, plain = tmp_path / "out", tmp_path / "plain"
    cluster = Cluster(address="local", decode_cpus=1)
    done = encode_videos(videos, encoder=clip, out=out, num_frames=2, cluster=cluster)
    assert (tmp_path / "suicide").exists()
    assert Path(videos[3].path + ".murdered").exists()
    assert done.encoded == 5
    assert letters(out) == {"crash": ("its process ended with signal 11 (SIGSEGV)", 3)}
    each_once(out, {v.id for v in videos} - {"crash"})
    monkeypatch.undo()
    assert (
        encode_videos(videos, encoder=clip, out=out, num_frames=2).encoded == 0
    )  # without Ray the list holds too
    assert encode_videos(videos, encoder=clip, out=out, num_frames=2, retry_failed=True).encoded == 1
    each_once(out, [v.id for v in videos])
    encode_videos(videos, encoder=clip, out=plain, num_frames=2)
    for name, expected in EncodedFolder(plain).items():
        found = EncodedFolder(out)[name]
        np.testing.assert_allclose(found.values_TD, expected.values_TD, atol=2e-3)
        np.testing.assert_array_equal(found.pts_s_T, expected.pts_s_T)


@pytest.mark.slow
def test_an_error_of_a_worker_is_one_line(videos: list[Video], clip: str, tmp_path: Path) -> None:
    pytest.importorskip("ray.data", reason="the extra `ray` is not installed")
    loading, cluster = Loading(device="cuda:99"), Cluster(address="local", encode_gpus=0)
    with pytest.raises(UserError, match=r"^device=cuda:99: [^\n]*$"):
        encode_videos(videos[:1], encoder=clip, loading=loading, out=tmp_path / "out", cluster=cluster)


@pytest.mark.slow
def test_a_killed_driver_is_continued_here_and_there(clip: str, tmp_path: Path, tideo: Tideo) -> None:
    pytest.importorskip("ray.data", reason="the extra `ray` is not installed")
    (tmp_path / "videos").mkdir()
    encode_video(tmp_path / "videos" / "000.mp4", num=8)
    for k in range(1, 60):
        copy = tmp_path / "videos" / f"{k:03d}.mp4"
        shutil.copy(tmp_path / "videos" / "000.mp4", copy)
        with copy.open("ab") as file:
            file.write(b"%d" % k)  # another content, behind the pictures
    (tmp_path / "list.txt").write_text("".join(f"videos/{k:03d}.mp4\n" for k in range(60)))
    common = ["--encoder", clip, "--out", str(tmp_path / "out"), "--num-frames", "2"]
    command = ["encode", str(tmp_path / "list.txt"), *common, "--ray", "local"]
    code = f"from tideo.encoders import commits; commits.SHARD = 12; from tideo.cli import main; main({command!r})"
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.DEVNULL)
    deadline_s = time.monotonic() + 200
    while not list((tmp_path / "out").glob("shard-*.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    begun = len(EncodedFolder(tmp_path / "out"))
    assert 0 < begun < 60
    half = tmp_path / "half.txt"
    half.write_text("".join(f"videos/{k:03d}.mp4\n" for k in range(0, 60, 2)))
    assert tideo("encode", str(half), *common).returncode == 0
    done = tideo(*command, "--decode-cpus", "1")
    assert done.returncode == 0, done.stderr
    each_once(tmp_path / "out", [f"videos/{k:03d}" for k in range(60)])
    parquet = pytest.importorskip("pyarrow.parquet")
    manifest = parquet.read_table(tmp_path / "out" / commits.MANIFEST_FILE).to_pylist()
    assert sorted(row["id"] for row in manifest) == [f"videos/{k:03d}" for k in range(60)]
