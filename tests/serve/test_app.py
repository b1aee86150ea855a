"""What clients of a server get: replies, errors, and nothing of others' requests."""

from __future__ import annotations

import base64
import http.client
import io
import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import openai
import pytest
from PIL import Image

from serving import Longest, Slow
from videos import encode

OPTIONS = ["a", "the longest", "mid"]


@pytest.fixture(scope="module")
def video() -> bytes:
    file = io.BytesIO()
    encode(file, num=40, container_format="mp4")
    return file.getvalue()


def data_url(content: bytes, kind: str = "video/mp4") -> str:
    return f"data:{kind};base64," + base64.b64encode(content).decode()


def about(url: str, question: str = "what happens?", **fields: Any) -> dict[str, Any]:
    """The body of a request about a video."""
    parts = [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": question}]
    return {"model": "longest", "messages": [{"role": "user", "content": parts}]} | fields


def client(running, **settings: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=running.url + "/v1", api_key="none", max_retries=0, **settings)


def test_openais_client_reads_a_reply(shared, video):
    chat = client(shared).chat.completions
    reply = chat.create(**about(data_url(video)))
    assert reply.choices[0].message.content == "what happens?"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.model == "longest"


def test_openais_client_reads_a_stream(shared, video):
    chunks = list(client(shared).chat.completions.create(**about(data_url(video)), stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "what happens?"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].model_extra["tideo"]["model"] == "longest"


def test_openais_client_lists_the_models(shared):
    assert [model.id for model in client(shared).models.list()] == ["longest"]


def test_options_are_scored_and_the_chosen_ones_text_is_the_message(shared, video):
    status, reply, _ = shared.post(about(data_url(video), options=OPTIONS))
    assert status == 200
    assert reply["choices"][0]["message"]["content"] == "the longest"
    ours = reply["tideo"]
    assert (ours["choice"], ours["loglikelihoods"]) == (1, [1.0, 11.0, 3.0])
    assert ours["pts_s"] == pytest.approx([0.2 + 0.4 * k for k in range(10)], abs=0.1)


LETTERED = "what happens?\nA. a\nB. the longest\nC. mid\nAnswer with the option's letter directly."


def test_options_that_the_question_lists_are_scored_and_the_reply_is_a_letter(serve, video):
    running = serve()
    _, reply, _ = running.post(about(data_url(video), LETTERED))
    assert reply["choices"][0]["message"]["content"] == "B"
    ours = reply["tideo"]
    assert (ours["choice"], ours["options"], ours["lettered"]) == (1, OPTIONS, True)
    assert running.model.calls == [["what happens?"]]


@pytest.mark.parametrize(("options", "text"), [([], LETTERED), (OPTIONS, "the longest")])
def test_a_request_that_says_what_its_options_are_is_taken_at_its_word(shared, video, options, text):
    _, reply, _ = shared.post(about(data_url(video), LETTERED, options=options))
    assert reply["choices"][0]["message"]["content"] == text
    assert reply["tideo"]["lettered"] is False


def test_a_file_of_the_media_folder_and_a_segment_of_it(serve, video, tmp_path):
    (tmp_path / "v.mp4").write_bytes(video)
    running = serve(media_dir=tmp_path)
    _, reply, _ = running.post(about("file:v.mp4", start=1.0, end=2.0))
    assert all(1.0 <= pts_s <= 2.0 for pts_s in reply["tideo"]["pts_s"])


def picture(level: int) -> str:
    file = io.BytesIO()
    Image.new("RGB", (16, 8), (level, level, level)).save(file, format="PNG")
    return data_url(file.getvalue(), "image/png")


@pytest.mark.parametrize("times_s", [None, [0.5, 2.0, 7.25]])
def test_several_images_are_the_frames_of_a_video(serve, times_s):
    running = serve()
    parts: list[dict[str, Any]] = []
    for place, level in enumerate((0, 100, 200)):
        time_s = {} if times_s is None else {"time_s": times_s[place]}
        parts.append({"type": "image_url", "image_url": {"url": picture(level)}, **time_s})
    body = {
        "model": "longest",
        "messages": [{"role": "user", "content": [*parts, {"type": "text", "text": "?"}]}],
    }
    status, reply, _ = running.post(body)
    assert status == 200
    assert reply["tideo"]["pts_s"] == (times_s or [0.0, 1.0, 2.0])
    assert running.model.frames[0].rgb_THWC[:, 0, 0, 0].tolist() == [0, 100, 200]


def test_earlier_turns_come_before_the_question(serve, video):
    body = about(data_url(video), "who?")
    body["messages"] += [
        {"role": "assistant", "content": "a woman"},
        {"role": "user", "content": "what does she hold?"},
    ]
    running = serve()
    running.post(body)
    assert running.model.calls == [["User: who?\nAssistant: a woman\nUser: what does she hold?"]]


def test_a_second_question_decodes_nothing(serve, video):
    running = serve()
    for question in ("one?", "two?"):
        running.post(about(data_url(video), question))
    assert len(running.model.looks) == 1
    assert running.model.frames[0] is running.model.frames[1]


def test_questions_about_one_video_share_a_call(serve, video):
    running = serve(model=Longest(seconds=0.3))
    bodies = [about(data_url(video), f"{n}?", options=["a", "b" * (n + 2)]) for n in range(10)]
    with ThreadPoolExecutor(10) as pool:
        replies = list(pool.map(running.post, bodies))
    assert [reply["choices"][0]["message"]["content"] for _, reply, _ in replies] == [
        "b" * (n + 2) for n in range(10)
    ]
    assert len(running.model.looks) == 1
    assert len(running.model.calls) <= 3


def test_questions_about_several_videos_share_a_batch(serve, video):
    running = serve(model=Longest(batch=4))
    for n in range(6):  # each segment is decoded before
        running.post(about(data_url(video), start=n / 10, options=OPTIONS))
    del running.model.batches[:]
    running.model.goes_on.clear()
    bodies = [about(data_url(video), start=n / 10, options=["a", "b" * (n + 2)]) for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        replies = [pool.submit(running.post, body) for body in bodies]
        while 'tideo_requests_under_way{model="longest"} 6.0' not in running.get("/metrics")[1]:
            time.sleep(0.01)
        running.model.goes_on.set()
    chosen = [reply.result()[1]["choices"][0]["message"]["content"] for reply in replies]
    assert list(map(len, chosen)) == [2, 3, 4, 5, 6, 7]
    # Of those that came first, one or more began a batch before the others were there.
    assert sum(running.model.batches) == 6
    assert len(running.model.batches) <= 3
    assert 1 < max(running.model.batches) <= 4


def test_a_picture_that_is_a_bomb(shared):
    file = io.BytesIO()
    Image.new("1", (16_000, 16_000)).save(file, format="PNG")  # 32 kB, 256 million pixels
    parts = [
        {"type": "image_url", "image_url": {"url": data_url(file.getvalue(), "image/png")}},
        {"type": "text", "text": "?"},
    ]
    status, reply, _ = shared.post({"model": "longest", "messages": [{"role": "user", "content": parts}]})
    assert status == 400
    assert "image 1: " in reply["error"]["message"]
    assert shared.get("/health")[0] == 200


# --- replies in words -------------------------------------------------------------------------------


def test_the_limit_of_tokens_and_the_usage(serve, video):
    running = serve(model=Slow())
    _, reply, _ = running.post(about(data_url(video), max_completion_tokens=2))
    assert reply["choices"][0]["message"]["content"] == "word0 word1 "
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"] == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


def test_usage_is_null_where_the_model_does_not_know_it(shared, video):
    assert shared.post(about(data_url(video)))[1]["usage"] is None


def test_words_are_streamed_as_they_are_written(serve, video):
    running = serve(model=Slow())
    stream = client(running).chat.completions.create(
        **about(data_url(video)), max_tokens=50, stream=True, stream_options={"include_usage": True}
    )
    texts = (chunk.choices[0].delta.content for chunk in stream if chunk.choices)
    assert [next(texts) for _ in range(3)] == ["", "word0 ", "word1 "]
    assert len(running.model.written) < 30
    assert "".join(filter(None, texts)) == "".join(f"word{n} " for n in range(2, 50))


def test_the_usage_is_the_last_chunk_of_a_stream(serve, video):
    chunks = client(serve(model=Slow())).chat.completions.create(
        **about(data_url(video)), max_tokens=2, stream=True, stream_options={"include_usage": True}
    )
    *_, end, last = chunks
    assert (end.choices[0].finish_reason, last.choices, last.usage.total_tokens) == ("length", [], 9)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_the_writing(serve, video, stream):
    running = serve(model=Slow())
    body = json.dumps(about(data_url(video), stream=stream))
    leaving = http.client.HTTPConnection("127.0.0.1", running.port)
    leaving.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    while len(running.model.written) < 3:
        time.sleep(0.01)
    leaving.sock.shutdown(socket.SHUT_RDWR)
    leaving.close()
    assert running.post(about(data_url(video), max_tokens=1))[0] == 200
    assert len(running.model.written) < 100


def test_a_fault_after_the_first_word_is_an_event_of_the_stream(serve, video):
    running = serve(model=Slow())
    chunks = client(running).chat.completions.create(**about(data_url(video), "a fault"), stream=True)
    with pytest.raises(openai.APIError, match="a fault of this server"):
        list(chunks)
    assert running.post(about(data_url(video), max_tokens=1))[0] == 200


def test_an_error_before_the_first_word_of_a_stream_has_its_status(shared):
    status, reply, _ = shared.post(about(VIDEO, stream=True))
    assert (status, reply["error"]["type"]) == (400, "invalid_request_error")


def test_a_video_that_takes_too_long_to_read(serve, video):
    running = serve(read_s=0.0)
    status, reply, _ = running.post(about(data_url(video)))
    assert status == 400
    assert "reading it takes more than 0 s" in reply["error"]["message"]
    assert running.post(about(data_url(b"GIF89a"), "?"))[0] == 400


def test_a_video_unlike_others_comes_with_a_warning(shared, tmp_path):
    _, reply, _ = shared.post(
        {
            "model": "longest",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": picture(7)}},
                        {"type": "text", "text": "?"},
                    ],
                }
            ],
        }
    )
    assert reply["tideo"]["warning"] == "this video is unlike others"


# --- refusals -------------------------------------------------------------------------------------

TEXT = {"role": "user", "content": "what?"}
VIDEO = "data:video/mp4;base64,AAAA"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b'{"model": "longest", "mess', 400, "JSON"),
        (b"[]", 400, "valid dictionary|object"),
        (b"\xff\xfe", 400, "JSON"),
        (b"[" * 100_000, 400, "JSON|recursion"),
        ({"model": "longest"}, 400, "messages: Field required"),
        ({"model": 3, "messages": [TEXT]}, 400, "model: .*string"),
        ({"model": "longest", "messages": [TEXT]}, 400, "no video"),
        (about(VIDEO) | {"model": "gpt-4"}, 404, "this server has longest"),
        (about(VIDEO), 400, "cannot be read as a video"),
        (about("data:video/mp4;base64,%"), 400, "not base64"),
        (about("file:v.mp4"), 400, "--media-dir"),
        (about("http://127.0.0.1:9/v.mp4"), 400, "--allow-host"),
        (about(VIDEO, temperature=0.7), 400, "temperature has no effect here"),
        (about(VIDEO, n=2), 400, "n has no effect here"),
        (about(VIDEO, max_tokens=0), 400, "max_tokens"),
        (about(VIDEO, colour="red"), 400, "colour: this server has no such field"),
        (about(VIDEO, options=["one"]), 400, "expected two or more"),
        (about(VIDEO, options=["a", ""]), 400, "none empty"),
        (about(VIDEO, options=["a", "a"]), 400, "all different"),
        (about(VIDEO, options=[f"option {n}" for n in range(1000)]), 400, "options: .*at most 100"),
        (about(VIDEO, "x" * 1_000_000), 400, "expected at most 20000"),
        (about(VIDEO, start=2.0, end=1.0), 400, "not after its start"),
        (about(VIDEO, " "), 400, "a question of the user's"),
        (about(VIDEO, options=["a" * 5000, "b" * 5000]), 400, "10000 bytes of UTF-8; expected at most 8000"),
        (about(VIDEO, options=["\U0001f600" * 1000, "\U0001f600" * 1001]), 400, "8004 bytes"),
        (about(VIDEO, n=True), 400, "n has no effect here"),
        (about(VIDEO, temperature=False), 400, "temperature has no effect here"),
        (about("file://[::1"), 400, "--media-dir"),
        (about("http://[::1/"), 400, "malformed"),
        (b'{"model": "longest", "messages": [' + b"1," * 200_000 + b"1]}", 400, "at most 1000|messages.0: "),
        ({"model": "longest", "messages": [TEXT] * 1001}, 400, "at most 1000"),
        (
            {"model": "longest", "messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            400,
            "messages.0.content.0: Input tag 'input_audio'",
        ),
        ({"model": "longest", "messages": [TEXT | {"content": 7}]}, 400, "messages.0.content: "),
    ],
)
def test_a_bad_request_gets_an_error_object(shared, body, status, message):
    found, reply, _ = shared.post(body)
    assert found == status
    assert reply["error"]["type"] == "invalid_request_error"
    assert re.search(message, reply["error"]["message"]), reply
    assert shared.get("/health")[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        about(VIDEO) | {"x" * 100_000: 1},
        about(VIDEO) | {"model": "m" * 100_000},
        about("x" * 100_000),
        {"model": "longest", "messages": [{"role": "user", "content": [{"type": "t" * 100_000}]}]},
    ],
)
def test_an_error_quotes_little_of_a_request(shared, body):
    status, reply, _ = shared.post(body)
    assert status in (400, 404)
    assert len(reply["error"]["message"]) < 1100


def test_an_error_names_no_path_of_this_machine(shared):
    for url in (VIDEO, data_url(b"GIF89a", "image/gif")):
        _, reply, _ = shared.post(about(url))
        assert "video sent:" in reply["error"]["message"]
        assert "/" not in reply["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/v1/chat/completions", 405),
        ("GET", "/v1/none", 404),
        ("POST", "/none", 405),
        ("GET", "/%00", 404),
    ],
)
def test_what_is_not_there_gets_an_error_object_too(shared, method, path, status):
    asked = http.client.HTTPConnection("127.0.0.1", shared.port)
    asked.request(method, path)
    reply = asked.getresponse()
    assert (reply.status, json.load(reply)["error"]["type"]) == (status, "invalid_request_error")
    asked.close()


def test_large_bodies_together_are_bounded(serve, video):
    running = serve(max_upload_mb=1)
    large = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2400000\r\n\r\n"
        + b" " * 2_300_000
    )
    held = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(2)]
    for each in held:
        each.sendall(large)
    time.sleep(0.2)
    status, reply, headers = running.post(b" " * 2_300_000)
    assert (status, headers["retry-after"]) == (503, "1")
    assert "the bodies of requests under way" in reply["error"]["message"]
    for each in held:
        each.close()
    time.sleep(0.2)
    assert running.post(about(data_url(video)))[0] == 200


def test_pictures_together_are_bounded(serve):
    running = serve(cache_mb=1, model=Longest(seconds=0.3))
    file = io.BytesIO()
    Image.new("1", (400, 400)).save(file, format="PNG")  # 480 kB as RGB
    parts = [
        {"type": "image_url", "image_url": {"url": data_url(file.getvalue(), "image/png")}},
        {"type": "text", "text": "?"},
    ]
    body = {"model": "longest", "messages": [{"role": "user", "content": parts}]}
    with ThreadPoolExecutor(4) as pool:
        statuses = sorted(status for status, _, _ in pool.map(lambda _: running.post(body), range(4)))
    assert statuses == [200, 200, 503, 503]
    assert running.post(body)[0] == 200


def test_openais_client_raises_its_own_errors(shared):
    with pytest.raises(openai.NotFoundError, match="this server has longest"):
        client(shared).chat.completions.create(**about(VIDEO) | {"model": "gpt-4"})


def test_a_question_that_the_model_cannot_take(shared, video):
    status, reply, _ = shared.post(about(data_url(video), "too long", options=OPTIONS))
    assert (status, reply["error"]["message"]) == (400, "9 tokens exceed the model's context")


def test_a_fault_of_ours_is_a_500_without_its_words_and_the_next_request_is_answered(shared, video):
    status, reply, _ = shared.post(about(data_url(video), "a fault"))
    assert status == 500
    assert "the model's own" not in json.dumps(reply)
    assert shared.post(about(data_url(video)))[0] == 200


def test_a_body_over_the_limit_is_refused(shared):
    status, reply, _ = shared.post(about("data:video/mp4;base64," + "A" * 3_000_000))
    assert status == 413
    assert "larger than" in reply["error"]["message"]


def test_a_full_queue_says_when_to_come_again(serve, video):
    running = serve(model=Longest(seconds=0.5), max_requests=2)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda n: running.post(about(data_url(video), f"{n}?")), range(6)))
    statuses = sorted(status for status, _, _ in found)
    assert statuses == [200, 200, 503, 503, 503, 503]
    assert all(headers["retry-after"] == "1" for status, _, headers in found if status == 503)


def test_an_answer_that_takes_too_long(serve, video):
    status, _, _ = serve(model=Longest(seconds=0.5), timeout_s=0.1).post(about(data_url(video)))
    assert status == 504


@pytest.mark.slow
def test_a_client_that_leaves_stops_its_work(serve, video):
    running = serve(model=Longest(seconds=1.5))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(running.post, about(data_url(video), "first?"))
        time.sleep(0.2)
        body = json.dumps(about(data_url(video), "left?"))
        leaving = http.client.HTTPConnection("127.0.0.1", running.port)
        leaving.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        time.sleep(0.1)
        leaving.close()
        assert first.result()[0] == 200
    running.post(about(data_url(video), "last?"))
    assert running.model.calls == [["first?"], ["last?"]]


# --- who may ask ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authorization", "status"),
    [({}, 401), ({"Authorization": "Bearer wrong"}, 401), ({"Authorization": "Basic secret"}, 401),
     ({"Authorization": "Bearer secret"}, 200), ({"Authorization": "bearer secret"}, 200),
     ({"Authorization": "Bearer sécret"}, 401)],
)  # fmt: skip
def test_a_key(locked, authorization, status):
    headers = {name: value.encode().decode("latin-1") for name, value in authorization.items()}
    found, reply, _ = locked.get("/v1/models", **headers)
    assert found == status
    assert locked.get("/health")[0] == 200
    if status == 401:
        assert reply["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://evil.example", "Host": "evil.example"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Origin": "http://localhost:8000", "Host": "localhost:8000"}, 200),
        ({"Origin": "http://localhost:8001", "Host": "localhost:8000"}, 403),
    ],
)
def test_pages_of_other_origins_are_not_answered(shared, headers, status):
    assert shared.get("/v1/models", **headers)[0] == status


# --- logs and metrics -----------------------------------------------------------------------------


def test_logs_hold_no_question_no_key_and_no_content(serve, video, caplog):
    caplog.set_level("INFO")
    running = serve(key="secret-key")
    headers = {"Authorization": "Bearer secret-key"}
    running.post(about(data_url(video), "a private question?"), **headers)
    running.post(about("data:video/mp4;base64,cHJpdmF0ZQ==", "a private question?"), **headers)
    assert " longest 200 " in caplog.text
    assert not any(word in caplog.text for word in ("private", "secret", "cHJpdmF0"))


def test_prometheus_reads_counts(serve, video):
    running = serve()
    running.post(about(data_url(video)))
    running.post(b"{")
    _, text, _ = running.get("/metrics")
    assert 'tideo_requests_total{model="longest",status="200"} 1.0' in text
    assert 'tideo_requests_total{model="",status="400"} 1.0' in text


def test_half_a_request_holds_up_nobody(shared, video):
    with socket.create_connection(("127.0.0.1", shared.port)) as slow:
        slow.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"
        )
        assert shared.post(about(data_url(video)))[0] == 200


def test_a_body_that_drips_is_given_up(serve, monkeypatch):
    monkeypatch.setattr("tideo.serve.app.BODY_TIMEOUT_S", 0.2)
    with socket.create_connection(("127.0.0.1", serve().port)) as slow:
        slow.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"
        )
        assert slow.recv(4096).startswith(b"HTTP/1.1 408")


def test_a_body_of_a_byte_now_and_then_is_given_up(serve, monkeypatch):
    monkeypatch.setattr("tideo.serve.app.BODY_TIMEOUT_S", 0.4)
    with socket.create_connection(("127.0.0.1", serve().port), timeout=5) as slow:
        slow.sendall(b"POST /v1/media HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        with suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(30):
                slow.sendall(b"x")
                time.sleep(0.05)
        assert slow.recv(4096).startswith(b"HTTP/1.1 408")


def test_a_server_that_stops_finishes_what_runs(serve, video):
    running = serve(model=Longest(seconds=0.5))
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(running.post, about(data_url(video)))
        while not running.model.calls:
            time.sleep(0.01)
        running.stop()
        assert reply.result()[0] == 200


# --- files sent before, and the page ---------------------------------------------------------------


def test_a_file_is_sent_once_and_named_in_later_requests(serve, video):
    running = serve()
    status, sent, _ = running.send("/v1/media", video)
    assert (status, sent["bytes"]) == (200, len(video))
    for question in ("one?", "two?"):
        assert running.post(about(sent["url"], question))[0] == 200
    assert len(running.model.looks) == 1


def test_a_file_that_the_server_no_longer_has(shared):
    status, reply, _ = shared.post(about("sent:" + "0" * 64))
    assert status == 400
    assert "send it again" in reply["error"]["message"]


@pytest.mark.parametrize(("body", "status"), [(b"", 400), (b"x" * 2_000_000, 413)])
def test_a_file_that_is_not_taken(shared, body, status):
    assert shared.send("/v1/media", body)[0] == status


def test_pictures_of_the_frames_on_request(shared, video):
    _, reply, _ = shared.post(about(data_url(video), pictures=True))
    assert len(reply["tideo"]["pictures"]) == 10
    content = base64.b64decode(reply["tideo"]["pictures"][3].partition(",")[2])
    assert Image.open(io.BytesIO(content)).size == (64, 48)


def test_the_page_names_no_other_host(shared):
    status, page, headers = shared.get("/")
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    for text in (page, shared.get("/page.js")[1], shared.get("/page.css")[1]):
        assert "http" not in text
