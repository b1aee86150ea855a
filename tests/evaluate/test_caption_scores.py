"""Videos described: the official files, CIDEr and ROUGE-L by the known library, a whole run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tideo.benchmarks.msrvtt import msrvtt
from tideo.benchmarks.vatex import vatex
from tideo.cli import app
from tideo.evaluate import caption_scores as captions
from tideo.evaluate.caption_scores import caption_scores, read_caption_report, scorers, summarise_captions
from tideo.types import Answer, Sample, UserError, Video
from tiny import videos_in

MSRVTT = {
    "info": {},
    "videos": [
        {"video_id": "video1", "split": "train", "url": "u", "start time": 1.0},
        {"video_id": "video2", "split": "test"},
        {"video_id": "video3", "split": "test"},
    ],
    "sentences": [
        {"sen_id": 0, "video_id": "video2", "caption": "a man is cooking"},
        {"sen_id": 1, "video_id": "video3", "caption": "a dog runs"},
        {"sen_id": 2, "video_id": "video2", "caption": "someone cooks"},
        {"sen_id": 3, "video_id": "video1", "caption": "a car"},
    ],
}
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="captions are tokenised by Java")


def written(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_msrvtt_gives_its_test_videos(tmp_path: Path) -> None:
    samples = msrvtt(written(tmp_path / "MSRVTT_data.json", MSRVTT), videos="videos")
    assert [s.id for s in samples] == ["video2", "video3"]
    assert samples[0].references == ("a man is cooking", "someone cooks")
    assert (samples[0].question, samples[0].options, samples[0].meta["split"]) == ("", (), "test")
    assert samples[0].video.path == "videos/video2.mp4"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sentences": []}, "video 'video2' has no sentence"),
        ({"videos": [{"split": "test"}]}, "videos.0.video_id: Field required"),
        ({"videos": []}, "holds no question"),
    ],
)
def test_a_malformed_msrvtt_is_told(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        msrvtt(written(tmp_path / "a.json", MSRVTT | change), videos="videos")


def test_vatex(tmp_path: Path) -> None:
    rows = [{"videoID": "x_000001_000011", "enCap": ["One.", "Two."], "chCap": []}]
    (sample,) = vatex(written(tmp_path / "a.json", rows), videos="v")
    assert (sample.references, sample.video.path) == (("One.", "Two."), "v/x_000001_000011.mp4")
    with pytest.raises(UserError, match=r"a.json element 1, enCap: List should have at least 1"):
        vatex(written(tmp_path / "a.json", [{"videoID": "x", "enCap": []}]), videos="v")


# --- scores ------------------------------------------------------------------------------------------


def sample(name: str, *references: str) -> Sample:
    return Sample(id=name, video=Video(id=name, path=""), question="", references=references)


SAMPLES = [
    sample("a", "A man is cooking pasta.", "someone cooks pasta"),
    sample("b", "a dog runs over the grass", "the dog is running"),
    sample("c", "two people play chess", "people are playing a game of chess"),
]
SAID = {"a": "A man is cooking, pasta!", "b": "a dog\nruns", "c": ""}


def answers(said: dict[str, str] = SAID) -> dict[str, Answer]:
    return {i: Answer(sample_id=i, text=text, error=None if text else "broken") for i, text in said.items()}


@pytest.mark.slow
@needs_java
def test_scores_are_those_of_the_known_library() -> None:
    scored = caption_scores(SAMPLES, answers())
    # Without punctuation and in small letters the first is a reference word for word; nothing said scores nothing.
    assert scored["rouge_l"][0] == pytest.approx(1.0)
    assert scored["rouge_l"][2] == scored["cider"][2] == 0.0
    # b: "a dog runs" in "a dog runs over the grass": precision 1, recall 3/6, β = 1.2
    assert scored["rouge_l"][1] == pytest.approx((1 + 1.44) * 0.5 / (0.5 + 1.44))
    assert scored["cider"][0] > scored["cider"][1] > 0

    report = summarise_captions(
        SAMPLES, {"main": answers(), "blind": answers(dict.fromkeys(SAID, "a dog"))}, controls=["blind"],
        benchmark="b", model="m", run={}, num_examples=1,
    )  # fmt: skip
    assert (report.n, report.n_failed, report.failures) == (3, 1, [{"video": "c", "error": "broken"}])
    assert report.cider["mean"] == pytest.approx(float(np.mean(scored["cider"])))
    assert report.cider["ci95"][0] < report.cider["mean"] < report.cider["ci95"][1]
    assert report.controls["blind"]["cider"]["difference"]["mean"] > 0
    assert [e["video"] for e in report.examples] == ["a", "c"]


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="d: a video to be described needs at least one reference"):
        summarise_captions([sample("d")], {"main": {}}, controls=[], benchmark="b", model="m", run={})
    monkeypatch.setattr(captions.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="install Java"):
        scorers()


# --- a run -------------------------------------------------------------------------------------------


@pytest.mark.slow
@needs_java
def test_a_run_describes_each_video_and_tells_the_missing_one(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    videos = videos_in(tmp_path_factory.getbasetemp()) / "videos"
    names = sorted(p.stem for p in videos.glob("*.mp4"))[:2]
    rows = [{"videoID": n, "enCap": ["a woman washes the dishes", "she cleans"]} for n in [*names, "absent"]]
    data = written(tmp_path / "vatex.json", rows)
    asked = ["eval", "vatex", "--data", str(data), "--videos", str(videos), "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, [*asked, "--model", "dollhouse-topa", "--control", "blind"])
    assert done.exit_code == 3, done.output
    assert "vatex: CIDEr" in done.stdout
    report = read_caption_report(tmp_path / "run")
    assert (report.n, report.n_failed) == (3, 1)
    assert set(report.controls) == {"blind"}
    assert all(e["said"] for e in report.examples if e["video"] in names)
    refused = CliRunner().invoke(app, [*asked, "--model", "dollhouse-topa", "--permute"])
    assert refused.exit_code == 2 or isinstance(refused.exception, UserError)
