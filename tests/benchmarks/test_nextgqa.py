"""NExT-GQA's files, and whether the frames that a model looked at show the answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tideo.benchmarks.nextgqa import nextgqa
from tideo.evaluate.grounding import grounding_figures, in_evidence
from tideo.types import Answer, Sample, UserError, Video

HEADER = "video_id,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
CSV = HEADER + (
    "4010069381,369,640,480,why did the boy run,to kick,6,CW,to hide,to kick,to sing,to rest,to cook\n"
    "4010069381,369,640,480,what did he do after that,sat,7,TN,ran,sang,sat,fell,sat\n"
)
SPANS = {"4010069381": {"duration": 12.0, "location": {"6": [[0.5, 3], [7, 9.5]]}, "fps": 29.97}}


def files(folder: Path, *, csv: str = CSV, spans: object = SPANS) -> Path:
    (folder / "val.csv").write_text(csv)
    (folder / "gsub_val.json").write_text(json.dumps(spans))
    return folder


def test_questions_come_with_their_spans(tmp_path: Path) -> None:
    first, second = nextgqa(files(tmp_path), videos="videos")
    assert (first.id, first.answer, first.kind) == ("4010069381_6", 1, "CW")
    assert first.evidence_s == ((0.5, 3.0), (7.0, 9.5))
    assert first.video.path == "videos/4010069381.mp4"
    assert (second.answer, second.evidence_s) == (2, ())  # the first of two options that read alike; no span


def test_without_the_spans_there_is_no_evidence(tmp_path: Path) -> None:
    (files(tmp_path) / "gsub_val.json").unlink()
    assert all(s.evidence_s == () for s in nextgqa(tmp_path, videos="videos"))


def test_a_wrong_file_names_the_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"val.csv line 2, answer: 'to fly' is none of the five options"):
        nextgqa(files(tmp_path, csv=CSV.replace("run,to kick", "run,to fly")), videos="videos")
    with pytest.raises(
        UserError, match=r"gsub_val.json, 4010069381.location.6.0: List should have at most 2"
    ):
        nextgqa(files(tmp_path, spans={"4010069381": {"location": {"6": [[1, 2, 3]]}}}), videos="videos")
    files(tmp_path)
    (tmp_path / "gsub_val.json").write_text("{")
    with pytest.raises(UserError, match=r"gsub_val.json is not JSON"):
        nextgqa(tmp_path, videos="videos")


def sample(name: str, *spans: tuple[float, float]) -> Sample:
    return Sample(
        id=name, video=Video(id=name, path=""), question="?", options=("a", "b"), answer=0, evidence_s=spans
    )


def test_frames_against_spans() -> None:
    samples = [
        sample("half", (0, 2)),
        sample("few", (0, 1), (9, 10)),
        sample("none", (5, 6)),
        sample("blank"),
    ]
    assert in_evidence(9.0, samples[1])
    assert not in_evidence(10.0, samples[1])
    answers = {
        "half": Answer(sample_id="half", choice=0, pts_s=(0.0, 1.0, 2.0, 3.0)),
        "few": Answer(sample_id="few", choice=0, pts_s=(0.5, 3.0, 5.0, 7.0, 8.0)),
        "none": Answer(sample_id="none", choice=1, pts_s=(1.0,)),
        "blank": Answer(sample_id="blank", choice=0, pts_s=(1.0,)),
    }
    found = grounding_figures(samples, answers)
    assert (found["n"], found["seen"]) == (3, pytest.approx(2 / 3))
    assert found["frames"] == pytest.approx((0.5 + 0.2 + 0.0) / 3)
    assert (found["if_seen"]["n"], found["if_seen"]["accuracy"]) == (2, 1.0)
    assert (found["if_not_seen"]["n"], found["if_not_seen"]["accuracy"]) == (1, 0.0)
    assert found["right_and_grounded"]["accuracy"] == pytest.approx(1 / 3)
    assert grounding_figures(samples[:1], {"half": Answer(sample_id="half", choice=0)}) == {}
