"""The text-only model applied to video: frames → image features → projection → option log-likelihoods.

TOPA at inference (arXiv 2405.13911). A model directory holds

    config.json, model.safetensors (, lora/)    PrefixLM
    memory.safetensors                          caption features, onto which image features are projected, unless
                                                the settings say otherwise
    tideo.json                                  `Settings`: encoder, frames, temperature, form of the options
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from tideo.device import threads_for
from tideo.encoders.dual import DualEncoder, load_encoder
from tideo.encoders.familiarity import below, video_familiarity
from tideo.encoders.features import frames_features, tideo_features
from tideo.encoders.known_frames import KnownFrames, frame_rows
from tideo.encoders.memory import Memory, project
from tideo.fitting import fitting
from tideo.loading import Loading
from tideo.models.answering import Shown, answers_to, timed
from tideo.models.batching import BatchSize
from tideo.models.interface import AS_TRAINED, Asked, BatchedModel, Controls, VideoInput, other_order
from tideo.models.likelihood import one_by_one
from tideo.models.topa.checkpoint import LLM_FILES, find_llm
from tideo.models.topa.prefix_lm import PrefixLM
from tideo.models.topa.questions import question_loglikelihoods
from tideo.models.topa.settings import MEMORY_FILE, TRAINED_FILES, Settings
from tideo.store.files import files_key, key_of
from tideo.types import Answer, Features, Frames, Tideo, UserError, Video


class ZeroShot(BatchedModel):
    """A PrefixLM, the dual encoder that it was trained on, and the memory of its captions.

    Answers carry log-likelihoods and leave the choice to scoring.py.
    """

    controls = frozenset(field.name for field in fields(Controls))

    def __init__(
        self,
        lm: PrefixLM,
        *,
        encoder: DualEncoder,
        memory: Memory | None,
        settings: Settings,
        name: str,
        key: str,
        known: KnownFrames | None = None,
    ) -> None:
        parts = {"language model": lm.prefix_config.encoder}
        if memory is not None:
            parts["memory"] = memory.encoder
        for what, other in parts.items():
            if other != encoder.id:
                raise UserError(
                    f"model {name}: its {what} was made with encoder {other}, but {settings.encoder} is "
                    f"{encoder.id}: train it again or name the right encoder in tideo.json"
                )
        self.lm, self.encoder, self.memory, self.settings = lm, encoder, memory, settings
        self.name, self.key, self.known = name, key, known
        if memory is None:
            self.controls = self.controls - {"project"}  # there is nothing to switch off
        self._features: WeakKeyDictionary[Frames, Features] = WeakKeyDictionary()
        self._projected: WeakKeyDictionary[Frames, Features] = WeakKeyDictionary()

    @classmethod
    def load(
        cls,
        directory: str | Path,
        *,
        name: str | None = None,
        settings: Settings | None = None,
        loading: Loading | None = None,
    ) -> ZeroShot:
        """`settings`: others than the folder's. `loading` is for the language model, its device and dtype for all.

        Raises UserError if a file is missing or parts do not fit together."""
        directory = Path(directory)
        settings = settings or Settings.load(directory)
        beside = directory / settings.encoder
        loading = loading or Loading()
        for_encoder = Loading(device=loading.device, dtype=loading.dtype)
        encoder = load_encoder(str(beside) if beside.is_dir() else settings.encoder, loading=for_encoder)
        with fitting(str(directory), loading):
            lm = PrefixLM.from_pretrained(directory, loading=loading)
        memory = None
        if settings.project:
            with fitting(str(directory / MEMORY_FILE), loading, quantises=False):
                memory = Memory.load(directory / MEMORY_FILE, device=lm.device)
        model = cls(
            lm,
            encoder=encoder,
            memory=memory,
            settings=settings,
            name=name or str(directory),
            key=key_of(
                [
                    encoder.id,
                    files_key(directory, TRAINED_FILES),
                    llm_key(lm, beside=directory),
                    *loading.conversion,
                ]
            ),
            known=KnownFrames.load(directory),
        )
        model.loading = loading
        return model

    @property
    def selector(self) -> DualEncoder | str:
        """Its own encoder, unless the settings name another."""
        return self.settings.selector or self.encoder

    def batch_size(self) -> BatchSize:
        return self.batching.size(self.lm, alone=one_by_one(self.lm.llm))

    def answer_many(self, asked: Sequence[Asked], *, at_once: int) -> list[list[Answer]]:
        """All frames in one batch of the encoder, then the questions; each segment's prompt is begun once."""
        started_s = time.perf_counter()
        with threads_for(self.lm):
            self._encode([a.seen for a in asked if isinstance(a.seen, Frames)])
            shown = [
                Shown(
                    what=self.features(a.seen, video=a.video, controls=a.controls),
                    samples=a.samples,
                    form=a.controls.form or self.settings.form,
                    listeners=a.listeners,
                )
                for a in asked
            ]
            answers = ask_lm(self.lm, shown, at_once=at_once)
        times = [tuple(a.seen.pts_s_T.tolist()) if isinstance(a.seen, Frames) else () for a in asked]
        with_times = [[replace(a, pts_s=pts_s) for a in of] for of, pts_s in zip(answers, times, strict=True)]
        return timed(with_times, started_s=started_s)

    def out_of_distribution(self, frames: Frames) -> str | None:
        """One line if the frames look unlike those that its folder knows, or unlike anything in the memory."""
        if self.known is not None:
            rows_TD = self.frame_rows(frames)
            if warning := self.known.warning(rows_TD, video_id=frames.video_id, model=self.name):
                return warning
        if self.memory is None or self.memory.threshold is None:
            return None
        with threads_for(self.lm):
            familiarity = video_familiarity(
                self._image_features(frames), self.memory, temperature=self.settings.temperature
            )
        if familiarity >= self.memory.threshold:
            return None
        return (
            f"video {frames.video_id} is unlike what {self.name} was trained on (familiarity "
            f"{below(familiarity, self.memory.threshold)})"
        )

    def frame_rows(self, frames: Frames) -> np.ndarray:
        """[T, D] for known frames. Raises UserError for an encoder that is no model of transformers."""
        vision = getattr(self.encoder, "vision", None)
        if vision is None:
            raise UserError(
                f"model {self.name}: known frames need an encoder that is a model of transformers"
            )
        with threads_for(self.lm):
            return frame_rows(frames, tower=vision, preprocess=self.encoder.preprocess)

    def features(self, seen: VideoInput, *, video: Video, controls: Controls = AS_TRAINED) -> Features | None:
        """What the language model is given: text features as they are, image features projected onto the memory."""
        if seen is None:
            return None
        if isinstance(seen, Tideo):
            (features,) = tideo_features([seen], self.encoder, num_frames=self.num_frames(controls))
        else:
            features = self._projected_features(seen) if controls.project else self._image_features(seen)
        if controls.shuffled is not None:
            order = other_order(len(features), rng=random.Random(f"{controls.shuffled}/{video.id}"))
            features = replace(features, values_TD=features.values_TD[order])
        return features

    def _image_features(self, frames: Frames) -> Features:
        self._encode([frames])
        return self._features[frames]

    def _projected_features(self, frames: Frames) -> Features:
        if self.memory is None:
            return self._image_features(frames)
        if frames not in self._projected:
            self._projected[frames] = project(
                self._image_features(frames), self.memory, temperature=self.settings.temperature
            )
        return self._projected[frames]

    def _encode(self, frames: Sequence[Frames]) -> None:
        """Keep the features of those frames that have none yet."""
        new = [f for f in dict.fromkeys(frames) if f not in self._features]
        self._features.update(zip(new, frames_features(new, self.encoder), strict=True))


def ask_lm(lm: PrefixLM, shown: Sequence[Shown], *, at_once: int) -> list[list[Answer]]:
    """One Answer a sample, as `answers_to`, of a model that is shown features."""
    return answers_to(
        shown,
        prompt_style=lm.prefix_config.prompt_style,
        score=lambda asked: question_loglikelihoods(lm, asked, at_once=at_once),
        generate=lambda features, prompt, listener: lm.generate(features, prompt=prompt, listener=listener),
        count=lambda features, prompt: lm.num_prompt_tokens(features, prompt=prompt),
    )


def llm_key(lm: PrefixLM, *, beside: Path) -> str:
    """What the frozen language model is: the content of its directory, or its Hugging Face id and commit."""
    name = find_llm(lm.prefix_config.llm, beside=beside)
    if Path(name).is_dir():
        return files_key(Path(name), LLM_FILES)
    config: Any = lm.llm.config
    return f"{name}@{getattr(config, '_commit_hash', None)}"
