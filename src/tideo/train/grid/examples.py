"""Conversations about images as training examples of an image-text model.

A question is an example, with the wording of inference. Several questions about the same images may be packed into one
sequence (train/packing.py): then the images are computed once, and the losses are those of separate sequences.
Shapes: L tokens, B examples.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset

from tideo.models.grid.families import family_of
from tideo.models.grid.inputs import stacked
from tideo.models.grid.settings import GridSettings
from tideo.models.grid.template import ChatTemplate
from tideo.models.prompts import IGNORE, common_start
from tideo.train.grid.conversations import Conversation, Pictures, Turn, adapted
from tideo.train.grid.patch_features import PatchFeatures
from tideo.train.grid.single_frames import TYPES, FrameChat
from tideo.train.packing import block_mask, padded
from tideo.types import UserError


class ChatExamples(Dataset[dict[str, Any]]):
    """The examples of a training. Example `index` is always the same, so a resumed run continues exactly.

    Every pass shuffles the conversations and the questions of each one, and cuts these into examples of at most
    `packed` questions. `image_size` is the side of square images in pixels, and `settings` say how single frames are
    shown. With `features`, an example has the tower's output instead of pixels. An example whose file cannot be read
    has black images, no labels, and `skipped`. Raises UserError for one of more than `most` tokens.
    """

    def __init__(
        self,
        conversations: Sequence[Conversation],
        *,
        processor: Any,
        image_size: int,
        num: int,
        settings: GridSettings | None = None,
        most: float = math.inf,
        packed: int = 1,
        features: PatchFeatures | None = None,
        seed: int = 0,
    ) -> None:
        if not conversations or not all(c.turns for c in conversations):
            raise UserError("the training set is empty: expected conversations, each with at least one turn")
        self.conversations, self.num, self.packed, self.seed = conversations, num, packed, seed
        self.features, self.most = features, most
        self.chat = Chat(processor, image_size=image_size)
        self.frame_chat = None
        if settings is not None and not settings.shows_grids:
            self.frame_chat = FrameChat(processor, settings=settings, name=self.chat.template.name)
        self.pieces = [
            (number, piece)
            for number, conversation in enumerate(conversations)
            for piece in range(-(-len(conversation.turns) // packed))
        ]

    def __len__(self) -> int:
        return self.num

    def name_of(self, index: int) -> str:
        return f"conversation {self._piece(index)[0].id}"

    def _piece(self, index: int) -> tuple[Conversation, int, int]:
        """A conversation, which piece of its turns the example is, and the number of the pass over the data."""
        pass_number, place = divmod(index, len(self.pieces))
        order = _order(len(self.pieces), f"{self.seed}/{pass_number}")
        conversation_number, piece = self.pieces[order[place]]
        return self.conversations[conversation_number], piece, pass_number

    def __getitem__(self, index: int) -> dict[str, Any]:
        conversation, piece, pass_number = self._piece(index)

        def chosen(read: Conversation) -> list[Turn]:
            turns = list(read.turns)
            random.Random(f"{self.seed}/{pass_number}/{read.id}").shuffle(turns)
            return turns[piece * self.packed : (piece + 1) * self.packed]

        example = self._encoded(conversation, chosen)
        if "skipped" in example:
            example["labels"] = [IGNORE] * len(example["labels"])
        return example

    def replies(self, number: int, replies: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """Of one conversation these (turn, option) as replies in one sequence; the option of a free reply is 0."""

        def chosen(read: Conversation) -> list[Turn]:
            turns = ((read.turns[place], option) for place, option in replies)
            return [
                replace(turn, reply=turn.options[option]) if turn.options else turn for turn, option in turns
            ]

        return self._encoded(self.conversations[number], chosen)

    def _encoded(
        self, conversation: Conversation, chosen: Callable[[Conversation], list[Turn]]
    ) -> dict[str, Any]:
        """The example of the turns that are chosen of a conversation, as its file gives it.

        Black pictures stand for those that cannot be read, with `skipped`: the conversation's id, and the reason.
        """
        example = self._of_pictures(conversation, chosen)
        if (length := len(example["input_ids"])) > self.most:
            raise UserError(
                f"conversation {conversation.id}: {length} tokens exceed the model's context of {self.most:.0f}: set a "
                "smaller packed, grid.image_size, grid.panels or grid.frames"
            )
        return example

    def _of_pictures(
        self, conversation: Conversation, chosen: Callable[[Conversation], list[Turn]]
    ) -> dict[str, Any]:
        if conversation.pictures.look == "image":
            conversation, pixels = self._with_pixels(conversation)
            return self.chat.encode(conversation.pictures, chosen(conversation)) | pixels
        assert self.frame_chat is not None
        skipped: dict[str, Any] = {}
        try:
            conversation, frames = adapted(conversation, lambda pictures: pictures.open())
        except UserError as error:
            frames = self.frame_chat.black(conversation.pictures.num)
            skipped = {"skipped": [(conversation.id, str(error))]}
        return self.frame_chat.encode(frames, chosen(conversation)) | skipped

    def _with_pixels(self, conversation: Conversation) -> tuple[Conversation, dict[str, Any]]:
        """The conversation as its file gives it, and its pixels or features; black ones if it cannot be read.

        With these comes `skipped`: the conversation's id, and why its pictures cannot be read.
        """
        if self.features is not None:
            return conversation, {"pixel_values": self.features[conversation.pictures.key]}
        try:
            return adapted(conversation, self.chat.pixels)
        except UserError as error:  # of the file: the text has not been looked at yet
            black = self.chat.black(conversation.pictures.num)
            return conversation, {**black, "skipped": [(conversation.id, str(error))]}


@lru_cache(maxsize=2)
def _order(num: int, draw: str) -> list[int]:
    order = list(range(num))
    random.Random(f"order/{draw}").shuffle(order)
    return order


def check_packing(config: Any, packed: int) -> None:
    """Raises UserError for packed questions where the family's row does not say that they have the losses of each.

    Qwen-VL's images have positions in two dimensions, and tokens of an image in Gemma 3 see later ones too.
    """
    if packed > 1 and not family_of(config).packs:
        raise UserError(
            f"packed={packed}: a {config.model_type} may give the tokens of an image positions of its own, or let them "
            "see later ones, which packed questions would not have; set packed=1"
        )


class Chat:
    """Tokenises turns with a processor and its chat template; every reply ends with its end token."""

    def __init__(self, processor: Any, *, image_size: int) -> None:
        self.processor = processor
        self.template = ChatTemplate(processor, name=processor.tokenizer.name_or_path or "of this training")
        self.image_size = image_size
        self._turns: dict[tuple[Turn, int], tuple[list[int], list[int]]] = {}
        self._heads: dict[int, tuple[list[int], int, dict[str, Any]]] = {}

    def encode(self, pictures: Pictures, turns: Sequence[Turn]) -> dict[str, Any]:
        """One example: ids, labels, positions, blocks [L] (block 0: the images), and other inputs than the pixels."""
        head, skipped, extra = self._head(pictures.num)
        ids, labels = list(head), [IGNORE] * len(head)
        positions, block = list(range(len(head))), [0] * len(head)
        for number, turn in enumerate(turns, 1):
            tail, targets = self._turn(turn, pictures.num, skipped=skipped)
            ids += tail
            labels += targets
            positions += range(len(head), len(head) + len(tail))
            block += [number] * len(tail)
        types = {k: [*v, *[0] * (len(ids) - len(v))] for k, v in extra.items() if k in TYPES}
        return {"input_ids": ids, "labels": labels, "positions": positions, "block": block, **extra, **types}

    def pixels(self, pictures: Pictures) -> dict[str, torch.Tensor]:
        """The images as inputs of the tower, from the processor."""
        return _without_text(self._encode("", pictures.open()))

    def black(self, num: int) -> dict[str, torch.Tensor]:
        """As many black images as inputs of the tower."""
        return _without_text(self._encode("", self._blank(num)))

    def _turn(self, turn: Turn, num_images: int, *, skipped: int) -> tuple[list[int], list[int]]:
        """The ids after the images of one turn, and its labels (the reply with its end token). Cached across passes."""
        if (turn, num_images) not in self._turns:
            self._turns[turn, num_images] = self._tokenised(turn, num_images, skipped=skipped)
        return self._turns[turn, num_images]

    def _tokenised(self, turn: Turn, num_images: int, *, skipped: int) -> tuple[list[int], list[int]]:
        self.template.check_reply(turn.reply)
        opening = self.template.opening(turn.user, num_images=num_images)
        stem, (reply,), _ = self.template.tokens(opening, [turn.reply])
        targets = reply + self.template.end_ids
        return stem[skipped:] + targets, [IGNORE] * len(stem[skipped:]) + targets

    def _head(self, num_images: int) -> tuple[list[int], int, dict[str, Any]]:
        """The ids up to the last image, the number of plain tokens that they replace, and the other inputs."""
        if num_images not in self._heads:
            blank, heads = self._blank(num_images), []
            for words in ("What happens?", "Describe the second picture."):
                encoded = self._encode(words, blank)
                ids = encoded["input_ids"][0].tolist()
                plain = self.template.plain(self.template.opening(words, num_images=num_images))
                same = min(common_start(ids[::-1], plain[::-1]), len(plain) - 1 - self._last_image(plain))
                heads.append((ids[: len(ids) - same], len(plain) - same, encoded))
            if heads[0][0] != heads[1][0]:
                raise UserError("the chat template puts images after the question; expected them before it")
            ids, skipped, encoded = heads[0]
            sizes = {k: v for k, v in _without_text(encoded).items() if k != "pixel_values"}
            types = {k: encoded[k][0, : len(ids)].tolist() for k in TYPES if k in encoded}
            self._heads[num_images] = (ids, skipped, sizes | types)
        return self._heads[num_images]

    def _encode(self, user: str, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        opening = self.template.opening(user, num_images=len(images))
        return self.template.encode(opening.rstrip(" "), images)

    def _blank(self, num: int) -> list[Image.Image]:
        return [Image.new("RGB", (self.image_size, self.image_size))] * num

    def _last_image(self, plain: Sequence[int]) -> int:
        token = getattr(self.processor, "image_token_id", None)
        return max((i for i, n in enumerate(plain) if n == token), default=-1)


def _without_text(encoded: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in encoded.items() if k not in ("input_ids", "attention_mask", *TYPES)}


def collate_chats(examples: Sequence[dict[str, Any]], *, pad_id: int) -> dict[str, Any]:
    """Pad on the right. The mask is [B, L] if every example is one question, else bool [B, 1, L, L].

    `skipped` lists the examples of the batch that could not be read.
    """

    def column(name: str, *, pad: int) -> torch.Tensor:
        return padded([e[name] for e in examples], pad)

    block_BL = column("block", pad=-1)
    batch: dict[str, Any] = {
        "input_ids": column("input_ids", pad=pad_id),
        "labels": column("labels", pad=IGNORE),
    }
    if int(block_BL.max()) > 1:
        batch["attention_mask"] = block_mask(block_BL)
        batch["position_ids"] = column("positions", pad=0)
    else:
        batch["attention_mask"] = (block_BL >= 0).long()
    if skipped := [item for e in examples for item in e.get("skipped", ())]:
        batch["skipped"] = skipped
    batch |= {name: column(name, pad=0) for name in TYPES if name in examples[0]}
    others = {"input_ids", "labels", "positions", "block", "skipped", *TYPES}
    return batch | stacked([{k: v for k, v in e.items() if k not in others} for e in examples])
