"""What a server is sent for each `send`, and what is said of what it did not take: against fakes of real servers."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat_server import Reply, Serve, said, serving
from foreign_servers import Foreign, llama_cpp, ollama, openais, sglang, transformers_serve, vllm
from tideo.config import override
from tideo.evaluate.run import evaluate
from tideo.models.grid.server_settings import ServerSettings
from tideo.models.interface import Controls
from tideo.models.load import load_model
from tideo.types import Answer, Sample, Stopped, UserError, Video, VideoError
from tideo.video.samplers import sample_frames
from videos import encode

SLOW = pytest.mark.slow
OPTIONS = ("tea", "a book", "the dishes")


@pytest.fixture
def serve() -> Iterator[Serve]:
    with serving() as start:
        yield start


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds at 10 frames a second, with a name that a URL has to quote."""
    path = tmp_path_factory.mktemp("own videos") / "a 100% video.mp4"
    encode(path, num=60, size=(96, 64), options={"g": "25"})
    return path


def video_of(file: Path, **segment: float) -> Video:
    return Video(id="v", path=str(file), **segment)


def ask(url: str, file: Path, *args: str, controls: Controls | None = None, **segment: float) -> Answer:
    model = load_model(f"openai:m@{url}", args=["retries=0", *args])
    video, how = video_of(file, **segment), controls or Controls()
    sample = Sample(id="q", video=video, question="what is it", options=OPTIONS)
    (answer,) = model.answer(video, [sample], seen=model.look(video, controls=how), controls=how)
    return answer


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


# --- each server, each shape that it takes --------------------------------------------------------------


PICTURES = ([], ["send=grid"], ["panels=3", "rows=2", "cols=2"], ["send=frames", "frames=5"])


@pytest.mark.parametrize("args", PICTURES, ids=" ".join)
@pytest.mark.slow
@pytest.mark.parametrize("make", [vllm, sglang, llama_cpp, ollama, openais, transformers_serve])
def test_pictures_reach_every_server(
    make: Any, args: list[str], serve: Serve, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake = make()
    answer = ask(serve(fake).url, file, *args)
    assert (answer.choice, answer.error) == (1, None)
    sizes = [image.size for image in fake.images[0]]
    grids = [(336, 336)] * (3 if "panels=3" in args else 1)
    assert sizes == ([(96, 64)] * 5 if "send=frames" in args else grids)
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    ("make", "args"),
    [
        (vllm, []), (vllm, ["video_as=path"]),
        pytest.param(sglang, [], marks=SLOW),
        pytest.param(llama_cpp, ["video_as=input_video"], marks=SLOW),
        pytest.param(transformers_serve, ["video_as=plain_path"], marks=SLOW),
    ],
    ids=["vllm", "vllm, path", "sglang", "llama.cpp", "transformers"],
)  # fmt: skip
def test_the_file_reaches_servers_that_take_videos(
    make: Any, args: list[str], serve: Serve, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake = make(media_path=file.parent) if "video_as=path" in args else make()
    answer = ask(serve(fake).url, file, "send=video", *args)
    assert (answer.choice, answer.error, answer.pts_s) == (1, None, ())
    assert np.array_equal(fake.videos[0][0], sample_frames(str(file), 32).rgb_THWC)
    assert warnings(caplog) == []


def test_the_text_has_the_times_of_frames(serve: Serve, file: Path) -> None:
    server = serve(lambda n, request: said("B"))
    answer = ask(server.url, file, "send=frames", "frames=3", "image_size=48")
    *images, text = server.requests[0]["messages"][0]["content"]
    assert len(images) == 3
    assert answer.pts_s == (1.0, 3.0, 5.0)
    assert "The 3 images are frames of one video in the order of time, at 0:01, 0:03, 0:05.\n" in text["text"]
    ask(server.url, file, "send=frames", "frames=3", "intro={frames} pictures ({times}):")
    assert server.requests[-1]["messages"][0]["content"][-1]["text"].startswith(
        "3 pictures (0:01, 0:03, 0:05):"
    )


# --- what servers refuse ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fake", "args", "advice"),
    [
        (vllm(num_videos=0), ["send=video"], r"At most 0 video.*set send=frames"),
        (vllm(), ["send=video", "video_as=path"], "Cannot load local files.*set video_as=data"),
        pytest.param(vllm(media_path=Path("/srv")),
            ["send=video", "video_as=path"],
            "subpath.*set video_as=data",
            marks=SLOW,
        ),
        (vllm(num_images=1), ["panels=2"], "At most 1 image.*set send=grid and panels=1"),
        pytest.param(vllm(num_images=4), ["send=frames"], "At most 4 image.*--limit-mm-per-prompt", marks=SLOW),
        (vllm(num_images=0), [], "At most 0 image.*the model takes no images"),
        pytest.param(sglang(), ["send=video", "video_as=input_video"], "expected tags.*set send=frames$", marks=SLOW),
        (llama_cpp(), ["send=video"], r"unsupported content.*set send=frames, for llama.cpp video_as=input_video"),
        (llama_cpp(projector=False), ["send=video", "video_as=input_video"], "mmproj; .*set send=frames"),
        pytest.param(llama_cpp(projector=False), [], "mmproj; the model takes no images", marks=SLOW),
        pytest.param(ollama(), ["send=video"], "invalid message format; .*set send=frames", marks=SLOW),
        pytest.param(openais(), ["send=video"], "Invalid value: 'video_url'.*set send=frames", marks=SLOW),
    ],
)  # fmt: skip
def test_a_part_that_is_refused_ends_the_run_with_the_setting(
    fake: Foreign, args: list[str], advice: str, serve: Serve, file: Path
) -> None:
    with pytest.raises(Stopped, match=advice):
        ask(serve(fake).url, file, *args)


def test_an_error_without_a_word_names_the_setting_too(serve: Serve, file: Path) -> None:
    answer = ask(serve(transformers_serve()).url, file, "send=video")
    assert answer.error is not None
    said_of_it = "500: Internal Server Error (send=video; if the server takes no video, set send=frames)"
    assert answer.error.endswith(said_of_it)
    assert answer.choice is None


def test_a_video_that_one_server_cannot_read_fails_alone(serve: Serve, file: Path) -> None:
    server = serve(lambda n, request: (400, {"error": {"message": "Failed to decode the video at index 0"}}))
    answer = ask(server.url, file, "send=video")
    assert "Failed to decode the video" in str(answer.error)


# --- what servers leave out without a word --------------------------------------------------------------


@pytest.mark.parametrize(
    ("fake", "args", "evidence"),
    [
        (transformers_serve(sees=False), [], r"not to have taken the picture: it counts (\d+) .*, and \1 without"),
        (transformers_serve(sees=False), ["panels=2"], r"the 2 pictures: it counts (\d+) tokens.*, and \1 without"),
        (transformers_serve(), ["send=video", "video_as=input_video"], r"the video: it counts (\d+).*, and \1 without"),
        (ollama(keeps=4), ["send=frames", "frames=8"], "8 pictures: they add 256 .*adds 64, so 4.0 came"),
        pytest.param(vllm(keeps=7),
            ["send=frames", "frames=8"],
            "8 pictures: they add 448 .*adds 64, so 7.0 came",
            marks=SLOW,
        ),
        pytest.param(vllm(budget=200),
            ["panels=6", "rows=1"],
            "6 pictures: they add 200 .*adds 64, so 3.1 came",
            marks=SLOW,
        ),
        (vllm(counts=False), ["send=frames"], "does not count tokens, so nothing shows whether it took"),
    ],
)  # fmt: skip
def test_what_a_server_did_not_take_is_one_line(
    fake: Foreign, args: list[str], evidence: str, serve: Serve, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_model(f"openai:m@{serve(fake).url}", args=["retries=0", *args])
    video = video_of(file)
    samples = [Sample(id=f"q{k}", video=video, question=f"what {k}", options=OPTIONS) for k in range(4)]
    answers = model.answer(video, samples, seen=model.look(video))
    assert [answer.choice for answer in answers] == [1] * 4, "a warning is no failure"
    (line,) = warnings(caplog)
    assert "\n" not in line
    assert re.search(evidence, line), line


def test_a_check_that_fails_is_said_and_costs_no_answer(
    serve: Serve, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def replies(n: int, request: dict[str, Any]) -> Reply:
        return said("B", usage=(90, 1)) if n == 0 else (400, {"error": {"message": "no picture, no answer"}})

    assert ask(serve(replies).url, file).choice == 1
    (line,) = warnings(caplog)
    assert "could not be checked" in line
    assert "no picture, no answer" in line


@pytest.mark.slow
def test_a_late_answer_is_waited_for_and_a_later_one_fails(serve: Serve, file: Path) -> None:
    def late(n: int, request: dict[str, Any]) -> Reply:
        time.sleep(0.3)
        return said("B")

    server = serve(late)
    assert ask(server.url, file, "send=video", "timeout_s=5").choice == 1
    answer = ask(server.url, file, "send=frames", "timeout_s=0.1")
    assert "no answer within 0.1 s, 1 times (send=frames; frames=N sends fewer)" in str(answer.error)


# --- segments, sizes and other files --------------------------------------------------------------------


def test_of_a_segment_only_that_part_is_sent(serve: Serve, file: Path) -> None:
    fake = vllm()
    url = serve(fake).url
    ask(url, file, "send=video", start_s=2.0, end_s=4.0)
    (sent,) = fake.videos[0]
    expected = sample_frames(video_of(file, start_s=2.0, end_s=4.0), 20).rgb_THWC
    assert len(sent) == len(expected) == 20
    assert np.abs(sent.astype(int) - expected).mean() < 12, "the cut is encoded again, with small losses"
    ask(url, file, "send=video", start_s=0.0, end_s=60.0)
    assert np.array_equal(fake.videos[-1][0], sample_frames(str(file), 32).rgb_THWC), "that is the whole file"
    with pytest.raises(
        Stopped, match="about a segment, and video_as=path sends the whole file; set video_as=data"
    ):
        ask(url, file, "send=video", "video_as=path", start_s=2.0, end_s=4.0)
    with pytest.raises(VideoError, match="outside the segment"):
        ask(url, file, "send=video", start_s=70.0)


@pytest.mark.slow
def test_a_large_video_is_refused_with_its_size(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "large.mp4"
    encode(path, num=40)
    with path.open("ab") as more:
        more.write(b"\0\0\0\x08free" * 150_000)
    server = serve(lambda n, request: said("B"))
    with pytest.raises(
        UserError, match="it has 1 MB, more than the 1 of max_video_mb; raise max_video_mb, set"
    ):
        ask(server.url, path, "send=video", "max_video_mb=1")
    assert server.requests == []
    assert ask(server.url, path, "send=video", "max_video_mb=2").choice == 1


def test_a_gif_and_a_folder_of_pictures_become_mp4s(serve: Serve, tmp_path: Path) -> None:
    fake = sglang()
    server = serve(fake)
    encode(tmp_path / "a.gif", num=8, codec="gif", pix_fmt="rgb8")
    assert ask(server.url, tmp_path / "a.gif", "send=video").choice == 1
    assert server.requests[0]["messages"][0]["content"][0]["video_url"]["url"].startswith(
        "data:video/mp4;base64,"
    )
    assert len(fake.videos[0][0]) == 8


def test_a_missing_video_counts_as_failed(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("video_name,question_id,question,a0,a1,answer\nno.mp4,q,what,x,y,0\n")
    server = serve(lambda n, request: said("B"))
    model = load_model(f"openai:m@{server.url}", args=["send=video"])
    report = evaluate(
        benchmark="csv",
        data=tmp_path / "own.csv",
        videos=tmp_path,
        model=model,
        out=tmp_path / "out",
        controls=[],
    )
    assert (report.n_failed, server.requests) == (1, [])


# --- controls, keys and settings ------------------------------------------------------------------------


def test_controls_of_frames(serve: Serve, file: Path) -> None:
    fake = vllm()
    url = serve(fake).url

    def sent(controls: Controls) -> list[np.ndarray]:
        first = len(fake.images)  # the requests that check what it took come after
        ask(url, file, "send=frames", "frames=4", controls=controls)
        return [np.asarray(image) for image in fake.images[first]]

    whole = sent(Controls())
    turned = sent(Controls(shuffled=0))
    assert len(whole) == len(turned) == 4
    assert any((a != b).any() for a, b in zip(whole, turned, strict=True))
    assert sorted(a.tobytes() for a in whole) == sorted(a.tobytes() for a in turned)
    assert len(sent(Controls(num_frames=1))) == 1
    assert sent(Controls(blind=True)) == []


def test_of_a_video_the_server_chooses_the_frames(serve: Serve, file: Path, tmp_path: Path) -> None:
    fake = vllm()
    model = load_model(f"openai:m@{serve(fake).url}", args=["send=video"])
    (tmp_path / "own.csv").write_text(
        f"video_name,question_id,question,a0,a1,answer\n{file.name},q,what,x,y,1\n"
    )
    how: dict[str, Any] = {
        "benchmark": "csv",
        "data": tmp_path / "own.csv",
        "videos": file.parent,
        "model": model,
    }
    for control in ("single_frame", "shuffled_frames"):
        with pytest.raises(
            UserError, match=r"does not apply.*the server chooses the frames.*send=frames has this"
        ):
            evaluate(**how, out=tmp_path / "out", controls=[control])
    report = evaluate(**how, out=tmp_path / "out", controls=["blind"])
    assert report.accuracy == 1.0
    assert sorted(map(len, fake.videos))[-2:] == [0, 1] or [len(v) for v in fake.videos if v] == [1]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["send=movie"], "send"),
        (["send=grid", "panels=2"], "send=grid is one picture, and panels=2: set send=panels"),
        (["send=panels"], "send=panels is several pictures, and panels=1: set panels=2 or more"),
        (["send=frames", "rows=2"], r"rows=2: it changes nothing \(send=frames sends each frame by itself\)"),
        (["send=frames", "fit=crop"], "it changes nothing"),
        (["frames=3"], r"frames=3: it changes nothing \(only send=frames uses it\)"),
        (["video_as=path"], "only send=video uses it"),
        (["send=video", "sampler=uniform"], "the server chooses the frames of send=video"),
        (["send=video", "image_size=100"], "the server chooses the frames of send=video"),
        (["send=video", "video_as=path", "max_video_mb=3"], "no content of a video is sent"),
        (["send=frames", "frames=0"], "expected at least 1"),
        (["send=frames", "intro={rows}"], "expected the fields {frames} and {times} alone"),
    ],
)  # fmt: skip
def test_settings_that_change_nothing_are_refused(args: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_model("openai:m@http://127.0.0.1:9/v1", args=args)


def test_settings_of_earlier_versions_keep_their_keys() -> None:
    def keyed(*args: str) -> Any:
        return override(ServerSettings(), args).keyed

    of_grids = {
        "rows": 4, "cols": 4, "panels": 1, "image_size": 336, "sampler": "middle", "encoder": None, "fit": "squash",
        "stamps": False, "intro": None, "prompt_style": "llava", "form": "letter", "reduction": "mean",
        "max_new_tokens": 64, "temperature": 0.0,
    }  # fmt: skip
    assert keyed() == keyed("send=grid") == of_grids
    assert keyed("panels=2") == keyed("panels=2", "send=panels") == of_grids | {"panels": 2}
    assert keyed("send=frames") == of_grids | {"send": "frames", "frames": 16}
    sent = of_grids | {"send": "video", "video_as": "data"}
    assert keyed("send=video") == keyed("send=video", "max_video_mb=9") == sent


# --- Tideo's own server -----------------------------------------------------------------------------------


def test_tideos_own_server_is_sent_the_options_and_the_segment(serve: Serve, file: Path) -> None:
    def replies(n: int, request: dict[str, Any]) -> Reply:
        status, body = said("the dishes", usage=(0, 0))[:2]
        return status, body | {"tideo": {"choice": 2, "pts_s": [2.5, 3.5], "loglikelihoods": [-3, -2, -1]}}

    server = serve(replies)
    server.models = {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "tideo"}]}
    answer = ask(server.url, file, "send=video", start_s=2.0, end_s=4.0)
    assert (answer.choice, answer.text, answer.pts_s) == (2, "the dishes", (2.5, 3.5))
    (request,) = server.requests
    part, text = request["messages"][0]["content"]
    assert (text["text"], request["options"]) == ("what is it", list(OPTIONS))
    assert (request["start"], request["end"]) == (2.0, 4.0)
    assert len(part["video_url"]["url"]) > file.stat().st_size, (
        "the whole file: the server cuts it as we would"
    )
    ask(server.url, file, "send=frames", "frames=2")
    times_s = [part["time_s"] for part in server.requests[-1]["messages"][0]["content"][:-1]]
    assert times_s == [1.5, 4.5]
    with pytest.raises(Stopped, match="set send=video"):
        ask(server.url, file)
    with pytest.raises(Stopped, match="leave prompt_style out"):
        ask(server.url, file, "send=video", "prompt_style=plain")
    with pytest.raises(Stopped, match="set video_as=data or video_as=path"):
        ask(server.url, file, "send=video", "video_as=input_video")
    with pytest.raises(Stopped, match="leave the control blind out"):
        ask(server.url, file, "send=video", controls=Controls(blind=True))


@pytest.mark.parametrize(
    "listed",
    [None, [], {"data": 3}, {"data": [3, {"id": "m"}]}, {"data": [{"id": "other", "owned_by": "tideo"}]}],
)
def test_a_strange_list_of_models_is_another_server(listed: Any, serve: Serve, file: Path) -> None:
    server = serve(lambda n, request: said("B"))
    server.models = listed
    assert ask(server.url, file, "send=video").choice == 1
    assert "options" not in server.requests[0]


def test_no_server_ends_the_run(file: Path) -> None:
    with pytest.raises(Stopped, match="the server cannot be reached"):
        ask("http://127.0.0.1:9/v1", file, "send=video")
