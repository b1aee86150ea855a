"""MVBench's task files and TVQA's lines and subtitles."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tideo.benchmarks.mvbench import TASKS, mvbench
from tideo.benchmarks.tvqa import tvqa
from tideo.benchmarks.tvqa_subtitles import SUBTITLES, cues, tvqa_subtitles
from tideo.types import UserError
from tideo.video.samplers import sample_frames

MVBENCH = {
    "video": "ZS9XR.mp4",
    "question": "What happened?",
    "candidates": ["One.", "Two.", "Three."],
    "answer": "Two.",
}
TVQA = {
    "qid": 122039, "q": "What does he hold?", **{f"a{i}": f"option {i}" for i in range(5)}, "answer_idx": 3,
    "vid_name": "house_s10e02_seg02_clip_10", "show_name": "House M.D.", "ts": "2.0-4.5",
}  # fmt: skip
SRT = """1
00:00:00,500 --> 00:00:02,000
(House:)It is late.

2
00:00:02,100 --> 00:00:04,000
You hold
the cup.

3
00:01:00,000 --> 00:01:02,500
Later.
"""


# --- MVBench -----------------------------------------------------------------------------------------


def task_files(folder: Path, **rows: list[dict[str, object]]) -> Path:
    for task, of in rows.items():
        (folder / f"{task}.json").write_text(json.dumps(of))
    return folder


def test_every_task_is_read_with_its_name_and_folder(tmp_path: Path) -> None:
    task_files(tmp_path, **{task: [MVBENCH, MVBENCH] for task in TASKS})
    samples = mvbench(tmp_path, videos=tmp_path / "video")
    assert len(samples) == 40
    assert {s.kind for s in samples} == {name for name, _ in TASKS.values()}
    assert len(TASKS) == 20
    first = samples[0]
    assert (first.id, first.kind, first.answer) == ("action_sequence_0", "Action Sequence", 1)
    assert first.video.path == str(tmp_path / "video" / "star" / "Charades_v1_480" / "ZS9XR.mp4")
    (one, _) = mvbench(tmp_path / "state_change.json", videos=tmp_path)
    assert one.kind == "State Change"


def test_a_segment_of_mvbench(tmp_path: Path) -> None:
    task_files(tmp_path, action_sequence=[MVBENCH | {"start": 5.5, "end": 12.1, "accurate_start": 6.0}])
    (sample,) = mvbench(tmp_path, videos=tmp_path)
    assert (sample.video.start_s, sample.video.end_s) == (5.5, 12.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"answer": "Four."},
            r"state_change\.json element 1, the row: answer 'Four\.' is none of the candidates",
        ),
        ({"video": "../../x.mp4"}, "lies outside the video folder"),
        ({"candidates": ["Two."]}, "element 1, candidates"),
        ({"question": None}, "element 1, question"),
    ],
)
def test_a_malformed_row_of_mvbench_is_named(change: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        mvbench(task_files(tmp_path, state_change=[MVBENCH | change]), videos=tmp_path)


def test_a_folder_without_task_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected task files such as action_sequence\.json"):
        mvbench(tmp_path, videos=tmp_path)


# --- TVQA ------------------------------------------------------------------------------------------


def jsonl(folder: Path, *rows: dict[str, object]) -> Path:
    path = folder / "tvqa_val.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_line_of_tvqa(tmp_path: Path) -> None:
    rows = [TVQA, TVQA | {"qid": 2, "ts": "NaN-NaN", "vid_name": "s05e02_seg02_clip_00"}, TVQA | {"qid": 3}]
    del rows[2]["answer_idx"]
    first, second, third = tvqa(jsonl(tmp_path, *rows), videos=tmp_path / "v")
    assert (first.id, first.kind, first.answer) == ("122039", "House M.D.", 3)
    assert (first.video.start_s, first.video.end_s) == (2.0, 4.5)
    assert first.video.path == str(tmp_path / "v" / "house_s10e02_seg02_clip_10.mp4")
    assert (second.video.start_s, second.video.end_s, third.answer) == (None, None, None)


@pytest.mark.parametrize(
    ("clip", "show"), [("house_s10e02_seg02_clip_10", "house"), ("s05e02_seg02_clip_00", "bbt")]
)
def test_the_clips_are_read_from_pictures_as_downloaded(clip: str, show: str, tmp_path: Path) -> None:
    folder = tmp_path / "frames_fps3_hq" / f"{show}_frames" / clip
    folder.mkdir(parents=True)
    for k in range(1, 31):
        Image.fromarray(np.full((24, 32, 3), 8 * k, dtype=np.uint8)).save(folder / f"{k:05d}.jpg")
    (sample,) = tvqa(jsonl(tmp_path, TVQA | {"vid_name": clip}), videos=tmp_path / "frames_fps3_hq")
    frames = sample_frames(sample.video, 4)
    assert len(frames) == 4
    assert all(2.0 <= t <= 4.5 for t in frames.pts_s_T)


def test_what_is_said_within_the_span_comes_before_the_question(tmp_path: Path) -> None:
    path = jsonl(tmp_path, TVQA, TVQA | {"qid": 2, "ts": "10-20"}, TVQA | {"qid": 3, "ts": "NaN-NaN"})
    with pytest.raises(UserError, match=r"clip_10\.srt is missing"):
        tvqa_subtitles(path, videos=tmp_path)
    (tmp_path / SUBTITLES).mkdir()
    (tmp_path / SUBTITLES / "house_s10e02_seg02_clip_10.srt").write_text(SRT.replace("\n", "\r\n"))
    questions = [s.question for s in tvqa_subtitles(path, videos=tmp_path)]
    assert questions == [
        "Subtitles: You hold the cup.\nWhat does he hold?",
        "What does he hold?",
        "Subtitles: (House:)It is late. You hold the cup. Later.\nWhat does he hold?",
    ]


def test_cues_have_seconds() -> None:
    assert [(s, e) for s, e, _ in cues(SRT)] == [(0.5, 2.0), (2.1, 4.0), (60.0, 62.5)]
    assert list(cues("no subtitles")) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ts": "soon"}, "line 1, ts: expected a span"),
        ({"answer_idx": 5}, "line 1, answer_idx"),
        ({"vid_name": "../x"}, "vid_name"),
    ],
)
def test_a_malformed_line_of_tvqa_is_named(change: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        tvqa(jsonl(tmp_path, TVQA | change), videos=tmp_path)
