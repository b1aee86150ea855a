"""What a run tells before it begins and when it ends, which controls it takes, and what it stores as the choice."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from conftest import Tideo
from tideo.evaluate.answers import read_answers
from tideo.evaluate.benchmark import Benchmark, load_benchmark
from tideo.evaluate.controls import CONTROLS, choose_controls
from tideo.evaluate.run import evaluate
from tideo.models.interface import AS_TRAINED, Controls, ModelSettings, VideoInput, VideoModel
from tideo.types import Answer, Frames, Sample, UserError, Video
from videos import encode

HEEDED = frozenset({"blind", "num_frames", "shuffled"})


class Counting(VideoModel):
    """Likelihoods by the number of frames that it is shown; the mean and the sum choose different options."""

    name, key, controls = "counting", "counting", HEEDED
    settings = ModelSettings(num_frames=4)
    answered = 0

    def answer(
        self, video: Video, samples: Sequence[Sample], *, seen: VideoInput, controls: Controls = AS_TRAINED
    ) -> list[Answer]:
        self.answered += len(samples)
        return [
            Answer(sample_id=s.id, loglikelihoods=(-4.0, -3.0), num_tokens=(4, 1)) if s.options else
            Answer(sample_id=s.id, text="a nap")
            for s in samples
        ]  # fmt: skip

    def out_of_distribution(self, frames: Frames) -> str | None:
        return "unlike" if frames.video_id == "v1.mp4" else None

    def usage(self) -> str | None:
        return "7 tokens" if self.paid else None


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    (folder / "videos").mkdir()
    rows = ["video_name,question_id,question,a0,a1,answer"]
    for k in range(3):
        encode(folder / "videos" / f"v{k}.mp4", num=20 + k)
        rows += [f"v{k}.mp4,q{k}{q},what is it {q},tea,a book,{q}" for q in range(2)]
    (folder / "own.csv").write_text("\n".join(rows) + "\n")
    return folder


def run(data: Path, model: VideoModel, out: Path, **kwargs: Any) -> Any:
    given = {"data": data / "own.csv", "videos": data / "videos"} | kwargs
    return evaluate(benchmark="csv", model=model, out=out, **given)


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("paid", "runs", "kwargs", "line", "num"),
    [
        (True, 1, {}, "6 questions, as many requests to counting (no controls: --control NAME adds one)", 6),
        (
            True, 1, {"controls": ["blind", "shuffled_frames"]},
            "6 questions × (1 + 2 controls) = 18 requests to counting", 18,
        ),
        (False, 1, {"controls": []}, "6 questions, as many answers by counting", 6),
        (False, 1, {}, "6 questions × (1 + 5 controls) = 36 answers by counting", 36),
        (False, 2, {"controls": ["blind"]}, "6 questions × (1 + 1 control) × 2 models = 24 answers by counting", 12),
        (
            True, 1, {"controls": ["blind"], "permute": True},
            "6 questions × (1 + 1 control + 1 other order) = 18 requests to counting", 18,
        ),
    ],
)  # fmt: skip
def test_what_it_will_take_is_told_before_the_first(
    paid: bool, runs: int, kwargs: Any, line: str, num: int,
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)
    model = Counting()
    model.paid, model.runs = paid, runs
    run(data, model, tmp_path, **kwargs)
    assert caplog.messages[0] == line
    assert model.answered == num
    assert ("7 tokens" in caplog.messages) == paid


def test_a_run_that_goes_on_tells_what_is_left(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run(data, Counting(), tmp_path, controls=[], limit=4)
    caplog.clear()
    run(data, Counting(), tmp_path, controls=["blind"])
    assert caplog.messages[0] == (
        "6 questions × (1 + 1 control) = 12 answers by counting, 8 of them still to come"
    )
    caplog.clear()
    run(data, Counting(), tmp_path, controls=["blind"])
    assert not any("answers by" in message for message in caplog.messages)


def test_videos_unlike_the_training_are_counted_at_the_end_and_in_the_report(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):  # the second call answers nothing and still knows
        caplog.clear()
        report = run(data, Counting(), tmp_path, controls=[])
        (line,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
        assert line.startswith("1 of 3 videos are unlike what counting was trained on: do not trust")
        assert report.n_strange == 1


def test_only_videos_that_are_looked_at_are_missed(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Unseeing(Counting):
        settings = ModelSettings(num_frames=0)
        controls = frozenset()

    def missing(model: VideoModel, out: Path, **kwargs: Any) -> list[str]:
        caplog.clear()
        evaluate(benchmark="csv", data=data / "own.csv", videos=tmp_path, model=model, out=out, **kwargs)
        return [m for m in caplog.messages if "missing" in m]

    assert missing(Unseeing(), tmp_path / "unseeing") == []
    (line,) = missing(Counting(), tmp_path / "seeing", controls=["blind", "shuffled_frames"])
    assert line.startswith("3 of 3 videos are missing, such as")
    assert line.endswith(": 12 answers about them will count as failed")
    assert missing(Counting(), tmp_path / "seeing", controls=["blind"]) == []


# --- controls --------------------------------------------------------------------------------------


def test_a_paid_model_has_only_the_controls_that_are_named() -> None:
    model, benchmark = Counting(), load_benchmark("csv")
    samples = [Sample(id="q", video=Video(id="v", path="v"), question="what", options=("a", "b"))]
    free = choose_controls(None, samples, model=model, benchmark=benchmark)
    assert set(free) == {"blind", "single_frame", "two_frames", "five_frames", "shuffled_frames"}
    model.paid = True
    assert choose_controls(None, samples, model=model, benchmark=benchmark) == {}
    assert set(choose_controls(["blind"], samples, model=model, benchmark=benchmark)) == {"blind"}


@pytest.mark.parametrize(
    ("name", "settings", "options", "message"),
    [
        ("text_features", {}, ("a", "b"), "text_features needs the captions of the frames, which csv has not"),
        ("letter_scoring", {}, (), "the control letter_scoring needs options, which no question of csv has"),
        ("text_scoring", {}, ("a", "b"), "does not apply to model counting, whose own form is text"),
        ("two_frames", {"num_frames": 2}, ("a", "b"), "which looks at 2 of the frames anyway"),
        ("single_frame", {"num_frames": 1}, ("a", "b"), "which looks at 1 of the frames anyway"),
        ("shuffled_frames", {"num_frames": 1}, ("a", "b"), "counting, which looks at one frame: leave it out"),
        ("projection_off", {}, ("a", "b"), "the control projection_off does not apply to model counting: leave it out"),
    ],
)  # fmt: skip
def test_a_control_that_can_change_nothing_is_refused(
    name: str, settings: Any, options: tuple[str, ...], message: str
) -> None:
    model = Counting()
    model.settings = ModelSettings(**{"num_frames": 4, **settings})
    model.controls = HEEDED | {"form", "source"}
    samples = [Sample(id="q", video=Video(id="v", path="v"), question="what", options=options)]
    with pytest.raises(UserError, match=message):
        choose_controls([name], samples, model=model, benchmark=load_benchmark("csv"))
    assert name not in choose_controls(None, samples, model=model, benchmark=load_benchmark("csv"))


def test_captions_that_a_benchmark_lacks_for_a_video_are_no_control() -> None:
    def captions(samples: Sequence[Sample], *, num: int) -> Any:
        raise UserError("this video has no script")

    def read(data: Any, *, videos: Any) -> list[Sample]:
        return []

    benchmark = Benchmark(name="b", read=read, tideo=captions)
    model = Counting()
    model.controls = frozenset({"source"})
    samples = [Sample(id="q", video=Video(id="v", path="v"), question="what", options=("a", "b"))]
    with pytest.raises(UserError, match=r"needs the captions of the frames \(this video has no script\)"):
        choose_controls(["text_features"], samples, model=model, benchmark=benchmark)
    assert choose_controls(None, samples, model=model, benchmark=benchmark) == {}
    assert "text_features" in CONTROLS


def test_a_control_is_refused_before_the_model_is_loaded(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the control text_features needs the captions"):
        evaluate(
            benchmark="csv", data=data / "own.csv", videos=data / "videos", model="no/such model", out=tmp_path / "o",
            controls=["text_features"],
        )  # fmt: skip
    assert not (tmp_path / "o").exists()


# --- the stored choice -----------------------------------------------------------------------------


def test_the_stored_choice_is_that_of_the_run(data: Path, tmp_path: Path) -> None:
    run(data, Counting(), tmp_path, controls=["blind"])
    assert {r["choice"] for r in records(tmp_path)} == {0}  # the means are -1 and -3
    run(data, Counting(), tmp_path, controls=["blind"], reduction="sum")
    assert {r["choice"] for r in records(tmp_path)} == {1}
    with pytest.raises(UserError, match="unknown reduction 'median'"):
        run(data, Counting(), tmp_path / "other", reduction="median")
    assert not (tmp_path / "other").exists()


def test_records_of_an_earlier_version_are_read_and_completed(data: Path, tmp_path: Path) -> None:
    run(data, Counting(), tmp_path, controls=[])
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(r | {"choice": None}) + "\n" for r in records(tmp_path)))
    before = read_answers(tmp_path)[0]["main"]
    model = Counting()
    run(data, model, tmp_path, controls=[])
    assert model.answered == 0
    after = read_answers(tmp_path)[0]["main"]
    assert {i: a.loglikelihoods for i, a in after.items()} == {i: a.loglikelihoods for i, a in before.items()}
    assert {r["choice"] for r in records(tmp_path)} == {0}


def test_the_command_says_what_it_will_take(tideo: Tideo, data: Path, tmp_path: Path) -> None:
    done = tideo(
        "eval", "csv", "--data", str(data / "own.csv"), "--videos", str(data / "videos"), "--out", str(tmp_path),
        "--model", "openai:m@http://127.0.0.1:9/v1", "--model-args", "retries=0",
    )  # fmt: skip
    assert done.returncode == 2
    assert (
        "6 questions, as many requests to openai:m@http://127.0.0.1:9/v1 (no controls: --control"
        in done.stderr
    )
