"""A model behind OpenAI's protocol: real HTTP on loopback, from a server that fails in every way."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from chat_server import Reply, Serve, said, serving
from conftest import Tideo
from tideo.evaluate.run import evaluate
from tideo.llms.interface import Calls
from tideo.models.grid.server import Remote
from tideo.models.load import load_model
from tideo.types import Answer, Sample, Stopped, UserError, Video
from videos import encode

OPTIONS = ("tea", "a book", "the dishes", "A plant", "nothing")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with serving() as start:
        yield start


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos and nine questions in the csv layout of one's own."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "videos").mkdir()
    rows = ["video_name,question_id,question,a0,a1,a2,a3,a4,answer"]
    for k in range(3):
        encode(folder / "videos" / f"v{k}.mp4", num=20 + k)
        rows += [f"v{k}.mp4,q{k}{q},what is it {q},{','.join(OPTIONS)},{q}" for q in range(3)]
    (folder / "own.csv").write_text("\n".join(rows) + "\n")
    return folder


def run(data: Path, model: Any, out: Path, **kwargs: Any) -> Any:
    given: dict[str, Any] = {"controls": []} | kwargs
    return evaluate(
        benchmark="csv", data=data / "own.csv", videos=data / "videos", model=model, out=out, **given
    )


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]


# --- requests ----------------------------------------------------------------------------------------


def test_the_grid_and_the_question_are_sent(serve: Serve, data: Path) -> None:
    server = serve(lambda n, request: said("B"))
    model = load_model(f"openai:llava@{server.url}", args=["rows=2", "cols=2", "image_size=64", "retries=0"])
    video = Video(id="v0", path=str(data / "videos" / "v0.mp4"))
    sample = Sample(id="q", video=video, question="what is it", options=OPTIONS)
    (answer,) = model.answer(video, [sample], seen=model.look(video))
    assert (answer.choice, answer.text, answer.error, len(answer.pts_s)) == (1, "B", None, 4)
    (request,) = server.requests
    assert (request["model"], request["temperature"], server.keys) == ("llava", 0.0, ["Bearer sk-secret"])
    image, text = request["messages"][0]["content"]
    png = base64.b64decode(image["image_url"]["url"].removeprefix("data:image/png;base64,"))
    assert Image.open(io.BytesIO(png)).size == (64, 64)
    assert "what is it\nA. tea\nB. a book" in text["text"]
    assert "4 frames of one video in reading order, 2 rows of 2" in text["text"]


def test_an_open_question_gets_the_servers_words(serve: Serve, data: Path) -> None:
    server = serve(lambda n, request: said(" Somebody makes tea. "))
    video = Video(id="v0", path=str(data / "videos" / "v0.mp4"))
    model = Remote(f"openai:m@{server.url}")
    sample = Sample(id="q", video=video, question="what happens")
    (answer,) = model.answer(video, [sample], seen=model.look(video))
    assert (answer.text, answer.choice) == ("Somebody makes tea.", None)


CUT = "the reply was cut at 64 tokens, set a higher max_new_tokens"


def asked(data: Path, model: Remote, *, options: tuple[str, ...] = OPTIONS) -> Answer:
    video = Video(id="v0", path=str(data / "videos" / "v0.mp4"))
    sample = Sample(id="q", video=video, question="what", options=options)
    (answer,) = model.answer(video, [sample], seen=model.look(video))
    return answer


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (said("<think>A, or C?</think>\n\nB"), (1, "B", None)),
        (said("B", finish="length"), (None, "B", f"{CUT}: 'B'")),
        (said(None, finish="length"), (None, "", f"{CUT}: ''")),
        (said("<think>B"), (None, "<think>B", "the reply ends within a thought: '<think>B'")),
        (said("<think>B", finish="length"), (None, "<think>B", f"{CUT}: '<think>B'")),
        (said("<think>B</think>"), (None, "<think>B</think>", "the reply holds thoughts and no text")),
        (said("A man."), (None, "A man.", "the reply names no option: 'A man.'")),
    ],
)  # fmt: skip
def test_a_choice_needs_a_whole_reply(
    serve: Serve, data: Path, reply: Reply, expected: tuple[int | None, str, str | None]
) -> None:
    answer = asked(data, Remote(f"openai:m@{serve(lambda n, request: reply).url}"))
    assert (answer.choice, answer.text, answer.error) == expected


@pytest.mark.parametrize(
    ("reply", "text", "failed"),
    [
        (said("<think>Tea?</think> Somebody makes tea."), "Somebody makes tea.", False),
        (said("Somebody makes tea and", finish="length"), "Somebody makes tea and", False),
        (said("Tea? Yes.</think>Tea."), "Tea.", False), (said("<think>Tea"), "", True),
        (said(None, finish="length"), "", True), (said("<think>Tea</think>"), "", True),
    ],
)  # fmt: skip
def test_a_description_has_no_thoughts(
    serve: Serve, data: Path, reply: Reply, text: str, failed: bool
) -> None:
    answer = asked(data, Remote(f"openai:m@{serve(lambda n, request: reply).url}"), options=())
    assert (answer.text, answer.error is not None) == (text, failed)


def test_settings_for_a_model_that_reasons(serve: Serve, data: Path) -> None:
    def like_openais(n: int, request: dict[str, Any]) -> Reply:
        if "max_tokens" in request:
            return 400, {"error": {"message": "Unsupported parameter: 'max_tokens'", "param": "max_tokens"}}
        if request.get("temperature", 1) != 1:
            return 400, {"error": {"message": "temperature does not support 0 with this model"}}
        return said("B")

    name = f"openai:o@{serve(like_openais).url}"
    args: list[str] = []
    for setting in ("max_tokens_field=max_completion_tokens", "temperature=none"):
        with pytest.raises(Stopped, match=f"set {setting}$"):
            asked(data, load_model(name, args=args))
        args.append(setting)
    model = load_model(name, args=[*args, "max_new_tokens=4000"])
    assert asked(data, model).choice == 1
    assert model.settings != load_model(name).settings  # which the keys of answers hash
    with pytest.raises(UserError, match="expected at least 0, or none"):
        load_model(name, args=["temperature=-1"])


def test_a_refused_parameter_ends_the_run_with_the_first_request(
    serve: Serve, data: Path, tmp_path: Path
) -> None:
    server = serve(lambda n, request: (400, {"error": {"message": "no", "param": "temperature"}}))
    with pytest.raises(Stopped, match="set temperature=none"):
        run(data, Remote(f"openai:m@{server.url}", calls=Calls(concurrency=1)), tmp_path)
    assert (len(server.requests), records(tmp_path)) == (1, [])


@pytest.mark.slow
def test_requests_are_made_at_a_time(serve: Serve, data: Path, tmp_path: Path) -> None:
    def slowly(n: int, request: dict[str, Any]) -> Reply:
        time.sleep(0.2)
        return said("A")

    server = serve(slowly)
    report = run(data, Remote(f"openai:m@{server.url}", calls=Calls(concurrency=4)), tmp_path)
    assert (report.n, report.accuracy, len(server.requests)) == (9, pytest.approx(1 / 3), 9)
    assert 2 <= server.most_at_once <= 4


# --- failures ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_failure_is_counted_once_and_asked_again_on_demand(
    serve: Serve, data: Path, tmp_path: Path
) -> None:
    bad: dict[str, Reply] = {
        "q00": (429, {"error": {"message": "slow down"}}, {"Retry-After": "0"}),
        "q01": (503, b"<html>no</html>", {"Retry-After": "0"}),
        "q02": said("It may be A or B."),
        "q10": said(None),
        "q11": (200, {"choices": []}),
        "q12": (400, {"error": {"message": "the image is too large"}}),
        "q20": said("F"),
        "q22": (200, b'{"choices": ['),
    }
    mended = threading.Event()
    lost = threading.Event()

    def replies(n: int, request: dict[str, Any]) -> Reply:
        text = request["messages"][0]["content"][-1]["text"]
        name = next(f"q{k}{q}" for k in range(3) for q in range(3) if f"{videos[k]} {q}" in text)
        if name == "q21" and not mended.is_set():
            lost.wait(3)  # longer than the time-out
        return bad[name] if name in bad and not mended.is_set() else said("A")

    videos = ("first", "second", "third")
    rows = (data / "own.csv").read_text().splitlines()
    named = [
        r.replace("what is it", f"what is it {videos[(i - 1) // 3]}") if i else r for i, r in enumerate(rows)
    ]
    here = tmp_path / "data"
    here.mkdir()
    (here / "own.csv").write_text("\n".join(named) + "\n")
    (here / "videos").symlink_to(data / "videos")
    server = serve(replies)
    model = Remote(f"openai:m@{server.url}", calls=Calls(retries=2, timeout_s=0.5))
    report = run(here, model, tmp_path / "out")
    errors = {r["sample_id"]: r["error"] for r in records(tmp_path / "out") if r["error"]}
    assert (report.n, report.n_failed, len(errors)) == (9, 9, 9)
    for name, told in {
        "q00": "slow down", "q01": "503", "q02": "names no option: 'It may be A or B.'", "q10": "holds no text",
        "q11": "holds no choice", "q12": "the image is too large", "q20": "names no option: 'F'",
        "q22": "is not JSON (Expecting value", "q21": "no answer within 0.5 s, 3 times",
    }.items():  # fmt: skip
        assert told in errors[name], name
    assert sum(f["n"] for f in report.failures) == 9
    lost.set()
    asked = len(server.requests)
    run(here, model, tmp_path / "out")
    assert len(server.requests) == asked, "a failure is an answer until it is asked again"
    mended.set()
    again = run(here, model, tmp_path / "out", retry_failed=True)
    assert (again.n_failed, len(server.requests)) == (0, asked + 9)
    assert len({r["key"] for r in records(tmp_path / "out")}) == len(records(tmp_path / "out")) == 9


def test_a_server_that_recovers_is_waited_for(serve: Serve, data: Path) -> None:
    now = {"Retry-After": "0"}
    server = serve(
        lambda n, request: said("A") if n > 2 else ((429, 500, 503)[n], {"error": {"message": "no"}}, now)
    )
    answer = asked(data, Remote(f"openai:m@{server.url}", calls=Calls(retries=3)))
    assert (answer.choice, len(server.requests)) == (0, 4)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_no_right_to_ask_ends_the_run(status: int, serve: Serve, data: Path, tmp_path: Path) -> None:
    server = serve(lambda n, request: (status, {"error": {"message": "not for you"}}))
    with pytest.raises(Stopped, match=r"not for you.*check the model's name, the URL and OPENAI_API_KEY"):
        run(data, Remote(f"openai:m@{server.url}", calls=Calls(concurrency=1)), tmp_path)
    assert len(server.requests) == 1
    assert records(tmp_path) == []


def test_no_server_is_told_in_one_line(data: Path, tmp_path: Path, tideo: Tideo) -> None:
    done = tideo(
        "eval", "csv", "--data", str(data / "own.csv"), "--videos", str(data / "videos"), "--out", str(tmp_path),
        "--model", "openai:m@http://127.0.0.1:9/v1", "--model-args", "retries=0",
    )  # fmt: skip
    assert done.returncode == 2
    assert "127.0.0.1:9/v1: the server cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_cap_ends_the_run_and_a_higher_one_goes_on(serve: Serve, data: Path, tmp_path: Path) -> None:
    server = serve(lambda n, request: said("A", usage=(1000, 100)))  # 1000 * 1 + 100 * 10 per million = 0.002
    calls = Calls(concurrency=1, price_in=1.0, price_out=10.0, cap=0.0075)
    with pytest.raises(Stopped, match=r"the cap of 0\.0075 is reached \(0\.008 spent\)"):
        run(data, Remote(f"openai:m@{server.url}", calls=calls), tmp_path)
    assert len(server.requests) == 4
    report = run(data, Remote(f"openai:m@{server.url}", calls=Calls(concurrency=2)), tmp_path)
    assert (report.n, report.n_failed, len(server.requests)) == (9, 0, 9)


def test_what_is_under_way_at_the_cap_is_kept(serve: Serve, data: Path, tmp_path: Path) -> None:
    server = serve(lambda n, request: said("A", usage=(1000, 100)))
    calls = Calls(concurrency=3, price_in=1.0, price_out=10.0, cap=0.0035)
    with pytest.raises(Stopped):
        run(data, Remote(f"openai:m@{server.url}", calls=calls), tmp_path)
    assert len(records(tmp_path)) == len(server.requests) < 9


def test_a_cap_needs_prices_and_told_tokens(serve: Serve, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a cap needs prices"):
        Calls(cap=1.0)
    server = serve(lambda n, request: said("A", usage=None))
    calls = Calls(price_in=1.0, price_out=1.0, cap=1.0)
    with pytest.raises(Stopped, match="does not count tokens"):
        run(data, Remote(f"openai:m@{server.url}", calls=calls), tmp_path)


def test_the_key_reaches_no_file_and_no_line(
    serve: Serve, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server = serve(lambda n, request: said("A") if n % 2 else (400, {"error": {"message": "no"}}))
    run(data, Remote(f"openai:m@{server.url}", calls=Calls(retries=0)), tmp_path)
    written = "".join(path.read_text() for path in tmp_path.iterdir())
    assert "sk-secret" not in written + "".join(capfd.readouterr())


def test_openais_own_server_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match="set OPENAI_API_KEY in the environment"):
        load_model("openai:some-model")


# --- threads -----------------------------------------------------------------------------------------


def test_threads_share_one_model(serve: Serve, data: Path) -> None:
    server = serve(lambda n, request: said("A", usage=(1_000_000, 0)))
    model = Remote(f"openai:m@{server.url}", calls=Calls(price_in=1.0, price_out=1.0, cap=1000.0))
    video = Video(id="v0", path=str(data / "videos" / "v0.mp4"))
    sample = Sample(id="q", video=video, question="what", options=OPTIONS)
    frames = model.look(video)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: model.answer(video, [sample], seen=frames), range(24)))
    assert model.server.spent == pytest.approx(24.0)
