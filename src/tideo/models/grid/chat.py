"""One turn with an image-text model: images, then the user's words, and how likely each reply is.

The model's own processor and chat template make its input. The images and whatever several turns share are computed
once; every turn and its replies continue from that cache (models/likelihood.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import torch
from PIL import Image
from transformers import DynamicCache

from tideo.models.grid.template import PER_TOKEN, ChatTemplate
from tideo.models.likelihood import OptionScores, cached_loglikelihoods, check_length
from tideo.models.prompts import common_start, end_ids
from tideo.types import UserError


class ImageChat:
    """`model` is an image-text-to-text model of transformers in eval mode, `processor` its own."""

    def __init__(self, model: Any, *, processor: Any, name: str) -> None:
        self.template = ChatTemplate(processor, name=name)
        self.model, self.processor, self.name = model, processor, name

    @torch.inference_mode()
    def loglikelihoods(
        self, images: Sequence[Image.Image], *, questions: Sequence[tuple[str, Sequence[str]]]
    ) -> list[OptionScores]:
        """Summed log-likelihood and token count of each option, as the model's reply to its question.

        A question is the user's words and the options. The images come first in the turn, so they and whatever the
        questions share are computed once.
        """
        if not questions:
            return []
        num_images = len(images)
        openings = [self.template.opening(turn, num_images=num_images) for turn, _ in questions]
        encoded = [self._encode(opening, images) for opening in openings]
        ids = [e["input_ids"][0].tolist() for e in encoded]
        stems, replies = [], []
        for opening, prompt_ids, (_, options) in zip(openings, ids, questions, strict=True):
            _, continuations, lost = self.template.tokens(opening, options)
            stems.append(self.template.stem(prompt_ids, opening, lost=lost))
            replies.append(continuations)
        # At least one token of every question stays behind the cache: it predicts the first token of the replies.
        shared = min(*(common_start(stems[0], stem) for stem in stems), *(len(stem) - 1 for stem in stems))
        if (last_image := self._last_image_token(ids[0])) >= shared:
            raise UserError(
                f"model {self.name}: its chat template puts images after the question; "
                "expected them before it"
            )
        check_length(self.model, shared)
        cache = DynamicCache()
        inputs = {k: v for k, v in encoded[0].items() if k not in ("input_ids", "attention_mask")}
        inputs |= {name: inputs[name][:, :shared] for name in PER_TOKEN if name in inputs}
        prefix = torch.tensor([ids[0][:shared]], device=self.model.device)
        self.model(
            input_ids=prefix,
            attention_mask=torch.ones_like(prefix),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **inputs,
        )
        tails = [
            (torch.tensor(stem[shared:], device=self.model.device), options)
            for stem, options in zip(stems, replies, strict=True)
        ]
        return cached_loglikelihoods(
            self.model, cache=cache, questions=tails, offset=self._offset(last_image)
        )

    @torch.inference_mode()
    def generate(self, images: Sequence[Image.Image], *, turn: str, max_new_tokens: int = 64) -> str:
        """The greedy reply to the user's words, without surrounding white space.

        Every end token of the model's generation_config ends it, and so does the one that closes a trained reply.
        """
        inputs = self._encode(self.template.opening(turn, num_images=len(images)), images)
        num_prompt = inputs["input_ids"].shape[1]
        check_length(self.model, num_prompt + max_new_tokens)
        ends = end_ids(self.processor.tokenizer, self.model) | {self.template.end_ids[-1]}
        ids = self.model.generate(
            **inputs, do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=sorted(ends)
        )[0, num_prompt:].tolist()
        reply = list(takewhile(lambda n: n not in ends, ids))
        return str(self.processor.tokenizer.decode(reply, skip_special_tokens=True)).strip()

    def _encode(self, opening: str, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """The inputs for an opening, without the spaces at its end, which belong to the first token of the reply."""
        encoded = self.template.encode(opening.rstrip(" "), images)
        floats = {k: v.to(self.model.dtype) if v.is_floating_point() else v for k, v in encoded.items()}
        return {k: v.to(self.model.device) for k, v in floats.items()}

    def _last_image_token(self, ids: Sequence[int]) -> int:
        """The index of the last token that stands for an image; -1 without images."""
        config = self.model.config
        token = getattr(config, "image_token_id", None)
        token = getattr(config, "image_token_index", None) if token is None else token
        return max((i for i, n in enumerate(ids) if n == token), default=-1)

    def _offset(self, last_image: int) -> int:
        """What to add to positions after the images: Qwen-VL gives an image fewer positions than tokens."""
        deltas = getattr(self.model.model, "rope_deltas", None)
        return int(deltas[0]) if deltas is not None and last_image >= 0 else 0
