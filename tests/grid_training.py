"""Small training sets and models for tests of finetuning."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tideo.models.grid.settings import GridSettings
from tideo.train.grid.config import FinetuneConfig, GridTraining
from tideo.train.grid.conversations import Conversation, Pictures, Turn
from tideo.train.grid.examples import ChatExamples, collate_chats
from tiny_vlms import saved
from videos import encode

SIDE = 28
GRID = GridSettings(rows=2, cols=2, image_size=SIDE)
TURNS = (
    Turn(user="what is the man doing?", reply="washing dishes"),
    Turn(user="why does he pour tea?", reply="to read"),
    Turn(user="A. tea B. a book", reply="B"),
)
HEADER = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8))


def conversation(seed: int = 0, turns: tuple[Turn, ...] = TURNS, num: int = 1) -> Conversation:
    pictures = Pictures(key=f"k{seed}", num=num, open=lambda: [picture(seed + i) for i in range(num)])
    return Conversation(id=f"c{seed}", pictures=pictures, turns=turns)


def batch_of(
    processor: Any, conversations: list[Conversation], *, packed: int = 1, features: Any = None
) -> Any:
    examples = ChatExamples(
        conversations, processor=processor, image_size=SIDE, num=64, packed=packed, features=features
    )
    return collate_chats([examples[i] for i in range(len(examples.pieces))], pad_id=0)


def nextqa_in(folder: Path, *, num: int = 4) -> Path:
    """Videos and a training file of two questions about each."""
    (folder / "videos").mkdir(parents=True)
    rows = []
    for k in range(num):
        encode(folder / "videos" / f"{k}.mp4", num=20 + k)
        rows += [
            f"{k},20,64,48,what is it number {q},{(k + q) % 5},{q},CW,tea,book,dish,man,cup\n" for q in (0, 1)
        ]
    path = folder / "train.csv"
    path.write_text(HEADER + "".join(rows))
    return path


def damage(path: Path, *, whole: bool = True) -> None:
    """Noise in the place of the pictures, or of their second half; the header stays."""
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    end = start + int.from_bytes(data[start - 8 : start - 4], "big") - 8
    start = start if whole else (start + end) // 2
    data[start:end] = random.Random(0).randbytes(end - start)
    path.write_bytes(data)


def config_for(folder: Path, **changes: Any) -> FinetuneConfig:
    saved("llava", folder / "model")
    path = nextqa_in(folder)
    training = GridTraining(steps=6, batch=2, lr=1e-2, bf16=False, save_steps=2, log_steps=1)
    config = FinetuneConfig(
        model=str(folder / "model"), data="nextqa", path=str(path), videos=str(folder / "videos"), grid=GRID,
        train=training,
    )  # fmt: skip
    return replace(config, **changes)


def losses(out: str) -> list[str]:
    """The losses that a run told, by step."""
    return [
        line.split(" · ")[0].split(" learning_rate")[0]
        for line in out.splitlines()
        if line.startswith("step ")
    ]
