"""Any Hugging Face image-text model, asked about a video as one image of frames (arXiv 2409.07748) or several panels.

The model's own processor and chat template make its input. The image and what stands before the questions are computed
once; every question and its options follow on that cache (models/likelihood.py). A folder may hold grid.json, which
says how the model looks at a video.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import DynamicCache

from tideo.config import from_plain
from tideo.models.likelihood import OptionScores, cached_loglikelihoods, check_length
from tideo.models.prompts import FORMS, VIDEO, answer_prompt, style
from tideo.models.settings import AS_TRAINED, Controls, files_key, threads_for
from tideo.models.zero_shot import other_order
from tideo.store import atomic_write_text, key_of
from tideo.types import Answer, Frames, Sample, UserError, Video
from tideo.video.grid import FITS, make_panels
from tideo.video.samplers import sample_frames

GRID_FILE = "grid.json"
_MODEL_FILES = ("*.json", "*.jinja", "*.safetensors", "tokenizer.model")


@dataclass(frozen=True, kw_only=True)
class GridSettings:
    """How a model looks at a video and scores options: grid.json, or the defaults where there is none.

    The video is `panels` images of `rows` x `cols` frames. `intro` comes before the question, with the fields
    {frames}, {panels}, {rows} and {cols}. `prompt_style` and `form` as in models/prompts.py.
    """

    rows: int = 4
    cols: int = 4
    panels: int = 1
    image_size: int = 336
    sampler: str = "middle"
    fit: str = "squash"
    stamps: bool = False
    intro: str = "The image shows {frames} frames of one video in reading order, {rows} rows of {cols}.\n"
    prompt_style: str = "llava"
    form: str = "letter"
    reduction: str = "mean"
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        if min(self.rows, self.cols, self.panels) < 1:
            raise UserError(
                f"{self.panels} grids of {self.rows} x {self.cols}: expected at least one of each"
            )
        if self.fit not in FITS:
            raise UserError(f"fit {self.fit!r}: expected one of {', '.join(FITS)}")
        style(self.prompt_style)

    @property
    def num_frames(self) -> int:
        return self.panels * self.rows * self.cols

    def save(self, directory: str | Path) -> None:
        atomic_write_text(Path(directory) / GRID_FILE, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, directory: str | Path) -> GridSettings:
        """The defaults where the folder has no grid.json. Raises UserError where that holds something else."""
        path = Path(directory) / GRID_FILE
        if not path.is_file():
            return cls()
        try:
            return from_plain(cls, json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise UserError(f"{path} does not describe a grid: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How weights are loaded: `dtype` a name of torch or auto; `load_4bit` needs bitsandbytes and a GPU."""

    dtype: str = "auto"
    load_4bit: bool = False


class GridVLM:
    """`model` is an image-text-to-text model of transformers in eval mode, `processor` its own.

    `key` hashes everything of the model that an answer depends on.
    """

    controls = frozenset({"num_frames", "shuffled", "blind", "form"})

    def __init__(self, model: Any, *, processor: Any, settings: GridSettings, name: str, key: str) -> None:
        if getattr(processor, "chat_template", None) is None:
            raise UserError(
                f"model {name}: its processor has no chat template, so its prompt is unknown; "
                "give one that has, or put a chat_template.jinja into its folder"
            )
        self.model, self.processor, self.settings = model, processor, settings
        self.name, self.key = name, key

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        name: str | None = None,
        settings: GridSettings | None = None,
        loading: Loading | None = None,
    ) -> GridVLM:
        """From a folder or a Hugging Face id. `settings`: others than the folder's.

        Raises UserError where it cannot be loaded, or is no image-text model.
        """
        source = str(source)
        loading = loading or Loading()
        model, processor = load_vlm(source, loading=loading)
        folder = Path(source)
        commit = getattr(model.config, "_commit_hash", None)
        content = files_key(folder, _MODEL_FILES) if folder.is_dir() else f"{source}@{commit}"
        return cls(
            model,
            processor=processor,
            settings=settings or GridSettings.load(folder),
            name=name or source,
            key=key_of([content, str(model.dtype), loading.load_4bit]),
        )

    def look(self, video: Video, *, controls: Controls = AS_TRAINED) -> Frames | None:
        """The frames of the cells. Raises VideoError."""
        if controls.blind:
            return None
        return sample_frames(
            video, controls.num_frames or self.settings.num_frames, sampler=self.settings.sampler
        )

    def answer(
        self,
        video: Video,
        samples: Sequence[Sample],
        *,
        controls: Controls = AS_TRAINED,
        frames: Frames | None = None,
    ) -> list[Answer]:
        """Answers to questions about one segment, its images computed once; as `ZeroShot.answer`."""
        frames = frames if frames is not None else self.look(video, controls=controls)
        started_s = time.perf_counter()
        images = [] if frames is None else self._images(frames, video, controls=controls)
        form = controls.form or self.settings.form
        if form not in FORMS:
            raise UserError(f"unknown scoring form {form!r}; expected one of {', '.join(FORMS)}")
        with threads_for(self.model):
            answers = self._answers(images, samples, num_frames=len(frames or ()), form=form)
        pts_s = () if frames is None else tuple(frames.pts_s_T.tolist())
        seconds = (time.perf_counter() - started_s) / max(1, len(samples))
        return [replace(a, pts_s=pts_s, seconds=seconds) for a in answers]

    def strange(self, frames: Frames) -> str | None:
        return None

    def _images(self, frames: Frames, video: Video, *, controls: Controls) -> list[Image.Image]:
        settings = self.settings
        if controls.shuffled is not None:
            order = other_order(len(frames), rng=random.Random(f"{controls.shuffled}/{video.id}"))
            frames = replace(frames, rgb_THWC=frames.rgb_THWC[order])
        one = controls.num_frames == 1
        panels = make_panels(
            frames,
            panels=1 if one else settings.panels,
            rows=1 if one else settings.rows,
            cols=1 if one else settings.cols,
            image_size=settings.image_size,
            fit=settings.fit,
            stamps=settings.stamps,
        )
        return [Image.fromarray(panel.rgb_HWC) for panel in panels]

    def _answers(
        self, images: Sequence[Image.Image], samples: Sequence[Sample], *, num_frames: int, form: str
    ) -> list[Answer]:
        """Samples with options on one cache; a question that cannot be asked becomes an Answer with its error."""
        prompt_style = style(self.settings.prompt_style)
        with_options = [s for s in samples if s.options]
        prompts = {s.id: FORMS[form](s.question, s.options, prompt_style) for s in with_options}
        turns = [(self._turn(prompt, images, num_frames), options) for prompt, options in prompts.values()]
        try:
            scored = dict(zip(prompts, self.loglikelihoods(images, questions=turns), strict=True))
        except UserError:  # of one question; which one shows when each is asked alone
            scored = {}
        answers = []
        for sample in samples:
            try:
                if not sample.options:
                    turn = self._turn(answer_prompt(sample.question, style=prompt_style), images, num_frames)
                    answers.append(Answer(sample_id=sample.id, text=self.generate(images, turn=turn)))
                    continue
                if sample.id not in scored:
                    prompt, options = prompts[sample.id]
                    asked = [(self._turn(prompt, images, num_frames), options)]
                    scored[sample.id] = self.loglikelihoods(images, questions=asked)[0]
                found = scored[sample.id]
                answers.append(
                    Answer(sample_id=sample.id, loglikelihoods=found.sums, num_tokens=found.counts)
                )
            except UserError as error:
                answers.append(Answer(sample_id=sample.id, error=str(error)))
        return answers

    def _turn(self, prompt: str, images: Sequence[Image.Image], num_frames: int) -> str:
        """The user's words: the prompt without its marker, the intro before it where a grid is shown."""
        text = prompt.replace(VIDEO, "", 1)
        if not images or num_frames == 1:
            return text
        settings = self.settings
        intro = settings.intro.format(
            frames=num_frames, panels=len(images), rows=settings.rows, cols=settings.cols
        )
        return intro + text

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
    def generate(self, images: Sequence[Image.Image], *, turn: str) -> str:
        """The greedy reply to the user's words, without surrounding white space."""
        inputs = self._encode(self._chat(turn, images), images)
        num_prompt = inputs["input_ids"].shape[1]
        check_length(self.model, num_prompt + self.settings.max_new_tokens)
        ids = self.model.generate(**inputs, do_sample=False, max_new_tokens=self.settings.max_new_tokens)
        return str(self.processor.tokenizer.decode(ids[0, num_prompt:], skip_special_tokens=True)).strip()

    def _chat(self, turn: str, images: Sequence[Image.Image]) -> str:
        content = [*({"type": "image"} for _ in images), {"type": "text", "text": turn}]
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


def load_vlm(source: str, *, loading: Loading) -> tuple[Any, Any]:
    """An image-text-to-text model in eval mode, on the GPU where there is one, and its processor.

    Weights are read from safetensors only. Raises UserError in one line where that fails.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig

    extra: dict[str, Any] = {}
    if loading.load_4bit:
        if not torch.accelerator.is_available():
            raise UserError("4-bit weights need a GPU and bitsandbytes: leave load_4bit out")
        extra["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16
        )
    try:
        processor = AutoProcessor.from_pretrained(source)
        if getattr(processor, "image_processor", None) is None:
            raise UserError(
                f"model {source}: it has no image processor, so it cannot be shown a grid; "
                "expected an image-text-to-text model"
            )
        model = AutoModelForImageTextToText.from_pretrained(
            source,
            dtype=loading.dtype,
            use_safetensors=True,
            attn_implementation="sdpa",
            device_map="auto" if torch.accelerator.is_available() else None,
            **extra,
        )
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the image-text model {source!r} cannot be loaded: {reason}") from error
    return model.eval(), processor


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
