"""Any Hugging Face image-text model, shown a video as one image of frames (arXiv 2409.07748) or several panels.

A folder may hold grid.json, which says how the model looks at a video (models/grid/settings.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from tideo.device import threads_for
from tideo.encoders.known_frames import KnownFrames, frame_rows
from tideo.loading import Loading
from tideo.models.answering import Shown, answers_to, timed
from tideo.models.batching import Batching, BatchSize
from tideo.models.grid.chat import ImageChat, Visual, not_stacked
from tideo.models.grid.families import suited
from tideo.models.grid.frames import GridModel, frames_of, video_of
from tideo.models.grid.loading import check_cells, check_image_size, check_shown, crops, load_vlm
from tideo.models.grid.settings import GridSettings, recorded
from tideo.models.grid.template import Kind
from tideo.models.interface import Asked, BatchedModel
from tideo.store.files import files_key, key_of
from tideo.types import Answer, Frames, UserError

_MODEL_FILES = ("*.json", "*.jinja", "*.safetensors", "tokenizer.model")


class GridVLM(GridModel, BatchedModel):
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
        self.model, self.processor, self.name, self.key = model, processor, name, key
        self.settings = settings

    @property
    def settings(self) -> GridSettings:
        return self._settings

    @settings.setter
    def settings(self, settings: GridSettings) -> None:
        kind: Kind = "video" if settings.look == "video" else "image"
        chat = self._chat(settings, kind)
        check_image_size(self.processor, settings, name=self.name)
        check_cells(chat.template, settings)
        self.chat = chat
        self._settings = settings

    def _chat(self, settings: GridSettings, kind: Kind) -> ImageChat:
        return ImageChat(self.model, processor=self.processor, name=self.name, kind=kind)

    def _threads(self) -> AbstractContextManager[None]:
        return threads_for(self.model)

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        name: str | None = None,
        settings: GridSettings | None = None,
        chosen: Collection[str] | None = None,
        loading: Loading | None = None,
        batching: Batching | None = None,
        known: KnownFrames | None = None,
    ) -> GridVLM:
        """From a folder or a Hugging Face id. `settings`, `known`: others than the folder's.

        The fields that nobody has `chosen` become what suits the model's family; without names in `chosen` these are
        the fields that the folder leaves out, or none of other `settings`. Raises UserError where it cannot be loaded,
        or is no image-text model, or does not take the settings.
        """
        source, folder = str(source), Path(source)
        loading, batching = loading or Loading(), batching or Batching()
        if chosen is None:
            chosen = recorded(folder) if settings is None else asdict(settings)
        suits = settings or GridSettings.load(folder)

        def check(config: Any, processor: Any) -> None:
            nonlocal suits
            suits = suited(suits, config=config, processor=processor, chosen=chosen)
            check_shown(processor, suits, config=config, name=name or source)
            batching.check(not_stacked(config))

        model, processor = load_vlm(source, loading=loading, check=check)
        content = content_of(source, model.config)
        vlm = cls(
            model,
            processor=processor,
            settings=suits,
            name=name or source,
            key="",
            known=known or KnownFrames.load(folder),
        )
        # Earlier versions scored before the thought: their answers are not continued.
        thought = [vlm.chat.template.thought] if vlm.chat.template.thought else []
        vlm.key = key_of([content, str(model.dtype), loading.quantised or False, *thought])
        vlm.loading, vlm.batching = loading, batching
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
            pixels = self.processor.image_processor(images=images, return_tensors="pt")["pixel_values"]
            return (
                pixels[:, 0] if pixels.ndim == 5 else pixels
            )  # LLaVA-NeXT's crops: the first is the whole image

        with threads_for(self.model):
            return frame_rows(frames, tower=tower, preprocess=preprocess)

    def batch_size(self) -> BatchSize:
        return self.batching.size(self.model, alone=self.chat.alone)

    def answer_many(self, asked: Sequence[Asked], *, at_once: int) -> list[list[Answer]]:
        """The images of all segments in one forward pass, then the questions about them."""
        started_s = time.perf_counter()
        with self._threads():
            answers = answers_to(
                [self._shown(a) for a in asked],
                prompt_style=self.settings.prompt_style,
                score=lambda shown: self.chat.counted(
                    [
                        (look.images, [(look.turn(prompt), options) for prompt, options in prompts])
                        for look, prompts in shown
                    ],
                    at_once=at_once,
                ),
                generate=lambda look, prompt, listener: self.chat.generate(
                    look.images,
                    turn=look.turn(prompt),
                    max_new_tokens=self.settings.max_new_tokens,
                    listener=listener,
                ),
                count=lambda look, prompt: self.chat.num_prompt_tokens(look.images, turn=look.turn(prompt)),
            )
        times = [() if (f := frames_of(a.seen)) is None else tuple(f.pts_s_T.tolist()) for a in asked]
        with_times = [[replace(a, pts_s=pts_s) for a in of] for of, pts_s in zip(answers, times, strict=True)]
        return timed(with_times, started_s=started_s)

    @property
    def _crops(self) -> bool:
        """Whether the processor would cut the sides off a single frame."""
        return self.settings.look == "frames" and crops(self.processor)

    def _shown(self, of: Asked) -> Shown:
        frames = frames_of(of.seen)
        images = self.images(frames, of.video, controls=of.controls, square=self._crops)
        pts_s = [] if frames is None else frames.pts_s_T.tolist()
        turn = partial(self.settings.turn, num_images=len(images), pts_s=pts_s)
        form = of.controls.form or self.settings.form
        visuals: list[Visual] = list(images)
        if frames is not None and self.settings.look == "video":
            visuals = [video_of(images, frames)]
        return Shown(what=_Look(visuals, turn), samples=of.samples, form=form, listeners=of.listeners)


def content_of(source: str, config: Any) -> str:
    """What the keys of answers hash of a model's files; `config` is that of transformers."""
    if Path(source).is_dir():
        return files_key(Path(source), _MODEL_FILES)
    return f"{source}@{getattr(config, '_commit_hash', None)}"


class _Look(NamedTuple):
    """What the model is shown of some frames, and the user's turn about them as a function of the prompt."""

    images: list[Visual]
    turn: Callable[[str], str]
