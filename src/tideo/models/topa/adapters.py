"""What is trained inside a frozen LLM, by name: TOPA's gated attention, LoRA through PEFT, or nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tideo.models.topa.checkpoint import PrefixLMConfig, llm_name, read_tensors, write_tensors
from tideo.models.topa.llama_adapter import LlamaAdapter, use_gated_attention
from tideo.types import UserError

LORA_FILE = Path("lora", "adapter_model.safetensors")


def _gated(llm: Any, config: PrefixLMConfig) -> tuple[Any, LlamaAdapter]:
    adapter = LlamaAdapter(
        llm, adapter_len=config.adapter_len, gate_bias=config.gate_bias, init_std=config.init_std
    )
    use_gated_attention(llm)
    return llm, adapter


def _lora(llm: Any, config: PrefixLMConfig) -> tuple[Any, None]:
    from peft import LoraConfig, get_peft_model

    everything = config.lora_targets == ("all-linear",)
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules="all-linear" if everything else list(config.lora_targets),
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(llm, lora), None
    except ValueError as error:  # PEFT's message runs over several lines
        raise UserError(
            f"LoRA targets {', '.join(config.lora_targets)} do not fit {type(llm).__name__}: "
            "name its linear layers, or all-linear"
        ) from error


# config.adapter -> function of (llm, config) -> (the llm to call, the trained module outside it or None)
ADAPTERS: dict[str, Callable[[Any, PrefixLMConfig], tuple[Any, nn.Module | None]]] = {
    "llama-adapter": _gated,
    "lora": _lora,
    "none": lambda llm, config: (llm, None),
}


def write_lora(
    directory: Path, llm: Any, *, config: PrefixLMConfig, state: Mapping[str, torch.Tensor] | None = None
) -> None:
    """Write the LoRA tensors of a PEFT model to lora/, in PEFT's layout.

    `state` has those of a model that is sharded, under their names in the PrefixLM.
    """
    if state is not None:
        state = {name.removeprefix("llm."): tensor for name, tensor in state.items()}
    lora = copy.copy(llm.peft_config["default"])
    lora.base_model_name_or_path = llm_name(config, beside=directory)
    lora.save_pretrained(str((directory / LORA_FILE).parent))
    write_tensors(directory / LORA_FILE, _lora_tensors(llm, state=state))


def read_lora(directory: Path, llm: Any) -> None:
    """Load what `write_lora` wrote. Raises UserError if it does not fit `llm`."""
    from peft import set_peft_model_state_dict

    tensors = read_tensors(directory / LORA_FILE, expected=_lora_tensors(llm))
    set_peft_model_state_dict(llm, tensors)


def _lora_tensors(llm: Any, *, state: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    from peft import get_peft_model_state_dict

    return dict(get_peft_model_state_dict(llm, state_dict=state, save_embedding_layers=False))
