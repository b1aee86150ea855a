"""What evaluation needs to know of a model: its settings, a key for what it holds, and how to ask it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import nn

from tideo.config import from_plain
from tideo.models.prefix_files import find_llm
from tideo.models.prefix_lm import PrefixLM
from tideo.store import atomic_write_text, key_of
from tideo.types import Answer, Frames, Sample, UserError, Video

SETTINGS_FILE, MEMORY_FILE = "tideo.json", "memory.safetensors"
TRAINED_FILES = ("config.json", "model.safetensors", "lora/*", SETTINGS_FILE, MEMORY_FILE)
_LLM_FILES = ("*.json", "*.safetensors")
TINY_PARAMETERS = 20_000_000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a model looks at a video and scores options: tideo.json.

    `encoder`: a directory, perhaps relative to this file's, or another name that `load_encoder` takes.
    `form`: a name in models/prompts.py, FORMS; `reduction`: one in models/reductions.py.
    """

    encoder: str
    num_frames: int = 10
    sampler: str = "middle"
    temperature: float = 100.0
    form: str = "text"
    reduction: str = "mean"

    def save(self, directory: str | Path) -> None:
        atomic_write_text(
            Path(directory) / SETTINGS_FILE, json.dumps(dataclasses.asdict(self), indent=2) + "\n"
        )

    @classmethod
    def load(cls, directory: str | Path) -> Settings:
        """Raises UserError where the file is missing or holds something else."""
        path = Path(directory) / SETTINGS_FILE
        try:
            return from_plain(cls, json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise UserError(
                f"{directory} is no model of tideo: {SETTINGS_FILE} is missing; "
                "give a folder that training wrote"
            ) from error
        except ValueError as error:
            raise UserError(f"{path} does not describe a model: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Controls:
    """What is changed to see where an answer comes from; the defaults change nothing.

    `shuffled`: the frames in another order, drawn from this seed and the video's id. `blind`: zero vectors
    instead of frames. `source` "text": the captions of the same frames instead of pictures, which only the
    dollhouse has. `num_frames`, `form`: others than the model's settings say. `rotated`: the options in another cyclic
    order, of which the model itself is not told.
    """

    num_frames: int | None = None
    shuffled: int | None = None
    project: bool = True
    blind: bool = False
    source: Literal["video", "text"] = "video"
    form: str | None = None
    rotated: int = 0


AS_TRAINED = Controls()


class VideoModel(Protocol):
    """A model that answers questions about video.

    `key` hashes everything of it that an answer depends on, but for its `settings`, a dataclass. `controls`: the
    fields of Controls that it heeds. `concurrency`: how many questions are asked at a time, each by itself from
    a thread of its own; 0: all questions about a segment together, one segment after another.
    """

    name: str
    key: str
    concurrency: int
    settings: Any  # with num_frames, form and reduction: Settings, or GridSettings
    controls: frozenset[str]

    def look(self, video: Video, *, controls: Controls = AS_TRAINED) -> Frames | None:
        """The frames that `answer` needs, None where it needs none. Only decodes: it may run in a thread."""

    def answer(
        self,
        video: Video,
        samples: Sequence[Sample],
        *,
        controls: Controls = AS_TRAINED,
        frames: Frames | None = None,
    ) -> list[Answer]:
        """Answers about one segment, with log-likelihoods and without choice; `frames` as `look` returned."""

    def strange(self, frames: Frames) -> str | None:
        """One line where the frames are unlike what the model was trained on, else None."""


@contextmanager
def threads_for(model: nn.Module) -> Iterator[None]:
    """One thread for a tiny model: more gain nothing, and cost much where other programs want the cores."""
    before = torch.get_num_threads()
    if sum(p.numel() for p in model.parameters()) < TINY_PARAMETERS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def files_key(directory: Path, patterns: Sequence[str]) -> str:
    """A hash of the names and contents of the files that match."""
    paths = sorted({path for pattern in patterns for path in directory.glob(pattern) if path.is_file()})
    return key_of({str(path.relative_to(directory)): _sha256(path) for path in paths})


def llm_key(lm: PrefixLM, *, beside: Path) -> str:
    """What the frozen language model is: the content of its directory, or its Hugging Face id and commit."""
    name = find_llm(lm.prefix_config.llm, beside=beside)
    if Path(name).is_dir():
        return files_key(Path(name), _LLM_FILES)
    config: Any = lm.llm.config
    return f"{name}@{getattr(config, '_commit_hash', None)}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
