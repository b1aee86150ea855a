"""Training files in LLaVA's format, read and written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import track

from tideo.benchmarks.annotations import json_list, parsed
from tideo.store.files import atomic_path, atomic_write_text, file_hash, key_of
from tideo.train.grid.conversations import Conversation, Pictures, Turn
from tideo.types import UserError

IMAGE = "<image>"  # LLaVA's marker of an image in its training files


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    speaker: str = Field(alias="from", pattern="^(human|gpt)$")
    value: str


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore")

    id: str | int
    image: str
    conversations: list[_Message] = Field(min_length=2)


def read_llava(path: str | Path, *, images: str | Path, image_size: int) -> list[Conversation]:
    """Read LLaVA's training format: JSON of [{id, image, conversations: [{from: human | gpt, value}, …]}, …].

    Images are files in the folder `images`, resized to a square of `image_size` pixels. Each turn becomes a question
    of its own, like a question about a video, so a turn that refers to earlier ones loses them. Raises UserError for
    a malformed row, naming file, element and field, and for a missing image.
    """
    return [
        _read_row(parsed(_Row, row, where=where), where=where, images=Path(images), image_size=image_size)
        for where, row in json_list(Path(path))
    ]


def _read_row(row: _Row, *, where: str, images: Path, image_size: int) -> Conversation:
    path = images / row.image
    if Path(row.image).is_absolute() or ".." in Path(row.image).parts or not path.is_file():
        raise UserError(f"{where}: expected an image below {images}, found no {row.image}")
    messages = row.conversations
    if len(messages) % 2 or [m.speaker for m in messages] != ["human", "gpt"] * (len(messages) // 2):
        raise UserError(f"{where}: expected turns of human and gpt, one after the other")
    return Conversation(
        id=str(row.id),
        pictures=Pictures(
            key=key_of([file_hash(path), image_size]),
            num=1,
            open=lambda: [open_square(path, image_size)],
        ),
        turns=tuple(
            Turn(user=human.value.replace(IMAGE, "").strip("\n"), reply=gpt.value)
            for human, gpt in zip(messages[::2], messages[1::2], strict=True)
        ),
    )


def open_square(path: Path, side: int) -> Image.Image:
    """An image file as RGB, squashed to a square. Raises UserError if it cannot be read."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path} cannot be read as an image ({error})") from error


def write_llava(conversations: Sequence[Conversation], out: str | Path) -> Path:
    """Write OUT/train.json and OUT/images/*.png for LLaVA's own training code; returns the JSON file.

    Each turn is a row of its own: in one dialogue LLaVA's code would show each question the earlier answers, which
    this training does not. Images that exist are kept, so a stopped export can go on. Raises UserError for several
    panels, which the format does not have.
    """
    out = Path(out)
    rows = []
    for conversation in track(conversations, "writing images", console=Console(stderr=True)):
        pictures = conversation.pictures
        if pictures.num != 1:
            raise UserError(
                f"{conversation.id}: LLaVA's format has one image a row, not {pictures.num} panels"
            )
        image = out / "images" / f"{pictures.key}.png"
        if not image.exists():
            image.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(image) as part:
                pictures.open()[0].save(part, format="PNG")
        for number, turn in enumerate(conversation.turns):
            messages = [
                {"from": "human", "value": f"{IMAGE}\n{turn.user}"},
                {"from": "gpt", "value": turn.reply},
            ]
            rows.append({"id": f"{conversation.id}_{number}", "image": image.name, "conversations": messages})
    atomic_write_text(out / "train.json", json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    return out / "train.json"
