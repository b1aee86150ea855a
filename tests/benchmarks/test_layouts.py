"""Every layout of videos that one command takes, the others take too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grid_training import GRID
from tideo.benchmarks.nextqa import MAP_FILE
from tideo.benchmarks.tvqa_subtitles import SUBTITLES
from tideo.encoders.dual import DualEncoder, load_encoder
from tideo.encoders.encode import EncodedFolder, encode_videos
from tideo.encoders.sources import segments_of
from tideo.evaluate.answers import MAIN, read_answers
from tideo.evaluate.benchmark import load_benchmark
from tideo.evaluate.export import export
from tideo.evaluate.run import evaluate
from tideo.models.interface import VideoModel
from tideo.models.load import load_model
from tideo.train.grid.conversations import annotated
from tideo.types import Video, VideoError
from tideo.video.samplers import sample_frames
from videos import encode

HEADER = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
OWN = {"question_id": "1", "question": "what", "a0": "tea", "a1": "", "a2": "cup", "answer": "cup"}
STAR = {
    "question_id": "Sequence_T1_13", "question": "What happened?", "video_id": "6H78U", "start": 0.5, "end": 1.5,
    "answer": "Two.", "choices": [{"choice": "One."}, {"choice": "Two."}],
}  # fmt: skip
TVQA = {
    "qid": 1, "q": "What?", **{f"a{i}": f"option {i}" for i in range(5)}, "answer_idx": 3,
    "vid_name": "house_s10e02_seg02_clip_10", "show_name": "House M.D.", "ts": "0.5-1.5",
}  # fmt: skip
SRT = "1\n00:00:00,500 --> 00:00:01,000\nIl fait \xe9t\xe9.\n"

Layout = Callable[[Path], tuple[str, Path]]


def video(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encode(path, num=20)


def own(folder: Path, name: str, **more: object) -> tuple[str, Path]:
    path = folder / "q.jsonl"
    path.write_text(json.dumps({**OWN, "video_name": name, **more}))
    return "csv", path


def without_ending(folder: Path) -> tuple[str, Path]:
    video(folder / "videos" / "S01E02.1080p.mkv")
    return own(folder, "S01E02.1080p")


def named_as_an_address(folder: Path) -> tuple[str, Path]:
    video(folder / "videos" / "concat:a|b.mp4")
    return own(folder, "concat:a|b.mp4")


def part_of_a_file(folder: Path) -> tuple[str, Path]:
    video(folder / "videos" / "v.avi")
    return own(folder, "v", start_s=0.5, end_s=1.5)


def pictures(folder: Path) -> tuple[str, Path]:
    clip = folder / "videos" / "fps10" / "clip"
    clip.mkdir(parents=True)
    for k in range(1, 21):
        Image.fromarray(np.full((24, 32, 3), 12 * k, dtype=np.uint8)).save(clip / f"{k:05d}.jpg")
    return own(folder, "fps10/clip", start_s=0.5, end_s=1.5)


def nested_as_vidor(folder: Path) -> tuple[str, Path]:
    video(folder / "videos" / "1164" / "24.mp4")
    (folder / MAP_FILE).write_text('{"24": "1164/24"}')
    path = folder / "val.csv"
    path.write_text(HEADER + "24,20,64,48,why,1,6,CW,rest,work,play,eat,hide\n")
    return "nextqa", path


def a_segment_of_star(folder: Path) -> tuple[str, Path]:
    video(folder / "videos" / "6H78U.webm.mp4")
    (folder / "videos" / "6H78U.webm.mp4").rename(folder / "videos" / "6H78U.m4v")
    path = folder / "STAR_val.json"
    path.write_text(json.dumps([STAR]))
    return "star", path


def subtitles_of_old_windows(folder: Path) -> tuple[str, Path]:
    video(folder / "videos" / "house_s10e02_seg02_clip_10.mp4")
    (folder / SUBTITLES).mkdir()
    (folder / SUBTITLES / "house_s10e02_seg02_clip_10.srt").write_bytes(SRT.encode("windows-1252"))
    path = folder / "tvqa_val.jsonl"
    path.write_text(json.dumps(TVQA))
    return "tvqa_subtitles", path


LAYOUTS: tuple[Layout, ...] = (
    without_ending, named_as_an_address, part_of_a_file, pictures, nested_as_vidor, a_segment_of_star,
    subtitles_of_old_windows,
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> VideoModel:
    return load_model("dollhouse-topa")


@pytest.fixture(scope="module")
def encoder() -> DualEncoder:
    return load_encoder("dollhouse-clip")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_commands_take_the_layout(
    layout: Layout, model: VideoModel, encoder: DualEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, data = layout(tmp_path)
    monkeypatch.chdir(tmp_path)  # so that a name like concat:a|b stands at the beginning of a path
    videos = "videos"
    (sample,) = load_benchmark(name).read(data, videos=videos)

    evaluate(benchmark=name, data=data, videos=videos, model=model, out=tmp_path / "run", controls=[])
    (answer,) = read_answers(tmp_path / "run")[0][MAIN].values()
    assert answer.error is None
    assert all((sample.video.start_s or 0) - 0.1 <= t <= (sample.video.end_s or 2) for t in answer.pts_s)

    assert export(tmp_path / "run", out=tmp_path / "choices") == (0, 1)

    chosen = segments_of([sample])
    done = encode_videos(chosen, encoder=encoder, out=tmp_path / "features", num_frames=2)
    assert (done.encoded, done.failed) == (1, {})
    assert list(EncodedFolder(tmp_path / "features")) == [chosen[0].id]

    (conversation,) = annotated(name, data=str(data), videos=videos, settings=GRID)
    assert len(conversation.pictures.open()) == 1
    assert sample.question in conversation.turns[0].user


def test_old_subtitles_are_read_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name, data = subtitles_of_old_windows(tmp_path)
    (sample,) = load_benchmark(name).read(data, videos=tmp_path / "videos")
    assert sample.question == "Subtitles: Il fait été.\nWhat?"
    assert "1 of 1 files of subtitles" in caplog.text
    assert "read as Windows-1252, such as house_s10e02_seg02_clip_10.srt" in caplog.text
    (tmp_path / SUBTITLES / "house_s10e02_seg02_clip_10.srt").write_bytes(SRT.encode("utf-16"))
    assert load_benchmark(name).read(data, videos=tmp_path / "videos") == [sample]


@pytest.mark.parametrize(
    "name", ["concat:a.mp4|a.mp4", "file:a.mp4", "pipe:0", "http:x", "data:a", "-i", "%05d.mp4"]
)
def test_a_name_is_never_an_address(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to the folder at hand FFmpeg would open other things: here the file opens, or is missing."""
    monkeypatch.chdir(tmp_path)
    encode(Path("a.mp4"), num=4)
    with pytest.raises(VideoError, match="there is no such file"):
        sample_frames(Video(id="v", path=name), 2)
    encode(Path("b.mkv"), num=12)
    Path("b.mkv").rename(name)
    frames = sample_frames(Video(id="v", path=name), 12)
    assert len(frames) == 12
