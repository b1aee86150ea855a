"""What a model would use, without its weights: device, dtype and attention of each of its parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tideo import registry
from tideo.bundled import located, model_source
from tideo.config import override, split_settings
from tideo.fitting import BITS_4BIT, BITS_8BIT, gigabytes
from tideo.llms.vllm_library import PREFIX
from tideo.loading import DTYPES, Loading
from tideo.models.fusion import FUSION_FILE, FusionSettings
from tideo.models.load import BY_PREFIX, OPTION, find_model, folder_of
from tideo.models.topa.settings import SETTINGS_FILE, Settings
from tideo.pretrained import FAULTS, OWN_CODE, reason
from tideo.types import UserError


def parts(name: str, *, args: Sequence[str] = ()) -> list[str]:
    """Of each part in a few words: what it is, where it runs, in which type, with which attention.

    Raises UserError for what `load_model` refuses before it reads weights, and for what this machine cannot do.
    """
    find_model(name, args=args)
    if name.startswith(PREFIX):
        return ["image-text model, which vLLM places itself"]
    if name.startswith(tuple(BY_PREFIX)):
        return [f"runs on the server {name.partition('@')[2]}"]
    if name in registry.targets("models"):
        return ["comes from another package, which places it"]
    of_loading, rest = split_settings(args, Loading)
    loading, folder = override(Loading(), of_loading, option=OPTION), folder_of(name)
    if (folder / FUSION_FILE).is_file():
        names = _settings(FusionSettings.load(folder), rest).models
        within = [str(folder / n) if (folder / n).is_dir() else n for n in names]
        return [f"{Path(n).name}: {part}" for n in within for part in parts(n, args=of_loading)]
    if (folder / SETTINGS_FILE).is_file():
        return _text_only(folder, _settings(Settings.load(folder), rest), loading=loading)
    return [_pretrained(located(name), "image-text model", loading=loading, attn="sdpa")]


def _settings(stored: Any, args: Sequence[str]) -> Any:
    """With those of the arguments that are its fields; `find_model` has seen to the others."""
    return override(stored, split_settings(args, type(stored))[0], option=OPTION)


def _text_only(folder: Path, settings: Settings, *, loading: Loading) -> list[str]:
    from tideo.models.topa.checkpoint import find_llm, read_config

    config, device = read_config(folder), loading.torch_device()
    of_lm = loading.as_saved(config.dtype)
    attn = "eager" if config.adapter == "llama-adapter" else "auto"  # it computes its own, step by step
    dtype = "float32" if loading.dtype == "auto" else DTYPES[loading.dtype]
    return [
        _pretrained(find_llm(config.llm, beside=folder), "language model", loading=of_lm, attn=attn),
        f"encoder {settings.encoder.rpartition('/')[2]} on {device} in {dtype}",
        f"memory on {device}" + ("" if device.type == "cpu" else " in half precision"),
    ]


def _pretrained(source: str, what: str, *, loading: Loading, attn: str) -> str:
    """A causal or image-text model of transformers, built on the meta device from its config.

    `attn`: its attention where none is asked for; auto leaves it to transformers.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    kind = AutoModelForCausalLM if what == "language model" else AutoModelForImageTextToText
    failure = f"the {what} {source!r} cannot be loaded"
    source = model_source(source, failure=failure)
    try:
        config = AutoConfig.from_pretrained(source, **OWN_CODE)
        options = loading.options(saved=config.dtype)
        attn = options.get("attn_implementation", attn)
        with torch.device("meta"):
            model: Any = kind.from_config(
                config, **{} if attn == "auto" else {"attn_implementation": attn}, **OWN_CODE
            )
    except UserError:
        raise
    except FAULTS as error:
        raise UserError(f"{failure}: {reason(error, source)}") from error
    dtype = str(config.dtype if options["dtype"] == "auto" else options["dtype"]).removeprefix("torch.")
    num = sum(parameter.numel() for parameter in model.parameters())
    size = f"{num / 1e9:.1f}B" if num >= 1e9 else f"{num / 1e6:.1f}M"
    bits = (
        BITS_4BIT
        if loading.load_4bit
        else BITS_8BIT
        if loading.load_8bit
        else getattr(torch, dtype).itemsize * 8
    )
    return (
        f"{what} ({size} parameters, {gigabytes(num * bits // 8)}) on {loading.device_map or loading.torch_device()} "
        f"in {loading.quantised or dtype}, attention {model.config.get_text_config()._attn_implementation}"
    )
