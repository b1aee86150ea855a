"""A language model that vLLM runs in this process: it needs no server, and batches requests as they come."""

from __future__ import annotations

import asyncio
import atexit
import itertools
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from tideo.llms.interface import Calls, LanguageModel, Reply, Unanswered
from tideo.llms.vllm_library import PREFIX, does_not_start, library, one_line
from tideo.types import Stopped, UserError

CALLS = Calls(concurrency=64, timeout_s=600.0)  # many at once: they wait in the engine's own queue
START_S = 3600.0  # the limit for a start; reading and compiling a large model takes minutes


class Engine(LanguageModel):
    """`name` is `vllm:MODEL`, a folder or a Hugging Face id; `options` are vLLM's own, those of `vllm serve`.

    Safe to call from several threads. Its replies cost no money; `cap_tokens` is kept. Raises UserError if vLLM is
    missing or cannot run the model.
    """

    def __init__(
        self, name: str, *, calls: Calls | None = None, options: Mapping[str, Any] | None = None
    ) -> None:
        model = name.removeprefix(PREFIX)
        if not name.startswith(PREFIX) or not model:
            raise UserError(f"model {name!r}: expected vllm:MODEL, as in vllm:Qwen/Qwen3-8B")
        super().__init__(name, calls or CALLS)
        of_servers = (
            "requests_per_minute",
            "tokens_per_minute",
            "price_in",
            "price_out",
            "cap",
            "max_tokens_field",
            "retries",
        )
        if given := [field for field in of_servers if getattr(self.calls, field) != getattr(CALLS, field)]:
            raise UserError(
                f"{name} runs on this machine, without rate limits, prices, retries or a protocol: leave out "
                f"{', '.join(given)}"
            )
        library()
        from vllm import AsyncEngineArgs, SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
        from vllm.v1.engine.async_llm import AsyncLLM

        self._numbers = itertools.count()
        self._sampling_params, self._structured_outputs = SamplingParams, StructuredOutputsParams
        self._output_kind = RequestOutputKind.FINAL_ONLY
        self._engine: Any = None
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

        async def start() -> Any:
            return AsyncLLM.from_engine_args(AsyncEngineArgs(model=model, **(options or {})))

        try:
            self._engine = self._run(start(), timeout_s=START_S)
            self._tokenizer = self._engine.get_tokenizer()
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            raise does_not_start(name, error) from error
        atexit.register(self.close)
        if not getattr(self._tokenizer, "chat_template", None):
            raise UserError(f"{name}: the model has no chat template: give a model that was trained to chat")

    def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        max_tokens: int,
        temperature: float | None = 0.0,
        seed: int | None = None,
        response_format: Mapping[str, Any] | None = None,
    ) -> Reply:
        """One request. Raises Unanswered if it failed, and Stopped if the cap is spent or the engine broke down."""
        self._check_caps()
        schema = response_format["json_schema"]["schema"] if response_format else None
        prompt = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        params = self._sampling_params(
            max_tokens=max_tokens,
            seed=seed,
            output_kind=self._output_kind,
            structured_outputs=self._structured_outputs(json=schema) if schema else None,
            **({} if temperature is None else {"temperature": temperature}),
        )
        try:
            output = self._run(self._generate(prompt, params), timeout_s=self.calls.timeout_s)
        except TimeoutError as error:
            raise Unanswered(f"{self.name}: no answer within {self.calls.timeout_s} s") from error
        except ValueError as error:  # the prompt is too long, or the schema is unsupported
            raise Unanswered(f"{self.name}: {one_line(error)}") from error
        except Exception as error:
            if self._engine.errored:
                raise Stopped(f"{self.name}: vLLM broke down ({one_line(error)})") from error
            raise Unanswered(f"{self.name}: {one_line(error)}") from error
        completion = output.outputs[0]
        tokens_in, tokens_out = len(output.prompt_token_ids or ()), len(completion.token_ids)
        self._add(tokens_in, tokens_out)
        return Reply(
            text=completion.text.strip(),
            truncated=completion.finish_reason == "length",
            tokens_in=tokens_in,
            tokens_out=tokens_out,
        )

    def close(self) -> None:
        """End the engine and free the model's memory. It also runs when this process ends."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.shutdown()
            self._loop.call_soon_threadsafe(self._loop.stop)

    async def _generate(self, prompt: str, params: Any) -> Any:
        # Given a text, vLLM would add special tokens, which the chat template already has.
        ids = self._tokenizer(prompt, add_special_tokens=False)["input_ids"]
        outputs = self._engine.generate({"prompt_token_ids": ids}, params, str(next(self._numbers)))
        return [output async for output in outputs][-1]

    def _run(self, work: Any, *, timeout_s: float) -> Any:
        waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return waiting.result(timeout_s)
        except TimeoutError:
            waiting.cancel()  # so the engine stops working on it, too
            raise
