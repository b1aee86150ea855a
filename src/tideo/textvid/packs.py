"""A domain pack: the prompts with which a language model writes Tideos, in one TOML file."""

from __future__ import annotations

import hashlib
import string
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tideo.registry import unknown
from tideo.store.text import lines_of
from tideo.textvid.schema import first_fault
from tideo.types import UserError

BUILTIN = Path(__file__).with_name("packs")
FIELDS = {
    "frames": {"condition", "num_frames"},
    "questions": {"video", "num_questions"},
    "options": {"video", "questions"},
}


class Pack(BaseModel):
    """The prompts and settings of a pack. `name` is the file's name, `digest` a hash of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    digest: str
    version: int
    system: str = Field(min_length=1)
    frames: str = Field(min_length=1)
    questions: str = Field(min_length=1)
    options: str = Field(min_length=1)
    conditions: tuple[str, ...] = ()
    min_frames: int = Field(default=5, ge=2)
    max_frames: int = Field(default=15, le=64)

    @model_validator(mode="after")
    def _in_order(self) -> Pack:
        if self.min_frames > self.max_frames:
            raise ValueError(f"min_frames {self.min_frames} is more than max_frames {self.max_frames}")
        return self


def load_pack(name: str) -> Pack:
    """A pack that ships with tideo, or a file. A file inherits what it leaves out from the pack that `like` names.

    Raises UserError that names the file and the field.
    """
    builtin = {path.stem: path for path in BUILTIN.glob("*.toml")}
    path = builtin.get(name, Path(name))
    if not path.is_file():
        raise UserError(unknown(name, known=builtin, what="pack") + "; or give a file like those")
    data = path.read_bytes()
    try:
        values: dict[str, Any] = tomllib.loads(data.decode())
        if (base := values.pop("like", None)) is not None:
            other = load_pack(str(builtin.get(base, path.parent / base)))
            values = other.model_dump(exclude={"name", "digest"}) | values
            data += other.digest.encode()
        pack = Pack(name=path.stem, digest=hashlib.sha256(data).hexdigest()[:12], **values)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is not a pack: {error}") from error
    except ValidationError as error:
        raise UserError(f"{path}, {first_fault(error, whole='the pack')}") from error
    for task, fields in FIELDS.items():
        _check_fields(getattr(pack, task), fields, where=f"{path}, {task}")
    return pack


def _check_fields(text: str, fields: set[str], *, where: str) -> None:
    try:
        found = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
    except ValueError as error:
        raise UserError(f"{where}: {error}; write a literal brace twice") from error
    if found != fields:
        wrong = ", ".join(sorted(found ^ fields))
        raise UserError(
            f"{where}: expected each of the fields {', '.join(sorted(fields))}, and no other; see {wrong}"
        )


def read_conditions(path: str | Path | None, pack: Pack) -> list[str]:
    """The conditions: a file's lines that are not blank, or the pack's own. Raises UserError if there are none."""
    if path is None:
        lines = list(pack.conditions)
        message = f"pack {pack.name} has no conditions: give a file with --conditions"
    else:
        lines = lines_of(path)
        message = f"{path} holds no condition: expected a title, caption, scene or list of objects a line"
    lines = [line.strip() for line in lines if line.strip()]
    if not lines:
        raise UserError(message)
    return lines
