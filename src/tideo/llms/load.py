"""The name of a language model that writes → the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tideo.config import override, split_settings
from tideo.llms import vllm
from tideo.llms.interface import Calls, LanguageModel
from tideo.llms.openai import Server


def load_language_model(name: str, settings: Sequence[str]) -> LanguageModel:
    """`openai:NAME@URL` or `vllm:MODEL`, with the settings of `--llm-args`: key=value pairs.

    The settings are fields of Calls. For vLLM any others are options of its engine. Raises UserError for an unknown
    field or a wrong value, and as Server and Engine do.
    """
    if not name.startswith(vllm.PREFIX):
        return Server(name, calls=override(Calls(), settings, option="--llm-args"))
    of_calls, of_engine = split_settings(settings, Calls)
    pairs = (setting.partition("=") for setting in of_engine)
    options = {key.strip(): _value(text.strip()) for key, _, text in pairs}
    return vllm.Engine(name, calls=override(vllm.CALLS, of_calls, option="--llm-args"), options=options)


def _value(text: str) -> Any:
    """A JSON value, such as a number, true or null; any other text as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text
