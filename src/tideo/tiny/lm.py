"""The tiny language model: a `LlamaForCausalLM` trained on dollhouse text only, from a random start.

A curriculum: drills in matching (lists of random actions), then stories of episodes. Shapes as in documents.py.
"""

from __future__ import annotations

import random
import sys
from bisect import bisect
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, Trainer

from tideo.device import has_bfloat16
from tideo.models.prompts import IGNORE
from tideo.tiny.lm_corpus import Drills, Glimpses, Stories, corpus
from tideo.tiny.lm_documents import Document, collate
from tideo.tiny.tokenizer import train_tokenizer
from tideo.tiny.trainer import cpu_arguments, fit
from tideo.train.optim import muon_adamw
from tideo.train.topa.soft_frames import pool_frames, token_weights
from tideo.train.trainer import begin


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A lesson of the curriculum: `steps` batches of `batch` documents, all drills, glimpses or stories of one form."""

    steps: int
    batch: int = 16
    drills: float = 0.0  # share of batches that are drills
    glimpses: float = 0.0  # share of batches that are glimpses; the rest are stories
    bare: float = 0.0  # share of drills without anything between two actions
    plain: float = 0.0  # share of drills that call every action by its plain name
    forms: tuple[tuple[str, float], ...] = (("full", 0.4), ("main", 0.2), ("actions", 0.25), ("list", 0.15))
    lookups: int = 4
    facts: int = 0
    again: tuple[str, ...] = ("TN", "TP")  # kinds of question asked `repeats` times more
    repeats: int = 1
    letters: float = 0.0
    shown_options: float = 0.0
    pressed: float = (
        0.0  # share of documents whose frames come as one vector each (train/topa/soft_frames.py)
    )


@dataclass(frozen=True, kw_only=True)
class LMConfig:
    """`stages` follow one another; the learning rates warm up over 50 steps and fall over the last `decay`."""

    stages: tuple[Stage, ...]
    hidden_size: int = 192
    intermediate_size: int = 576
    num_layers: int = 4
    num_heads: int = 6
    matching_heads: int = 4
    embedding_std: float = (
        0.07  # a length of 1: at the usual 0.02 what tells words apart drowns in what they share
    )
    rope_theta: float = 1e6
    tokenizer_episodes: int = 4000
    muon_lr: float = 0.02
    adamw_lr: float = 2e-3
    decay: float = 0.4
    bf16: bool = field(default_factory=has_bfloat16)
    seed: int = 0


class Curriculum(Dataset[list[Document]]):
    """The stages as one data set: item `index` is the whole batch of that step, whatever came before."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: LMConfig) -> None:
        self.seed = config.seed
        self.ends = list(accumulate(stage.steps for stage in config.stages))
        self.lessons = [(stage, *_lessons(tokenizer, stage, config.seed)) for stage in config.stages]

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> list[Document]:
        if index >= len(self):
            raise IndexError(index)
        stage, drills, glimpses, stories = self.lessons[bisect(self.ends, index)]
        draw = random.Random(f"lesson/{self.seed}/{index}").random()
        lesson = (
            drills if draw < stage.drills else glimpses if draw < stage.drills + stage.glimpses else stories
        )
        return [lesson[i] for i in range(index * stage.batch, (index + 1) * stage.batch)]


def _lessons(tokenizer: PreTrainedTokenizerBase, stage: Stage, seed: int) -> tuple[Drills, Glimpses, Stories]:
    drills = Drills(
        tokenizer,
        num=sys.maxsize,
        seed=seed,
        bare=stage.bare,
        plain=stage.plain,
        pressed=stage.pressed,
        group=stage.batch,
    )
    stories = Stories(
        tokenizer,
        num=sys.maxsize,
        seed=seed,
        forms=stage.forms,
        lookups=stage.lookups,
        facts=stage.facts,
        again=stage.again,
        repeats=stage.repeats,
        letters=stage.letters,
        shown_options=stage.shown_options,
        pressed=stage.pressed,
        group=stage.batch,
    )
    glimpses = Glimpses(tokenizer, num=sys.maxsize, seed=seed, pressed=stage.pressed, group=stage.batch)
    return drills, glimpses, stories


@torch.no_grad()
def init_matching_(model: LlamaForCausalLM, *, heads: int) -> None:
    """Start `heads` heads of each layer with keys equal to queries, and all heads with outputs that copy values.

    Such heads look for what equals the token at hand and write it down (mimetic initialisation, arXiv
    2305.09828, with the sign of a copy). From the usual start a model this small took too long to find
    that by itself; everything is trained from here on.
    """
    hidden, size = model.config.hidden_size, model.config.hidden_size // model.config.num_attention_heads
    for layer in model.model.layers:
        attention = layer.self_attn
        for head in range(model.config.num_attention_heads):
            rows = slice(head * size, (head + 1) * size)
            if head < heads:
                query = nn.init.orthogonal_(torch.empty(size, hidden))
                attention.q_proj.weight[rows] = query
                attention.k_proj.weight[rows] = query
            value = 0.7 * nn.init.orthogonal_(torch.empty(size, hidden))
            attention.v_proj.weight[rows] = value
            attention.o_proj.weight[:, rows] = value.T


class _LMTrainer(Trainer):
    weights_V: torch.Tensor  # of the tokens of a pressed frame

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_: Any) -> Any:
        labels_BL, frames = inputs.pop("labels"), inputs.pop("frames")
        rows, columns = inputs.pop("frames_at")
        scored = labels_BL != IGNORE  # the head only where there is a label: a third of the work
        dtype = torch.bfloat16 if self.args.bf16 else torch.float32
        # The Trainer's own autocast wraps model.forward alone, which is not called here.
        with torch.autocast(labels_BL.device.type, dtype=dtype, enabled=self.args.bf16):
            mask = inputs.pop("attention_mask").to(dtype)
            embeds_BLH = model.get_input_embeddings()(inputs.pop("input_ids"))
            if frames:
                table_VH = model.get_input_embeddings().weight
                numbers = torch.tensor([frame[0] for frame in frames])
                vectors_NH = pool_frames(table_VH, [frame[1:] for frame in frames], weights_V=self.weights_V)
                embeds_BLH = embeds_BLH.index_put((rows, columns), vectors_NH + table_VH[numbers])
            hidden_BLH = model.model(
                inputs_embeds=embeds_BLH, attention_mask=mask, use_cache=False, **inputs
            ).last_hidden_state
            loss = F.cross_entropy(model.lm_head(hidden_BLH[scored]).float(), labels_BL[scored])
        return (loss, hidden_BLH) if return_outputs else loss


def _rate(step: int, *, steps: int, decay: float) -> float:
    left = max(0.0, 1 - step / steps)
    return min(1.0, (step + 1) / 50, max(0.02, left / decay))


def pretrain_lm(config: LMConfig, *, out: str | Path, resume: bool = False) -> Path:
    """Train and save to `out` (save_pretrained layout, tokenizer beside it); checkpoints in `out`/checkpoints."""
    out = Path(out)
    begin(out, recipe=config, resume=resume, steps=["checkpoints"])
    torch.manual_seed(config.seed)
    tokenizer = train_tokenizer(corpus(config.tokenizer_episodes, seed=config.seed))
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            attn_implementation="eager",  # under bf16 autocast on a CPU 1.6 times as fast as sdpa with a mask
        )
    )
    nn.init.normal_(model.get_input_embeddings().weight, std=config.embedding_std)
    init_matching_(model, heads=config.matching_heads)
    curriculum = Curriculum(tokenizer, config)
    stories = islice(corpus(config.tokenizer_episodes, seed=config.seed), 4000)
    weights_V = token_weights(tokenizer(list(stories))["input_ids"], vocab_size=len(tokenizer))
    optimizer = muon_adamw(model, muon_lr=config.muon_lr, adamw_lr=config.adamw_lr)
    trainer = _LMTrainer(
        model=model,
        args=cpu_arguments(
            out / "checkpoints",
            steps=len(curriculum),
            batch=1,
            save_steps=250,
            seed=config.seed,
            bf16=config.bf16,
        ),
        train_dataset=curriculum,
        data_collator=lambda batches: collate(batches[0], pad_id=tokenizer.pad_token_id),
        optimizers=(
            optimizer,
            LambdaLR(optimizer, partial(_rate, steps=len(curriculum), decay=config.decay)),
        ),
    )
    trainer.weights_V = weights_V
    fit(trainer, resume=resume)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out
