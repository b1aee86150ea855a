"""The files of a PrefixLM directory (config.json, model.safetensors, lora/ as PEFT writes it) and its LLM."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tideo.bundled import is_path, located, model_source, names
from tideo.config import from_plain
from tideo.fitting import fitting
from tideo.loading import Loading
from tideo.pretrained import FAULTS, OWN_CODE, check_whole, reason
from tideo.store.files import files_key
from tideo.types import UserError

LLM_FILES = ("*.json", "*.safetensors")
MODEL_TYPE = "tideo-prefix-lm"
Adapter = Literal["llama-adapter", "lora", "none"]
PadFrames = Literal["zeros", "spread", "time"]


@dataclass(frozen=True, kw_only=True)
class PrefixLMConfig:
    """What a PrefixLM is made of.

    `llm`: a Hugging Face id, or a directory, absolute or relative to the directory of this config.
    `pad_frames`: which of the `max_frames` slots frames take. "zeros": the first ones; missing frames are zero vectors,
    as in TOPA. "spread": T frames take T evenly spread slots, so a single frame takes the middle slot. "time": each
    frame takes the slot of its time in the segment, between two slots a mean of their embeddings; `max_frames` even
    frames take one each.
    `init_std`: initial standard deviation of the temporal embedding and the adapter's vectors; TOPA's is 1
    (nn.Embedding).
    `gate_bias`: gate2 starts at -gate_bias; 3.5 in TOPA's training.
    `lora_targets`: names of linear layers, or ("all-linear",).
    `prompt_style`: a name in models/prompts.py, STYLES.
    `dtype`: the frozen LLM's dtype, as in `Loading`; "auto" takes the checkpoint's.
    `rope_theta`: replaces the base of the LLM's rotary embedding, without scaling; None keeps the LLM's own.
    """

    llm: str
    encoder: str
    feature_dim: int
    max_frames: int = 10
    pad_frames: PadFrames = "zeros"
    adapter: Adapter = "llama-adapter"
    adapter_len: int = 50
    gate_bias: float = 3.5
    init_std: float = 1.0
    lora_rank: int = 8
    lora_alpha: int = 16
    lora_dropout: float = 0.0
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")
    prompt_style: str = "topa"
    dtype: str = "auto"
    rope_theta: float | None = None

    def __post_init__(self) -> None:
        for name, choices in (("adapter", get_args(Adapter)), ("pad_frames", get_args(PadFrames))):
            if getattr(self, name) not in choices:
                raise UserError(
                    f"{name} {getattr(self, name)!r} is unknown; expected one of {', '.join(choices)}"
                )


def llm_name(config: PrefixLMConfig, *, beside: Path) -> str:
    """The LLM's name as written to `beside`: a directory becomes a relative path, so both can be moved together."""
    return os.path.relpath(config.llm, beside) if Path(config.llm).is_dir() else config.llm


def write_config(directory: Path, config: PrefixLMConfig) -> None:
    """Write config.json; the directory is created if it is missing."""
    directory.mkdir(parents=True, exist_ok=True)
    fields = {
        "model_type": MODEL_TYPE,
        **dataclasses.asdict(config),
        "llm": llm_name(config, beside=directory),
    }
    (directory / "config.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def read_config(directory: Path) -> PrefixLMConfig:
    """The config of a directory. Raises UserError if it is missing, of another kind, or has other fields."""
    path = directory / "config.json"
    if not path.is_file():
        raise UserError(f"{directory} holds no config.json: give a directory that `tideo prealign` wrote")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(fields, dict) or fields.pop("model_type", None) != MODEL_TYPE:
        raise UserError(f"{path} describes another kind of model: expected model_type {MODEL_TYPE!r}")
    try:
        return from_plain(PrefixLMConfig, fields)
    except UserError as error:
        raise UserError(f"{path} does not fit this version of tideo: {error}") from error


def begun(config: PrefixLMConfig, start: Path) -> PrefixLMConfig:
    """The config of the model in `start`, with the LLM, dtype and slots of `config`: a training goes on from there.

    Raises UserError if the two differ in what is trained or in how it is shown.
    """
    saved = read_config(start)
    llm = find_llm(saved.llm, beside=start)
    names = ["encoder", "feature_dim", "max_frames", "adapter", "prompt_style"]
    names += {"lora": ["lora_rank", "lora_targets"], "llama-adapter": ["adapter_len"], "none": []}[
        config.adapter
    ]
    for name in names:
        if (there := getattr(saved, name)) != (here := getattr(config, name)):
            raise UserError(
                f"start={start} was trained with {name}={there}, and this recipe has {name}={here}: set the same, or "
                "start from another model"
            )
    same_place = os.path.realpath(llm) == os.path.realpath(config.llm)  # to hash it takes a minute
    if not same_place and _content_of_llm(llm) != _content_of_llm(config.llm):
        raise UserError(
            f"start={start} was trained on the language model {saved.llm}, and this recipe has {config.llm}: set llm "
            "to the same"
        )
    return dataclasses.replace(saved, llm=config.llm, dtype=config.dtype, pad_frames=config.pad_frames)


def _content_of_llm(name: str) -> str:
    return files_key(Path(name), LLM_FILES) if Path(name).is_dir() else name


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write a safetensors file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def read_tensors(path: Path, *, expected: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a file. Raises UserError unless their names and shapes are the expected ones."""
    if not path.is_file():
        raise UserError(f"{path} is missing: the model's directory is incomplete")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is not a whole safetensors file: {error}") from error
    for name in sorted(tensors.keys() | expected.keys()):
        shape = list(tensors[name].shape) if name in tensors else "nothing"
        wanted = list(expected[name].shape) if name in expected else "nothing"
        if shape != wanted:
            raise UserError(
                f"{path}: {name} is {shape}, expected {wanted}: it was trained on another LLM or config"
            )
    return tensors


def find_llm(name: str, *, beside: Path) -> str:
    """A directory, looked for in `beside` first, else the Hugging Face id that `name` must then be."""
    if name and (beside / name).is_dir():
        return str(beside / name)
    if not name or (
        not Path(name).is_dir() and (is_path(name) or (name.count("/") != 1 and name not in names()))
    ):
        raise UserError(
            f"the language model {name!r} is not a directory, nor is {beside / name}: "
            "give its directory or its Hugging Face id"
        )
    return located(name)


def load_llm(
    source: str, *, loading: Loading | None = None, rope_theta: float | None = None, place: bool = True
) -> tuple[Any, Any]:
    """The causal LM, in eval mode, and the tokenizer of a bundled name, a directory or a Hugging Face id.

    `rope_theta` is as in the config, `place` as in `Loading.options`. Weights come from safetensors files only.
    Raises UserError, in one line, if loading fails.
    """
    failure = f"the language model {source!r} cannot be loaded"
    source = model_source(source, failure=failure)
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(source, **OWN_CODE)
        if rope_theta is not None:
            config.rope_parameters = {"rope_type": "default", "rope_theta": rope_theta}
        loading = loading or Loading()
        options = loading.options(saved=getattr(config, "dtype", None), place=place)
        with fitting(source, loading):
            llm, loading_info = AutoModelForCausalLM.from_pretrained(
                source, config=config, use_safetensors=True, ignore_mismatched_sizes=True,
                output_loading_info=True, **OWN_CODE, **options,
            )  # fmt: skip
        tokenizer = AutoTokenizer.from_pretrained(source, **OWN_CODE)
    except UserError:
        raise
    except FAULTS as error:
        raise UserError(f"{failure}: {reason(error, source)}") from error
    check_whole(loading_info, f"the language model {source!r}")
    return llm.eval(), tokenizer
