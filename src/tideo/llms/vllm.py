"""A language model that vLLM runs in this process: no server to start, its batches filled as requests come."""

from __future__ import annotations

import asyncio
import atexit
import itertools
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from tideo import registry
from tideo.llms.interface import Calls, Reply, Unanswered
from tideo.types import Stopped, UserError

PREFIX = "vllm:"
CALLS = Calls(concurrency=64, timeout_s=600.0)  # requests wait in the engine's queue, not in ours
START_S = 3600.0  # a large model takes minutes to be read and compiled


class Engine:
    """`name` is `vllm:MODEL`, a folder or a Hugging Face id; `options` are vLLM's own, as of `vllm serve`.

    Asked as an `llms.openai.Server` is, from several threads at once. What it writes costs no money; `cap_tokens` is
    kept. Raises UserError where vLLM is missing or does not take the model.
    """

    def __init__(
        self, name: str, *, calls: Calls | None = None, options: Mapping[str, Any] | None = None
    ) -> None:
        model = name.removeprefix(PREFIX)
        if not name.startswith(PREFIX) or not model:
            raise UserError(f"model {name!r}: expected vllm:MODEL, as in vllm:Qwen/Qwen3-8B")
        self.name, self.calls = name, calls or CALLS
        limits = ("requests_per_minute", "tokens_per_minute", "price_in", "price_out", "cap")
        if given := [limit for limit in limits if getattr(self.calls, limit) is not None]:
            raise UserError(
                f"{name} runs on this machine, nobody counts or is paid: leave out {', '.join(given)}"
            )
        registry.require("vllm")
        from vllm import AsyncEngineArgs, SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
        from vllm.v1.engine.async_llm import AsyncLLM

        self.spent, self.tokens = 0.0, 0
        self._lock, self._numbers = threading.Lock(), itertools.count()
        self._sampling, self._schema, self._whole = (
            SamplingParams,
            StructuredOutputsParams,
            RequestOutputKind.FINAL_ONLY,
        )
        self._engine: Any = None
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

        async def start() -> Any:
            return AsyncLLM.from_engine_args(AsyncEngineArgs(model=model, **(options or {})))

        try:
            self._engine = self._run(start(), timeout_s=START_S)
            self._tokenizer = self._engine.get_tokenizer()
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            raise UserError(f"{name}: vLLM does not start ({_one_line(error)})") from error
        atexit.register(self.close)
        if not getattr(self._tokenizer, "chat_template", None):
            raise UserError(f"{name}: the model has no chat template: give one that was trained to chat")

    def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int | None = None,
        response_format: Mapping[str, Any] | None = None,
    ) -> Reply:
        """One request. Raises Unanswered where it came to nothing, and Stopped where the cap or the engine ends all."""
        if self.calls.cap_tokens is not None and self.tokens >= self.calls.cap_tokens:
            raise Stopped(
                f"{self.name}: the cap of {self.calls.cap_tokens} tokens is reached; raise it and run this again"
            )
        schema = response_format["json_schema"]["schema"] if response_format else None
        prompt = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        params = self._sampling(
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            output_kind=self._whole,
            structured_outputs=self._schema(json=schema) if schema else None,
        )
        try:
            done = self._run(self._generate(prompt, params), timeout_s=self.calls.timeout_s)
        except TimeoutError as error:
            raise Unanswered(f"{self.name}: no answer within {self.calls.timeout_s} s") from error
        except ValueError as error:  # of a prompt that is too long, or a schema that cannot be held to
            raise Unanswered(f"{self.name}: {_one_line(error)}") from error
        except Exception as error:
            if self._engine.errored:
                raise Stopped(f"{self.name}: vLLM broke down ({_one_line(error)})") from error
            raise Unanswered(f"{self.name}: {_one_line(error)}") from error
        said = done.outputs[0]
        told = len(done.prompt_token_ids or ()), len(said.token_ids)
        with self._lock:
            self.tokens += sum(told)
        return Reply(
            text=said.text.strip(),
            truncated=said.finish_reason == "length",
            tokens_in=told[0],
            tokens_out=told[1],
        )

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """Nothing: the machine is the user's."""
        return 0.0

    def close(self) -> None:
        """End the engine and give the model's memory back; done when this process ends, too."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.shutdown()
            self._loop.call_soon_threadsafe(self._loop.stop)

    async def _generate(self, prompt: str, params: Any) -> Any:
        # vLLM puts the tokens of its own before a text; the chat template has them already.
        ids = self._tokenizer(prompt, add_special_tokens=False)["input_ids"]
        made = self._engine.generate({"prompt_token_ids": ids}, params, str(next(self._numbers)))
        return [output async for output in made][-1]

    def _run(self, work: Any, *, timeout_s: float) -> Any:
        waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return waiting.result(timeout_s)
        except TimeoutError:
            waiting.cancel()  # the engine stops on it too
            raise


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
