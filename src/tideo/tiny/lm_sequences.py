"""A story and the questions about it, packed into one sequence of token ids (train/packing.py).

Shapes: L tokens of a sequence, B sequences.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from tideo.models.prompts import IGNORE
from tideo.tiny.lm_drills import Task
from tideo.train.packing import block_mask, padded


@dataclass(frozen=True)
class PackedSequence:
    """A story with its questions, as token ids. `block` is 0 for the story and n for the n-th question."""

    ids: list[int]
    labels: list[int]  # shifted to the token that predicts them; IGNORE for tokens without a loss
    positions: list[int]
    block: list[int]
    # Soft frame tokens (train/topa/soft_frames.py): for each frame the token of its number, then those of its text.
    # Their vectors take the positions after the first `opening` tokens.
    frames: list[list[int]] = field(default_factory=list)
    opening: int = 0


def pack(
    tokenizer: PreTrainedTokenizerBase,
    story: str | Sequence[str],
    tasks: Sequence[Task],
    rng: random.Random,
    *,
    story_loss: float,
) -> PackedSequence:
    """The story and a block for each task. A str is a story in words, of whose tokens a share `story_loss` is scored.

    A sequence of str is the text of each frame, which becomes a soft frame token.
    """
    words, lines = (story, ()) if isinstance(story, str) else ("Video:", story)
    frames = [f"{number} {line}" for number, line in enumerate(lines, 1)]
    parts = [words, *(text for task in tasks for text in task), *frames]
    encoded: list[list[int]] = tokenizer(parts)["input_ids"]
    ids, opening = list(encoded[0]), len(encoded[0])
    frames_ids = encoded[len(encoded) - len(frames) :]
    targets = [n if rng.random() < story_loss and not frames else IGNORE for n in ids]
    ids += [0] * len(frames)
    targets += [IGNORE] * len(frames)
    start = len(ids)
    positions, block = list(range(start)), [0] * start
    rest = iter(encoded[1:])
    for number, task in enumerate(tasks, 1):
        position = start
        for i, tokens in zip(range(len(task)), rest, strict=False):
            scored = i % 2 == 1
            if i == len(task) - 1:
                tokens = [*tokens, tokenizer.eos_token_id]
            ids += tokens
            targets += tokens if scored else [IGNORE] * len(tokens)
            positions += range(position, position + len(tokens))
            block += [number] * len(tokens)
            position += len(tokens)
    # A token's label is the next token of its own block; the last token of a block has none.
    following = [*targets[1:], IGNORE]
    same = [a == b for a, b in zip(block, [*block[1:], -1], strict=True)]
    labels = [t if s else IGNORE for t, s in zip(following, same, strict=True)]
    return PackedSequence(ids, labels, positions, block, frames_ids, opening)


def collate(sequences: Sequence[PackedSequence], *, pad_id: int) -> dict[str, Any]:
    """Pad to the longest sequence. `attention_mask` is additive, float [B, 1, L, L].

    `frames` are the token ids of soft frames, `frames_at` their rows and columns in the batch.
    """
    mask = block_mask(padded([s.block for s in sequences], -1))
    places = [(row, s.opening + i) for row, s in enumerate(sequences) for i in range(len(s.frames))]
    return {
        "frames": [frame for s in sequences for frame in s.frames],
        "frames_at": torch.tensor(places).reshape(-1, 2).T,
        "input_ids": padded([s.ids for s in sequences], pad_id),
        "labels": padded([s.labels for s in sequences], IGNORE),
        "position_ids": padded([s.positions for s in sequences], 0),
        "attention_mask": torch.where(mask, 0.0, -1e9),
    }
