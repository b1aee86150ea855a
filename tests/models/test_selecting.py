"""Models that look at other frames for each question: text-only, grids and servers, in ask, eval and the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import Tideo
from tideo.encoders.dual import DualEncoder
from tideo.evaluate.answers import plan
from tideo.evaluate.benchmark import load_benchmark
from tideo.evaluate.run import evaluate
from tideo.llms.interface import Reply
from tideo.models.grid.server import Remote
from tideo.models.interface import Controls
from tideo.models.load import load_model
from tideo.models.selecting import stem
from tideo.types import Answer, Cue, Sample, UserError, Video
from tiny import model_in
from tiny_vlms import saved
from videos import encode

OPTIONS = ("making tea in the kitchen", "a nap", "washing")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    path = tmp_path_factory.mktemp("video") / "v.mp4"
    encode(path, num=300)  # 30 s
    return Video(id="v", path=str(path))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {
        "topa": str(model_in(tmp_path_factory.getbasetemp())),
        "grid": str(saved("llava", tmp_path_factory.mktemp("grid") / "model")),
        "server": "openai:m@http://127.0.0.1:9/v1",
    }


ARGS = {
    "topa": ("sampler=bolt",),
    "grid": (
        "sampler=bolt",
        "selector=dollhouse-clip",
        "rows=2",
        "cols=2",
        "panels=2",
        "image_size=28",
        "form=text",
    ),
    "server": ("sampler=bolt", "selector=dollhouse-clip", "send=frames", "frames=4"),
}
NUM = {"topa": 10, "grid": 8, "server": 4}


def asked(kind: str, folders: dict[str, str], samples: Sequence[Sample], *args: str) -> list[Answer]:
    model = load_model(folders[kind], args=[*ARGS[kind], *args])
    if isinstance(model, Remote):
        model.server.ask = lambda *_, **__: Reply(text="B", truncated=False, tokens_in=0, tokens_out=0)  # type: ignore[method-assign]
        model.server.owner = lambda: None  # type: ignore[method-assign]
    return [model.answer(s.video, [s], seen=model.look_for(s))[0] for s in samples]


@pytest.mark.parametrize("kind", ARGS)
def test_the_frames_are_those_of_the_question_and_never_of_its_options(
    kind: str, folders: dict[str, str], video: Video, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    encode_text = DualEncoder.encode_text

    def noted(self: DualEncoder, of: Sequence[str], **options: Any) -> Any:
        texts.extend(of)
        return encode_text(self, of, **options)

    monkeypatch.setattr(DualEncoder, "encode_text", noted)
    first = Sample(id="a", video=video, question="what is he doing?", options=OPTIONS)
    others = replace(first, id="b", options=("reading a red book", "a garden", "zebras"))
    prompt = "what is he doing?\nA. zebras\nB. a nap\nAnswer with a letter."
    listed = replace(first, id="c", options=(), question=prompt)
    spoken = replace(
        first, id="d", question="Subtitles: zebras!\nwhat is he doing?", stem="what is he doing?"
    )
    elsewhere = ["where is the cup?", "tea", "who reads a red book in the garden?", "zebras and more zebras"]
    questions = [replace(first, id=question, question=question) for question in elsewhere]
    answers = asked(kind, folders, [first, others, listed, spoken, *questions])
    shown = [answer.pts_s for answer in answers]
    assert len(shown[0]) == NUM[kind]
    assert shown[0] == shown[1] == shown[2] == shown[3]
    assert len(set(shown)) > 1
    assert set(texts) == {"what is he doing?", *elsewhere}


def test_the_stem() -> None:
    video = Video(id="v", path="v.mp4")

    def of(question: str, **fields: Any) -> str:
        return stem(Sample(id="s", video=video, question=question, **fields))

    assert of("Why?\n(A) one\n(B) two") == "Why?"
    assert of("Plan A. What is B. doing?") == "Plan A. What is B. doing?"
    assert of("A. is first\nwhat comes next?") == "A. is first\nwhat comes next?"  # no list of options
    assert of("A. one\nB. two") == "A. one\nB. two"  # nothing else is asked
    assert of("Subtitles: hi\nWhy?", stem="Why?") == "Why?"
    for options in ("a) one\nb) two", "1. one\n2. two\nAnswer.", "  [A] one\n  [B] two", "A: one\n\nB: two"):
        assert of(f"Why?\n{options}") == "Why?"
    assert of("Steps:\n1. pours\n2. stirs\nWhat comes next?") == "What comes next?"
    assert of("(A) one\n(B) two\nWhich of them is it?\nAnswer.") == "Which of them is it?\nAnswer."
    assert of("1. She comes in. Why?") == "1. She comes in. Why?"
    assert of("Options:\nA. one\nB. two\nQ: Why?\nA:") == "Q: Why?\nA:"  # Q and the other A end no list
    assert of("A. is first\nWhy?\nA. one\nB. two") == "A. is first\nWhy?"
    assert of("Why?\n0. zero\n1. one\n2. two") == "Why?"
    assert of("1. cut\n2. stir\nWhy?\nA. one\nB. two") == "1. cut\n2. stir\nWhy?"


def test_subtitles_are_an_option(folders: dict[str, str], video: Video) -> None:
    cues = (
        Cue(start_s=20.0, end_s=24.0, text="the cup"),
        Cue(start_s=1.0, end_s=2.0, text="hello and a dog"),
    )
    sample = Sample(id="a", video=video, question="the cup", options=OPTIONS, cues=cues)
    (without,) = asked("topa", folders, [sample])
    (with_cues,) = asked("topa", folders, [sample], "subtitles=true")
    assert with_cues.pts_s != without.pts_s


def test_settings_that_do_not_go_together(folders: dict[str, str]) -> None:
    for args, message in (
        (
            ("sampler=bolt", "selector=", "encoder=x", "selector=y"),
            "selector=y and encoder=x, its earlier name",
        ),
        (("sampler=bolt", "selector=x", "pool_max=5"), "pool_max=5: expected at least the 16 frames"),
        (("sampler=bolt", "selector=x", "pool=scenes"), "expected one of exact, keyframes"),
    ):
        with pytest.raises(UserError, match=message):
            load_model(folders["grid"], args=args)
    with pytest.raises(UserError, match=r"even=0.5: it changes nothing .one frame is the selector's"):
        load_model(folders["topa"], args=["sampler=bolt", "num_frames=1", "even=0.5"])
    named = load_model(folders["grid"], args=["sampler=bolt", "encoder=dollhouse-clip", "image_size=28"])
    assert named.selector == "dollhouse-clip"


def test_the_second_question_encodes_no_pool(
    folders: dict[str, str], video: Video, tideo: Tideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    encode_images = DualEncoder.encode_images

    def counted(self: DualEncoder, images: Any, **options: Any) -> Any:
        encoded.append(len(images))
        return encode_images(self, images, **options)

    monkeypatch.setattr(DualEncoder, "encode_images", counted)
    ask = ("ask", video.path, "what is he doing?", "--model", folders["topa"], "--json")
    args = ("--model-args", "sampler=coverage", "--features", str(tmp_path / "pools"))
    done = tideo(*ask, *args)
    assert done.returncode == 0, done.stderr
    first, num = json.loads(done.stdout), sum(encoded)
    second = json.loads(tideo(*ask, *args).stdout)
    assert sum(encoded) - num == num - 30  # the chosen frames, and not the pool
    assert first["pts_s"] == second["pts_s"]
    assert len(first["relevance"]) == 30
    plain = tideo(*ask, "--features", str(tmp_path / "pools"))
    assert (plain.returncode, "leave it out" in plain.stderr) == (2, True)
    assert "relevance" not in json.loads(tideo(*ask).stdout)


def test_a_run_keeps_the_relevance_and_draws_it(
    folders: dict[str, str], video: Video, tmp_path: Path
) -> None:
    rows = [f"v,{i},what is he doing?,tea,a nap,{i}" for i in range(2)]
    (tmp_path / "q.csv").write_text("\n".join(["video_name,question_id,question,a0,a1,answer", *rows]) + "\n")
    where = {"data": tmp_path / "q.csv", "videos": Path(video.path).parent, "out": tmp_path / "out"}
    how: dict[str, Any] = {
        "benchmark": "csv",
        "model": folders["topa"],
        "controls": ["single_frame"],
        **where,
    }
    evaluate(model_args=["sampler=aks"], **how)
    lines = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    assert {(line["control"], len(line["pts_s"]), len(line["relevance"])) for line in lines} == {
        ("main", 10, 30), ("single_frame", 1, 30),
    }  # fmt: skip
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('<svg class="relevance"') == 2
    assert page.count('<path class="frame"') == 20
    settings = json.loads((tmp_path / "out" / "run.json").read_text())["recipe"]["settings"]
    assert (settings["sampler"], settings["pool_fps"], settings["selector"]) == ("aks", 1.0, None)
    assert list((tmp_path / "out").glob("pools-clip-*/store.json"))
    evaluate(model_args=["sampler=aks"], **how)
    again = (tmp_path / "out" / "answers.jsonl").read_text().splitlines()
    assert len(again) == len(lines)
    evaluate(model_args=["sampler=aks", "pool_fps=2"], **how)  # another pool: other answers
    keys = {json.loads(line)["key"] for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()}
    assert not keys & {line["key"] for line in lines}


def test_an_answer_depends_on_what_its_frames_are_chosen_for(folders: dict[str, str], video: Video) -> None:
    sample = Sample(id="a", video=video, question="Subtitles: hi\nwhy?", options=OPTIONS, stem="why?")
    cue = Cue(start_s=1.0, end_s=2.0, text="hi")
    others = [
        replace(sample, stem=None),
        replace(sample, cues=(cue,)),
        replace(sample, cues=(replace(cue, end_s=3.0),)),
    ]

    def keys(*args: str) -> set[str]:
        model = load_model(folders["topa"], args=list(args))
        benchmark = load_benchmark("csv")
        named = {"main": Controls()}
        return {plan([s], named, model=model, benchmark=benchmark)[0].key for s in (sample, *others)}

    assert len(keys("sampler=bolt")) == 4
    assert len(keys("sampler=middle")) == 1
