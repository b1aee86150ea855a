"""Cross-modal projection: image features become means of the text features that a language model was trained on.

    v' = normalise(softmax(100 · v · Mᵀ) · M)          (TOPA, arXiv 2405.13911; llama/model.py of its code)

M is a memory of caption features, unit rows [M, D]. The published code makes the [Q, M] matrix three times. Here M is
read once, in chunks that fit the processor's cache, with a running maximum and sum (the online softmax of Milakov and
Gimelshein, arXiv 1805.02867). The result is exact and takes a few MB beside the memory.

Shapes: Q queries (frames), M captions, C captions of a chunk, K nearest captions, D width.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from tideo.device import has_bfloat16
from tideo.store.files import atomic_path
from tideo.types import Features, UserError

# Rows of M read at a time. 1024 × 768 float32 are 3 MB; larger chunks leave the cache before their second use.
CHUNK = 1024
BLOCK = 2**15  # rows written at a time, and read on another device, where large products are fast
SAFETENSORS_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True, eq=False)
class Memory:
    """Caption features of one encoder: unit rows [M, D], float32, float16 or bfloat16.

    float16 halves the size and stays within 1e-6 (1 - cosine) of float32. bfloat16 is fastest on processors with
    bfloat16 instructions, and within 1e-4 (docs/projection.md). `threshold` is the familiarity below which a video is
    out of distribution for the memory; None before `familiarity.calibrated`.
    """

    values_MD: torch.Tensor
    encoder: str
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.values_MD.ndim != 2 or self.values_MD.dtype not in DTYPES.values():
            raise ValueError(
                f"values_MD must be float [M, D], not {self.values_MD.dtype} {list(self.values_MD.shape)}"
            )
        if not len(self.values_MD):
            raise UserError("a memory needs at least one caption, this one has none")

    def __len__(self) -> int:
        return len(self.values_MD)

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, whole or not at all. Encoder, size and threshold are JSON in its header."""
        write_memory(
            path,
            self.values_MD.split(BLOCK),
            shape=self.values_MD.shape,
            dtype=self.values_MD.dtype,
            encoder=self.encoder,
            threshold=self.threshold,
        )

    @classmethod
    def load(
        cls, path: str | Path, *, dtype: str | None = None, device: torch.device | str = "cpu"
    ) -> Memory:
        """Read what `save` wrote. With its own dtype, on the CPU, it stays a memory map; `dtype` is a name in DTYPES.

        On another device float32 becomes float16, and the file is read in blocks, so that the host holds few of its
        rows.

        Raises UserError if the file is missing or is no memory.
        """
        if dtype not in (None, *DTYPES):
            raise UserError(f"unknown memory dtype {dtype!r}; expected one of {', '.join(DTYPES)}")
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {})["tideo_memory"])
                values = _placed(file, dtype=DTYPES.get(dtype or ""), device=torch.device(device))
        except (OSError, SafetensorError, KeyError) as error:
            raise UserError(
                f"{path} is not a memory of caption features ({error}): make one first"
            ) from error
        return cls(values_MD=values, encoder=about["encoder"], threshold=about["threshold"])


def _placed(file: Any, *, dtype: torch.dtype | None, device: torch.device) -> torch.Tensor:
    if device.type == "cpu":
        values: torch.Tensor = file.get_tensor("values")
        return values.to(dtype)
    rows = file.get_slice("values")
    saved = rows[:0].dtype
    placed = torch.empty(
        rows.get_shape(), dtype=dtype or (torch.float16 if saved == torch.float32 else saved), device=device
    )
    for start in range(0, len(placed), BLOCK):
        placed[start : start + BLOCK] = rows[start : start + BLOCK].to(device)
    return placed


def write_memory(
    path: str | Path,
    blocks_MD: Iterable[torch.Tensor],
    *,
    shape: Sequence[int],
    dtype: torch.dtype,
    encoder: str,
    threshold: float | None = None,
) -> None:
    """Write the file of `Memory.save` from blocks of rows, of which one at a time is in memory.

    The bytes are those of safetensors' save_file, which would hold all rows twice.
    """
    about = {"encoder": encoder, "num_captions": shape[0], "threshold": threshold}
    size = math.prod(shape) * dtype.itemsize
    tensor = {"dtype": SAFETENSORS_NAMES[dtype], "shape": list(shape), "data_offsets": [0, size]}
    header = {"__metadata__": {"tideo_memory": json.dumps(about)}, "values": tensor}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic_path(path) as tmp, open(tmp, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for block_MD in blocks_MD:
            file.write(block_MD.to("cpu", dtype).contiguous().view(torch.uint8).numpy().data)
        file.flush()


def project(
    features: Features, memory: Memory, *, temperature: float = 100.0, top_k: int | None = None
) -> Features:
    """Features [T, D] → "projected" Features [T, D]: each row a softmax-weighted mean of the memory's rows.

    `temperature` multiplies the cosines, 100 as published. `top_k` averages only each row's k nearest captions: less
    work, but a coarse approximation for small k (docs/projection.md has its error). Raises UserError if features and
    memory come from different encoders.
    """
    if features.encoder != memory.encoder or features.values_TD.shape[1] != memory.values_MD.shape[1]:
        raise UserError(
            f"features of {features.encoder} (width {features.values_TD.shape[1]}) do not fit a memory of "
            f"{memory.encoder} (width {memory.values_MD.shape[1]}): encode both with one encoder"
        )
    if not 0 < temperature < math.inf:
        raise UserError(f"temperature must be a finite number above 0, not {temperature}; 100 is published")
    if top_k is not None and not 1 <= top_k <= len(memory):
        raise UserError(f"top_k must be within 1..{len(memory)}, the size of the memory, not {top_k}")
    query_QD = torch.from_numpy(features.values_TD).to(memory.values_MD.device)
    with torch.inference_mode():
        if top_k is not None:
            out_QD = _nearest_mean(query_QD, memory.values_MD, temperature=temperature, k=top_k)
        elif memory.values_MD.dtype == torch.bfloat16 and has_bfloat16(memory.values_MD.device):
            out_QD = _softmax_mean_bfloat16(query_QD, memory.values_MD, temperature=temperature)
        else:
            out_QD = _softmax_mean(query_QD, memory.values_MD, temperature=temperature)
        values = torch.nn.functional.normalize(out_QD, dim=-1).cpu().numpy()
    return replace(features, values_TD=values, modality="projected")


def _softmax_mean(query_QD: torch.Tensor, values_MD: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """softmax(temperature · q · Mᵀ) · M up to a positive factor for each row, which the caller normalises away."""
    query_QD = query_QD * temperature
    best_Q1 = query_QD.new_full((len(query_QD), 1), -math.inf)
    mean_QD = torch.zeros_like(query_QD)
    for chunk_CD in (chunk.float() for chunk in _chunks(values_MD)):
        weights_QC = _times_transposed(query_QD, chunk_CD)
        new_best_Q1 = torch.maximum(best_Q1, weights_QC.amax(dim=1, keepdim=True))
        weights_QC.sub_(new_best_Q1).exp_()
        mean_QD.mul_((best_Q1 - new_best_Q1).exp_()).add_(_times_transposed(weights_QC, chunk_CD.T))
        best_Q1 = new_best_Q1
    return mean_QD


def _softmax_mean_bfloat16(
    query_QD: torch.Tensor, values_MD: torch.Tensor, *, temperature: float
) -> torch.Tensor:
    """As `_softmax_mean`, with products in bfloat16.

    Their results have 8 bits, at a score of 30 an error of 6% in the weight. So the running maximum is subtracted
    inside the product, whose sum is float32: scores are then small, and exact enough, where weights are large.
    """
    query_QD = (query_QD * temperature).bfloat16()
    first_QC = query_QD.float() @ values_MD[:CHUNK].float().T
    best_Q1 = first_QC.amax(dim=1, keepdim=True).bfloat16()
    mean_QD = torch.zeros(query_QD.shape, device=query_QD.device)
    for chunk_CD in _chunks(values_MD):
        weights_QC = torch.addmm(-best_Q1, query_QD, chunk_CD.T)
        new_best_Q1 = best_Q1 + weights_QC.amax(dim=1, keepdim=True).clamp_(min=0)
        drop_Q1 = best_Q1.float() - new_best_Q1.float()
        weights_QC.add_(drop_Q1).exp_()
        mean_QD.mul_(drop_Q1.exp_()).add_(weights_QC @ chunk_CD)
        best_Q1 = new_best_Q1
    return mean_QD


def _nearest_mean(
    query_QD: torch.Tensor, values_MD: torch.Tensor, *, temperature: float, k: int
) -> torch.Tensor:
    """The softmax over each query's k nearest rows, found exactly. Rows are gathered for one query at a time."""
    scores_QK = query_QD.new_empty((len(query_QD), 0))
    rows_QK = torch.empty((len(query_QD), 0), dtype=torch.long, device=query_QD.device)
    start = 0
    for chunk_CD in (chunk.float() for chunk in _chunks(values_MD)):
        scores = torch.cat([scores_QK, _times_transposed(query_QD, chunk_CD)], dim=1)
        rows = torch.arange(start, start + len(chunk_CD), device=rows_QK.device).expand(len(query_QD), -1)
        scores_QK, kept = scores.topk(min(k, scores.shape[1]), dim=1)
        rows_QK = torch.cat([rows_QK, rows], dim=1).gather(1, kept)
        start += len(chunk_CD)
    weights_QK = (scores_QK * temperature).softmax(dim=1)
    return torch.stack(
        [w_K @ values_MD[rows_K].float() for w_K, rows_K in zip(weights_QK, rows_QK, strict=True)]
    )


def _chunks(values_MD: torch.Tensor) -> Sequence[torch.Tensor]:
    return values_MD.split(CHUNK if values_MD.device.type == "cpu" else BLOCK)


def _times_transposed(a_QK: torch.Tensor, b_NK: torch.Tensor) -> torch.Tensor:
    """a · bᵀ in float32. On the CPU by oneDNN: torch.mm uses MKL, which is half as fast on AMD processors."""
    if _has_onednn(a_QK.device):
        return torch.ops.mkldnn._linear_pointwise(a_QK, b_NK, None, "none", [], "")
    return a_QK @ b_NK.T


def _has_onednn(device: torch.device) -> bool:
    """Whether torch has the oneDNN operator that torch.compile emits for a linear layer on the CPU."""
    return (
        device.type == "cpu"
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
