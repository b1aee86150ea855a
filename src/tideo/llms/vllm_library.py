"""The package vllm, the options of its engine, and its errors, for all that run it in this process."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable
from dataclasses import fields
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from tideo import registry
from tideo.loading import DTYPES
from tideo.startup import end_deferring
from tideo.types import UserError

PREFIX = "vllm:"
# Unless the user set them: its log would stand among results on standard output, and it reports its use to its makers.
_ENVIRONMENT = {
    "VLLM_LOGGING_STREAM": "ext://sys.stderr", "VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1",
}  # fmt: skip
# What its errors say → what to do about them.
_ADVICE = (
    (("model architectures", "no vllm implementation", "no module or parameter named", "not initialized from"),
     "vLLM has no class that reads this model: name it without vllm:"),
    (("memory", "kv cache", "cache blocks"),
     "set gpu_memory_utilization to the share that is free, a smaller max_model_len, or tensor_parallel_size=N to "
     "spread the model over N GPUs (without a GPU VLLM_CPU_KVCACHE_SPACE, in GiB)"),
    (("user-specified max_model_len",), "set a max_model_len that the model was made for"),
    (("engine core initialization",), "its own lines above say why"),
)  # fmt: skip

# What Tideo sets, or its likelihoods rest on.
OURS = (
    "limit_mm_per_prompt", "logprobs_mode", "mm_processor_kwargs", "model", "runner", "skip_tokenizer_init",
    "tokenizer", "trust_remote_code",
)  # fmt: skip
# How models of transformers are loaded → what vLLM has instead.
INSTEAD = {
    "attn": "attention_backend chooses vLLM's attention",
    "device": "vLLM takes the GPUs that the environment variable CUDA_VISIBLE_DEVICES names",
    "device_map": "tensor_parallel_size=N spreads the model over N GPUs",
    "load_4bit": "set quantization=bitsandbytes",
    "load_8bit": "set quantization=fp8",
}


def library() -> ModuleType:
    """The package vllm. Raises UserError if it is missing or does not import."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    end_deferring()
    vllm = registry.require("vllm")
    try:
        vllm.AsyncEngineArgs  # noqa: B018  it imports on use
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            f"vllm is installed and does not import ({one_line(error)}): install it in an environment of its own"
        ) from error
    return vllm


def engine_options(settings: Iterable[str], *, option: str, ours: Collection[str] = ()) -> dict[str, Any]:
    """The key=value settings as options of vLLM's engine, which are those of `vllm serve`.

    `ours` are other keys that may have been meant. Raises UserError for a key that is none of them.
    """
    options: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = (part.strip() for part in setting.partition("="))
        if not equals or not key:
            raise UserError(f"{option} {setting}: expected key=value, as in max_model_len=4096")
        known = [field.name for field in fields(library().AsyncEngineArgs) if field.name[0] != "_"]
        if key not in known:
            near = get_close_matches(key, [*ours, *known], n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "vllm serve --help lists its options"
            raise UserError(f"{option} {setting}: unknown key {key!r}; {hint}")
        options[key] = DTYPES.get(text, text) if key == "dtype" else _value(text)
    return options


def check_keys(settings: list[str], *, option: str) -> None:
    """Raises UserError for a key=value setting that other models have and vLLM does not, or that Tideo sets itself."""
    for setting in settings:
        key = setting.partition("=")[0].strip()
        if key in INSTEAD:
            raise UserError(f"{option} {setting}: a model of vLLM has no {key}; {INSTEAD[key]}")
        if key in OURS:
            raise UserError(f"{option} {setting}: Tideo sets {key} itself; leave it out")


def does_not_start(name: str, error: Exception) -> UserError:
    """What to raise for an error of vLLM's while a model starts: one line, with what to do."""
    return UserError(f"{name}: vLLM does not start ({one_line(error)}){advice(error)}")


def advice(error: Exception) -> str:
    """What to do about an error of vLLM's, behind a semicolon; "" if nothing is known."""
    text = str(error).lower()
    return next((f"; {what}" for words, what in _ADVICE if any(word in text for word in words)), "")


def one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _value(text: str) -> Any:
    """A JSON value, such as a number, true or null; any other text as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text
