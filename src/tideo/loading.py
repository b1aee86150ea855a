"""Where weights go and in what form: one rule for language models, encoders, image-text models and trainings."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from tideo.gpus import absent
from tideo.registry import require
from tideo.types import UserError

if TYPE_CHECKING:  # the command line reads these settings before torch is imported
    import torch

log = logging.getLogger(__name__)
# What `dtype` may be → torch's name of it.
DTYPES = {
    "bf16": "bfloat16", "fp16": "float16", "fp32": "float32",
    "bfloat16": "bfloat16", "float16": "float16", "float32": "float32",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How weights are loaded, under the same names in `--model-args`, `--encoder-args` and recipes.

    `device`: auto, cpu, or an accelerator of torch such as cuda, cuda:1 or mps. auto is the accelerator, if there is
    one; of several processes on a machine each takes its own. `dtype`: bf16, fp16, fp32 or their names in torch; auto
    is the type that the weights were saved in. `load_4bit` (NF4, double quantisation) and `load_8bit` are of
    language models and image-text models, and need bitsandbytes and a GPU. `attn` is an attention implementation of
    transformers. `device_map` spreads a model that is larger than one GPU over all of them and the host's memory.
    """

    device: str = "auto"
    dtype: str = "auto"
    load_4bit: bool = False
    load_8bit: bool = False
    attn: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    device_map: Literal["auto", "balanced", "sequential"] | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|[a-z]+(:\d+)?", self.device):
            raise UserError(f"device={self.device}: expected auto, cpu, cuda, cuda:N or mps")
        if self.dtype not in ("auto", *DTYPES):
            raise UserError(f"dtype={self.dtype}: expected auto, bf16, fp16 or fp32")
        if self.load_4bit and self.load_8bit:
            raise UserError("load_4bit and load_8bit exclude each other: set one of them")
        if self.quantised and self.device == "cpu":
            raise self._no_gpu()
        if self.device_map is not None and self.device != "auto":
            raise UserError(
                f"device_map={self.device_map} chooses the devices itself: leave device={self.device} out"
            )

    @property
    def loading(self) -> Loading:
        """These settings alone, of a recipe that has them among others."""
        return Loading(**{field.name: getattr(self, field.name) for field in fields(Loading)})

    @property
    def quantised(self) -> str | None:
        """The form of the weights if it is none of `dtype`; it enters the keys of answers."""
        return "nf4" if self.load_4bit else "int8" if self.load_8bit else None

    @property
    def conversion(self) -> list[str]:
        """What the weights are turned into, for the keys of answers; nothing if they stay as they were saved."""
        return [name for name in (self.quantised, DTYPES.get(self.dtype)) if name]

    def torch_device(self) -> torch.device:
        """The device, with its index. Raises UserError if this machine has no such device."""
        import torch

        accelerator = torch.accelerator.current_accelerator(check_available=True)
        device = (accelerator or torch.device("cpu")) if self.device == "auto" else _parsed(self.device)
        if device.type == "cpu":
            return torch.device("cpu")
        if accelerator is None or device.type != accelerator.type:
            raise UserError(f"device={self.device}: {absent(self.device)}")
        count, rank = torch.accelerator.device_count(), os.environ.get("LOCAL_RANK")
        if device.index is not None and (processes := _processes_here()) > 1:
            raise UserError(
                f"device={self.device} puts all {processes} processes of this machine on one device: set "
                f"device={device.type} or leave it out, and each takes its own"
            )
        if device.index is None and rank is not None and int(rank) >= count:
            raise UserError(
                f"process {rank} of this machine has no {device.type} device of its own, there are {count}: "
                f"start at most {count} processes, or set device=cpu"
            )
        index = int(rank or 0) if device.index is None else device.index
        if index >= count:
            raise UserError(f"device={self.device}: there are {count}, the first is {device.type}:0")
        return torch.device(device.type, index)

    def torch_dtype(self, saved: Any = None) -> Any:
        """The dtype for `from_pretrained`; `saved` is the checkpoint's. auto stays "auto".

        On a GPU without bfloat16 auto is float16 for weights in bfloat16. Raises UserError for bf16 on such a GPU.
        """
        import torch

        from tideo.device import has_bfloat16

        device = self.torch_device()
        lacks_bf16 = device.type != "cpu" and not has_bfloat16(device)
        if self.dtype == "auto":
            if lacks_bf16 and saved in (torch.bfloat16, "bfloat16"):
                log.info("%s has no bfloat16: the weights are loaded in float16", device)
                return torch.float16
            return "auto"
        if lacks_bf16 and DTYPES[self.dtype] == "bfloat16":
            raise UserError(f"dtype={self.dtype}: {device} has no bfloat16; set dtype=fp16")
        return getattr(torch, DTYPES[self.dtype])

    def as_saved(self, dtype: str) -> Loading:
        """These settings with auto replaced by the `dtype` that a model's own config names, as `torch_dtype` does."""
        if self.dtype != "auto" or dtype == "auto":
            return self
        named = replace(self, dtype=dtype)
        kept = self.torch_dtype(DTYPES[dtype]) == "auto"
        return named if kept else replace(self, dtype="float16")

    def options(self, *, saved: Any = None, place: bool = True) -> dict[str, Any]:
        """Keywords of `from_pretrained`. With `place` the weights go to the device; a training moves them itself.

        Quantised weights are placed always. Raises UserError where this machine cannot load in this way.
        """
        device = self.torch_device()
        options: dict[str, Any] = {"dtype": self.torch_dtype(saved)}
        if self.attn != "auto":
            if self.attn == "flash_attention_2":
                self._check_flash(device, saved=saved)
            options["attn_implementation"] = self.attn
        if self.quantised:
            options["quantization_config"] = self._quantisation(device, dtype=options["dtype"])
        if self.device_map is not None:
            if (processes := _processes_here()) > 1:
                raise UserError(
                    f"device_map={self.device_map} spreads each of {processes} processes over all GPUs: start one "
                    "process, or leave device_map out"
                )
            options["device_map"] = self.device_map
        elif device.type != "cpu" and (place or self.quantised):
            options["device_map"] = {"": device}
        return options

    def _no_gpu(self) -> UserError:
        name, bits = ("load_4bit", "4") if self.load_4bit else ("load_8bit", "8")
        return UserError(f"{bits}-bit weights need a GPU and bitsandbytes: leave {name} out")

    def _check_flash(self, device: torch.device, *, saved: Any) -> None:
        if device.type == "cpu":
            raise UserError("attn=flash_attention_2 needs a GPU: set attn=sdpa or leave it out")
        if DTYPES.get(self.dtype, str(saved).removeprefix("torch.")) == "float32" and not self.quantised:
            raise UserError("attn=flash_attention_2 computes in bf16 or fp16 alone: set dtype=bf16")
        require("flash_attn")

    def _quantisation(self, device: torch.device, *, dtype: Any) -> Any:
        """`dtype` is that of the other weights, in which 4-bit ones compute too; auto is the fastest of the GPU."""
        import torch
        from transformers import BitsAndBytesConfig

        from tideo.device import has_bfloat16

        if device.type == "cpu":
            raise self._no_gpu()
        require("bitsandbytes")
        if self.load_8bit:
            return BitsAndBytesConfig(load_in_8bit=True)
        fastest = torch.bfloat16 if has_bfloat16(device) else torch.float16
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=fastest if dtype == "auto" else dtype,
        )


def _processes_here() -> int:
    """How many processes of a run share this machine, as torchrun and accelerate launch tell each of them."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def _parsed(name: str) -> torch.device:
    import torch

    try:
        return torch.device(name)
    except RuntimeError as error:
        raise UserError(
            f"device={name}: torch knows no such device; expected auto, cpu, cuda, cuda:N or mps"
        ) from error
