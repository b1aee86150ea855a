"""One turn with an image-text model: images first, the user's words, and how likely each reply is.

The model's own processor and chat template make its input. The images and all that several turns share are computed
once; every turn and its replies follow on that cache (models/likelihood.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import DynamicCache

from tideo.models.likelihood import OptionScores, cached_loglikelihoods, check_length
from tideo.types import UserError


class ImageChat:
    """`model` is an image-text-to-text model of transformers in eval mode, `processor` its own."""

    def __init__(self, model: Any, *, processor: Any, name: str) -> None:
        if getattr(processor, "chat_template", None) is None:
            raise UserError(
                f"model {name}: its processor has no chat template, so its prompt is unknown; "
                "give one that has, or put a chat_template.jinja into its folder"
            )
        self.model, self.processor, self.name = model, processor, name

    @torch.inference_mode()
    def loglikelihoods(
        self, images: Sequence[Image.Image], *, questions: Sequence[tuple[str, Sequence[str]]]
    ) -> list[OptionScores]:
        """Summed log-likelihood and token count of each option as the model's reply to (user's words, options).

        The images come first in the turn, so they and all that the questions share are computed once.
        """
        if not questions:
            return []
        chats = [self._chat(turn, images) for turn, _ in questions]
        encoded = [self._encode(chat, images) for chat in chats]
        ids = [e["input_ids"][0].tolist() for e in encoded]
        replies = [
            self._continuations(chat, prompt_ids, options)
            for chat, prompt_ids, (_, options) in zip(chats, ids, questions, strict=True)
        ]
        stems = [
            prompt_ids[: len(prompt_ids) - dropped]
            for prompt_ids, (dropped, _) in zip(ids, replies, strict=True)
        ]
        shared = min(_common(stems), min(len(stem) for stem in stems) - 1)
        if (last_image := self._last_image_token(ids[0])) >= shared:
            raise UserError(
                f"model {self.name}: its chat template puts images behind the question; "
                "expected them before it"
            )
        check_length(self.model, shared)
        cache = DynamicCache()
        inputs = {k: v for k, v in encoded[0].items() if k not in ("input_ids", "attention_mask")}
        for name in ("mm_token_type_ids", "token_type_ids"):  # one number a token
            if name in inputs:
                inputs[name] = inputs[name][:, :shared]
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
            for stem, (_, options) in zip(stems, replies, strict=True)
        ]
        return cached_loglikelihoods(
            self.model, cache=cache, questions=tails, offset=self._offset(last_image)
        )

    @torch.inference_mode()
    def generate(self, images: Sequence[Image.Image], *, turn: str, max_new_tokens: int = 64) -> str:
        """The greedy reply to the user's words, without surrounding white space."""
        inputs = self._encode(self._chat(turn, images), images)
        num_prompt = inputs["input_ids"].shape[1]
        check_length(self.model, num_prompt + max_new_tokens)
        ids = self.model.generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)
        return str(self.processor.tokenizer.decode(ids[0, num_prompt:], skip_special_tokens=True)).strip()

    def _chat(self, turn: str, images: Sequence[Image.Image]) -> str:
        content = [
            *({"type": "image"} for _ in images),
            {"type": "text", "text": no_marker(turn, self.processor)},
        ]
        chat = [{"role": "user", "content": content}]
        return str(self.processor.apply_chat_template(chat, add_generation_prompt=True))

    def _encode(self, chat: str, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        # A template that writes the begin token itself must not get another.
        bos = self.processor.tokenizer.bos_token
        special = not (bos and chat.startswith(bos))
        encoded = self.processor(
            images=list(images) or None, text=chat, add_special_tokens=special, return_tensors="pt"
        )
        floats = {k: v.to(self.model.dtype) if v.is_floating_point() else v for k, v in encoded.items()}
        return {k: v.to(self.model.device) for k, v in floats.items()}

    def _continuations(
        self, chat: str, prompt_ids: Sequence[int], options: Sequence[str]
    ) -> tuple[int, list[list[int]]]:
        """How many tokens the prompt loses at its end, and each option's tokens.

        Prompt and option are tokenised together, as in training, and parted where they first differ.
        """
        if blank := [i for i, text in enumerate(options) if not text.strip()]:
            raise UserError(f"option {blank[0] + 1} of {len(options)} is empty: give it some text")
        tokenizer = self.processor.tokenizer
        stem: list[int] = tokenizer(chat.rstrip(" "), add_special_tokens=False).input_ids
        space = "" if chat[-1:].isspace() or chat != chat.rstrip(" ") else " "
        wholes = [tokenizer(chat + space + text, add_special_tokens=False).input_ids for text in options]
        shared = min(_common([stem, whole]) for whole in wholes)
        # The processor tokenised the same chat with its images' tokens inserted before the end.
        plain: list[int] = tokenizer(chat, add_special_tokens=False).input_ids
        same = _common([plain[::-1], list(prompt_ids)[::-1]])
        dropped = len(plain) - shared
        if dropped > same:
            raise UserError(f"model {self.name}: its processor tokenises a prompt unlike its tokenizer")
        return dropped, [whole[shared:] for whole in wholes]

    def _last_image_token(self, ids: Sequence[int]) -> int:
        """The place of the last token that stands for an image, -1 where there is none."""
        config = self.model.config
        token = getattr(config, "image_token_id", None)
        token = getattr(config, "image_token_index", None) if token is None else token
        return max((i for i, n in enumerate(ids) if n == token), default=-1)

    def _offset(self, last_image: int) -> int:
        """Qwen-VL counts an image's positions along its sides, so text after it stands nearer than its token count."""
        deltas = getattr(self.model.model, "rope_deltas", None)
        return int(deltas[0]) if deltas is not None and last_image >= 0 else 0


def no_marker(text: str, processor: Any) -> str:
    """The text. Raises UserError where it holds what stands for an image to this processor."""
    marker = getattr(processor, "image_token", None)
    if isinstance(marker, str) and marker and marker in text:
        raise UserError(f"the text holds {marker}, which stands for an image: write it otherwise")
    return text


def _common(sequences: Sequence[Sequence[int]]) -> int:
    """The length of the common start."""
    first, *others = sequences
    return min(
        (
            next(
                (i for i, (a, b) in enumerate(zip(first, o, strict=False)) if a != b), min(len(first), len(o))
            )
            for o in others
        ),
        default=len(first),
    )
