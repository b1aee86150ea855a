"""A text and the questions about it, packed into one sequence of token ids.

Every question sees the story and itself, never another question (a block mask; positions restart after the
story), so one pass over a story trains all its questions. Shapes: L tokens of a document, B documents.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from tideo.models.prompts import IGNORE
from tideo.tiny.lm_drills import Asked


@dataclass(frozen=True)
class Document:
    """One story with its questions, as token ids. `block` is 0 for the story, n for the n-th question."""

    ids: list[int]
    labels: list[int]  # IGNORE where no loss is taken; already shifted to the token that predicts them
    positions: list[int]
    block: list[int]
    # With soft frames (train/topa/soft_frames.py): each frame's tokens after the token of its number; their vectors
    # stand at the positions that follow the first `opening` tokens.
    frames: list[list[int]] = field(default_factory=list)
    opening: int = 0


def encode(
    tokenizer: PreTrainedTokenizerBase,
    story: str | Sequence[str],
    asked: Sequence[Asked],
    rng: random.Random,
    *,
    story_loss: float,
) -> Document:
    """The story (a share of its tokens scored), or its pressed frames, and one block per item of `asked`."""
    words, lines = (story, ()) if isinstance(story, str) else ("Video:", story)
    frames = [f"{number} {line}" for number, line in enumerate(lines, 1)]
    parts = [words, *(text for item in asked for text in item), *frames]
    encoded: list[list[int]] = tokenizer(parts)["input_ids"]
    ids, opening = list(encoded[0]), len(encoded[0])
    frames_ids = encoded[len(encoded) - len(frames) :]
    targets = [n if rng.random() < story_loss and not frames else IGNORE for n in ids]
    ids += [0] * len(frames)
    targets += [IGNORE] * len(frames)
    start = len(ids)
    positions, block = list(range(start)), [0] * start
    rest = iter(encoded[1:])
    for number, item in enumerate(asked, 1):
        position = start
        for i, tokens in zip(range(len(item)), rest, strict=False):
            scored = i % 2 == 1
            if i == len(item) - 1:
                tokens = [*tokens, tokenizer.eos_token_id]
            ids += tokens
            targets += tokens if scored else [IGNORE] * len(tokens)
            positions += range(position, position + len(tokens))
            block += [number] * len(tokens)
            position += len(tokens)
    # The label of a token is the next one of its own block; a block's last token has none.
    following = [*targets[1:], IGNORE]
    same = [a == b for a, b in zip(block, [*block[1:], -1], strict=True)]
    labels = [t if s else IGNORE for t, s in zip(following, same, strict=True)]
    return Document(ids, labels, positions, block, frames_ids, opening)


def collate(documents: Sequence[Document], *, pad_id: int) -> dict[str, Any]:
    """Pads to the longest. `attention_mask` is additive [B, 1, L, L]: causal, story and own block only.

    `frames` are the tokens of pressed frames after the numbers' and `frames_at` where they stand: rows and columns.
    """
    length = max(len(d.ids) for d in documents)

    def padded(rows: list[list[int]], value: int) -> torch.Tensor:
        return torch.tensor([row + [value] * (length - len(row)) for row in rows])

    block_BL = padded([d.block for d in documents], -1)
    same = block_BL[:, :, None] == block_BL[:, None, :]
    seen = same | (block_BL[:, None, :] == 0)
    mask = seen & torch.ones(length, length, dtype=torch.bool).tril()
    places = [(row, d.opening + i) for row, d in enumerate(documents) for i in range(len(d.frames))]
    return {
        "frames": [frame for d in documents for frame in d.frames],
        "frames_at": torch.tensor(places).reshape(-1, 2).T,
        "input_ids": padded([d.ids for d in documents], pad_id),
        "labels": padded([d.labels for d in documents], IGNORE),
        "position_ids": padded([d.positions for d in documents], 0),
        "attention_mask": torch.where(mask, 0.0, -1e9)[:, None],
    }
