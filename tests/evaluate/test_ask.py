"""One question about one video, as a function and as the command."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from conftest import Tideo
from tideo.evaluate.ask import ask
from tideo.models.topa.model import ZeroShot
from tideo.types import Answer, Sample, UserError, VideoError
from tiny import model_in, save_model, videos_in
from videos import encode

OPTIONS = ("making tea", "repairing a bicycle", "sleeping")
FIELDS = {"answer", "choice", "options", "loglikelihoods", "model", "pts_s", "seconds"}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sorted((videos_in(tmp_path_factory.getbasetemp()) / "videos").iterdir())[0]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_in(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def model(model_dir: Path) -> ZeroShot:
    return ZeroShot.load(model_dir, name="tiny")


def test_likelihoods_that_are_no_numbers_choose_nothing(
    video: Path, model: ZeroShot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflowed(video: object, samples: list[Sample], **_: object) -> list[Answer]:
        nan = float("nan")
        return [Answer(sample_id=s.id, loglikelihoods=(nan,) * 3, num_tokens=(1,) * 3) for s in samples]

    monkeypatch.setattr(model, "answer", overflowed)
    with pytest.raises(UserError, match=r"the log-likelihoods are not finite: \(nan, nan, nan\)"):
        ask(video, question="what is the man doing?", options=OPTIONS, model=model)


def test_the_answer_is_the_most_likely_option(video: Path, model: ZeroShot) -> None:
    reply = ask(video, question="what is the man doing?", options=OPTIONS, model=model)
    assert set(reply) == FIELDS
    scored = reply["loglikelihoods"]
    assert len(scored) == 3
    assert all(score < 0 for score in scored)
    assert reply["choice"] == scored.index(max(scored))
    assert (reply["answer"], reply["options"]) == (OPTIONS[reply["choice"]], list(OPTIONS))
    assert (reply["model"], len(reply["pts_s"])) == ("tiny", 10)
    assert reply["pts_s"] == sorted(reply["pts_s"])
    assert reply["seconds"] > 0
    assert json.loads(json.dumps(reply)) == reply


def test_white_space_around_an_option_is_no_part_of_it(video: Path, model: ZeroShot) -> None:
    reply = ask(video, question="what is he doing?", options=OPTIONS, model=model)
    spaced = ask(video, question="what is he doing?", options=[f" {o}\n" for o in OPTIONS], model=model)
    assert (spaced["loglikelihoods"], spaced["options"]) == (reply["loglikelihoods"], list(OPTIONS))


def test_the_options_order_does_not_matter(video: Path, model: ZeroShot) -> None:
    reply = ask(video, question="what is he doing?", options=OPTIONS, model=model)
    turned = ask(video, question="what is he doing?", options=OPTIONS[::-1], model=model)
    assert reply["loglikelihoods"] == pytest.approx(turned["loglikelihoods"][::-1], abs=1e-4)


def test_a_segment_is_looked_at_alone(video: Path, model: ZeroShot) -> None:
    reply = ask(video, question="what is he doing?", options=OPTIONS, model=model, start_s=2, end_s=4)
    assert all(1.9 <= t <= 4 for t in reply["pts_s"])
    rest = ask(video, question="what is he doing?", options=OPTIONS, model=model, start_s=5)
    assert min(rest["pts_s"]) >= 4.9
    assert reply["loglikelihoods"] != rest["loglikelihoods"]


def test_without_options_it_writes(video: Path, model: ZeroShot) -> None:
    reply = ask(video, question="what is he doing?", model=model)
    assert reply["answer"]
    assert (reply["choice"], reply["options"], reply["loglikelihoods"]) == (None, [], [])


def test_a_video_out_of_distribution_is_one_line(
    video: Path, model_dir: Path, model: ZeroShot, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    # Pictures are far from captions for a random CLIP: every video is out of distribution, until none is.
    ask(video, question="what is he doing?", options=OPTIONS, model=model)
    (line,) = caplog.messages
    assert re.search(
        r"is unlike what tiny was trained on \(familiarity -?\d\.\d+, expected -?\d\.\d+ or more\): do not trust",
        line,
    )
    assert "name another model, as in --model llava-hf/" in line
    assert "\n" not in line
    caplog.clear()
    for threshold in (-1.0, None):
        known = ZeroShot.load(model_dir)
        object.__setattr__(known.memory, "threshold", threshold)
        ask(video, question="what is he doing?", options=OPTIONS, model=known)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("question", "options", "message"),
    [
        (" ", OPTIONS, "the question is empty: ask something"),
        ("why?", ("one",), r"options \['one'\]: give two or more, none empty, or none at all"),
        ("why?", ("one", " "), r"give two or more, none empty"),
        ("why?", ("tea", "cup", "tea"), r"options \['tea', 'cup', 'tea'\]: two of them are equal"),
        ("why?", ("tea", "cup", "tea "), r"two of them are equal"),
        ("why?", "tea", r"options 'tea' is one text: give several, as in \['tea', 'reading'\]"),
    ],
)
def test_an_invalid_question_is_refused(
    video: Path, model: ZeroShot, question: str, options: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        ask(video, question=question, options=options, model=model)


def test_a_video_that_gives_no_frame_is_an_error(model: ZeroShot, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="there is no such file"):
        ask(tmp_path / "none.mp4", question="why?", options=OPTIONS, model=model)
    (tmp_path / "bad.mp4").write_bytes(b"\0" * 100)
    with pytest.raises(VideoError, match=r"bad\.mp4"):
        ask(tmp_path / "bad.mp4", question="why?", options=OPTIONS, model=model)


def test_frames_that_cannot_be_decoded_are_reported(
    model: ZeroShot, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    path = tmp_path / "cut.mp4"
    encode(path, num=40, faststart=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(UserWarning, match="could not be decoded"):
        ask(path, question="why?", options=OPTIONS, model=model)
    assert re.search(
        r"cut\.mp4: \d distinct frames for the 10 that the model takes, \d could not be decoded "
        r"\(damaged or cut off: \d\.\d{3} s",
        caplog.text,
    )


def test_a_question_that_is_too_long_is_refused(video: Path, tmp_path: Path) -> None:
    small = ZeroShot.load(save_model(tmp_path, max_tokens=100))
    with pytest.raises(UserError, match="tokens exceed the model's context of 100"):
        ask(video, question="why " * 100, options=OPTIONS, model=small)


def test_the_command_prints_one_object(tideo: Tideo, video: Path, model_dir: Path) -> None:
    options = [word for option in OPTIONS for word in ("--option", option)]
    done = tideo(
        "ask", str(video), "what is he doing?", *options, "--model", str(model_dir), "--json", "--end", "5"
    )
    assert done.returncode == 0, done.stderr
    reply = json.loads(done.stdout)
    assert set(reply) == FIELDS
    assert reply["answer"] in OPTIONS
    assert "is unlike what" in done.stderr


def test_the_command_reports_a_wrong_model(tideo: Tideo, video: Path) -> None:
    done = tideo("ask", str(video), "why?", "--model", "dollhouse-tipa")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "unknown model 'dollhouse-tipa'; did you mean dollhouse-topa" in done.stderr
