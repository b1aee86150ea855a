"""A bad video of any kind is one failed video: never a traceback, never the end of a run about others."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import pytest

from conftest import Tideo
from grid_training import GRID, nextqa_in
from odd_videos import video
from tideo.encoders.encode import encode_videos
from tideo.encoders.sources import videos_in
from tideo.evaluate.run import evaluate
from tideo.models.topa.model import ZeroShot
from tideo.store.records import read_records
from tideo.train.grid.conversations import annotated
from tideo.types import VideoError
from tideo.video import demux
from tideo.video.demux import Demuxer
from tideo.video.rgb import RgbConverter
from tideo.video.samplers import sample_frames
from tiny import model_in
from videos import encode, encode_audio


def noise(name: str) -> bytes:
    """A file whose header is whole and whose pictures are not."""
    data = bytearray(video(name, places=list(range(10))))
    with av.open(io.BytesIO(bytes(data))) as container:
        for packet in container.demux(video=0):
            if packet.size and packet.pos is not None:
                data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    return bytes(data)


def sound(folder: Path) -> bytes:
    encode_audio(folder / "sound.m4a")
    return (folder / "sound.m4a").read_bytes()


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    whole = video("mp4", places=list(range(20)))
    return {
        "empty": b"",
        "text": b"hello\n" * 500,
        "no header": whole[: len(whole) // 2],
        "sound": sound(tmp_path_factory.mktemp("sound")),
        "noise in mp4": noise("mp4"),
        "noise in avi": noise("avi"),
        "noise in mkv": noise("mkv"),
        "noise in ts": b"\x47" + bytes(187) * 40,
        "one byte": b"\0",
    }


def test_each_is_one_error(bad: dict[str, bytes]) -> None:
    for kind, data in bad.items():
        for sampler in ("middle", "uniform", "fps", "keyframes", "scenes"):
            with pytest.raises(VideoError) as caught:
                sample_frames(data, 4, sampler=sampler)
            assert "\n" not in str(caught.value), kind


def test_the_commands_answer_with_one_line(bad: dict[str, bytes], tmp_path: Path, tideo: Tideo) -> None:
    for kind, data in bad.items():
        path = tmp_path / f"{kind}.mp4"
        path.write_bytes(data)
        for command in (["frames", str(path), "--num", "4"], ["grid", str(path)]):
            done = tideo(*command, "--out", str(tmp_path / "out.png"))
            assert done.returncode == 2, (kind, command)
            assert done.stderr.startswith("tideo: video "), done.stderr
            assert done.stderr.count("\n") == 1, done.stderr


def test_an_encoding_goes_on(bad: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    encode(folder / "good.mp4", num=4)
    for kind, data in bad.items():
        (folder / f"{kind}.mp4").write_bytes(data)
    done = encode_videos(videos_in(folder), encoder="dollhouse-clip", out=tmp_path / "out", num_frames=2)
    assert done.encoded == 1
    assert done.failed.keys() == bad.keys()


def test_a_finetuning_leaves_it_out(
    bad: dict[str, bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = nextqa_in(tmp_path, num=4)
    (tmp_path / "videos" / "1.mp4").write_bytes(bad["noise in mp4"])
    (tmp_path / "videos" / "2.mp4").write_bytes(bad["text"])
    found = annotated("nextqa", data=str(path), videos=str(tmp_path / "videos"), settings=GRID)
    assert [each.id for each in found] == ["0_0", "1_0", "3_0"]
    assert "1 of 4 videos are left out, the first: video " in caplog.text
    with pytest.raises(VideoError):  # found when it is decoded: tests/train/grid/test_unreadable.py
        found[1].pictures.open()
    for name in ("0", "1", "3"):
        (tmp_path / "videos" / f"{name}.mp4").write_bytes(b"")
    with pytest.raises(VideoError, match="it is empty"):
        annotated("nextqa", data=str(path), videos=str(tmp_path / "videos"), settings=GRID)


def test_an_evaluation_goes_on(
    bad: dict[str, bytes], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = nextqa_in(tmp_path, num=len(bad) + 1)
    for number, content in enumerate(bad.values()):
        (tmp_path / "videos" / f"{number}.mp4").write_bytes(content)
    model = ZeroShot.load(model_in(tmp_path_factory.getbasetemp()), name="tiny")
    report = evaluate(
        benchmark="nextqa",
        data=data,
        videos=tmp_path / "videos",
        model=model,
        out=tmp_path / "out",
        controls=[],
    )
    assert report.n - report.n_failed == report.n // (len(bad) + 1)
    errors = [each["error"] for each in read_records(tmp_path / "out" / "answers.jsonl")]
    assert sum(error is not None for error in errors) == report.n_failed
    assert all("\n" not in (error or "") for error in errors)


# ------------------------------------------------------------ whatever PyAV raises

RAISED = [
    IndexError("list index"),
    ValueError("31 is not a valid Type"),
    OSError(95, "not supported"),
    MemoryError(),
]


@pytest.mark.parametrize("error", RAISED, ids=repr)
@pytest.mark.parametrize("place", ["open", "decode", "convert"])
def test_its_errors_are_ours(place: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    data = video("mp4", places=list(range(5)))

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    class Decoder:
        """The real one's name, and its fault."""

        name = "h264"
        codec = av.CodecContext.create("h264", "r").codec
        extradata = None
        decode = fail

    if place == "open":
        monkeypatch.setattr(demux.av, "open", fail)
    elif place == "convert":
        monkeypatch.setattr(RgbConverter, "_reformat", fail)
    else:
        opening = Demuxer._open

        def opened(self: Demuxer) -> None:
            opening(self)
            self.decoder = Decoder()

        monkeypatch.setattr(Demuxer, "_open", opened)
    with pytest.raises(VideoError) as caught:
        sample_frames(data, 2)
    assert "\n" not in str(caught.value)
