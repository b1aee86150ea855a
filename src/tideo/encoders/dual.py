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
from typing import Any

import numpy as np
import torch

from tideo.bundled import model_source, names
from tideo.loading import Loading
from tideo.pretrained import FAULTS, OWN_CODE, check_whole, reason
from tideo.registry import load, require, targets
from tideo.types import UserError


@dataclass(kw_only=True, eq=False)
class DualEncoder:
    """Text and images → unit rows of one space of width `dim`.

    `name` is the name it was loaded by. `id` is a hash of the weights, the tokenizer and the preprocessing: two copies
    of one model have one id, and features of different models are never mixed. `num_truncated` counts the texts that
    were cut to `max_tokens`.
    """

    name: str
    id: str
    dim: int
    device: torch.device
    dtype: str
    max_tokens: int
    pad_id: int
    tokenize: Tokenize = field(repr=False)
    preprocess: Callable[[Sequence[np.ndarray]], torch.Tensor] = field(repr=False)  # → pixels [B, 3, H, W]
    text_tower: Tower = field(repr=False)  # ids [B, L] → [B, D]
    image_tower: Tower = field(repr=False)  # pixels [B, 3, H, W] → [B, D]
    vision: Any = field(
        default=None, repr=False
    )  # the vision model of transformers itself, where there is one
    num_truncated: int = 0

    def encode_text(self, texts: Sequence[str], *, tokens_per_batch: int = 8192) -> np.ndarray:
        """float32 [N, D] unit rows, in the order of `texts`.

        Texts of similar length share a batch. A text longer than `max_tokens` is cut and counted in `num_truncated`;
        a call that cuts texts warns once, with their number.
        """
        ids, lengths = self.tokenize(list(texts)) if len(texts) else ([], [])
        num_long = sum(length > self.max_tokens for length in lengths)
        if num_long:
            self.num_truncated += num_long
            warnings.warn(
                f"{num_long} of {len(texts)} texts are longer than the {self.max_tokens} tokens that "
                f"{self.name} reads (the longest has {max(lengths)}): their ends are cut",
                stacklevel=2,
            )
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

        Images are resized, cropped and normalised by the model's own image processor, with PIL: another way to resize
        would change the features.
        """
        for image in rgb_THWC:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
                raise UserError(f"an image must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
        out_TD = np.empty((len(rgb_THWC), self.dim), dtype=np.float32)
        for start in range(0, len(rgb_THWC), images_per_batch):
            batch = slice(start, start + images_per_batch)
            pixels_BCHW = self.preprocess(list(rgb_THWC[batch])).to(getattr(torch, self.dtype))
            out_TD[batch] = self._unit_rows(self.image_tower, pixels_BCHW)
        return out_TD

    def _unit_rows(self, tower: Tower, inputs: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            vectors_BD = tower(inputs.to(self.device)).float()
            return torch.nn.functional.normalize(vectors_BD, dim=-1).cpu().numpy()


Tower = Callable[[torch.Tensor], torch.Tensor]
# Texts → token ids, special tokens included and cut to max_tokens, and how many tokens each text has uncut.
Tokenize = Callable[[list[str]], tuple[list[list[int]], list[int]]]


def _batches(lengths: list[int], *, tokens_per_batch: int) -> Iterator[list[int]]:
    """Batches of rows of similar length, to pad little: each of one row, or of at most `tokens_per_batch` tokens."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[row] > tokens_per_batch:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def load_encoder(name: str, *, loading: Loading | None = None) -> DualEncoder:
    """The dual encoder of that name: a bundled name, a directory, a Hugging Face id, or open_clip:ARCH/PRETRAINED.

    Or an entry point in `tideo.encoders`: a function without arguments that returns a DualEncoder, or an object with
    its `id`, `dim`, `encode_text` and `encode_images`, and chooses device and dtype itself.
    Of `loading`, device and dtype count; the dtype auto is float32, so that features do not depend on the machine.
    Raises UserError for a name that cannot be loaded, a model that is no dual encoder, a missing extra, or a setting
    that this encoder does not take.
    """
    loading = loading or Loading()
    if loading != Loading(device=loading.device, dtype=loading.dtype):
        raise UserError(f"encoder {name}: it takes device and dtype alone; leave the other settings out")
    if name not in names() and name in targets("encoders"):
        if loading.dtype != "auto" or loading.device not in ("auto", "cpu"):
            raise UserError(f"encoder {name} chooses its device and dtype itself: leave them out")
        added: DualEncoder = load("encoders", name)()
        return added
    prefix = name.partition(":")[0]
    loader = LOADERS.get(prefix if ":" in name else "", _load_hugging_face)
    failure = f"cannot load the dual encoder {name}"
    name = model_source(name, failure=failure, of_hub=loader is _load_hugging_face)
    try:
        return _assemble(**loader(name), name=name, device=loading.torch_device(), dtype=_dtype(loading))
    except UserError:
        raise
    except FAULTS as error:
        raise UserError(f"{failure}: {reason(error, name)}") from error


def _dtype(loading: Loading) -> str:
    """torch's name of the type."""
    return "float32" if loading.dtype == "auto" else str(loading.torch_dtype()).removeprefix("torch.")


def _load_hugging_face(name: str) -> dict[str, Any]:
    """A CLIPModel or SiglipModel with its tokenizer and image processor, for `_assemble`.

    Loads safetensors only, never pickles.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

    config = AutoConfig.from_pretrained(name, **OWN_CODE)
    if config.model_type not in TEXT_LAYOUTS:
        raise UserError(
            f"{name} is a {config.model_type} model, not a dual encoder: {', '.join(TEXT_LAYOUTS)}"
        )
    model, loading_info = AutoModel.from_pretrained(
        name, config=config, dtype=torch.float32, use_safetensors=True, ignore_mismatched_sizes=True,
        output_loading_info=True, **OWN_CODE,
    )  # fmt: skip
    check_whole(loading_info, f"the dual encoder {name}")
    tokenizer = AutoTokenizer.from_pretrained(name, **OWN_CODE)
    # PIL even if torchvision is installed: features must not depend on the other packages of a machine.
    processor = AutoImageProcessor.from_pretrained(name, backend="pil", **OWN_CODE)
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
        # Without the layout, an image 3 pixels high would be taken for one with its channels first.
        return processor(list(images), input_data_format="channels_last", return_tensors="pt")["pixel_values"]

    return {
        "model": model,
        "kind": config.model_type,
        "preprocessing": {key: value for key, value in processor.to_dict().items() if key in PREPROCESSING},
        "max_tokens": max_tokens,
        "pad_id": pad_id,
        "tokenize": tokenize,
        "preprocess": preprocess,
        "text_tower": lambda ids: _pooled(model.get_text_features(input_ids=ids)),
        "image_tower": lambda pixels: _pooled(model.get_image_features(pixel_values=pixels)),
        "vision": model.vision_model,
    }


# The settings of an image processor that decide the pixels. Others change with the version of transformers.
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
    """The projected vector: `pooler_output` of transformers 5; older versions return the vector itself."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def _clip_layout(name: str, text_config: Any, tokenizer: Any) -> tuple[int, str]:
    """The padding of CLIP: the end token, as the causal text tower reads the first one and nothing after it.

    If a tokenizer does not write the end token that the configuration names, CLIPModel silently reads the first
    position: the same vector for every text. That is an error here. (An eos_token_id of 2 is that of old
    configurations, and stands for the text's largest id.)
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
    """The padding of SigLIP: to the full length, without a mask, as in training. The tower reads the last position."""
    if tokenizer.pad_token_id is None:
        raise UserError(
            f"{name}: the tokenizer has no padding token, which SigLIP reads; set one and save it again"
        )
    return int(tokenizer.pad_token_id), "max_length"


def _load_open_clip(name: str) -> dict[str, Any]:
    """open_clip:ARCH/PRETRAINED, with one of open_clip's tags or a file; or open_clip:hf-hub:ID; for `_assemble`."""
    open_clip = require("open_clip")
    arch, _, pretrained = name.removeprefix("open_clip:").partition("/")
    if arch.startswith("hf-hub:"):
        arch, pretrained = f"{arch}/{pretrained}", ""
    elif not arch or not pretrained:
        raise UserError(f"{name} names no weights; expected open_clip:ARCH/PRETRAINED or open_clip:hf-hub:ID")
    model, _, transform = open_clip.create_model_and_transforms(arch, pretrained=pretrained or None)
    tokenizer = open_clip.get_tokenizer(arch)

    def num_tokens(text: str) -> int:
        if hasattr(tokenizer, "encode"):  # open_clip's own, which omits the start and end tokens
            return len(tokenizer.encode(text)) + 2
        return len(tokenizer.tokenizer(tokenizer.clean_fn(text))["input_ids"])  # a wrapped Hugging Face one

    def preprocess(images: Sequence[np.ndarray]) -> torch.Tensor:
        from PIL import Image

        return torch.stack([transform(Image.fromarray(image)) for image in images])

    return {
        "model": model,
        "kind": "open_clip",
        "preprocessing": open_clip.get_model_preprocess_cfg(model),
        "max_tokens": tokenizer.context_length,
        "pad_id": 0,  # never used: open_clip's tokenizers pad to the full length themselves
        "tokenize": lambda texts: (tokenizer(texts).tolist(), [num_tokens(text) for text in texts]),
        "preprocess": preprocess,
        "text_tower": model.encode_text,
        "image_tower": model.encode_image,
    }


def _assemble(model: Any, *, kind: str, preprocessing: dict[str, Any], **fields: Any) -> DualEncoder:
    """Hash the model's float32 weights into its id, then move it to its device and dtype."""
    fields["max_tokens"] = int(fields["max_tokens"])
    probe_ids, _ = fields["tokenize"](["A photo of 2 dogs, é."])
    # Digests of the tensors, sorted, without their names: names differ between versions of the libraries.
    weights = sorted(
        hashlib.sha256(tensor.contiguous().numpy()).hexdigest() for tensor in model.state_dict().values()
    )
    identity = json.dumps([probe_ids, preprocessing, weights], sort_keys=True, default=dict)
    model.eval().to(device=fields["device"], dtype=getattr(torch, fields["dtype"]))
    with torch.inference_mode():
        dim = fields["text_tower"](torch.tensor(probe_ids, device=fields["device"])).shape[-1]
    digest = hashlib.sha256(identity.encode()).hexdigest()
    return DualEncoder(id=f"{kind}-{dim}-{digest[:12]}", dim=dim, **fields)


TEXT_LAYOUTS = {"clip": _clip_layout, "siglip": _siglip_layout}
LOADERS: dict[str, Callable[[str], dict[str, Any]]] = {"open_clip": _load_open_clip}
