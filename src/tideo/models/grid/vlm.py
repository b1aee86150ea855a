"""Any Hugging Face image-text model, shown a video as one image of frames (arXiv 2409.07748) or several panels.

A folder may hold grid.json, which says how the model looks at a video (models/grid/settings.py).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tideo.device import threads_for
from tideo.encoders.known_frames import KnownFrames, frame_rows
from tideo.loading import Loading
from tideo.models.answering import answers_to, timed
from tideo.models.grid.chat import ImageChat
from tideo.models.grid.frames import GridModel
from tideo.models.grid.loading import check_image_size, load_vlm
from tideo.models.grid.settings import GridSettings
from tideo.models.interface import AS_TRAINED, Controls, VideoInput
from tideo.store.files import files_key, key_of
from tideo.types import Answer, Frames, Sample, UserError, Video

_MODEL_FILES = ("*.json", "*.jinja", "*.safetensors", "tokenizer.model")


class GridVLM(GridModel):
    """`model` is an image-text-to-text model of transformers in eval mode, `processor` its own."""

    controls = frozenset({"num_frames", "shuffled", "blind", "form"})

    def __init__(
        self,
        model: Any,
        *,
        processor: Any,
        settings: GridSettings,
        name: str,
        key: str,
        known: KnownFrames | None = None,
    ) -> None:
        self.known = known
        self.chat = ImageChat(model, processor=processor, name=name)
        self.model, self.name, self.key = model, name, key
        self.settings = settings

    @property
    def settings(self) -> GridSettings:
        return self._settings

    @settings.setter
    def settings(self, settings: GridSettings) -> None:
        check_image_size(self.chat.processor, settings, name=self.name)
        self._settings = settings

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        name: str | None = None,
        settings: GridSettings | None = None,
        loading: Loading | None = None,
        known: KnownFrames | None = None,
    ) -> GridVLM:
        """From a folder or a Hugging Face id. `settings`, `known`: others than the folder's.

        Raises UserError where it cannot be loaded, or is no image-text model.
        """
        source = str(source)
        loading = loading or Loading()
        model, processor = load_vlm(source, loading=loading)
        folder = Path(source)
        commit = getattr(model.config, "_commit_hash", None)
        content = files_key(folder, _MODEL_FILES) if folder.is_dir() else f"{source}@{commit}"
        vlm = cls(
            model,
            processor=processor,
            settings=settings or GridSettings.load(folder),
            name=name or source,
            key="",
            known=known or KnownFrames.load(folder),
        )
        # Earlier versions scored before the thought: their answers are not continued.
        thought = [vlm.chat.template.thought] if vlm.chat.template.thought else []
        vlm.key = key_of([content, str(model.dtype), loading.quantised or False, *thought])
        vlm.loading = loading
        return vlm

    def out_of_distribution(self, frames: Frames) -> str | None:
        """One line if the frames look unlike those that its folder knows, else None."""
        if self.known is None:
            return None
        return self.known.warning(self.frame_rows(frames), video_id=frames.video_id, model=self.name)

    def frame_rows(self, frames: Frames) -> np.ndarray:
        """[T, D] for known frames. Raises UserError for a model without a vision tower as LLaVA's."""
        tower = getattr(getattr(self.model, "model", self.model), "vision_tower", None)
        if tower is None:
            raise UserError(f"model {self.name}: known frames are for models with a vision tower as LLaVA's")

        def preprocess(pictures: list[np.ndarray]) -> torch.Tensor:
            images = [Image.fromarray(rgb_HWC) for rgb_HWC in pictures]
            pixels = self.chat.processor.image_processor(images=images, return_tensors="pt")["pixel_values"]
            return (
                pixels[:, 0] if pixels.ndim == 5 else pixels
            )  # LLaVA-NeXT's crops: the first is the whole image

        with threads_for(self.model):
            return frame_rows(frames, tower=tower, preprocess=preprocess)

    def answer(
        self, video: Video, samples: Sequence[Sample], *, seen: VideoInput, controls: Controls = AS_TRAINED
    ) -> list[Answer]:
        """Answers to questions about one segment, its images computed once; as `ZeroShot.answer`."""
        started_s = time.perf_counter()
        with threads_for(self.model):
            answers = [
                answer
                for shown, about in self.shown(seen, samples, controls=controls)
                for answer in self._of_frames(shown, video, about, controls=controls)
            ]
        return timed(answers, started_s=started_s)

    def _of_frames(
        self, frames: Frames | None, video: Video, samples: Sequence[Sample], *, controls: Controls
    ) -> list[Answer]:
        images = self.images(frames, video, controls=controls)
        turn = partial(self.settings.turn, num_images=len(images), num_frames=len(frames or ()))
        answers = answers_to(
            samples,
            form=controls.form or self.settings.form,
            prompt_style=self.settings.prompt_style,
            score=lambda prompts: self.chat.loglikelihoods(
                images, questions=[(turn(prompt), options) for prompt, options in prompts]
            ),
            generate=lambda prompt: self.chat.generate(
                images, turn=turn(prompt), max_new_tokens=self.settings.max_new_tokens
            ),
        )
        pts_s = () if frames is None else tuple(frames.pts_s_T.tolist())
        return [replace(a, pts_s=pts_s) for a in answers]
