"""One turn with an image-text model: images, then the user's words, and how likely each reply is.

The model's own processor and chat template make its input. The images and whatever several turns share are computed
once; every turn and its replies continue from that cache (models/likelihood.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import DynamicCache

from tideo.models.likelihood import OptionScores, cached_loglikelihoods, check_length
from tideo.models.prompts import check_no_blank, common_start
from tideo.types import UserError


class ImageChat:
    """`model` is an image-text-to-text model of transformers in eval mode, `processor` its own."""

    def __init__(self, model: Any, *, processor: Any, name: str) -> None:
        if getattr(processor, "chat_template", None) is None:
            raise UserError(
                f"model {name}: its processor has no chat template, so its prompt is unknown; "
                "use a model that has one, or put a chat_template.jinja into its folder"
            )
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
        for name in ("mm_token_type_ids", "token_type_ids"):  # one number per token
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
        # Some templates write the begin token themselves; the tokenizer must not add a second one.
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

        Prompt and option are tokenised together, as in training, and split where they first differ.
        """
        check_no_blank(options)
        tokenizer = self.processor.tokenizer
        stem: list[int] = tokenizer(chat.rstrip(" "), add_special_tokens=False).input_ids
        space = "" if chat[-1:].isspace() or chat != chat.rstrip(" ") else " "
        wholes = [tokenizer(chat + space + text, add_special_tokens=False).input_ids for text in options]
        shared = min(common_start(stem, whole) for whole in wholes)
        # The processor's tokens of the chat have image tokens among them, but must end as the tokenizer's do.
        plain: list[int] = tokenizer(chat, add_special_tokens=False).input_ids
        same = common_start(plain[::-1], prompt_ids[::-1])
        dropped = len(plain) - shared
        if dropped > same:
            raise UserError(
                f"model {self.name}: its processor and its tokenizer disagree on the prompt's tokens"
            )
        return dropped, [whole[shared:] for whole in wholes]

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


def no_marker(text: str, processor: Any) -> str:
    """The text itself. Raises UserError if it contains the processor's image token."""
    marker = getattr(processor, "image_token", None)
    if isinstance(marker, str) and marker and marker in text:
        raise UserError(f"the text contains {marker}, which stands for an image: rephrase it")
    return text
