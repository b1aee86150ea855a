"""The tiny CLIP of the dollhouse, trained on single (image, caption) pairs and never on a video.

The symmetric contrastive loss of CLIP (arXiv 2103.00020), in batches full of hard negatives, moves an image towards its
*textual frame feature* (TOPA, arXiv 2405.13911): the normalised mean of the unit vectors of a frame's captions. A
second loss classifies each fact of an image among the texts of all its values.
Shapes: B images, P pixels a side, D projection width, L tokens, K caption parts, F facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast, Trainer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tideo.device import has_bfloat16
from tideo.tiny.clip_groups import (
    PARTS,
    ContrastiveGroups,
    Group,
    GroupsConfig,
    caption_texts,
    images,
    part_texts,
)
from tideo.tiny.tokenizer import train_tokenizer
from tideo.tiny.trainer import cpu_arguments, fit
from tideo.train.optim import muon_adamw
from tideo.train.trainer import begin
from tideo.types import UserError

END = "<|endoftext|>"
MAX_TOKENS = 32


@dataclass(frozen=True, kw_only=True)
class ClipSize:
    """The size of the model. Attention heads have width 32."""

    image_px: int = 96
    patch_px: int = 12
    vision_width: int = 128
    vision_layers: int = 4
    text_width: int = 128
    text_layers: int = 2
    projection: int = 128
    vocab: int = 1536


@dataclass(frozen=True, kw_only=True)
class ClipTraining:
    """A batch has `groups_per_step` × `GroupsConfig.group` images; `text_pace` scales the text tower's rates."""

    steps: int = 4800
    groups_per_step: int = 8
    muon_lr: float = 0.004
    adamw_lr: float = 5e-4
    text_pace: float = 0.15  # at 1.0 the texts of a fact become alike before images separate them
    weight_decay: float = 0.01
    warmup_steps: int = 80
    parts_weight: float = 3.0
    save_steps: int = 250
    log_steps: int = 50
    bf16: bool = field(default_factory=has_bfloat16)  # where it is emulated, it is far slower than float32


@dataclass(frozen=True, kw_only=True)
class ClipRecipe:
    size: ClipSize = field(default_factory=ClipSize)
    data: GroupsConfig = field(default_factory=GroupsConfig)
    train: ClipTraining = field(default_factory=ClipTraining)
    workers: int = 2  # processes that draw the images, before training
    seed: int = 0

    def __post_init__(self) -> None:
        if self.data.image_px != self.size.image_px:
            raise UserError(
                f"data.image_px={self.data.image_px} and size.image_px={self.size.image_px} must be the same"
            )


def pretrain_clip(recipe: ClipRecipe, *, out: str | Path, resume: bool = False) -> Path:
    """Draw the images, train, and save model and processor to `out`, which is returned. Checkpoints go to `out`/steps.

    With `resume` a stopped run continues from its last checkpoint, with the result of a run without a break.
    """
    out = Path(out)
    begin(out, recipe=recipe, resume=resume)
    torch.manual_seed(recipe.seed)
    tokenizer = clip_tokenizer(caption_texts(2000, seed=recipe.seed), vocab=recipe.size.vocab)
    model = build_clip(recipe.size, tokenizer)
    rgb_NGPPC = images(recipe.data, out / "images", workers=recipe.workers)
    hp = recipe.train
    passes = -(-hp.steps * hp.groups_per_step // recipe.data.groups)
    trainer = ClipTrainer(
        model=model,
        args=cpu_arguments(
            out / "steps", steps=hp.steps, batch=hp.groups_per_step, warmup_steps=hp.warmup_steps,
            seed=recipe.seed, save_steps=hp.save_steps,
            log_steps=hp.log_steps, bf16=hp.bf16,
        ),
        train_dataset=ContrastiveGroups(rgb_NGPPC, recipe.data, passes=passes),
        data_collator=Collator(tokenizer),
        optimizers=(
            muon_adamw(
                model, muon_lr=hp.muon_lr, adamw_lr=hp.adamw_lr, weight_decay=hp.weight_decay,
                pace={"text_": hp.text_pace},
            ),
            None,
        ),
        parts_weight=hp.parts_weight,
    )  # fmt: skip
    fit(trainer, resume=resume)
    model.save_pretrained(out)
    clip_processor(recipe.size, tokenizer).save_pretrained(out)
    return out


# --- model ----------------------------------------------------------------------------------------


def clip_tokenizer(texts: Any, *, vocab: int) -> PreTrainedTokenizerFast:
    """The superword tokenizer, with a special end token after every text.

    The end token has the highest id. It must not be 2: then CLIPTextModel would read the vector at the highest id.
    """
    tokenizer = train_tokenizer(texts, vocab_size=vocab - 1)
    tokenizer.add_special_tokens({"eos_token": END})
    end_id = tokenizer.convert_tokens_to_ids(END)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, end_id)]
    )
    tokenizer.model_max_length = MAX_TOKENS
    return tokenizer


def build_clip(size: ClipSize, tokenizer: PreTrainedTokenizerFast) -> CLIPModel:
    """An untrained CLIPModel."""
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": size.text_width,
        "intermediate_size": 4 * size.text_width,
        "num_hidden_layers": size.text_layers,
        "num_attention_heads": size.text_width // 32,
        "max_position_embeddings": MAX_TOKENS,
        **special,
    }
    vision = {
        "image_size": size.image_px,
        "patch_size": size.patch_px,
        "hidden_size": size.vision_width,
        "intermediate_size": 4 * size.vision_width,
        "num_hidden_layers": size.vision_layers,
        "num_attention_heads": size.vision_width // 32,
    }
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=size.projection)
    # With 65 tokens the fused kernel is no faster on a CPU.
    config._attn_implementation = "eager"
    model = CLIPModel(config)
    init_attention_(model.vision_model, side=size.image_px // size.patch_px)
    with torch.no_grad():  # distant word vectors give the images different targets
        words = nn.init.normal_(model.text_model.embeddings.token_embedding.weight, std=0.5)
        words[tokenizer.eos_token_id] = 0
    return model


@torch.no_grad()
def init_attention_(vision: nn.Module, *, side: int) -> None:
    """Initialise the tower so that a patch attends to near and similar patches; by default it attends to all evenly.

    Keys start as copies of the queries (after mimetic initialisation, arXiv 2305.09828), positions as waves.
    """
    position = vision.embeddings.position_embedding.weight
    position[1:] = waves(side, position.shape[1])
    for layer in vision.encoder.layers:
        query, key = layer.self_attn.q_proj.weight, layer.self_attn.k_proj.weight
        key.copy_(nn.init.normal_(query, std=0.9 * query.shape[1] ** -0.5))


def waves(side: int, width: int) -> Tensor:
    """Sines and cosines of the row and of the column of each of side × side patches, [side², width]."""
    per_pi = 2.0 ** torch.linspace(-1, -4, width // 4)  # wavelengths from 4 to 32 patches
    angle = torch.pi * torch.arange(side)[:, None] * per_pi
    axis = torch.cat([angle.sin(), angle.cos()], dim=1)  # [side, width / 2]
    rows, columns = axis[:, None].expand(-1, side, -1), axis[None].expand(side, -1, -1)
    return 0.35 * torch.cat([rows, columns], dim=-1).flatten(0, 1)  # similar in size to an embedded patch


def clip_processor(size: ClipSize, tokenizer: PreTrainedTokenizerFast) -> CLIPProcessor:
    """Squeezes a picture into a square, so that nothing at its sides is lost, and scales colours to -1..1."""
    square = {"height": size.image_px, "width": size.image_px}
    image_processor = CLIPImageProcessorPil(
        size=square, crop_size=square, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return CLIPProcessor(image_processor=image_processor, tokenizer=tokenizer)


# --- training -------------------------------------------------------------------------------------


class Collator:
    """Groups → pixel_values [B, 3, P, P], ids of captions [3 B, L] and of caption parts [K, L], labels [B, F]."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer

    def __call__(self, groups: Sequence[Group]) -> dict[str, Tensor]:
        rgb_BPPC = np.concatenate([g.rgb_GPPC for g in groups])
        pixels = torch.from_numpy(rgb_BPPC).permute(0, 3, 1, 2).float() / 127.5 - 1
        return {
            "pixel_values": pixels,
            "caption_ids": self._ids([text for g in groups for text in g.texts]),
            "part_ids": self._ids(part_texts(groups[0].rng)),
            "part_labels": torch.tensor([row for g in groups for row in g.labels]),
        }

    def _ids(self, texts: list[str]) -> Tensor:
        return self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")["input_ids"]


class ClipTrainer(Trainer):
    """transformers' Trainer with the sum of three losses: of pairs, of facts, and of the uniformity of texts."""

    def __init__(self, *, parts_weight: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parts_weight = parts_weight
        self.step_losses: list[dict[str, float]] = []

    def compute_loss(
        self, model: CLIPModel, inputs: dict[str, Tensor], return_outputs: bool = False, **kwargs: Any
    ) -> Any:
        # The Trainer's own autocast wraps model.forward alone, which is not called here.
        with torch.autocast("cpu", torch.bfloat16, enabled=self.args.bf16):
            image_BD = unit(model.get_image_features(inputs["pixel_values"]).pooler_output)
            caption_3BD = unit(model.get_text_features(inputs["caption_ids"]).pooler_output)
            part_KD = unit(model.get_text_features(inputs["part_ids"]).pooler_output)
        with torch.autocast("cpu", enabled=False):  # differences of 1e-2 between logits matter
            scale = model.logit_scale.exp().clamp(max=100)
            frame_BD = unit(caption_3BD.unflatten(0, (-1, 3)).mean(1))
            logits_BB = scale * image_BD @ frame_BD.T
            targets_B = torch.arange(len(logits_BB))
            pair = (F.cross_entropy(logits_BB, targets_B) + F.cross_entropy(logits_BB.T, targets_B)) / 2
            losses = parts_losses(scale * image_BD @ part_KD.T, inputs["part_labels"])
            uniformity = uniformity_loss(part_KD)
        loss = pair + self.parts_weight * torch.stack(list(losses.values())).mean() + uniformity
        self.step_losses.append({"pair": pair.item(), **{name: part.item() for name, part in losses.items()}})
        return (loss, {"pair": pair, **losses}) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        names = {name for step in self.step_losses for name in step}
        means = {
            n: float(np.mean([step[n] for step in self.step_losses if n in step])) for n in sorted(names)
        }
        self.step_losses.clear()
        super().log(logs | means, *args, **kwargs)


def unit(values_ND: Tensor) -> Tensor:
    return F.normalize(values_ND.float(), dim=-1)


def uniformity_loss(part_KD: Tensor) -> Tensor:
    """Mean squared cosine between the texts of different values of a fact, the mean over facts (arXiv 2005.10242).

    As long as the images of two values have the same vector, the other losses are lowest if their texts do too. Then
    neither tower would get a gradient that separates them, so this term keeps the texts apart from the start.
    """
    sizes = [len(part.values) for part in PARTS.values()]
    grams = [values_VD @ values_VD.T for values_VD in part_KD.split(sizes)]
    return torch.stack([(g.square().sum() - len(g)) / (len(g) * (len(g) - 1)) for g in grams]).mean()


def parts_losses(logits_BK: Tensor, labels_BF: Tensor) -> dict[str, Tensor]:
    """For each fact that some image shows, the mean cross-entropy over all its values."""
    columns = logits_BK.split([len(part.values) for part in PARTS.values()], dim=1)
    return {
        name: F.cross_entropy(logits, labels)
        for name, logits, labels in zip(PARTS, columns, labels_BF.unbind(1), strict=True)
        if (labels >= 0).any()
    }
