"""tideo.json: how a text-only pre-aligned model samples a video and scores options."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tideo.config import from_plain
from tideo.models.interface import check_settings
from tideo.models.selecting import Selecting
from tideo.store.files import atomic_write_text
from tideo.types import UserError

SETTINGS_FILE, MEMORY_FILE = "tideo.json", "memory.safetensors"
TRAINED_FILES = ("config.json", "model.safetensors", "lora/*", SETTINGS_FILE, MEMORY_FILE)


@dataclass(frozen=True, kw_only=True)
class Settings(Selecting):
    """The contents of tideo.json.

    `encoder` is a folder, which may be relative to that of tideo.json, or another name that `load_encoder` takes.
    `selector` None is that encoder. With `project` image features are projected onto the memory, as a model needs that
    was trained on texts alone. `form` is a name in FORMS of models/prompts.py, `reduction` a name in scoring.py.
    """

    encoder: str
    num_frames: int = 10
    sampler: str = "middle"
    project: bool = True
    temperature: float = 100.0
    form: str = "text"
    reduction: str = "mean"

    def __post_init__(self) -> None:
        check_settings(self)
        if self.num_frames < 1 or self.temperature <= 0:
            raise UserError(
                f"num_frames={self.num_frames}, temperature={self.temperature}: expected at least 1 and more than 0"
            )

    @property
    def unused(self) -> dict[str, str]:
        """Field that changes nothing → the reason."""
        return super().unused | ({} if self.project else {"temperature": "project=false projects nothing"})

    @property
    def keyed(self) -> dict[str, Any]:
        """What an answer depends on; with a projection as earlier versions had it, so that their answers are found."""
        return {name: value for name, value in super().keyed.items() if name != "project" or not value}

    def save(self, directory: str | Path) -> None:
        atomic_write_text(
            Path(directory) / SETTINGS_FILE, json.dumps(dataclasses.asdict(self), indent=2) + "\n"
        )

    @classmethod
    def load(cls, directory: str | Path) -> Settings:
        """Raises UserError if the file is missing or holds something else."""
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
