"""Training files in LLaVA's format, read and written."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tideo.benchmarks.annotations import at, json_list, parsed
from tideo.console import tracked
from tideo.models.grid.settings import GridSettings
from tideo.store.files import atomic_path, atomic_write_text, content_key, key_of
from tideo.store.video_files import VideoFolder
from tideo.train.grid.conversations import (
    Conversation,
    Pictures,
    Turn,
    about_video,
    adapted,
    readable,
    warn_of_failed,
)
from tideo.types import UserError, Video, VideoError

IMAGE, VIDEO = "<image>", "<video>"  # the markers in LLaVA's training files


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    speaker: str = Field(alias="from", pattern="^(human|gpt)$")
    value: str


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore")

    id: str | int
    image: str | None = None
    video: str | None = None
    conversations: list[_Message] = Field(min_length=2)

    @model_validator(mode="after")
    def _about_one_thing(self) -> _Row:
        if (self.image is None) == (self.video is None):
            raise ValueError("expected either an image or a video")
        return self


def read_llava(
    path: str | Path,
    *,
    images: str | Path,
    settings: GridSettings,
    num: int | None = None,
    failed: list[tuple[str, str]] | None = None,
) -> list[Conversation]:
    """Read LLaVA's training format: JSON of [{id, image, conversations: [{from: human | gpt, value}, …]}, …].

    Images are files in the folder `images`, resized to a square of `settings.image_size` pixels. A row with `video` in
    the place of `image` is about the grids of a video in that folder, found as for a benchmark. Each turn becomes a
    question of its own, like a question about a video, so a turn that refers to earlier ones loses them. `num` takes
    the first rows. A video that cannot be opened is left out, with a warning, and its error is appended to `failed`.
    Raises UserError for a malformed row, naming file, element and field, and for a missing file.
    """
    folder = VideoFolder(images)

    def read(where: str, row: _Row) -> Conversation:
        with at(where):
            if row.video is None:
                return _about_image(row, folder=folder.root, side=settings.image_size)
            return _about_video(row, folder=folder, settings=settings)

    rows = []
    for where, fields in islice(json_list(Path(path)), num):
        row = parsed(_Row, fields, where=where)
        messages = row.conversations
        if len(messages) % 2 or [m.speaker for m in messages] != ["human", "gpt"] * (len(messages) // 2):
            raise UserError(f"{where}: expected turns of human and gpt, one after the other")
        rows.append((str(row.id), partial(read, where, row)))
    return readable(rows, failed=failed)


def _about_image(row: _Row, *, folder: Path, side: int) -> Conversation:
    name = str(row.image)
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts or not path.is_file():
        raise UserError(f"expected an image below {folder}, found no {name}")
    return Conversation(
        id=str(row.id),
        pictures=Pictures(
            key=key_of([content_key(path), side, "upright"]), num=1, open=partial(_opened, path, side)
        ),
        turns=_turns(row, None, 1, (0.0,)),
    )


def _about_video(row: _Row, *, folder: VideoFolder, settings: GridSettings) -> Conversation:
    name = str(row.video)
    path = folder.find(name)
    if not os.path.exists(path):
        raise UserError(f"expected a video below {folder.root}, found no {name}")

    turns = partial(_turns, row, settings)
    return about_video(Video(id=name, path=path), turns, id=str(row.id), settings=settings)


def _turns(
    row: _Row, settings: GridSettings | None, num_images: int, pts_s: Sequence[float]
) -> tuple[Turn, ...]:
    """The turns of a row; with `settings`, they are about the frames of a video."""

    def user(text: str) -> str:
        plain = text.replace(IMAGE, "").replace(VIDEO, "").strip("\n")
        return plain if settings is None else settings.turn(plain, num_images=num_images, pts_s=pts_s)

    return tuple(
        Turn(user=user(human.value), reply=gpt.value)
        for human, gpt in zip(row.conversations[::2], row.conversations[1::2], strict=True)
    )


def _opened(path: Path, side: int) -> list[Image.Image]:
    return [open_square(path, side)]


def open_square(path: Path, side: int) -> Image.Image:
    """An image file as RGB, upright as its EXIF tag says, squashed to a square. Raises UserError if it cannot be read.

    LLaVA's own code leaves the EXIF tag alone, so that photos of phones lie on their side.
    """
    try:
        with Image.open(path) as image:
            return _rgb(ImageOps.exif_transpose(image)).resize((side, side), Image.Resampling.BICUBIC)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # all of them Pillow's
        raise UserError(f"{path} cannot be read as an image ({error})") from error


def _rgb(image: Image.Image) -> Image.Image:
    """Of 16 bits the upper eight: Pillow clips what is above 255, which leaves a white image."""
    if not image.mode.startswith(("I", "F")):
        return image.convert("RGB")
    values_HW = np.asarray(image)
    if image.mode == "F" or values_HW.max() > 0xFFFF:
        raise ValueError("its pixels have 32 bits; expected 8 or 16")
    return Image.fromarray((values_HW >> 8).astype(np.uint8)).convert("RGB")


def write_llava(conversations: Sequence[Conversation], out: str | Path) -> Path:
    """Write OUT/train.json and OUT/images/*.png for LLaVA's own training code; returns the JSON file.

    Each turn is a row of its own: in one dialogue LLaVA's code would show each question the earlier answers, which
    this training does not. Images that exist are kept, so a stopped export can go on. A video that gives no frame is
    left out, with a warning. Raises UserError for several panels, which the format does not have.
    """
    out = Path(out)
    rows: list[dict[str, object]] = []
    failed: list[VideoError] = []
    for conversation in tracked(conversations, "writing images"):
        try:
            written, image = _with_image(conversation, out / "images")
        except VideoError as error:
            failed.append(error)
            continue
        for number, turn in enumerate(written.turns):
            messages = [
                {"from": "human", "value": f"{IMAGE}\n{turn.user}"},
                {"from": "gpt", "value": turn.reply},
            ]
            rows.append({"id": f"{written.id}_{number}", "image": image, "conversations": messages})
    warn_of_failed(failed, len(conversations))
    atomic_write_text(out / "train.json", json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    return out / "train.json"


def _with_image(conversation: Conversation, folder: Path) -> tuple[Conversation, str]:
    """The conversation as its file's frames ask for it, and the name of its image in the folder."""
    pictures = conversation.pictures
    if pictures.look != "image":
        raise UserError(
            f"{conversation.id}: LLaVA's format has images, not frames or videos: set grid.look=grid"
        )
    if pictures.num != 1:
        raise UserError(f"{conversation.id}: LLaVA's format has one image a row, not {pictures.num} panels")
    if not (path := folder / f"{pictures.key}.png").exists():
        conversation, (image, *_) = adapted(conversation, lambda pictures: pictures.open())
        path = folder / f"{conversation.pictures.key}.png"
        with atomic_path(path) as part:
            image.save(part, format="PNG")
    return conversation, path.name
