"""One turn with an image-text model: images, then the user's words, and how likely each reply is.

The model's own processor and chat template make its input. The images and whatever several turns share are computed
once; every turn and its replies continue from that cache (models/likelihood.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache, StoppingCriteriaList

from tideo.models.answering import Counted
from tideo.models.grid.families import family_of, visual_tokens
from tideo.models.grid.inputs import Visual, Words, encode_turns, matching_tokens, stacked
from tideo.models.grid.template import PER_TOKEN, ChatTemplate, Kind
from tideo.models.likelihood import OptionScores, check_length, context, one_by_one
from tideo.models.listener import MAX_NEW_TOKENS, Listener, Writing
from tideo.models.prompts import end_ids
from tideo.models.shared_prefix import Question, cached_loglikelihoods

Asked = tuple[Sequence[Visual], Sequence[Words]]  # images, and the questions about them


def not_stacked(config: Any) -> str | None:
    """Why no two questions can share a forward pass of a model with this config of transformers; None if they can."""
    return None if family_of(config).stacked else f"inputs of model type {config.model_type} are not stacked"


class _Prefix(NamedTuple):
    """The model's inputs up to where questions about some images differ, and what is left of each question."""

    inputs: dict[str, torch.Tensor]
    last_image: int
    questions: Sequence[Question]
    num_tokens: Sequence[int]  # of each question's prompt
    num_visual: int  # of them, for images and frames


class ImageChat:
    """`model` is an image-text-to-text model of transformers in eval mode, `processor` its own."""

    def __init__(self, model: Any, *, processor: Any, name: str, kind: Kind = "image") -> None:
        self.template = ChatTemplate(processor, name=name, kind=kind)
        self.model, self.processor, self.name = model, processor, name

    @property
    def alone(self) -> str | None:
        """Why no two questions can share a forward pass of this model; None if they can."""
        if self.template.kind == "video":
            return "videos are not stacked"
        return not_stacked(self.model.config) or one_by_one(self.model)

    @torch.inference_mode()
    def loglikelihoods(self, asked: Sequence[Asked], *, at_once: int = 1) -> list[list[OptionScores]]:
        """Summed log-likelihood and token count of each option, as the model's reply to its question.

        The images come first in a turn, so they and whatever the questions about them share are computed once, in one
        forward for all videos; then `at_once` questions share a forward.
        """
        return [[found.scores for found in of_video] for of_video in self.counted(asked, at_once=at_once)]

    @torch.inference_mode()
    def counted(self, asked: Sequence[Asked], *, at_once: int = 1) -> list[list[Counted]]:
        """As `loglikelihoods`, with the tokens of each prompt."""
        prefixes = {
            i: self._prefix(images, questions) for i, (images, questions) in enumerate(asked) if questions
        }
        scores: list[list[Counted]] = [[] for _ in asked]
        for together in self._stackable(prefixes):
            found = self._scores([prefixes[i] for i in together], at_once=at_once)
            for i, of_video in zip(together, found, strict=True):
                scores[i] = [
                    Counted(of, num, prefixes[i].num_visual)
                    for of, num in zip(of_video, prefixes[i].num_tokens, strict=True)
                ]
        return scores

    def _stackable(self, prefixes: Mapping[int, _Prefix]) -> list[list[int]]:
        """Which share a forward: all with images, and all without; with some models each is by itself."""
        if self.alone is not None:
            return [[i] for i in prefixes]
        with_images = [i for i, prefix in prefixes.items() if prefix.last_image >= 0]
        without = [i for i in prefixes if i not in with_images]
        return [group for group in (with_images, without) if group]

    def _prefix(self, images: Sequence[Visual], questions: Sequence[Words]) -> _Prefix:
        turns = encode_turns(
            self.template,
            questions,
            images,
            visual_tokens=visual_tokens(self.model.config),
            encode=self._encode,
        )
        shared, encoded = turns.shared, turns.encoded
        longest = [len(stem) + max(map(len, of)) for stem, of in zip(turns.stems, turns.replies, strict=True)]
        self._check_length(max(longest), num_visual=turns.num_visual)
        inputs = encoded | {name: encoded[name][:, :shared] for name in PER_TOKEN if name in encoded}
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        # At least one token of every question stays behind the cache: it predicts the first token of the replies.
        tails = [
            (torch.tensor(stem[shared:], device=self.model.device), options)
            for stem, options in zip(turns.stems, turns.replies, strict=True)
        ]
        return _Prefix(inputs, turns.last_visual, tails, list(map(len, turns.stems)), turns.num_visual)

    def _scores(self, prefixes: Sequence[_Prefix], *, at_once: int) -> list[list[OptionScores]]:
        cache = DynamicCache()
        inputs = stacked([prefix.inputs for prefix in prefixes])
        with matching_tokens(self.name):
            self.model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
        deltas = getattr(self.model.model, "rope_deltas", None)
        # Qwen-VL gives an image fewer positions than tokens.
        offsets = [
            int(deltas[row]) if deltas is not None and prefix.last_image >= 0 else 0
            for row, prefix in enumerate(prefixes)
        ]
        return cached_loglikelihoods(
            self.model,
            cache=cache,
            num_cached=[prefix.inputs["input_ids"].shape[1] for prefix in prefixes],
            asked=[prefix.questions for prefix in prefixes],
            offsets=offsets,
            at_once=1 if self.alone else at_once,
        )

    def _check_length(self, num_tokens: int, *, num_visual: int) -> None:
        advice = "shorten the text"
        if num_visual:
            advice += (
                f", or show less: {num_visual} of them are of images (frames, panels, rows, cols, image_size)"
            )
        check_length(self.model, num_tokens, advice=advice)

    def num_prompt_tokens(self, images: Sequence[Visual], *, turn: str) -> int:
        """How many tokens the chat takes up to a reply, its images included."""
        return int(
            self._encode(self.template.opening(turn, num_images=len(images)), images)["input_ids"].shape[1]
        )

    @torch.inference_mode()
    def generate(
        self,
        images: Sequence[Visual],
        *,
        turn: str,
        max_new_tokens: int = MAX_NEW_TOKENS,
        listener: Listener | None = None,
    ) -> str:
        """The greedy reply to the user's words, without surrounding white space.

        Every end token of the model's generation_config ends it, and so does the one that closes a trained reply. It
        ends where it stands if the listener has left.
        """
        listener = listener or Listener()
        inputs = self._encode(self.template.opening(turn, num_images=len(images)), images)
        num_prompt = inputs["input_ids"].shape[1]
        most = listener.limit(max_new_tokens, room=max(1, context(self.model) - num_prompt))
        visual = torch.tensor(sorted(visual_tokens(self.model.config)), device=self.model.device)
        num_visual = int(torch.isin(inputs["input_ids"], visual).sum())
        self._check_length(num_prompt + most, num_visual=num_visual)
        listener.prompt_tokens, listener.visual_tokens = num_prompt, num_visual
        ends = end_ids(self.processor.tokenizer, self.model) | {self.template.end_ids[-1]}
        writing = Writing(tokenizer=self.processor.tokenizer, listener=listener)

        def stops(ids: torch.Tensor, scores: Any) -> torch.Tensor:
            """Called after every token, the last one new."""
            if (token := int(ids[0, -1])) not in ends:
                writing.add(token)
            return torch.tensor([listener.has_left()], device=ids.device)

        with matching_tokens(self.name):
            ids = self.model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=most,
                eos_token_id=sorted(ends),
                stopping_criteria=StoppingCriteriaList([stops]),
            )
        return writing.end(truncated=int(ids[0, -1]) not in ends)

    def _encode(self, opening: str, images: Sequence[Visual]) -> dict[str, torch.Tensor]:
        """The inputs for an opening, without the spaces at its end, which belong to the first token of the reply."""
        encoded = self.template.encode(opening.rstrip(" "), images)
        floats = {k: v.to(self.model.dtype) if v.is_floating_point() else v for k, v in encoded.items()}
        return {k: v.to(self.model.device) for k, v in floats.items()}
