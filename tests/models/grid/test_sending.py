"""What a server is sent for each `send`, and what is said of what it did not take: against fakes of real servers."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat_server import Reply, Serve, said
from foreign_servers import (
    OPTIONS,
    Foreign,
    ask,
    llama_cpp,
    ollama,
    openais,
    sglang,
    transformers_serve,
    video_of,
    vllm,
)
from tideo.models.load import load_model
from tideo.types import Sample, Stopped
from tideo.video.samplers import sample_frames

SLOW = pytest.mark.slow


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
