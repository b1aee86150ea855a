"""Segments, other files, controls, keys and settings of what a server is sent, and Tideo's own server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat_server import Reply, Serve, said
from foreign_servers import (
    OPTIONS,
    ask,
    sglang,
    video_of,
    vllm,
)
from tideo.config import override
from tideo.evaluate.run import evaluate
from tideo.models.grid.server_settings import ServerSettings
from tideo.models.interface import Controls
from tideo.models.load import load_model
from tideo.types import Stopped, UserError, VideoError
from tideo.video.samplers import sample_frames
from videos import encode

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
        (["send=movie"], "look"),
        (["send=grid", "panels=2"], "look=grid is one image, and panels=2: set look=panels"),
        (["send=panels"], "look=panels is several images, and panels=1: set panels=2 or more"),
        (["send=frames", "rows=2"], r"rows=2: it changes nothing \(look=frames shows each frame by itself\)"),
        (["send=frames", "fit=crop"], "it changes nothing"),
        (["frames=3"], r"frames=3: it changes nothing \(only look=frames and look=video use it\)"),
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
    assert keyed() == keyed("look=grid") == of_grids
    assert keyed("panels=2") == keyed("panels=2", "look=panels") == of_grids | {"panels": 2}
    assert keyed("look=frames") == of_grids | {"look": "frames", "frames": 16}
    sent = of_grids | {"look": "video", "frames": 16, "video_as": "data"}
    assert keyed("look=video") == keyed("look=video", "max_video_mb=9") == sent


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
    ("about", "message"),
    [
        *(({"choice": choice}, "chose no option") for choice in (True, 0.0, "0", [0], -1, 3, None)),
        *(({"choice": 0, "pts_s": pts_s}, "no times") for pts_s in (5, "abc", [None], [{}], [True], ["1"])),
    ],
)
def test_what_a_server_says_in_tideos_name_is_checked(
    about: dict[str, Any], message: str, serve: Serve, file: Path
) -> None:
    def replies(n: int, request: dict[str, Any]) -> Reply:
        status, body = said("tea")[:2]
        return status, body | {"tideo": about}

    server = serve(replies)
    server.models = {"data": [{"id": "m", "owned_by": "tideo"}]}
    answer = ask(server.url, file, "send=frames", "frames=1")
    assert answer.choice is None
    assert message in (answer.error or "")


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
