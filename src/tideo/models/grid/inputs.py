"""The inputs of an image-text model for questions about the same images: what they share, and what each has behind it.

Scoring and training build on the same tokens: those of the processor for the first question, and for the others the
same up to where the questions differ.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from PIL import Image

from tideo.models.grid.template import ChatTemplate
from tideo.models.prompts import common_start
from tideo.types import Frames, Stopped, UserError

Visual = Image.Image | Frames  # the frames of a video, for a chat about videos
Words = tuple[str, Sequence[str]]  # the user's words, and the replies
Inputs = dict[str, torch.Tensor]
# What the models of transformers say of it; the second is Idefics3's and SmolVLM's.
_OTHER_NUMBER = ("tokens do not match", "tokens not divisible by patch_size")


class Turns(NamedTuple):
    """`stems` are the tokens up to the replies of each question, `replies` those of the replies.

    `encoded` are the processor's inputs for the first question. The first `shared` tokens are the same of all stems,
    the images among them, and at least one token of each stem comes behind them. `num_visual` tokens stand for images
    and frames, the last one is at `last_visual`.
    """

    encoded: Inputs
    last_visual: int
    num_visual: int
    shared: int
    stems: list[list[int]]
    replies: list[list[list[int]]]


@contextmanager
def matching_tokens(name: str) -> Iterator[None]:
    """Raises Stopped where a model has another number of features for its images than its processor made tokens."""
    try:
        yield
    except ValueError as error:
        said = " ".join(str(error).split())
        if isinstance(error, UserError) or not any(words in said for words in _OTHER_NUMBER):
            raise
        raise Stopped(
            f"model {name}: its processor makes another number of tokens of an image than its vision tower has "
            f"features ({said}): processor and weights do not belong together, get both anew"
        ) from error


def encode_turns(
    template: ChatTemplate,
    questions: Sequence[Words],
    visuals: Sequence[Visual],
    *,
    visual_tokens: Collection[int],
    encode: Callable[[str, Sequence[Visual]], Inputs],
) -> Turns:
    """`visual_tokens` stand for images and frames; `encode` gives the processor's inputs for an opening.

    Raises UserError for a template that puts images behind the question.
    """

    def last_visual(ids: Sequence[int]) -> int:
        return max((i for i, n in enumerate(ids) if n in visual_tokens), default=-1)

    def other(opening: str) -> list[int]:
        """The tokens of another opening: where it differs from the first behind the images only, they are kept."""
        plain, of_first = template.plain(opening), template.plain(openings[0])
        same = common_start(plain, of_first)
        kept = len(first) - (len(of_first) - same)
        if kept > last and first[kept:] == of_first[same:]:
            return [*first[:kept], *plain[same:]]
        return list(encode(opening, visuals)["input_ids"][0].tolist())

    openings = [template.opening(user, num_images=len(visuals)) for user, _ in questions]
    encoded = encode(openings[0], visuals)
    first = encoded["input_ids"][0].tolist()
    last = last_visual(first)
    ids = [first, *map(other, openings[1:])]
    stems, replies = [], []
    for opening, prompt_ids, (_, options) in zip(openings, ids, questions, strict=True):
        _, continuations, lost = template.tokens(opening, options)
        stems.append(template.stem(prompt_ids, opening, lost=lost))
        replies.append(continuations)
    shared = min(*(common_start(stems[0], stem) for stem in stems), *(len(stem) - 1 for stem in stems))
    if last >= shared:
        raise UserError(
            f"model {template.name}: its chat template puts images after the question; expected them before it"
        )
    num_visual = sum(n in visual_tokens for n in first)
    return Turns(encoded, last, num_visual, shared, stems, replies)


def stacked(inputs: Sequence[Mapping[str, torch.Tensor]]) -> Inputs:
    """The inputs of several turns as those of one batch: zeros fill up every dimension but the first.

    LLaVA-NeXT's patches that are no part of an image, and Idefics' images that are all zero, are left out by the models
    themselves. An input that some turns do not have is that of the others.
    """
    found = {}
    for name in dict.fromkeys(name for of_turn in inputs for name in of_turn):
        tensors = [of_turn[name] for of_turn in inputs if name in of_turn]
        if len({t.shape[1:] for t in tensors}) == 1:
            found[name] = torch.cat(tensors)
            continue
        shape = [max(sizes) for sizes in zip(*(t.shape for t in tensors), strict=True)]
        filled = [t.new_zeros(len(t), *shape[1:]) for t in tensors]
        for whole, t in zip(filled, tensors, strict=True):
            whole[tuple(map(slice, t.shape))] = t
        found[name] = torch.cat(filled)
    return found
