"""The tiny language model: a `LlamaForCausalLM` trained on dollhouse text only, from a random start.

The curriculum starts with drills (copy and retrieval tasks on lists of random actions) and ends with stories of
episodes. Shapes: B sequences, L tokens, H hidden width, V tokens of the vocabulary, N soft frame tokens.
"""

from __future__ import annotations

import random
import sys
from bisect import bisect
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, Trainer

from tideo.device import has_bfloat16
from tideo.models.prompts import IGNORE
from tideo.tiny.lm_corpus import Drills, Glimpses, Stories, corpus
from tideo.tiny.lm_sequences import PackedSequence, collate
from tideo.tiny.tokenizer import train_tokenizer
from tideo.tiny.trainer import cpu_arguments, fit
from tideo.train.optim import muon_adamw
from tideo.train.topa.soft_frames import pool_frames, token_weights
from tideo.train.trainer import begin


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of the curriculum: `steps` batches of `batch` sequences, all drills, all glimpses or all stories.

    The other fields are options of the data sets (lm_corpus.py).
    """

    renamed: ClassVar[dict[str, str]] = {  # in run.json of earlier versions
        "lookups": "retrieval_tasks",
        "again": "repeated_kinds",
        "pressed": "soft_frames",
    }

    steps: int
    batch: int = 16
    drills: float = 0.0  # share of batches that are drills
    glimpses: float = 0.0  # share of batches that are glimpses; the rest are stories
    bare: float = 0.0  # share of drills without anything between two actions
    plain: float = 0.0  # share of drills that call every action by its plain name
    forms: tuple[tuple[str, float], ...] = (("full", 0.4), ("main", 0.2), ("actions", 0.25), ("list", 0.15))
    retrieval_tasks: int = 4
    facts: int = 0
    repeated_kinds: tuple[str, ...] = ("TN", "TP")  # kinds of question that come `repeats` times more
    repeats: int = 1
    letters: float = 0.0
    shown_options: float = 0.0
    soft_frames: float = 0.0  # share of sequences with soft frame tokens (train/topa/soft_frames.py)


@dataclass(frozen=True, kw_only=True)
class LMConfig:
    """The stages come in order. Learning rates warm up over 50 steps and fall over the last share `decay` of all."""

    stages: tuple[Stage, ...]
    hidden_size: int = 192
    intermediate_size: int = 576
    num_layers: int = 4
    num_heads: int = 6
    matching_heads: int = 4
    embedding_std: float = (
        0.07  # gives length 1; with the usual 0.02, embeddings of similar words become parallel
    )
    rope_theta: float = 1e6
    tokenizer_episodes: int = 4000
    muon_lr: float = 0.02
    adamw_lr: float = 2e-3
    decay: float = 0.4
    bf16: bool = field(default_factory=has_bfloat16)
    seed: int = 0


class Curriculum(Dataset[list[PackedSequence]]):
    """The stages as one data set: item `index` is the whole batch of that step, independent of earlier ones."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: LMConfig) -> None:
        self.seed = config.seed
        self.ends = list(accumulate(stage.steps for stage in config.stages))
        self.stages = [(stage, *_datasets(tokenizer, stage, config.seed)) for stage in config.stages]

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> list[PackedSequence]:
        if index >= len(self):
            raise IndexError(index)
        stage, drills, glimpses, stories = self.stages[bisect(self.ends, index)]
        draw = random.Random(f"lesson/{self.seed}/{index}").random()
        dataset = (
            drills if draw < stage.drills else glimpses if draw < stage.drills + stage.glimpses else stories
        )
        return [dataset[i] for i in range(index * stage.batch, (index + 1) * stage.batch)]


def _datasets(
    tokenizer: PreTrainedTokenizerBase, stage: Stage, seed: int
) -> tuple[Drills, Glimpses, Stories]:
    shared: dict[str, Any] = {
        "num": sys.maxsize,
        "seed": seed,
        "soft_frames": stage.soft_frames,
        "group": stage.batch,
    }
    stories = Stories(
        tokenizer,
        forms=stage.forms,
        retrieval_tasks=stage.retrieval_tasks,
        facts=stage.facts,
        repeated_kinds=stage.repeated_kinds,
        repeats=stage.repeats,
        letters=stage.letters,
        shown_options=stage.shown_options,
        **shared,
    )
    drills = Drills(tokenizer, bare=stage.bare, plain=stage.plain, **shared)
    return drills, Glimpses(tokenizer, **shared), stories


@torch.no_grad()
def init_matching_(model: LlamaForCausalLM, *, heads: int) -> None:
    """Initialise `heads` heads of each layer with keys equal to queries, and all heads with outputs that copy values.

    Such a head finds tokens that equal the current one and copies their values (mimetic initialisation, arXiv
    2305.09828, with the sign of a copy). With the usual initialisation a model this small learns that too slowly. All
    these weights are trained.
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
    weights_V: torch.Tensor  # of the tokens of a soft frame

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_: Any) -> Any:
        labels_BL, frames = inputs.pop("labels"), inputs.pop("frames")
        rows, columns = inputs.pop("frames_at")
        scored = labels_BL != IGNORE  # the head runs only on tokens with a label, a third of the work
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
    remaining = max(0.0, 1 - step / steps)
    return min(1.0, (step + 1) / 50, max(0.02, remaining / decay))


def pretrain_lm(config: LMConfig, *, out: str | Path, resume: bool = False) -> Path:
    """Train and save model and tokenizer to `out` (save_pretrained layout). Checkpoints go to `out`/checkpoints."""
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
            attn_implementation="eager",  # on a CPU in bf16, with a mask, 1.6 times as fast as sdpa
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
