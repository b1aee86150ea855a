"""Whatever a server answers is a reply, one failed request in one line, or the end of the run with what to do."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from chat_server import Reply, Serve, said, serving
from tideo.llms.interface import Calls, Unanswered
from tideo.llms.openai import Server
from tideo.parallel import finished
from tideo.types import Stopped, UserError

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which?"}]
OPTIONS: dict[str, Any] = {"seed": 1, "response_format": {"type": "json_schema"}}


@pytest.fixture(autouse=True)
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with serving() as start:
        yield start


@pytest.fixture(scope="module")
def model_and_replies() -> Iterator[tuple[Server, list[Reply]]]:
    """A model without retries, and the replies of its server: the last is given."""
    replies: list[Reply] = []
    with serving() as start:
        server = start(lambda n, request: replies[-1])
        yield Server(f"openai:m@{server.url}", calls=Calls(retries=0)), replies


Ask = Callable[[Reply], Any]


@pytest.fixture
def ask(model_and_replies: tuple[Server, list[Reply]]) -> Ask:
    """A function that asks a server which gives that reply."""
    model, replies = model_and_replies

    def asked(reply: Reply) -> Any:
        replies.append(reply)
        return model.ask(ASKED, max_tokens=8, **OPTIONS)

    return asked


def body(message: Any, *, finish: Any = "stop", **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "finish_reason": finish, "message": message}], **fields}


# --- replies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (None, (0, 0)), ({}, (0, 0)), ([], (0, 0)), ("many", (0, 0)),
        ({"prompt_tokens": 5, "completion_tokens": 1}, (5, 1)),
        ({"prompt_tokens": None, "completion_tokens": None}, (0, 0)),
        ({"prompt_tokens": 5, "total_tokens": 5}, (0, 0)),
        ({"prompt_tokens": "5", "completion_tokens": 1.0}, (5, 1)),
        ({"prompt_tokens": -5, "completion_tokens": 1}, (0, 0)),
        ({"prompt_tokens": True, "completion_tokens": "x"}, (0, 0)),
    ],
)  # fmt: skip
def test_tokens_are_counted_where_the_server_counts_them(ask: Ask, usage: Any, tokens: Any) -> None:
    reply = ask((200, body({"content": "B"}, usage=usage)))
    assert (reply.text, reply.tokens_in, reply.tokens_out) == ("B", *tokens)


@pytest.mark.parametrize(
    "usage", [None, {}, {"prompt_tokens": None, "completion_tokens": None}, {"prompt_tokens": 5}]
)
def test_a_cap_needs_counted_tokens(serve: Serve, usage: Any) -> None:
    server = serve(lambda n, request: (200, body({"content": "B"}, usage=usage)))
    with pytest.raises(Stopped, match="does not count tokens, so a cap cannot be kept"):
        Server(f"openai:m@{server.url}", calls=Calls(cap_tokens=100)).ask(ASKED, max_tokens=8)


@pytest.mark.parametrize(
    ("message", "finish", "expected"),
    [
        ({"content": " B\n"}, "stop", ("B", False)), ({"content": "B"}, None, ("B", False)),
        ({"content": "B"}, 7, ("B", False)),
        ({"content": "B or"}, "length", ("B or", True)), ({"content": "B or"}, "MAX_TOKENS", ("B or", True)),
        ({"content": "B or"}, "max_output_tokens", ("B or", True)), ({"content": "B"}, {"type": "length"}, ("B", True)),
        ({"content": None, "reasoning": "Well"}, "length", ("", True)), (None, "length", ("", True)),
        ({"content": [{"type": "text", "text": "B"}]}, "stop", ("B", False)),
        ({"content": [{"type": "thinking", "thinking": "A"}, {"type": "text", "text": "B"}]}, "stop", ("B", False)),
        ({"content": "B", "reasoning_content": "A?", "refusal": None, "tool_calls": []}, "stop", ("B", False)),
        ({"content": "B", "reasoning": "A?"}, "stop", ("B", False)),
    ],
)  # fmt: skip
def test_the_text_of_a_reply(ask: Ask, message: Any, finish: Any, expected: tuple[str, bool]) -> None:
    reply = ask((200, body(message, finish=finish)))
    assert (reply.text, reply.truncated) == expected


def test_two_choices_that_agree_are_one_reply(ask: Ask) -> None:
    choice = body({"content": "B"})["choices"][0]
    assert ask((200, {"choices": [choice, choice | {"index": 1}]})).text == "B"


def test_a_byte_order_mark_does_no_harm(ask: Ask) -> None:
    assert ask((200, b"\xef\xbb\xbf" + json.dumps(body({"content": "B"})).encode())).text == "B"


HTML = {"Content-Type": "text/html"}


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ((200, body(None)), "holds no text"), ((200, body({"content": None})), "holds no text"),
        ((200, body({"content": 3})), "holds no text"), ((200, body({"content": True})), "holds no text"),
        ((200, body({"content": ["B"]})), "holds no text"),
        ((200, body({"content": [{"type": "text", "text": None}]})), "no text"),
        ((200, body("B")), "holds no text"),
        ((200, body({"content": "", "reasoning_content": "B"})), "holds thoughts and no text"),
        ((200, body({"content": "  ", "reasoning": "B"})), "holds thoughts and no text"),
        ((200, body({"content": None, "refusal": "I cannot"})), "is a refusal: 'I cannot'"),
        ((200, body({"content": "B"}, finish="content_filter")), "content filter"),
        ((200, body({"content": "B"}, finish="SAFETY")), "content filter"),
        ((200, body({"content": "B"}, finish="error")), r"broke off \(error\)"),
        ((200, {"choices": [{"message": {"content": "B"}, "error": {"message": "upstream"}}]}), "broke off .*upstream"),
        ((200, {"choices": []}), "holds no choice"), ((200, {"choices": None}), "holds no choice"),
        ((200, {}), "holds no choice"),
        ((200, {"choices": {"0": "B"}}), "holds no choice"), ((200, {"choices": [None]}), "holds no text"),
        ((200, {"choices": body({"content": "A"})["choices"] + body({"content": "B"})["choices"]}),
        "2 choices that differ"),
        ((200, ["B"]), "holds no choice"), ((200, "B"), "holds no choice"), ((200, None), "holds no choice"),
        ((200, 3), "no choice"),
        ((200, b""), "is empty"), ((200, b" \n"), "is empty"), ((200, b"B"), "is not JSON"),
        ((200, b'{"choices": ['), "is not JSON"),
        ((200, b"<html>Sign in</html>", HTML), "'<html>Sign in</html>'; check that the URL ends as in …/v1"),
        ((200, b'{"choices": "\xff\xfe"}'), "is not JSON"), ((200, b"[" * 100_000), "is not JSON"),
        ((200, b"\x00\x1f"), "is not JSON"),
        ((200, b" " * (17 * 2**20)), "has more than 16777216 bytes"), ((204, b""), "is empty"),
        ((200, b"no gzip", {"Content-Encoding": "gzip"}), "is compressed"),
        ((200, b"{}", {"Content-Length": "9999"}), "broke off"),
        ((200, {"error": {"message": "upstream is down", "code": 502}}), "502: upstream is down"),
        ((200, {"error": {"message": "upstream is down", "code": "502"}}), "502: upstream is down"),
        ((200, {"error": "upstream is down"}), "upstream is down"), ((200, [{"error": {"message": "odd"}}]),
        "odd"),
        ((200, {"object": "error", "message": "odd", "code": 50001}), "odd"), ((400, b""), "400: no message"),
        ((400, {"error": {"message": "the image is too large"}}), "400: the image is too large"),
        ((418, b"<p>tea"), "418: <p>tea"),
        ((400, {"error": {"message": None, "code": {}}}), "400: "), ((400, [1]), r"400: \[1\]"),
        ((500, {"detail": "oops"}), "500: oops"),
        ((400, {"error": {"message": "'max_tokens' is too large: 8. The maximum context length is 4"}}), "400: 'max_"),
        ((400, {"error": {"message": "flagged: who sows the seed at this temperature"}}), "400: flagged"),
        ((413, b"too large"), "413: too large"), ((429, {"error": {"message": "Rate limit reached"}}),
        "429: Rate limit"),
        ((429, {"error": {"message": "You exceeded your current quota", "code": 429}}), "429: You exceeded"),
    ],
)  # fmt: skip
def test_anything_else_is_one_failed_request_in_one_line(ask: Ask, reply: Reply, reason: str) -> None:
    with pytest.raises(Unanswered, match=reason) as error:
        ask(reply)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


# --- what ends a run --------------------------------------------------------------------------------


def refusal(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


@pytest.mark.parametrize(
    ("reply", "advice"),
    [
        ((400, refusal("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
                       param="max_tokens", code="unsupported_parameter")),
                       "set max_tokens_field=max_completion_tokens"),
        ((400, refusal("Unsupported value: 'temperature' does not support 0 with this model.", param="temperature")),
         "set temperature=none"),
        ((400, refusal("temperature does not support 0 with this model")), "set temperature=none"),
        ((400, [refusal('Invalid JSON payload received. Unknown name "seed": Cannot find field.')]),
        "set use_seed=false"),
        ((422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs"}]}),
        "set use_seed=false"),
        ((400, refusal("property 'seed' is unsupported")), "set use_seed=false"),
        ((400, refusal("This response_format type is unavailable now")), "set use_schema=false"),
        ((400, {"error": "invalid JSON schema in format"}), "set use_schema=false"),
        ((200, refusal("unsupported response_format", code=400)), "set use_schema=false"),
        ((400, refusal("System role not supported")), "set use_system=false"),
        ((400, refusal("Unsupported value: 'messages[0].role' does not support 'system'.", param="messages[0].role")),
         "set use_system=false"),
        ((400, refusal("max_tokens is too large: 8. This model supports at most 4 completion tokens")),
         "lower max_new_tokens"),
        ((402, b""), "quota is spent"), ((402, refusal("Insufficient Balance")), "quota is spent"),
        ((429, refusal("You exceeded your current quota", type="insufficient_quota", code=None)), "quota is spent"),
        ((429, refusal("no", code="insufficient_quota"), {"Retry-After": "3600"}), "quota is spent"),
        ((400, refusal("no", code="billing_hard_limit_reached")), "quota is spent"),
        ((400, refusal("Your credit balance is too low")), "quota is spent"),
        ((401, b"no"), "check the model's name, the URL and OPENAI_API_KEY"), ((404, b"<html>"),
        "check the model's name"),
        ((400, [refusal("API key not valid. Please pass a valid API key.")]), "check the model's name"),
        ((400, refusal("llama9 is not a valid model ID")), "check the model's name"),
        ((400, refusal("m is not a multimodal model")), "takes no images"),
        ((500, refusal("image input is not supported - hint: you may need the mmproj")), "takes no images"),
    ],
)  # fmt: skip
def test_what_no_request_can_mend_is_reported_with_what_to_do(ask: Ask, reply: Reply, advice: str) -> None:
    with pytest.raises(Stopped, match=advice) as error:
        ask(reply)
    assert "\n" not in str(error.value)


def test_a_refusal_is_not_tried_again(serve: Serve) -> None:
    server = serve(lambda n, request: (429, refusal("no", code="insufficient_quota"), {"Retry-After": "0"}))
    with pytest.raises(Stopped):
        Server(f"openai:m@{server.url}", calls=Calls(retries=3)).ask(ASKED, max_tokens=8)
    assert len(server.requests) == 1


def test_the_settings_that_it_names_leave_a_parameter_out(serve: Serve) -> None:
    server = serve(lambda n, request: said("B"))
    calls = Calls(max_tokens_field="max_completion_tokens")
    Server(f"openai:m@{server.url}", calls=calls).ask(ASKED, max_tokens=8, temperature=None)
    Server(f"openai:m@{server.url}").ask(ASKED, max_tokens=8)
    assert set(server.requests[0]) == {"model", "messages", "max_completion_tokens"}
    assert set(server.requests[1]) == {"model", "messages", "max_tokens", "temperature"}


def test_a_parameter_that_was_not_sent_is_not_blamed(serve: Serve) -> None:
    server = serve(lambda n, request: (400, refusal("unsupported: temperature, seed")))
    with pytest.raises(Unanswered):
        Server(f"openai:m@{server.url}").ask(ASKED, max_tokens=8, temperature=None)


# --- waits ------------------------------------------------------------------------------------------


def after(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "body", "low_s", "high_s"),
    [
        ({"Retry-After": "0"}, b"", 0, 0.4), ({"Retry-After": "0.7"}, b"", 0.7, 1.5),
        ({"Retry-After-Ms": "700"}, b"", 0.7, 1.5),
        ({"Retry-After": "60", "Retry-After-Ms": "10"}, b"", 0, 0.4), ({"Retry-After": after(-9)}, b"", 0, 0.4),
        ({}, b'{"error": {"details": [{"retryDelay": "0.8s"}]}}', 0.8, 1.5),
        ({}, b"", 0.3, 1.2), ({"Retry-After": "soon"}, b"", 0.3, 1.2), ({"Retry-After": "-3"}, b"", 0.3, 1.2),
        ({"Retry-After": "nan"}, b"", 0.3, 1.2),
    ],
)  # fmt: skip
def test_a_wait_is_as_long_as_the_server_asks(
    serve: Serve, headers: dict[str, str], body: bytes, low_s: float, high_s: float
) -> None:
    server = serve(lambda n, request: said("B") if n else (429, body, headers))
    model, begun_s = Server(f"openai:m@{server.url}"), time.monotonic()
    assert model.ask(ASKED, max_tokens=8).text == "B"
    assert low_s <= time.monotonic() - begun_s < high_s + 20


@pytest.mark.parametrize(
    ("wait", "words"),
    [(lambda: "12000", "3 h 20 min"), (lambda: after(7220), "2 h 0 min"), (lambda: "400", "7 min")],
)
def test_a_wait_of_hours_is_reported_and_ends_with_the_run(
    serve: Serve, wait: Callable[[], str], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    under_way, waiting = threading.Event(), threading.Event()

    def replies(n: int, request: dict[str, Any]) -> Reply:
        if request["messages"][1]["content"] == "last":
            under_way.set()
            waiting.wait(30)
            return 401, b"no"
        under_way.wait(30)  # else the other request, too, would wait for what this one waits for
        threading.Timer(0.2, waiting.set).start()
        return 429, refusal("slow down"), {"Retry-After": wait()}

    model = Server(f"openai:m@{serve(replies).url}")

    def unit(text: str) -> str:
        return model.ask([ASKED[0], {"role": "user", "content": text}], max_tokens=8).text

    begun_s = time.monotonic()
    with pytest.raises(Stopped, match="check the model's name"):
        list(finished(unit, ["first", "last"], at_once=2))
    assert time.monotonic() - begun_s < 60
    assert [r.message for r in caplog.records] == [
        f"{model.name}: 429: slow down; waiting {words}, as it asks"
    ]


def test_a_server_that_hangs_up_fails_the_request_and_one_that_is_gone_ends_the_run(serve: Serve) -> None:
    server = serve(lambda n, request: (200, b"", {"Content-Length": "5"}))
    model = Server(f"openai:m@{server.url}", calls=Calls(retries=1))
    with pytest.raises(Unanswered, match=r"the connection broke off .*, 2 times"):
        model.ask(ASKED, max_tokens=8)
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(Stopped, match="cannot be reached"):
        model.ask(ASKED, max_tokens=8)


# --- names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "model", "url"),
    [
        ("openai:llama3.2:3b@http://localhost:11434/v1", "llama3.2:3b", "http://localhost:11434/v1"),
        ("openai:@cf/meta/llama-3@https://api.example.com/v1", "@cf/meta/llama-3", "https://api.example.com/v1"),
        ("openai:gpt-4o", "gpt-4o", ""), ("openai:ft:gpt-4o:mine::7p4", "ft:gpt-4o:mine::7p4", ""),
        ("openai:m@2024-01-01@http://[::1]:8000/v1", "m@2024-01-01", "http://[::1]:8000/v1"),
        ("openai:m@http://me:p@ss@host:8000/v1", "m", "http://host:8000/v1"),
    ],
)  # fmt: skip
def test_the_url_follows_the_last_at_http(name: str, model: str, url: str) -> None:
    server = Server(name)
    assert (server.model, server.url) == (model, url)
    assert server.name == f"openai:{model}" + (f"@{url}" if url else "")


@pytest.mark.parametrize(
    "name",
    ["openai:", "openai:@http://x/v1", "openai:m@ftp://x", "openai:m@localhost:8000/v1", "openai:m@http://",
     "openai:m@http://x:y/v1", "openai:m@http://x:99999999/v1", "openai:m@http://[::1/v1"],
)  # fmt: skip
def test_a_malformed_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="expected openai:NAME@URL"):
        Server(name)


def test_user_and_password_of_a_url_are_sent(serve: Serve) -> None:
    server = serve(lambda n, request: said("B"))
    Server(f"openai:m@{server.url.replace('http://', 'http://me:word@')}").ask(ASKED, max_tokens=8)
    assert server.keys == ["Basic bWU6d29yZA=="]


def test_a_key_that_cannot_be_sent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-ü")
    with pytest.raises(UserError, match="holds characters that no key has"):
        Server("openai:m")


@pytest.mark.parametrize(
    ("name", "field"),
    [("openai:o4-mini", "max_completion_tokens"),
    ("openai:o4@https://api.openai.com/v1", "max_completion_tokens"),
     ("openai:m@http://localhost/v1", "max_tokens")],
)  # fmt: skip
def test_openais_own_server_gets_the_field_that_all_its_models_take(name: str, field: str) -> None:
    assert Server(name)._max_tokens_field == field
