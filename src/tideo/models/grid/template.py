"""Where a reply stands in a chat: the one definition that training, scoring and generation share.

Chat templates differ between a chat that waits for a reply and one that has it: Qwen3's writes an empty thought before
a reply, Qwen3.5's and DeepSeek-R1's ask for a reply inside a thought. So the opening, the text before a reply, is taken
from the chat with a reply in it, and compared with the chat that waits for one. Thoughts are switched off or empty.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from jinja2 import TemplateError
from PIL import Image
from transformers.video_utils import VideoMetadata

from tideo.models.prompts import begin_ids, check_no_blank, check_no_special, common_start
from tideo.types import Frames, UserError

PER_TOKEN = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")
# What templates call the switch (Qwen3, SmolLM3, GLM-4.5: enable_thinking; Kimi-K2.5, DeepSeek-V3.1: thinking).
SWITCHES = ("enable_thinking", "thinking")
_REPLY = "Reply7419"  # stands for any reply where the template is asked what comes before and behind one
_ARTICLE = {"image": "an image", "video": "a video"}
_USER, _WORDS = "What happens in the video?", "washing dishes"  # the conversation that is encoded both ways
_NAME = r"((?:think|thought|reason)\w*)"
_TAG = re.compile(rf"([<\[◁])(/?){_NAME}([>\]▷])", re.IGNORECASE)
_EMPTY = re.compile(rf"[<\[◁]{_NAME}[>\]▷]\s*([<\[◁]/{_NAME}[>\]▷]\s*)?\Z", re.IGNORECASE)


Kind = Literal["image", "video"]


class ChatTemplate:
    """The chat template of a processor, and how its chats become tokens; `kind` says what stands before a question.

    `end_ids` are the tokens that close a reply: those of the template up to its first special token, or the tokenizer's
    end token if the template has none. `thought` is the text that stands before a reply, but not at the end of a chat
    that waits for one; "" with most templates.

    Raises UserError, naming the difference, if what is trained and what is scored would not be the same tokens.
    """

    def __init__(self, processor: Any, *, name: str, kind: Kind = "image") -> None:
        self.kind = kind
        if kind == "video" and getattr(processor, "video_processor", None) is None:
            raise UserError(
                f"model {name}: it has no video input of its own: set look=frames, panels or grid"
            )
        if getattr(processor, "chat_template", None) is None:
            raise UserError(
                f"model {name}: its processor has no chat template, so its prompt is unknown; "
                "use a model that has one, or put a chat_template.jinja into its folder"
            )
        self.processor, self.tokenizer, self.name = processor, processor.tokenizer, name
        self.begin_ids = begin_ids(self.tokenizer)
        self._switches = _switches(processor.chat_template)
        self._in_parts = self._takes_parts()
        self._waits, self._close = self._learn_opening()
        self.end_ids = self._learn_end()
        for num_images in (1, 0):
            self._check(num_images)

    def opening(self, user: str, *, num_images: int) -> str:
        """The chat with these words of the user, up to the first letter of the reply."""
        before = self._waiting(user, num_images) if self._waits else self._parts(user, num_images)[0]
        return before + self._close

    def encode(self, text: str, images: Sequence[Image.Image | Frames]) -> dict[str, torch.Tensor]:
        """The processor's inputs for a chat, begun once: by the template or, if it does not, as the tokenizer does.

        `images`: for a template of kind "video" they are the frames of one. The tokenizer's own special tokens are
        left out: some put an end token behind every text.
        """
        encoded = dict(
            self.processor(
                **self._visuals(images),
                text=text,
                add_special_tokens=False,
                padding=False,
                truncation=False,
                return_tensors="pt",
            )
        )
        encoded.pop("video_metadata", None)
        encoded = {name: torch.as_tensor(value) for name, value in encoded.items()}
        begin = self.begin_ids
        if encoded["input_ids"][0, : len(begin)].tolist() != begin:
            front = {"input_ids": torch.tensor([begin]), "attention_mask": torch.ones(1, len(begin))}
            for name in PER_TOKEN:
                if name in encoded:
                    first = front.get(name, torch.zeros(1, len(begin)))
                    encoded[name] = torch.cat([first.to(encoded[name]), encoded[name]], dim=1)
        return encoded

    def _visuals(self, images: Sequence[Image.Image | Frames]) -> dict[str, Any]:
        if self.kind == "image" or not images:
            # As those of one chat: LLaVA-OneVision shows several images otherwise than one.
            return {"images": [list(images)] if images else None}
        videos = [frames for frames in images if isinstance(frames, Frames)]
        return {
            "videos": [list(map(Image.fromarray, frames.rgb_THWC)) for frames in videos],
            "video_metadata": [video_metadata(frames) for frames in videos],
            "do_sample_frames": False,  # the sampler has chosen them
        }

    def plain(self, opening: str) -> list[int]:
        """The tokens of an opening without begin and images, nor its trailing spaces: these are the reply's."""
        return self._ids(opening.rstrip(" "))

    def tokens(self, opening: str, replies: Sequence[str]) -> tuple[list[int], list[list[int]], int]:
        """The `plain` tokens of an opening before every reply, those of each reply, and how many the opening lost.

        Opening and reply are tokenised together and split where they first differ from the opening alone.
        """
        check_no_blank(replies)
        stem = self.plain(opening)
        wholes = [self._ids(opening + self._user_text(reply)) for reply in replies]
        shared = min(common_start(stem, whole) for whole in wholes)
        return stem[:shared], [whole[shared:] for whole in wholes], len(stem) - shared

    def check_reply(self, reply: str) -> None:
        """Raises UserError for a reply with a thought of its own, where replies are scored after an empty one."""
        if self.thought and has_thought(reply):
            raise UserError(
                f"the reply {reply[:40]!r} has a thought, but this model's options are scored after an empty one: "
                "leave thoughts out of the training file"
            )

    def stem(self, prompt_ids: Sequence[int], opening: str, *, lost: int) -> list[int]:
        """The processor's tokens of an opening, with images among them, without the last `lost` ones."""
        plain = self.plain(opening)
        if lost > common_start(plain[::-1], prompt_ids[::-1]):
            raise UserError(
                f"model {self.name}: its processor and its tokenizer disagree on the prompt's tokens"
            )
        return list(prompt_ids[: len(prompt_ids) - lost])

    def _user_text(self, text: str) -> str:
        """The text itself. Raises UserError if it contains a token that stands for an image, or a special one."""
        for kind, article in _ARTICLE.items():
            marker = getattr(self.processor, f"{kind}_token", None)
            if isinstance(marker, str) and marker and marker in text:
                raise UserError(f"the text contains {marker}, which stands for {article}: rephrase it")
        check_no_special(text, self.tokenizer)
        return text

    # --- what the template does -------------------------------------------------------------------

    def _takes_parts(self) -> bool:
        """Whether the template takes the assistant's words as a list of parts; some take a string alone."""
        self._in_parts = True
        try:
            return not re.search(rf"""['"]text['"]: ?['"]{_REPLY}""", self._rendered(_USER, 1, reply=_REPLY))
        except UserError:
            return False

    def _learn_opening(self) -> tuple[bool, str]:
        """Whether openings are chats that wait for a reply, and the text that closes a thought left open."""
        waiting, (before, _) = self._waiting(_USER, 1), self._parts(_USER, 1)
        waits = not before.startswith(waiting.rstrip()) and waiting.startswith(before.rstrip())
        # LLaVA-OneVision's writes "assistant \n" before a reply; its model has learned the "assistant\n" of waiting.
        waits = waits or (not before.startswith(waiting) and before.split() == waiting.split())
        asked, written = (text if waits else _EMPTY.sub("", text).rstrip() for text in (waiting, before))
        if not waits and not before.startswith(waiting.rstrip()) and asked != written:
            same = common_start(waiting, before)
            raise UserError(
                f"model {self.name}: its chat template asks for a reply after {waiting[same:]!r}, but writes one after "
                f"{before[same:]!r}: expected the same text, since options are scored where replies are trained"
            )
        opening = waiting if waits else before
        close = _closed(opening.rpartition(_USER)[2])
        plain = self._rendered(_USER, 1, switches={}, add_generation_prompt=True).rstrip()
        self.thought = (opening + close)[common_start(opening + close, plain) :].strip()
        return waits, close

    def _learn_end(self) -> list[int]:
        before, after = self._parts(_USER, 1)
        start, whole = self._ids(before + _WORDS), self._ids(before + _WORDS + after)
        behind = whole[len(start) :] if whole[: len(start)] == start else self._ids(after)
        special = {*self.tokenizer.all_special_ids, *self.tokenizer.get_added_vocab().values()}
        first = next((i for i, n in enumerate(behind) if n in special), None)
        if first is not None:
            return behind[: first + 1]
        if self.tokenizer.eos_token_id is None:
            raise UserError(
                f"model {self.name}: neither its chat template nor its tokenizer ends a reply: set eos_token in its "
                "tokenizer_config.json"
            )
        return [self.tokenizer.eos_token_id]

    def _check(self, num_images: int) -> None:
        """Encode a conversation as a whole, and as opening and option; raises UserError if the tokens differ."""
        blank = Image.new("RGB", (336, 336))
        rgb_THWC = np.stack([np.asarray(blank)] * 4)
        video = Frames(rgb_THWC=rgb_THWC, pts_s_T=np.arange(4.0), video_id="")
        images = [video if self.kind == "video" else blank] * num_images
        opening = self.opening(_USER, num_images=num_images)
        before, behind = self._parts(_USER, num_images)
        if (written := self._rendered(_USER, num_images, reply=_WORDS)) != before + _WORDS + behind:
            raise UserError(
                f"model {self.name}: its chat template changes the reply {_WORDS!r} to {written[len(before) :]!r}"
            )
        if _USER not in opening:
            raise UserError(
                f"model {self.name}: its chat template leaves out what the user says: {opening!r}"
            )
        try:
            trained = self.encode(opening + _WORDS, images)["input_ids"][0].tolist()
            prompt = self.encode(opening.rstrip(" "), images)["input_ids"][0].tolist()
        except (ValueError, TypeError, LookupError, RuntimeError) as error:
            raise UserError(
                f"model {self.name}: its processor does not take its chat template's text {opening!r}: "
                f"{' '.join(str(error).split())}"
            ) from error
        _, (reply,), lost = self.tokens(opening, [_WORDS])
        scored = self.stem(prompt, opening, lost=lost) + reply
        if trained != scored:
            same = common_start(trained, scored)
            raise UserError(
                f"model {self.name}: training would read {self.tokenizer.decode(trained[same:])!r} where scoring reads "
                f"{self.tokenizer.decode(scored[same:])!r}: expected the same, but its processor changes the text"
            )

    def _parts(self, user: str, num_images: int) -> tuple[str, str]:
        """What the template writes before and behind a reply."""
        before, found, behind = self._rendered(user, num_images, reply=_REPLY).rpartition(_REPLY)
        if not found:
            raise UserError(
                f"model {self.name}: its chat template leaves out what the assistant says: {behind!r}"
            )
        return before, behind

    def _waiting(self, user: str, num_images: int) -> str:
        """The chat that waits for a reply."""
        return self._rendered(user, num_images, add_generation_prompt=True)

    def _rendered(
        self,
        user: str,
        num_images: int,
        *,
        reply: str | None = None,
        switches: dict[str, bool] | None = None,
        **options: Any,
    ) -> str:
        images = [{"type": self.kind}] * num_images
        chat = [{"role": "user", "content": [*images, {"type": "text", "text": self._user_text(user)}]}]
        if reply is not None:
            words = [{"type": "text", "text": reply}] if self._in_parts else reply
            chat.append({"role": "assistant", "content": words})
        given = self._switches if switches is None else switches
        try:
            return str(self.processor.apply_chat_template(chat, **options, **given))
        except (TemplateError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"model {self.name}: its chat template does not take a question with {_ARTICLE[self.kind]} and a reply "
                f"({reason}): put another chat_template.jinja into its folder"
            ) from error

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)


def video_metadata(frames: Frames) -> VideoMetadata:
    """The frames' times as indices of a video with a frame each millisecond: processors state times by these."""
    times_s = frames.pts_s_T.tolist()
    step_s = (times_s[-1] - times_s[0]) / max(1, len(times_s) - 1)
    duration_s = times_s[-1] + step_s / 2
    height, width = frames.rgb_THWC.shape[1:3]
    return VideoMetadata(
        total_num_frames=max(1, round(1000 * duration_s)), fps=1000.0, width=width, height=height,
        duration=duration_s, frames_indices=[round(1000 * t) for t in times_s],
    )  # fmt: skip


def _switches(template: Any) -> dict[str, bool]:
    """The switches of thinking that the code of a template reads, off."""
    source = template.get("default", "") if isinstance(template, dict) else template
    read = r"\b(?:if|elif|and|or|not|set)\s+\(?"
    return {name: False for name in SWITCHES if re.search(rf"{read}{name}\b", source)}


def _closed(text: str) -> str:
    """What closes the last thought of a text, written in as many lines as its start; "" if none is open."""
    tags = list(_TAG.finditer(text))
    if not tags or tags[-1][2]:
        return ""
    left, _, name, right = tags[-1].groups()
    return f"\n{left}/{name}{right}\n\n" if "\n" in text[tags[-1].end() :] else f"{left}/{name}{right}"


def has_thought(text: str) -> bool:
    """Whether a text opens or closes a thought."""
    return _TAG.search(text) is not None
