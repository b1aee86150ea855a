"""A frozen language model that reads frame vectors in its prompt: TOPA (arXiv 2405.13911), tiny or large.

The trained parts are a linear projection of unit-length CLIP features, one temporal embedding per frame slot, and an
adapter. The frames take the place of `<video>` in the prompt. Text features and image features enter in the same way:
that is the idea of TOPA.

Shapes: B batch, L tokens, T frames, S frame slots, D feature width, H hidden width, M = max_frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers.modeling_outputs import CausalLMOutputWithPast

from tideo.loading import Loading
from tideo.models import likelihood
from tideo.models.likelihood import OptionScores
from tideo.models.listener import MAX_NEW_TOKENS, Listener, Writing
from tideo.models.packed import embed
from tideo.models.prompts import IGNORE, PromptTokens, encode, end_ids
from tideo.models.topa.adapters import ADAPTERS, read_lora, write_lora
from tideo.models.topa.checkpoint import (
    PrefixLMConfig,
    find_llm,
    load_llm,
    read_config,
    read_tensors,
    write_config,
    write_tensors,
)
from tideo.models.topa.greedy import greedy
from tideo.models.topa.slots import even_places, in_slots, places_of
from tideo.types import Features, UserError

VideoFeatures: TypeAlias = Features | np.ndarray | torch.Tensor | None  # [T, D]; None: the blind control


class PrefixLM(nn.Module):
    """`llm` is frozen in place; `tokenizer` is the one of that LLM."""

    def __init__(self, config: PrefixLMConfig, *, llm: Any, tokenizer: Any) -> None:
        super().__init__()
        # Not named `config`: a Trainer writes to an attribute of that name.
        self.prefix_config, self.tokenizer = config, tokenizer
        hidden = llm.config.get_text_config().hidden_size
        self.llm, self.adapter = ADAPTERS[config.adapter](llm.requires_grad_(False), config)
        self.visual_proj = nn.Linear(config.feature_dim, hidden, bias=False)
        self.temporal_emb = nn.Embedding(config.max_frames, hidden)
        nn.init.normal_(self.temporal_emb.weight, std=config.init_std)

    @property
    def device(self) -> torch.device:
        return self.visual_proj.weight.device

    def forward(
        self,
        input_ids_BL: torch.Tensor,
        video_BTD: torch.Tensor,
        video_start_B: torch.Tensor,
        num_frames_B: torch.Tensor | None = None,
        labels_BL: torch.Tensor | None = None,
        places_BT: torch.Tensor | None = None,
    ) -> CausalLMOutputWithPast:
        """The mean cross-entropy of labels other than IGNORE, with logits only where a row has such a label.

        Without labels: logits [B, L, V]. `collate_examples` builds the arguments. Padding is on the right, where
        causal attention never looks, so no mask is needed. The ids at the video's slots (`num_slots` of them from
        `video_start_B` on) are placeholders.
        """
        likelihood.check_length(self.llm, input_ids_BL.shape[1])
        if num_frames_B is None:
            num_frames_B = torch.full_like(video_start_B, video_BTD.shape[1])
        vectors_BSH, num_slots_B = self.video_vectors(video_BTD, num_frames_B, places_BT)
        embeds_BLH = embed(self.llm, input_ids_BL)
        slot_BL = torch.arange(input_ids_BL.shape[1], device=self.device) - video_start_B[:, None]
        inside_BL = (slot_BL >= 0) & (slot_BL < num_slots_B[:, None])
        index_BLH = slot_BL.clamp(0, vectors_BSH.shape[1] - 1)[..., None].expand_as(embeds_BLH)
        embeds_BLH = torch.where(inside_BL[..., None], vectors_BSH.gather(1, index_BLH), embeds_BLH)
        kwargs = self._llm_kwargs(video_start_B, num_slots_B)
        if labels_BL is None:
            return self.llm(inputs_embeds=embeds_BLH, use_cache=False, **kwargs)
        targets_BL = labels_BL[:, 1:]
        needed = (targets_BL != IGNORE).any(0).nonzero()[:, 0]
        logits = self.llm(inputs_embeds=embeds_BLH, use_cache=False, logits_to_keep=needed, **kwargs).logits
        loss = F.cross_entropy(
            logits.float().flatten(0, 1), targets_BL[:, needed].flatten(), ignore_index=IGNORE
        )
        return CausalLMOutputWithPast(loss=loss, logits=logits)

    def num_slots(self, num_frames: int) -> int:
        """How many positions of the sequence `num_frames` frames take."""
        return self.prefix_config.max_frames if self.prefix_config.pad_frames == "zeros" else num_frames

    def video_vectors(
        self, video_BTD: torch.Tensor, num_frames_B: torch.Tensor, places_BT: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Frame features to their vectors [B, S, H] in the sequence, and how many of them each row uses.

        `places_BT` as in `in_slots`.
        """
        config = self.prefix_config
        num_frames, width, limit = video_BTD.shape[1], video_BTD.shape[2], config.max_frames
        if width != config.feature_dim:
            raise UserError(
                f"the features have {width} dimensions, but this model was trained on {config.feature_dim} "
                f"of encoder {config.encoder!r}: encode with that one"
            )
        if not 1 <= num_frames <= limit:
            raise UserError(f"{num_frames} frames given, but this model takes 1 to {limit}: sample as many")
        video_BTD = video_BTD.to(self.device, self.visual_proj.weight.dtype)
        video_BSD, temporal_BSH, num_slots_B = in_slots(
            video_BTD, num_frames_B, places_BT, table=self.temporal_emb, pad_frames=config.pad_frames
        )
        vectors_BSH = self.visual_proj(video_BSD) + temporal_BSH
        return vectors_BSH.to(self.llm.get_input_embeddings().weight.dtype), num_slots_B

    def loglikelihoods(
        self,
        features: VideoFeatures,
        *,
        prompt: str,
        options: Sequence[str],
        method: str | None = None,
    ) -> OptionScores:
        """Summed log-likelihood and token count of each option as the continuation of `prompt`.

        Without features (the blind control) the frames are zero vectors, as in TOPA's `onlyqa`.
        """
        tokens = encode(self.tokenizer, prompt, continuations=options)
        (prefix_PH,), kwargs = self.prefixes([(features, tokens)])
        return likelihood.option_loglikelihoods(
            self.llm,
            prefix=prefix_PH,
            options_ids=tokens.continuations,
            method=method,
            model_kwargs=kwargs([0]),
        )

    @torch.inference_mode()
    def generate(
        self,
        features: VideoFeatures,
        *,
        prompt: str,
        max_new_tokens: int = MAX_NEW_TOKENS,
        listener: Listener | None = None,
    ) -> str:
        """The greedy continuation of `prompt` up to an end token, without surrounding white space."""
        (embeds_LH,), kwargs = self.prefixes([(features, encode(self.tokenizer, prompt))])
        writing = Writing(tokenizer=self.tokenizer, listener=listener or Listener())
        ends = end_ids(self.tokenizer, self.llm)
        return greedy(self.llm, embeds_LH, kwargs([0]), ends=ends, writing=writing, most=max_new_tokens)

    def num_prompt_tokens(self, features: VideoFeatures, *, prompt: str) -> int:
        """How many positions a prompt takes, its frames included."""
        tokens = encode(self.tokenizer, prompt)
        num_frames = self.prefix_config.max_frames if features is None else len(features)
        return len(tokens.before) + self.num_slots(num_frames) + len(tokens.after)

    def encode_example(
        self, values_TD: torch.Tensor, *, prompt: str, answer: str, places_T: Sequence[float] | None = None
    ) -> dict[str, Any]:
        """One training example for `collate_examples`: only the answer and the end token have labels.

        `places_T`: where in the segment the frames lie, from 0 to 1; even by default. Raises UserError if the
        tokenizer has no end token: the model would not learn to end.
        """
        if self.tokenizer.eos_token_id is None:
            raise UserError(f"the tokenizer of {self.prefix_config.llm} has no end token: set its eos_token")
        tokens = encode(self.tokenizer, prompt, continuations=[answer])
        head = [*tokens.before, *[0] * self.num_slots(len(values_TD)), *tokens.after]
        return {
            "input_ids": head + tokens.continuations[0],
            "labels": [IGNORE] * len(head) + tokens.continuations[0],
            "video_start": len(tokens.before),
            "video_TD": values_TD,
            "places_T": places_T or even_places(len(values_TD)),
        }

    def gradient_checkpointing_enable(self, **options: Any) -> None:
        """Trade time for memory in training; a Trainer calls this."""
        self.llm.gradient_checkpointing_enable(**options)

    def trained_state(self, state: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
        """The trained tensors outside the LLM, by name; `state` has the whole tensors of a model that is sharded."""
        state = self.state_dict() if state is None else state
        return {name: tensor for name, tensor in state.items() if not name.startswith("llm.")}

    @torch.no_grad()
    def init_visual_proj_(self, weight_HD: torch.Tensor) -> None:
        """Set the projection's weight to `weight_HD`, for example that of a ridge regression."""
        self.visual_proj.weight.copy_(weight_HD)

    def save_pretrained(
        self, directory: str | Path, *, state: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        """Write config.json and the trained tensors, LoRA to lora/ in PEFT's layout; the LLM is not copied."""
        directory, config = Path(directory), self.prefix_config
        write_config(directory, config)
        write_tensors(directory / "model.safetensors", self.trained_state(state))
        if config.adapter == "lora":
            write_lora(directory, self.llm, config=config, state=state)

    @classmethod
    def from_pretrained(
        cls, directory: str | Path, *, llm: str | None = None, loading: Loading | None = None
    ) -> PrefixLM:
        """Load what `save_pretrained` wrote, in eval mode; `llm` replaces the config's name of the language model.

        `loading`: how the language model is loaded; a dtype that is not auto replaces the config's.
        Raises UserError if a file is missing, or if its shapes are not those of this LLM and config.
        """
        directory = Path(directory)
        config = read_config(directory)
        config = dataclasses.replace(config, llm=llm or find_llm(config.llm, beside=directory))
        loading = (loading or Loading()).as_saved(config.dtype)
        if loading.attn != "auto" and config.adapter == "llama-adapter":
            raise UserError(
                f"attn={loading.attn}: adapter llama-adapter has its own attention; leave attn out"
            )
        base, tokenizer = load_llm(config.llm, loading=loading, rope_theta=config.rope_theta)
        model = cls(config, llm=base, tokenizer=tokenizer)
        model.load_trained(directory)
        return model.beside_llm_().eval()

    def beside_llm_(self) -> PrefixLM:
        """Move what is trained, other than LoRA, to the device of the language model's embeddings."""
        device = self.llm.get_input_embeddings().weight.device
        for part in (self.visual_proj, self.temporal_emb, self.adapter):
            if part is not None:
                part.to(device)
        return self

    def load_trained(self, directory: str | Path) -> None:
        """Replace the trained tensors with those of a directory that `save_pretrained` wrote."""
        directory = Path(directory)
        tensors = read_tensors(directory / "model.safetensors", expected=self.trained_state())
        self.load_state_dict(tensors, strict=False)
        if self.prefix_config.adapter == "lora":
            read_lora(directory, self.llm)

    @torch.no_grad()
    def prefixes(
        self, shown: Sequence[tuple[VideoFeatures, PromptTokens]]
    ) -> tuple[list[torch.Tensor], Callable[[Sequence[int]], dict[str, Any]]]:
        """Embeddings [P, H] of each text before, video and text after.

        Also the keywords of the LLM's forward, of rows that continue these prefixes: [0, 0, 1] are three rows.
        """
        videos = [self._values(features).to(self.device) for features, _ in shown]
        num_frames_B = torch.tensor([len(video_TD) for video_TD in videos], device=self.device)
        of_each = zip((features for features, _ in shown), videos, strict=True)
        places = [places_of(features, len(video_TD)).to(self.device) for features, video_TD in of_each]
        vectors_BSH, num_slots_B = self.video_vectors(
            pad_sequence(videos, batch_first=True), num_frames_B, pad_sequence(places, batch_first=True)
        )
        start_B = torch.tensor([len(tokens.before) for _, tokens in shown], device=self.device)
        kwargs = self._llm_kwargs(start_B, num_slots_B)

        def of_rows(rows: Sequence[int]) -> dict[str, Any]:
            index = torch.tensor(rows, device=self.device)
            return {name: gated_video.rows(index) for name, gated_video in kwargs.items()}

        embeds = []
        for (_, tokens), vectors_SH, num_slots in zip(shown, vectors_BSH, num_slots_B.tolist(), strict=True):
            before, after = (
                embed(self.llm, torch.tensor(ids, dtype=torch.long, device=self.device))
                for ids in (tokens.before, tokens.after)
            )
            embeds.append(torch.cat([before, vectors_SH[:num_slots], after]))
        return embeds, of_rows

    def _llm_kwargs(self, video_start_B: torch.Tensor, num_slots_B: torch.Tensor) -> dict[str, Any]:
        if self.adapter is None:
            return {}
        return {
            "gated_video": self.adapter(video_start_B=video_start_B, video_end_B=video_start_B + num_slots_B)
        }

    def _values(self, features: VideoFeatures) -> torch.Tensor:
        if features is None:
            return torch.zeros(self.prefix_config.max_frames, self.prefix_config.feature_dim)
        if isinstance(features, Features):
            if features.encoder != self.prefix_config.encoder:
                raise UserError(
                    f"the features come from encoder {features.encoder!r}, but this model was trained on "
                    f"{self.prefix_config.encoder!r}: encode with that one"
                )
            features = features.values_TD
        return torch.as_tensor(features)
