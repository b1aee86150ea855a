"""Training examples of single frames, as images of their own or through a model's own video input.

A frame has the shape of its video and the text states times, so every example is encoded with its pictures, by what
scoring uses too (models/grid/inputs.py). Shapes: L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tideo.models.grid.frames import video_of
from tideo.models.grid.inputs import Visual, encode_turns
from tideo.models.grid.loading import crops
from tideo.models.grid.settings import GridSettings
from tideo.models.grid.template import PER_TOKEN, ChatTemplate
from tideo.models.prompts import IGNORE
from tideo.train.grid.conversations import Conversation, Turn
from tideo.types import Frames, UserError

TYPES = ("mm_token_type_ids", "token_type_ids")


class FrameChat:
    """Tokenises turns about frames with a processor and its chat template; every reply ends with its end token."""

    def __init__(self, processor: Any, *, settings: GridSettings, name: str) -> None:
        self.settings = settings
        self.template = ChatTemplate(
            processor, name=name, kind="video" if settings.look == "video" else "image"
        )
        self.square = settings.look == "frames" and crops(processor)
        named = (getattr(processor, f"{kind}_token_id", None) for kind in ("image", "video"))
        self.visual_tokens = {token for token in named if token is not None}

    def encode(self, frames: Frames, turns: Sequence[Turn]) -> dict[str, Any]:
        """One example: ids, labels, positions, blocks [L] (block 0: the frames), and the other inputs."""
        for turn in turns:
            self.template.check_reply(turn.reply)
        found = encode_turns(
            self.template,
            [(turn.user, [turn.reply]) for turn in turns],
            self.visuals(frames),
            visual_tokens=self.visual_tokens,
            encode=lambda opening, visuals: self.template.encode(opening.rstrip(" "), visuals),
        )
        ids = found.stems[0][: found.shared]
        labels, positions, block = [IGNORE] * len(ids), list(range(len(ids))), [0] * len(ids)
        for number, (stem, (reply,)) in enumerate(zip(found.stems, found.replies, strict=True), 1):
            behind, targets = stem[found.shared :], reply + self.template.end_ids
            ids += behind + targets
            labels += [IGNORE] * len(behind) + targets
            positions += range(found.shared, found.shared + len(behind) + len(targets))
            block += [number] * (len(behind) + len(targets))
        types = {
            name: [*found.encoded[name][0, : found.shared].tolist(), *[0] * (len(ids) - found.shared)]
            for name in TYPES
            if name in found.encoded
        }
        others = {name: value for name, value in found.encoded.items() if name not in PER_TOKEN}
        return {
            "input_ids": ids,
            "labels": labels,
            "positions": positions,
            "block": block,
            **others,
            **types,
        }

    def visuals(self, frames: Frames) -> list[Visual]:
        images = self.settings.images(frames, square=self.square)
        return [video_of(images, frames)] if self.settings.look == "video" else list(images)

    def black(self, num: int) -> Frames:
        """As many black frames, in the place of those that cannot be read."""
        width = self.settings.image_size
        rgb_THWC = np.zeros((num, max(1, width * 9 // 16), width, 3), dtype=np.uint8)
        return Frames(rgb_THWC=rgb_THWC, pts_s_T=np.arange(float(num)), video_id="black")


def check_alike(conversations: Sequence[Conversation], *, batch: int, alike: bool, name: str) -> None:
    """Raises UserError where a family's videos of one batch need one number of frames, and they have several."""
    numbers = {c.pictures.num for c in conversations if c.pictures.look == "video"}
    if alike and batch > 1 and len(numbers) > 1:
        raise UserError(
            f"the videos have {min(numbers)} to {max(numbers)} frames, and {name} needs one number in a batch: set "
            f"train.batch=1 and train.accumulate={batch}, or a smaller grid.frames"
        )
