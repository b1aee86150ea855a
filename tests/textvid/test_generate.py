"""Tideos written through a real server on loopback that fails in every way, killed and started again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import REPOSITORY, Tideo
from tideo.dollhouse import world
from tideo.lab.scripted_writer import ScriptedWriter, completion
from tideo.llms.interface import Calls
from tideo.llms.openai import Server
from tideo.llms.rate_limit import Pace
from tideo.store.records import read_records
from tideo.textvid.generate import _order, generate, summary
from tideo.textvid.packs import load_pack, read_conditions
from tideo.textvid.schema import load, to_tideo
from tideo.textvid.writer import (
    WriterSettings,
    WrittenFrame,
    WrittenOptions,
    WrittenQuestions,
    WrittenVideo,
    read_reply,
)
from tideo.types import Stopped, UserError

Asked = dict[str, Any]
Fault = Callable[[int, Asked, str], Any]  # number of the request, request, right reply → what is done instead


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:  # a client that gave up waiting
        pass


class Place:
    """A scripted writer's address, what it was asked, and how it was answered."""

    def __init__(self, url: str) -> None:
        self.url, self.name = url, f"openai:scripted@{url}"
        self.requests: list[Asked] = []
        self.replies: Counter[str] = Counter()


@contextmanager
def writer(fault: Fault = lambda number, asked, right: right) -> Iterator[Place]:
    """`fault` returns a text to say, (status, body), "drop" to hang up, or "hang" to be silent."""
    script, lock = ScriptedWriter(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(place.requests)
                place.requests.append(asked | {"key": self.headers["Authorization"]})
            prompts = [m["content"] for m in asked["messages"] if m["role"] == "user"]
            prompt = prompts[0].removeprefix(f"{load_pack('dollhouse').system.strip()}\n\n")
            right = script.reply(prompt, seed=asked.get("seed", 0))
            done = fault(number, asked, right)
            if done in ("drop", "hang"):
                place.replies[str(done)] += 1
                if done == "hang":
                    time.sleep(1.5)
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            status, body = done if isinstance(done, tuple) else (200, done)
            place.replies[str(status) if status != 200 else "right" if body == right else "wrong"] += 1
            if status == 200 and isinstance(body, str):
                body = completion(body, messages=asked["messages"], model=asked["model"])
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if status == 429:
                self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    place = Place(f"http://127.0.0.1:{server.server_address[1]}/v1")
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield place
    finally:
        server.shutdown()
        server.server_close()


def made(place: Place, out: Path, *, num: int, calls: Calls | None = None, **kwargs: Any) -> Any:
    kwargs = {"pack": "dollhouse"} | kwargs
    return generate(Server(place.name, calls=calls or Calls(retries=2)), num=num, out=out, **kwargs)


# --- a Tideo ------------------------------------------------------------------------------------------


def test_a_tideo_with_where_it_came_from(tmp_path: Path) -> None:
    conditions = tmp_path / "conditions.txt"
    conditions.write_text("making tea\n\n  baking a cake  \n")
    calls = Calls(price_in=1.0, price_out=2.0)
    with writer() as place:
        done = made(place, tmp_path / "out", num=3, conditions=conditions, calls=calls)
    records = load(tmp_path / "out")
    assert (done.accepted, done.rejected, done.requests, len(records)) == (3, 0, 9, 3)
    tideo = to_tideo(records[0])
    assert len(tideo.frames) == 10
    assert len(tideo.questions) == 4
    assert all(len(set(q.options)) == 5 for q in tideo.questions)
    assert all(q.options[q.answer] == q.open_answer for q in tideo.questions if q.answer is not None)
    provenance = records[0].provenance
    pack = load_pack("dollhouse")
    assert (provenance["model"], provenance["pack"]) == (place.name, "dollhouse")
    assert provenance["prompts"] == pack.digest
    assert provenance["condition"] in ("making tea", "baking a cake")
    assert provenance["cost"] == pytest.approx((provenance["tokens_in"] + 2 * provenance["tokens_out"]) / 1e6)
    assert done.cost == pytest.approx(sum(r.provenance["cost"] for r in records))
    assert {r.provenance["condition"] for r in records} == {"making tea", "baking a cake"}
    assert place.requests[0]["response_format"]["json_schema"]["name"] == "WrittenVideo"
    assert "sk-" not in (tmp_path / "out" / "run.json").read_text()


def test_right_answers_stand_anywhere(tmp_path: Path) -> None:
    with writer() as place:
        made(place, tmp_path, num=30)
    places = Counter(qa.answer for record in load(tmp_path) for qa in record.QAs)
    assert set(places) == set("ABCDE")
    assert max(places.values()) < 0.35 * sum(places.values())


def test_the_same_seed_asks_the_same_and_another_does_not(tmp_path: Path) -> None:
    texts = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        with writer() as place:
            made(place, tmp_path / name, num=2, seed=seed, calls=Calls(concurrency=1))
        texts.append([[f["main"] for f in r.frames] for r in load(tmp_path / name)])
    assert texts[0] == texts[1] != texts[2]


# --- bad replies --------------------------------------------------------------------------------------


def test_a_bad_reply_is_asked_for_again_with_the_reason(tmp_path: Path) -> None:
    bad = ["Sure! Here is a video.", "<html><body>busy</body></html>", '{"frames": [{"main": "a', "{}"]

    def fault(number: int, asked: Asked, right: str) -> str:
        return bad[number] if number < 2 else bad[number - 1] if number in (3, 4) else right

    with writer(fault) as place:
        done = made(place, tmp_path, num=1, calls=Calls(concurrency=1))
        assert (done.accepted, done.requests) == (1, 7)
        again = place.requests[1]["messages"]
        assert [m["role"] for m in again] == ["system", "user", "assistant", "user"]
        assert again[2]["content"] == bad[0]
        assert again[3]["content"].startswith("This cannot be used: it is not JSON")
        assert place.requests[1]["seed"] == place.requests[0]["seed"] + 1


def test_after_the_last_try_it_is_kept_aside(tmp_path: Path) -> None:
    def fault(number: int, asked: Asked, right: str) -> str:
        return "I would rather not." if "wrong answers" in asked["messages"][1]["content"] else right

    with writer(fault) as place:
        done = made(place, tmp_path, num=2, calls=Calls(price_in=1, price_out=1))
        assert (done.accepted, done.rejected, done.requests) == (0, 2, 2 * (2 + 3))
        (first, _) = read_records(tmp_path / "rejected.jsonl")
        assert first["reason"].startswith("WrittenOptions: it is not JSON")
        assert (first["reply"], first["requests"]) == ("I would rather not.", 5)
        assert len(place.requests) == 10
        made(place, tmp_path, num=2)  # what came to nothing is not asked for again
        assert len(place.requests) == 10
    with writer() as other:
        run = json.loads((tmp_path / "run.json").read_text())
        run["recipe"]["llm"] = other.name
        (tmp_path / "run.json").write_text(json.dumps(run))
        again = made(other, tmp_path, num=2, retry_rejected=True, calls=Calls(price_in=1, price_out=1))
    assert (again.accepted, again.rejected, again.requests) == (
        2,
        0,
        16,
    )  # what was spent in vain still counts


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ("no", "it is not JSON"),
        ('{"frames": []}', "frames: List should have at least 2 items"),
        ('{"frames": [{"main": "a"}, {"main": ""}], "summary": "s"}', "frames.1.main: String should have"),
        ('{"frames": [{"main": "a"}, {"main": "b"}], "summary": "s", "x": 1}', "x: Extra inputs"),
        ("[" * 100_000, "it is not JSON"),
    ],
)
def test_what_is_wrong_with_a_reply(reply: str, message: str) -> None:
    found, reason = read_reply(reply, WrittenVideo)
    assert found is None
    assert reason.startswith(message)


def test_a_fence_is_taken_off_and_nothing_else() -> None:
    video = WrittenVideo(frames=[WrittenFrame(main="a"), WrittenFrame(main="b")], summary="s")
    text = video.model_dump_json()
    assert read_reply(f"```json\n{text}\n```", WrittenVideo)[0] == video
    assert read_reply(f"```\n{text}```", WrittenVideo)[0] == video
    assert read_reply(f"Here: {text}", WrittenVideo)[0] is None


def test_thoughts_before_the_json_are_left_out() -> None:
    video = WrittenVideo(frames=[WrittenFrame(main="a"), WrittenFrame(main="b")], summary="s")
    text = video.model_dump_json()
    for before in ("<think>\n{}\n</think>\n\n", "{} I plan.\n</think>\n", "<think></think>\n"):
        assert read_reply(before + text, WrittenVideo)[0] == video
        assert read_reply(f"{before}```json\n{text}\n```", WrittenVideo)[0] == video
    assert read_reply(f"<think>{text}", WrittenVideo) == (None, "it ends within a thought")
    assert read_reply(f"Sure. <think>x</think>{text}", WrittenVideo)[0] is None


def test_a_model_that_reasons_writes_tideos(tmp_path: Path) -> None:
    with writer(lambda number, asked, right: f"<think>{{Let me see.</think>\n{right}") as place:
        assert made(place, tmp_path, num=1).accepted == 1


def test_a_reply_that_is_cut_within_its_thoughts_says_so(tmp_path: Path) -> None:
    cut = completion("<think>Let me see", messages=[], model="m")
    cut["choices"][0] |= {"finish_reason": "length"}
    with writer(lambda *_: (200, json.dumps(cut).encode())) as place:
        made(place, tmp_path, num=1, settings=WriterSettings(max_tokens=7, tries=2))
    (rejected,) = read_records(tmp_path / "rejected.jsonl")
    assert rejected["reason"] == "WrittenVideo: it was cut at 7 tokens, the limit that max_tokens sets"
    assert rejected["reply"] == "<think>Let me see"
    assert len(place.requests[1]["messages"]) == 2, "half a thought is no turn of a chat"


def test_parameters_that_a_server_refuses_can_be_left_out(tmp_path: Path) -> None:
    refused = ("temperature", "seed", "response_format")

    def strict(number: int, asked: Asked, right: str) -> Any:
        for name in refused:
            if name in asked:
                return 400, {"error": {"message": f"unknown parameter: {name}"}}
        if asked["messages"][0]["role"] == "system":
            return 400, {"error": {"message": "System role not supported"}}
        return right

    settings: dict[str, Any] = {}
    for name, value in (
        ("temperature", None),
        ("use_seed", False),
        ("use_schema", False),
        ("use_system", False),
    ):
        with writer(strict) as place, pytest.raises(Stopped, match=f"set {name}={str(value).lower()}$"):
            made(
                place, tmp_path / name, num=3, settings=WriterSettings(**settings), calls=Calls(concurrency=1)
            )
        assert len(place.requests) == 1
        settings[name] = value
    with writer(strict) as place:
        assert made(place, tmp_path / "all", num=1, settings=WriterSettings(**settings)).accepted == 1
    assert load_pack("dollhouse").system.strip() in place.requests[0]["messages"][0]["content"]


@given(st.text(max_size=300))
def test_any_text_is_read_or_gives_a_reason(text: str) -> None:
    for kind in (WrittenVideo, WrittenQuestions, WrittenOptions):
        found, reason = read_reply(text, kind)
        assert (found is None) == bool(reason)


# --- servers ------------------------------------------------------------------------------------------


def test_caps_stop_cleanly_and_count_what_was_spent_before(tmp_path: Path) -> None:
    with writer() as place:
        with pytest.raises(
            Stopped, match=r"the cap of 4000 tokens is reached .*; raise it and run this again"
        ):
            made(place, tmp_path, num=50, calls=Calls(cap_tokens=4000, concurrency=2))
        before = summary(tmp_path, num=50)
        assert 0 < before.accepted < 50
        with pytest.raises(Stopped):
            made(place, tmp_path, num=50, calls=Calls(cap_tokens=before.tokens, concurrency=2))
        assert summary(tmp_path, num=50) == before


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ((401, {"error": {"message": "wrong key"}}), "check the model's name, the URL and OPENAI_API_KEY"),
        ((400, {"error": {"message": "response_format is unknown"}}), "set use_schema=false"),
    ],
)
def test_what_no_other_request_can_mend_ends_the_run(tmp_path: Path, fault: Any, message: str) -> None:
    with writer(lambda *_: fault) as place, pytest.raises(Stopped, match=message):
        made(place, tmp_path, num=5, calls=Calls(retries=0, concurrency=1))
    assert len(place.requests) == 1
    assert read_records(tmp_path / "rejected.jsonl") == []


def test_a_server_that_is_not_there_is_an_error(tmp_path: Path, tideo: Tideo) -> None:
    done = tideo(
        "textvid", "generate", "--llm", "openai:x@http://127.0.0.1:9/v1", "--num", "2", "--out",
        str(tmp_path), "--llm-args", "retries=0",
    )  # fmt: skip
    assert done.returncode == 2
    assert "the server cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


def test_requests_are_spread_over_the_minute() -> None:
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(requests_per_minute=60, tokens_per_minute=600, clock=lambda: now[0], sleep=sleep)
    for _ in range(3):
        pace.wait()
    assert slept == [1.0, 1.0]
    pace.used(50)  # five seconds' worth
    pace.wait()
    assert slept[-1] == 5.0
    now[0] += 60
    pace.wait()
    assert len(slept) == 3


# --- packs and conditions -----------------------------------------------------------------------------


def test_a_domain_pack_is_one_more_file(tmp_path: Path) -> None:
    path = tmp_path / "surgery.toml"
    path.write_text('like = "everyday"\nversion = 3\nconditions = ["a suture is placed"]\nmin_frames = 8\n')
    pack = load_pack(str(path))
    assert (pack.name, pack.version, pack.min_frames, pack.max_frames) == ("surgery", 3, 8, 15)
    assert pack.frames == load_pack("everyday").frames
    assert pack.digest != load_pack("everyday").digest
    assert read_conditions(None, pack) == ["a suture is placed"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version = ", "is not a pack"),
        ('like = "everyday"\nversion = "x"', "version: Input should be a valid integer"),
        ('like = "everyday"\nfrmes = "x"', "frmes: Extra inputs"),
        (
            'like = "everyday"\nframes = "about {topic}"',
            "frames: expected each of the fields condition, num_frames, and no other; see condition",
        ),
        ('like = "everyday"\nframes = "JSON: {"', "write a literal brace twice"),
        ('like = "gone.toml"\n', "unknown pack"),
        ('like = "everyday"\nmin_frames = 9\nmax_frames = 4', "min_frames 9 is more than max_frames 4"),
    ],
)
def test_a_pack_that_is_wrong_names_file_and_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "pack.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_pack(str(path))


def test_a_condition_is_a_line_whatever_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "conditions.txt"
    path.write_bytes("\ufeffmaking\u2028tea\r\n\r\nbaking\x85a cake\n".encode())
    assert read_conditions(path, load_pack("everyday")) == ["making\u2028tea", "baking\x85a cake"]


def test_no_condition_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(UserError, match=r"empty.txt holds no condition: expected a title"):
        read_conditions(tmp_path / "empty.txt", load_pack("everyday"))
    with pytest.raises(UserError, match="unknown pack 'evryday'; did you mean everyday"):
        load_pack("evryday")


@given(st.integers(1, 40), st.integers(1, 200), st.integers(0, 3))
def test_conditions_come_equally_often(num_conditions: int, num: int, seed: int) -> None:
    counts = Counter(_order(num_conditions, num, seed=seed))
    assert sum(counts.values()) == num
    assert max(counts.values()) - min(counts.get(i, 0) for i in range(num_conditions)) <= 1
    assert _order(num_conditions, num, seed=seed) == _order(num_conditions, num + 7, seed=seed)[:num]


def test_another_runs_folder_is_left_alone(tmp_path: Path) -> None:
    with writer() as place:
        made(place, tmp_path, num=1)
        with pytest.raises(UserError, match=r"holds Tideos of another run \(seed 0 there, 1 now\)"):
            made(place, tmp_path, num=1, seed=1)
        with pytest.raises(UserError, match="expected at least 1"):
            made(place, tmp_path, num=0)


# --- everything at once -------------------------------------------------------------------------------

BROKEN = (
    (429, {"error": {"message": "slow down"}}), (500, {"error": {"message": "oops"}}), (503, b"<html>busy</html>"),
    "drop", "Of course! A man makes tea.", "<!doctype html><p>hello", '{"frames": [{"main": "a man', "{}", "",
)  # fmt: skip


def misbehaving(number: int, asked: Asked, right: str) -> Any:
    """One request in four goes wrong, in each way in turn; now and then the server is silent."""
    if number % 97 == 50:
        return "hang"
    return BROKEN[(number // 4) % len(BROKEN)] if number % 4 == 1 else right


def killed_and_restarted(out: Path, *, num: int, kills: int) -> Place:
    conditions = out.parent / "conditions.txt"
    conditions.write_text("\n".join(a.phrases[0] for a in world.ACTIVITIES.values()))
    with writer(misbehaving) as place:
        command = [
            sys.executable, "-m", "tideo", "textvid", "generate", "--llm", place.name, "--num", str(num),
            "--out", str(out), "--pack", "dollhouse", "--conditions", str(conditions),
            "--llm-args", "concurrency=8,retries=4,timeout_s=1,tries=4",
        ]  # fmt: skip
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "OPENAI_API_KEY": "sk-never-written"}
        for kill in range(kills):
            process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL, start_new_session=True)
            wanted, deadline_s = (kill + 1) * num // (kills + 1), time.monotonic() + 240
            while sum(len(p.read_bytes().splitlines()) for p in out.glob("tideos-*.jsonl")) < wanted:
                assert process.poll() is None
                assert time.monotonic() < deadline_s
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=400)
        assert done.returncode in (0, 3), done.stderr
        assert "sk-never-written" not in done.stdout + done.stderr
    return place


def check_every_count(out: Path, place: Place, *, num: int) -> None:
    records, rejected = load(out), read_records(out / "rejected.jsonl")
    names = [str(r.idx) for r in records] + [r["idx"] for r in rejected]
    assert sorted(names) == [f"{i:07d}" for i in range(num)]  # none lost, none twice
    result = summary(out, num=num)
    assert (result.accepted, result.rejected) == (len(records), len(rejected))
    # Each accepted or rejected one counted the replies it got; those of a killed process are lost with it.
    assert result.requests <= place.replies["right"] + place.replies["wrong"]
    assert sum(place.replies.values()) == len(place.requests)
    assert len(rejected) < 0.05 * num
    assert all(to_tideo(r).questions for r in records)
    assert not any(b"sk-never-written" in p.read_bytes() for p in out.rglob("*") if p.is_file())


@pytest.mark.slow
def test_killed_among_failures_every_count_adds_up(tmp_path: Path) -> None:
    place = killed_and_restarted(tmp_path / "out", num=60, kills=1)
    check_every_count(tmp_path / "out", place, num=60)
    assert {"429", "500", "503", "drop", "wrong", "right"} <= set(place.replies)


@pytest.mark.slow
def test_two_thousand_through_three_kills(tmp_path: Path) -> None:
    place = killed_and_restarted(tmp_path / "out", num=2000, kills=3)
    check_every_count(tmp_path / "out", place, num=2000)
    assert "hang" in place.replies
    assert len(list((tmp_path / "out").glob("tideos-*.jsonl"))) == 2
