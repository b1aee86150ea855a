"""The name of a language model that writes → the model."""

from __future__ import annotations

from collections.abc import Sequence

from tideo.config import override, split_settings
from tideo.llms import vllm
from tideo.llms.interface import Calls, LanguageModel
from tideo.llms.openai import Server
from tideo.llms.vllm_library import PREFIX, engine_options


def load_language_model(name: str, settings: Sequence[str]) -> LanguageModel:
    """`openai:NAME@URL` or `vllm:MODEL`, with the settings of `--llm-args`: key=value pairs.

    The settings are fields of Calls. For vLLM any others are options of its engine. Raises UserError for an unknown
    field or a wrong value, and as Server and Engine do.
    """
    if not name.startswith(PREFIX):
        return Server(name, calls=override(Calls(), settings, option="--llm-args"))
    of_calls, of_engine = split_settings(settings, Calls)
    calls = override(vllm.CALLS, of_calls, option="--llm-args")
    return vllm.Engine(name, calls=calls, options=engine_options(of_engine, option="--llm-args"))
