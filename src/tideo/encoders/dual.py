"""Dual encoders: text and images as unit vectors of one space, from CLIP, SigLIP or open_clip weights.

encoder = load_encoder("openai/clip-vit-large-patch14")          # a Hugging Face id, or a directory
encoder = load_encoder("open_clip:ViT-B-16/laion2b_s34b_b88k")   # needs tideo[open_clip]
encoder.encode_text(["a cat"])                                   # float32 [1, D]
encoder.encode_images(frames.rgb_THWC)                           # float32 [T, D]
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from tideo.bundled import located
from tideo.registry import require
from tideo.types import UserError

Dtype = Literal["float32", "bfloat16"]
DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(kw_only=True, eq=False)
class DualEncoder:
    """Text and images → unit rows of one space of width `dim`.

    `name` is what the user asked for. `id` is made from the weights, the tokenizer and the preprocessing:
    two copies of one model have one id, and features of different models are never mixed. `num_truncated`
    counts the texts whose ends the model did not read.
    """

    name: str
    id: str
    dim: int
    device: torch.device
    dtype: Dtype
    max_tokens: int
    pad_id: int
    tokenize: Tokenize = field(repr=False)
    preprocess: Callable[[Sequence[np.ndarray]], torch.Tensor] = field(repr=False)  # → pixels [B, 3, H, W]
    text_tower: Tower = field(repr=False)  # ids [B, L] → [B, D]
    image_tower: Tower = field(repr=False)  # pixels [B, 3, H, W] → [B, D]
    num_truncated: int = 0

    def encode_text(self, texts: Sequence[str], *, tokens_per_batch: int = 8192) -> np.ndarray:
        """float32 [N, D] unit rows, in the order of `texts`.

        Texts of similar length share a batch. A text longer than `max_tokens` is cut and counted in
        `num_truncated`; one warning a call tells how many were.
        """
        ids = self._token_ids(list(texts))
        out_ND = np.empty((len(ids), self.dim), dtype=np.float32)
        for rows in _batches([len(tokens) for tokens in ids], tokens_per_batch=tokens_per_batch):
            width = max(len(ids[row]) for row in rows)
            padded = [ids[row] + [self.pad_id] * (width - len(ids[row])) for row in rows]
            out_ND[rows] = self._unit_rows(self.text_tower, torch.tensor(padded))
        return out_ND

    def encode_images(
        self, rgb_THWC: np.ndarray | Sequence[np.ndarray], *, images_per_batch: int = 32
    ) -> np.ndarray:
        """float32 [T, D] unit rows of uint8 [T, H, W, 3], or of a list of uint8 [H, W, 3] of any sizes.

        Resized, cropped and normalised as the model's own image processor does it, with PIL: another resize
        moves the features.
        """
        for image in rgb_THWC:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
                raise UserError(f"an image must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
        out_TD = np.empty((len(rgb_THWC), self.dim), dtype=np.float32)
        for start in range(0, len(rgb_THWC), images_per_batch):
            batch = slice(start, start + images_per_batch)
            pixels_BCHW = self.preprocess(list(rgb_THWC[batch])).to(DTYPES[self.dtype])
            out_TD[batch] = self._unit_rows(self.image_tower, pixels_BCHW)
        return out_TD

    def _token_ids(self, texts: list[str]) -> list[list[int]]:
        ids, lengths = self.tokenize(texts) if texts else ([], [])
        num_long = sum(length > self.max_tokens for length in lengths)
        if num_long:
            self.num_truncated += num_long
            warnings.warn(
                f"{num_long} of {len(texts)} texts are longer than the {self.max_tokens} tokens that "
                f"{self.name} reads (the longest has {max(lengths)}): their ends are cut",
                stacklevel=3,
            )
        return ids

    def _unit_rows(self, tower: Tower, inputs: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            vectors_BD = tower(inputs.to(self.device)).float()
            return torch.nn.functional.normalize(vectors_BD, dim=-1).cpu().numpy()


Tower = Callable[[torch.Tensor], torch.Tensor]
# Texts → token ids, special tokens included and cut to max_tokens, and how many tokens each text has uncut.
Tokenize = Callable[[list[str]], tuple[list[list[int]], list[int]]]


def _batches(lengths: list[int], *, tokens_per_batch: int) -> Iterator[list[int]]:
    """Rows of similar length, so that little is padded; at most that many tokens a batch, or one row."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[row] > tokens_per_batch:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def load_encoder(name: str, *, device: str = "cpu", dtype: Dtype = "float32") -> DualEncoder:
    """The dual encoder of that name: a bundled name, a directory, a Hugging Face id, or open_clip:ARCH/PRETRAINED.

    bfloat16 halves the memory, and the time where the processor computes in it. Raises UserError for a name
    that cannot be loaded, a model that is no dual encoder, or a missing extra.
    """
    if dtype not in DTYPES:
        raise UserError(f"unknown encoder dtype {dtype!r}; expected one of {', '.join(DTYPES)}")
    name = located(name)
    prefix = name.partition(":")[0]
    load = LOADERS.get(prefix if ":" in name else "", _load_hugging_face)
    try:
        return load(name, device=torch.device(device), dtype=dtype)
    except UserError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0][:300]
        raise UserError(f"cannot load the dual encoder {name}: {reason}") from error


def _load_hugging_face(name: str, *, device: torch.device, dtype: Dtype) -> DualEncoder:
    """A CLIPModel or SiglipModel with its tokenizer and image processor. safetensors only: nothing is
    unpickled."""
    from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

    config = AutoConfig.from_pretrained(name)
    if config.model_type not in TEXT_LAYOUTS:
        raise UserError(
            f"{name} is a {config.model_type} model, not a dual encoder: {', '.join(TEXT_LAYOUTS)}"
        )
    model, loading = AutoModel.from_pretrained(
        name, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True
    )
    if loading["missing_keys"]:  # transformers would go on with random numbers in their place
        raise UserError(
            f"{name} lacks {len(loading['missing_keys'])} weights, {min(loading['missing_keys'])} first"
        )
    tokenizer = AutoTokenizer.from_pretrained(name)
    # By PIL even where torchvision is installed: features must not depend on what else is.
    processor = AutoImageProcessor.from_pretrained(name, backend="pil")
    max_tokens = min(tokenizer.model_max_length, config.text_config.max_position_embeddings)
    pad_id, padding = TEXT_LAYOUTS[config.model_type](name, config.text_config, tokenizer)

    def tokenize(texts: list[str]) -> tuple[list[list[int]], list[int]]:
        ids = tokenizer(texts, verbose=False)["input_ids"]
        lengths = [len(tokens) for tokens in ids]
        long = [row for row, length in enumerate(lengths) if length > max_tokens]
        for row in long:
            ids[row] = tokenizer(texts[row], truncation=True, max_length=max_tokens)["input_ids"]
        if padding == "max_length":
            ids = [tokens + [pad_id] * (max_tokens - len(tokens)) for tokens in ids]
        return ids, lengths

    def preprocess(images: Sequence[np.ndarray]) -> torch.Tensor:
        # The layout is told, since an image 3 pixels high would be taken for one with its channels first.
        return processor(list(images), input_data_format="channels_last", return_tensors="pt")["pixel_values"]

    return _assemble(
        model,
        kind=config.model_type,
        told={key: value for key, value in processor.to_dict().items() if key in PREPROCESSING},
        name=name,
        device=device,
        dtype=dtype,
        max_tokens=max_tokens,
        pad_id=pad_id,
        tokenize=tokenize,
        preprocess=preprocess,
        text_tower=lambda ids: _pooled(model.get_text_features(input_ids=ids)),
        image_tower=lambda pixels: _pooled(model.get_image_features(pixel_values=pixels)),
    )


# What decides the pixels, by the names that have been stable; the rest of a processor's dict varies with
# the version.
PREPROCESSING = (
    "do_center_crop",
    "size",
    "crop_size",
    "resample",
    "image_mean",
    "image_std",
    "rescale_factor",
)


def _pooled(output: Any) -> torch.Tensor:
    """transformers 5 returns an output whose pooler_output is the projected vector; older ones the vector
    itself."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def _clip_layout(name: str, text_config: Any, tokenizer: Any) -> tuple[int, str]:
    """Pads with the end token: the text tower reads the first one and, being causal, nothing behind it.

    Where a text lacks the end token that the configuration names, CLIPModel reads the first position
    instead: the same vector for every text, and no error. So it is one here. (2 is in old configurations,
    and means the text's largest id.)
    """
    ids = tokenizer("a")["input_ids"]
    end = max(ids) if text_config.eos_token_id == 2 else text_config.eos_token_id
    if ids[-1] != end:
        raise UserError(
            f"{name}: the tokenizer ends a text with token {ids[-1]}, the text model looks for token {end}; "
            "make text_config.eos_token_id and the tokenizer agree"
        )
    return int(end), "longest"


def _siglip_layout(name: str, text_config: Any, tokenizer: Any) -> tuple[int, str]:
    """Pads to the full length, without a mask, as it was trained: the text tower reads the last position."""
    if tokenizer.pad_token_id is None:
        raise UserError(
            f"{name}: the tokenizer has no padding token, which SigLIP reads; set one and save it again"
        )
    return int(tokenizer.pad_token_id), "max_length"


def _load_open_clip(name: str, *, device: torch.device, dtype: Dtype) -> DualEncoder:
    """open_clip:ARCH/PRETRAINED, PRETRAINED being one of open_clip's tags or a file; or
    open_clip:hf-hub:ID."""
    open_clip = require("open_clip")
    arch, _, pretrained = name.removeprefix("open_clip:").partition("/")
    if arch.startswith("hf-hub:"):
        arch, pretrained = f"{arch}/{pretrained}", ""
    elif not arch or not pretrained:
        raise UserError(f"{name} names no weights; expected open_clip:ARCH/PRETRAINED or open_clip:hf-hub:ID")
    model, _, transform = open_clip.create_model_and_transforms(arch, pretrained=pretrained or None)
    tokenizer = open_clip.get_tokenizer(arch)

    def num_tokens(text: str) -> int:
        if hasattr(tokenizer, "encode"):  # open_clip's own; without the start and the end
            return len(tokenizer.encode(text)) + 2
        return len(tokenizer.tokenizer(tokenizer.clean_fn(text))["input_ids"])  # a Hugging Face one, wrapped

    def preprocess(images: Sequence[np.ndarray]) -> torch.Tensor:
        from PIL import Image

        return torch.stack([transform(Image.fromarray(image)) for image in images])

    return _assemble(
        model,
        kind="open_clip",
        told=open_clip.get_model_preprocess_cfg(model),
        name=name,
        device=device,
        dtype=dtype,
        max_tokens=tokenizer.context_length,
        pad_id=0,  # never used: the tokenizer pads to the full length, each kind in its own way
        tokenize=lambda texts: (tokenizer(texts).tolist(), [num_tokens(text) for text in texts]),
        preprocess=preprocess,
        text_tower=model.encode_text,
        image_tower=model.encode_image,
    )


def _assemble(model: Any, *, kind: str, told: dict[str, Any], **fields: Any) -> DualEncoder:
    """Identify the model by its float32 weights, then move it to its device and dtype."""
    fields["max_tokens"] = int(fields["max_tokens"])
    probe_ids, _ = fields["tokenize"](["A photo of 2 dogs, é."])
    # Sorted digests of the tensors, without their names: those differ between versions of the libraries.
    weights = sorted(
        hashlib.sha256(tensor.contiguous().numpy()).hexdigest() for tensor in model.state_dict().values()
    )
    told_json = json.dumps([probe_ids, told, weights], sort_keys=True, default=dict)
    model.eval().to(device=fields["device"], dtype=DTYPES[fields["dtype"]])
    with torch.inference_mode():
        dim = fields["text_tower"](torch.tensor(probe_ids, device=fields["device"])).shape[-1]
    digest = hashlib.sha256(told_json.encode()).hexdigest()
    return DualEncoder(id=f"{kind}-{dim}-{digest[:12]}", dim=dim, **fields)


TEXT_LAYOUTS = {"clip": _clip_layout, "siglip": _siglip_layout}
LOADERS: dict[str, Callable[..., DualEncoder]] = {"open_clip": _load_open_clip}
