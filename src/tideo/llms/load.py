"""The name of a language model that writes → the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from tideo.llms.interface import LanguageModel


def _parted(pairs: Sequence[str], kind: type[Any]) -> tuple[list[str], list[str]]:
    """The key=value pairs that name a field of the dataclass, and the others."""
    names = {field.name for field in fields(kind)}
    known = [pair for pair in pairs if pair.partition("=")[0].strip() in names]
    return known, [pair for pair in pairs if pair not in known]


def _language_model(name: str, pairs: Sequence[str]) -> LanguageModel:
    """A server, or vLLM in this process, whose own options are those that are none of ours."""
    from tideo.config import override
    from tideo.llms import vllm
    from tideo.llms.interface import Calls
    from tideo.llms.openai import Server

    if not name.startswith(vllm.PREFIX):
        return Server(name, calls=override(Calls(), pairs, option="--llm-args"))
    of_calls, rest = _parted(pairs, Calls)
    options = {key.strip(): _value(text.strip()) for key, _, text in (pair.partition("=") for pair in rest)}
    return vllm.Engine(name, calls=override(vllm.CALLS, of_calls, option="--llm-args"), options=options)


def _value(text: str) -> Any:
    """A number, true, false or null as JSON has them; all else as it stands."""
    try:
        return json.loads(text)
    except ValueError:
        return text
