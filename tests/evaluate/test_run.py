"""Evaluation of a real tiny model over rendered videos: resume, failures, controls, what is the same."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import REPOSITORY, Tideo
from tideo.benchmarks.dollhouse import dollhouse
from tideo.benchmarks.dollhouse import tideo as tideo_of
from tideo.device import threads_for
from tideo.dollhouse.captions import text_video
from tideo.evaluate.answers import read_answers
from tideo.evaluate.controls import CONTROLS
from tideo.evaluate.export import export
from tideo.evaluate.html import write_report
from tideo.evaluate.run import evaluate
from tideo.evaluate.summary import Report, Unscored
from tideo.models.interface import Controls, other_order
from tideo.models.load import load_model
from tideo.models.topa.blind import Blind
from tideo.models.topa.model import ZeroShot
from tideo.models.topa.settings import Settings
from tideo.types import Answer, UserError
from tiny import model_in, save_model, videos_in

PLAIN_CONTROLS = set(CONTROLS) - {"text_scoring"}  # the model's own form is no control


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return videos_in(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_in(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def model(model_dir: Path) -> ZeroShot:
    return ZeroShot.load(model_dir, name="tiny")


@pytest.fixture(scope="module")
def finished(exported: Path, model: ZeroShot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    run(exported, model, out)
    return out


def run(exported: Path, model: Any, out: Path, **kwargs: Any) -> Report:
    return evaluate(
        benchmark="dollhouse", data=exported, videos=exported / "videos", model=model, out=out, **kwargs
    )


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]


def without_times(answers: dict[str, dict[str, Answer]]) -> dict[str, Any]:
    return {
        name: {i: (a.loglikelihoods, a.num_tokens, a.pts_s, a.error) for i, a in of.items()}
        for name, of in answers.items()
    }


def same_answers(one: Path, other: Path) -> None:
    """The same keys and choices, and likelihoods within rounding."""
    records, others = ({r["key"]: r for r in lines(out)} for out in (one, other))
    assert records.keys() == others.keys()
    for key, r in records.items():
        names = ("choice", "num_tokens", "pts_s", "error", "strange")
        assert [r[name] for name in names] == [others[key][name] for name in names]
        np.testing.assert_allclose(r["loglikelihoods"], others[key]["loglikelihoods"], atol=1e-4)


# --- what a run writes -----------------------------------------------------------------------------


def test_a_run_has_its_files_and_the_fields_of_the_contract(exported: Path, finished: Path) -> None:
    names = {"run.json", "answers.jsonl", "report.json", "report.html"}
    assert {p.name for p in finished.iterdir()} == names
    report = json.loads((finished / "report.json").read_text())
    expected = {
        "benchmark",
        "split",
        "model",
        "n",
        "n_failed",
        "accuracy",
        "stderr",
        "ci95",
        "by_kind",
        "controls",
    }
    assert expected | {"run"} <= set(report)
    assert (report["benchmark"], report["split"], report["model"]) == ("dollhouse", "test", "tiny")
    samples = dollhouse(exported, videos=exported / "videos")
    assert (report["n"], report["n_failed"]) == (len(samples), 0)
    assert set(report["controls"]) == PLAIN_CONTROLS
    for control in report["controls"].values():
        assert {"n", "accuracy", "ci95", "by_kind"} <= set(control)
        assert set(control["by_kind"]) == set(report["by_kind"])
    assert Counter(s.kind for s in samples) == {k: v["n"] for k, v in report["by_kind"].items()}
    assert set(report["by_group"]) == {"seen", "held out"}


def test_the_accuracy_is_that_of_the_answers(exported: Path, finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    samples = {s.id: s for s in dollhouse(exported, videos=exported / "videos")}
    for name, told in {"main": report, **report["controls"]}.items():
        right = [
            int(np.argmax(np.array(r["loglikelihoods"]) / r["num_tokens"])) == samples[r["sample_id"]].answer
            for r in lines(finished)
            if r["control"] == name
        ]
        assert len(right) == len(samples)
        assert told["accuracy"] == pytest.approx(np.mean(right))


def test_controls_change_what_the_model_sees(finished: Path) -> None:
    answers, _ = read_answers(finished)
    sample_id = next(iter(answers["main"]))
    seen = {name: of[sample_id].loglikelihoods for name, of in answers.items()}
    assert len(set(seen.values())) == len(seen), "two conditions gave the very same likelihoods"
    frames = {name: len(of[sample_id].pts_s) for name, of in answers.items()}
    assert frames == {
        "main": 10, "blind": 0, "single_frame": 1, "two_frames": 2, "five_frames": 5, "shuffled_frames": 10,
        "projection_off": 10, "text_features": 0, "letter_scoring": 10,
    }  # fmt: skip
    assert answers["letter_scoring"][sample_id].num_tokens == (5,) * 5  # a space, "(", a letter, ")", the end


def test_one_batch_of_questions_answers_as_each_alone(
    exported: Path, model: ZeroShot, finished: Path
) -> None:
    answers, _ = read_answers(finished)
    for sample in dollhouse(exported, videos=exported / "videos")[:3]:
        (alone,) = model.answer(sample.video, [sample], seen=model.look(sample.video))
        np.testing.assert_allclose(alone.loglikelihoods, answers["main"][sample.id].loglikelihoods, atol=1e-4)


# --- resume ----------------------------------------------------------------------------------------


def test_a_second_call_answers_nothing_again(exported: Path, model: ZeroShot, finished: Path) -> None:
    before = (finished / "answers.jsonl").read_bytes(), (finished / "report.json").read_text()
    report = run(exported, model, finished)
    assert (finished / "answers.jsonl").read_bytes() == before[0]
    assert json.loads((finished / "report.json").read_text())["by_kind"] == json.loads(before[1])["by_kind"]
    assert report.n_failed == 0


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_answers(
    exported: Path, model_dir: Path, finished: Path, tmp_path: Path
) -> None:
    code = f"""
from tideo.evaluate.run import evaluate
from tideo.models.topa.model import ZeroShot
evaluate(benchmark="dollhouse", data={str(exported)!r}, videos={str(exported / "videos")!r},
         model=ZeroShot.load({str(model_dir)!r}, name="tiny"), out={str(tmp_path)!r})
"""
    surrounding = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=surrounding, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    path, deadline_s = tmp_path / "answers.jsonl", time.monotonic() + 120
    while not (path.exists() and path.stat().st_size > 20_000):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline_s
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "report.json").exists()
    with path.open("a") as file:  # as a kill in the middle of a line would leave it
        file.write('{"key": "torn')
    kept = len(path.read_text().splitlines()) - 1
    assert 0 < kept < len(lines(finished))
    with pytest.warns(UserWarning, match="removed a last line that was cut short"):
        run(exported, ZeroShot.load(model_dir, name="tiny"), tmp_path)
    assert len({r["key"] for r in lines(tmp_path)}) == len(lines(tmp_path)) == len(lines(finished))
    same_answers(tmp_path, finished)


@pytest.mark.slow
def test_more_questions_keep_the_answers_to_the_first(
    exported: Path, model: ZeroShot, tmp_path: Path
) -> None:
    assert run(exported, model, tmp_path, limit=3, controls=["blind"]).n == 3
    first = lines(tmp_path)
    assert run(exported, model, tmp_path, limit=5, controls=[]).n == 5
    assert lines(tmp_path)[: len(first)] == first
    assert len(lines(tmp_path)) == len(first) + 2
    assert run(exported, model, tmp_path, limit=2, controls=[]).n == 2
    assert len(lines(tmp_path)) == len(first) + 2


@pytest.mark.slow
def test_another_video_file_or_setting_is_answered_again(
    exported: Path, model_dir: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(exported, tmp_path / "data"))
    model = ZeroShot.load(model_dir, name="tiny")
    run(data, model, tmp_path / "out", limit=2, controls=[])
    before = {r["sample_id"]: r["key"] for r in lines(tmp_path / "out")}
    first, second = sorted((data / "videos").iterdir())
    shutil.copy(second, first)
    run(data, model, tmp_path / "out", limit=2, controls=[])
    after = {r["sample_id"]: r["key"] for r in lines(tmp_path / "out")}
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())
    model.settings = Settings(encoder="../clip", temperature=1.0)
    run(data, model, tmp_path / "out", limit=2, controls=[])
    assert not {r["key"] for r in lines(tmp_path / "out")} & set(after.values())


def test_a_directory_holds_one_model_and_benchmark(exported: Path, model_dir: Path, finished: Path) -> None:
    other = ZeroShot.load(model_dir, name="other")
    with pytest.raises(
        UserError, match=r"holds a run of tiny on dollhouse, not of other on dollhouse: give ano"
    ):
        run(exported, other, finished)


# --- failures --------------------------------------------------------------------------------------


def test_a_missing_and_a_broken_video_count_as_wrong_and_are_tried_again(
    exported: Path, model: ZeroShot, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = Path(shutil.copytree(exported, tmp_path / "data"))
    first, second = sorted((data / "videos").iterdir())
    whole = first.read_bytes()
    first.unlink()
    second.write_bytes(b"no video at all")
    report = run(data, model, tmp_path / "out", controls=["blind", "single_frame"])
    assert "1 of 2 videos are missing, such as" in caplog.text
    assert (report.n_failed, report.accuracy) == (report.n, 0.0)
    assert report.controls["single_frame"]["n_failed"] == report.n
    assert report.controls["blind"]["n_failed"] == 0
    errors = {r["error"] for r in lines(tmp_path / "out") if r["control"] == "main"}
    assert any("there is no such file" in e for e in errors)
    assert any("cannot be read as a video" in e for e in errors)
    first.write_bytes(whole)
    again = run(data, model, tmp_path / "out", controls=["blind", "single_frame"])
    assert 0 < again.n_failed < again.n
    assert len(lines(tmp_path / "out")) == 3 * again.n, "the failures of the missing video are replaced"


def test_a_question_that_is_too_long_fails_alone(exported: Path, tmp_path: Path) -> None:
    small = ZeroShot.load(save_model(tmp_path / "small", max_tokens=200), name="small")
    samples = dollhouse(exported, videos=exported / "videos")[:3]
    rows = (exported / "test.jsonl").read_text().splitlines()[:3]
    rows[1] = json.dumps(json.loads(rows[1]) | {"question": "why " * 100})
    data = tmp_path / "test.jsonl"
    data.write_text("\n".join(rows) + "\n")
    report = evaluate(
        benchmark="dollhouse",
        data=data,
        videos=exported / "videos",
        model=small,
        out=tmp_path / "out",
        controls=[],
    )
    assert (report.n, report.n_failed) == (3, 1)
    failed = {r["sample_id"]: r["error"] for r in lines(tmp_path / "out") if r["error"]}
    assert list(failed) == [samples[1].id]
    assert "tokens exceed the model's context of 200" in failed[samples[1].id]


def test_likelihoods_that_are_not_finite_are_a_failure(
    exported: Path, model: ZeroShot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflowed(asked: Any, **_: Any) -> list[list[Answer]]:
        nan = {"loglikelihoods": (float("nan"),) * 5, "num_tokens": (1,) * 5}
        return [[Answer(sample_id=s.id, **nan) for s in a.samples] for a in asked]

    monkeypatch.setattr(model, "answer_many", overflowed)
    report = run(exported, model, tmp_path, limit=2, controls=[])
    assert (report.n_failed, report.accuracy) == (2, 0.0)
    assert "the log-likelihoods are not finite" in lines(tmp_path)[0]["error"]


def test_questions_without_known_answers_are_answered_and_have_no_accuracy(
    exported: Path, model: ZeroShot, tmp_path: Path
) -> None:
    row = json.loads((exported / "test.jsonl").read_text().splitlines()[0])
    (tmp_path / "test.jsonl").write_text(json.dumps(row | {"answer": None}) + "\n")
    with pytest.raises(Unscored, match="1 questions asked, no right answer known: tideo export") as told:
        evaluate(
            benchmark="dollhouse", data=tmp_path / "test.jsonl", videos=exported / "videos", model=model,
            out=tmp_path / "out", controls=[],
        )  # fmt: skip
    assert (told.value.n, told.value.n_failed) == (1, 0)
    assert export(tmp_path / "out", out=tmp_path / "choices.csv") == (0, 1)


# --- models and controls ---------------------------------------------------------------------------


def test_the_blind_model_is_the_blind_control(
    exported: Path, model_dir: Path, finished: Path, tmp_path: Path
) -> None:
    blind = Blind.load(model_dir)
    report = run(exported, blind, tmp_path)
    assert set(report.controls) == {"letter_scoring"}
    of_model, of_control = read_answers(tmp_path)[0]["main"], read_answers(finished)[0]["blind"]
    for sample_id, answer in of_model.items():
        np.testing.assert_allclose(answer.loglikelihoods, of_control[sample_id].loglikelihoods, atol=1e-5)
    with pytest.raises(
        UserError, match="the control single_frame does not apply to model blind: leave it out"
    ):
        run(exported, blind, tmp_path, controls=["single_frame"])


def test_an_unknown_control_is_told(exported: Path, model: ZeroShot, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown control 'blnd'; did you mean blind"):
        run(exported, model, tmp_path, controls=["blnd"])


@pytest.mark.slow
def test_controls_are_chosen_on_the_command_line(
    exported: Path, model_dir: Path, tmp_path: Path, tideo: Tideo
) -> None:
    def controls(*chosen: str) -> set[str]:
        out = tmp_path / "-".join(("run", *chosen))
        args = ["--data", str(exported), "--videos", str(exported / "videos"), "--model", str(model_dir)]
        flags = [word for name in chosen for word in ("--control", name)]
        done = tideo("eval", "dollhouse", *args, "--limit", "2", "--out", str(out), *flags)
        assert done.returncode == 0, done.stderr
        return set(json.loads((out / "report.json").read_text())["controls"])

    assert controls("blind", "shuffled_frames") == {"blind", "shuffled_frames"}
    assert controls("none") == set()


def test_a_control_is_the_same_every_time() -> None:
    assert other_order(10, rng=random.Random(1)).tolist() == other_order(10, rng=random.Random(1)).tolist()
    for seed in range(50):
        assert other_order(2, rng=random.Random(seed)).tolist() == [1, 0]
    assert other_order(1, rng=random.Random(0)).tolist() == [0]


def test_text_features_tell_the_frames_of_the_segment(exported: Path) -> None:
    samples = dollhouse(exported, videos=exported / "videos")
    whole = tideo_of(samples[:1], num=10)
    assert len(whole.frames) == 10
    assert all("shirt" in " ".join(f.captions) for f in whole.frames)
    with pytest.raises(UserError, match="text features need a sample of the dollhouse"):
        text_video(replace(samples[0], meta={}), num=10)


def test_a_tiny_model_runs_on_one_thread_and_gives_the_others_back(model: ZeroShot) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threads_for(model.lm):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_names_of_models(model_dir: Path, tmp_path: Path) -> None:
    assert load_model(str(model_dir)).name == str(model_dir)
    with pytest.raises(
        UserError, match=r"unknown model 'dollhouse-tipa'; did you mean dollhouse-topa.*; or give"
    ):
        load_model("dollhouse-tipa")
    with pytest.raises(
        UserError,
        match=r"tideo\.json is missing, and so is an image processor; give a folder",
    ):
        load_model(str(tmp_path))


def test_settings_that_are_none_are_told(tmp_path: Path) -> None:
    (tmp_path / "tideo.json").write_text('{"encoder": "x", "frames": 3}')
    with pytest.raises(UserError, match=r"tideo\.json does not describe a model: .*has no frames"):
        Settings.load(tmp_path)
    Settings(encoder="x", num_frames=4).save(tmp_path)
    assert Settings.load(tmp_path) == Settings(encoder="x", num_frames=4)


def test_parts_of_different_encoders_do_not_fit(model_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_dir.parent, tmp_path / "copy"))
    config = json.loads((folder / "topa" / "config.json").read_text())
    (folder / "topa" / "config.json").write_text(json.dumps(config | {"encoder": "clip-000000000000"}))
    with pytest.raises(UserError, match="its language model was made with encoder clip-000000000000, but"):
        ZeroShot.load(folder / "topa")


def test_an_unknown_form_is_told(exported: Path, model: ZeroShot) -> None:
    sample = dollhouse(exported, videos=exported / "videos")[0]
    with pytest.raises(UserError, match="unknown scoring form 'word'; expected one of letter, text"):
        model.answer(sample.video, [sample], seen=None, controls=Controls(form="word"))


# --- orders of the options, missing videos, another reduction ----------------------------------------


def test_options_are_asked_in_every_order(exported: Path, model: ZeroShot, tmp_path: Path) -> None:
    report = run(exported, model, tmp_path, limit=4, controls=["letter_scoring"], permute=True)
    answers, _ = read_answers(tmp_path)
    assert set(answers) == {"main", "letter_scoring", "order_1", "order_2", "order_3", "order_4"}
    assert set(report.controls) == {"letter_scoring"}
    for sample_id, answer in answers["main"].items():  # options in words are scored without the others
        turned = answers["order_3"][sample_id]
        np.testing.assert_allclose(turned.loglikelihoods, answer.loglikelihoods, atol=1e-4)
        assert turned.num_tokens == answer.num_tokens
    assert report.orders["num_orders"] == 5
    assert report.orders["accuracy"] == report.accuracy
    assert sum(place["chosen"] for place in report.orders["by_place"]) == pytest.approx(1.0)
    assert "Options in every order" in (tmp_path / "report.html").read_text()


def test_a_model_that_always_says_a_is_right_in_no_order(
    exported: Path, model: ZeroShot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first(asked: Any, **_: Any) -> list[list[Answer]]:
        return [[Answer(sample_id=s.id, choice=0) for s in a.samples] for a in asked]

    monkeypatch.setattr(model, "answer_many", first)
    report = run(exported, model, tmp_path, limit=10, controls=[], permute=True)
    assert report.orders["accuracy"] == 0.0
    assert report.orders["by_place"] == [
        {"chosen": 1.0, "accuracy": 1.0},
        *([{"chosen": 0.0, "accuracy": 0.0}] * 4),
    ]


@pytest.mark.slow
def test_questions_about_missing_videos_can_be_left_out(
    exported: Path, model: ZeroShot, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = Path(shutil.copytree(exported, tmp_path / "data"))
    first, second = sorted((data / "videos").iterdir())
    every = run(data, model, tmp_path / "every", controls=[])
    first.unlink()
    report = run(data, model, tmp_path / "out", controls=[], missing="skip")
    assert 0 < report.n < every.n
    assert (report.n_failed, report.n + report.n_left_out) == (0, every.n)
    assert f"{report.n_left_out} questions about 1 missing videos are left out: {first}" in caplog.text
    assert f"{report.n_left_out} questions were left out" in (tmp_path / "out" / "report.html").read_text()
    second.unlink()
    with pytest.raises(UserError, match="none of 2 videos is there"):
        run(data, model, tmp_path / "none", controls=[], missing="skip")


@pytest.mark.slow
def test_what_failed_is_told_by_video(exported: Path, model: ZeroShot, tmp_path: Path) -> None:
    data = Path(shutil.copytree(exported, tmp_path / "data"))
    first = min((data / "videos").iterdir())
    first.write_bytes(b"no video at all")
    report = run(data, model, tmp_path / "out", controls=[])
    (failure,) = report.failures
    assert (failure["video"], failure["n"]) == (first.stem, report.n_failed)
    assert "cannot be read as a video" in failure["error"]
    assert "What failed" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
def test_a_report_of_an_earlier_version_is_read(finished: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(finished, tmp_path / "old"))
    report = json.loads((old / "report.json").read_text())
    later = ("n_left_out", "failures", "orders")
    (old / "report.json").write_text(json.dumps({k: v for k, v in report.items() if k not in later}))
    assert "Tideo report" in write_report([old], out=tmp_path / "old.html").read_text()


def test_a_report_chooses_anew_without_a_model(exported: Path, finished: Path, tmp_path: Path) -> None:
    before = (finished / "report.json").read_text()
    page = write_report([finished], out=tmp_path / "sum.html", reduction="sum").read_text()
    assert (finished / "report.json").read_text() == before
    samples = {s.id: s for s in dollhouse(exported, videos=exported / "videos")}
    main = [r for r in lines(finished) if r["control"] == "main"]
    right = [int(np.argmax(r["loglikelihoods"])) == samples[r["sample_id"]].answer for r in main]
    assert f'<span class="big">{100 * np.mean(right):.1f}%</span>' in page
    assert "summed log-likelihood" in page
    with pytest.raises(UserError, match="unknown reduction 'median'"):
        write_report([finished], out=tmp_path / "no.html", reduction="median")


# --- several processes -------------------------------------------------------------------------------


def launched(exported: Path, model_dir: Path, out: Path) -> subprocess.CompletedProcess[str]:
    args = [
        "--data",
        str(exported),
        "--videos",
        str(exported / "videos"),
        "--model",
        str(model_dir),
        "--out",
        str(out),
    ]
    # Without a GPU `accelerate launch` starts one process, whatever --num_processes says.
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "tideo"]
    return subprocess.run(
        [sys.executable, *launch, "eval", "dollhouse", *args],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.slow
def test_two_processes_give_the_answers_of_one_each_once(
    exported: Path, model_dir: Path, tmp_path: Path
) -> None:
    model = ZeroShot.load(model_dir)
    run(exported, model, tmp_path / "one")
    done = launched(exported, model_dir, tmp_path / "two")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count(" questions\n") == 1
    assert {p.name for p in (tmp_path / "two").iterdir()} == {p.name for p in (tmp_path / "one").iterdir()}
    one, two = lines(tmp_path / "one"), lines(tmp_path / "two")
    assert len(two) == len({r["sample_id"] + r["control"] for r in two}) == len(one)
    same_answers(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_killed_processes_leave_their_answers_to_the_next(
    exported: Path, model: ZeroShot, finished: Path, tmp_path: Path
) -> None:
    records = (finished / "answers.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "answers.jsonl").write_text("".join(records[:5]))
    (tmp_path / "answers.1.jsonl").write_text("".join(records[3:30]))  # killed while they were gathered
    (tmp_path / "answers.2.jsonl").write_text("".join(records[30:40]) + records[40][:20])
    with pytest.warns(UserWarning, match="cut short"):
        run(exported, model, tmp_path)
    assert (tmp_path / "answers.jsonl").read_text().splitlines(keepends=True)[:40] == records[:40]
    assert len(lines(tmp_path)) == len({r["key"] for r in lines(tmp_path)}) == len(records)
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in finished.iterdir()}
