"""Who waits for one answer while a model computes it: a limit, a place for text, and the tokens that it took."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tideo.replies import without_thoughts

MAX_NEW_TOKENS = 64  # of a reply, unless a setting or a listener says otherwise
# The end of a text that the next token may change: half a character, the start of a tag, white space.
_UNSETTLED = re.compile(r"(?:�+|[<\[◁][^>\]▷]{0,40}|\s+)\Z")


@dataclass(kw_only=True, eq=False)
class Listener:
    """`max_new_tokens` of a reply in words, None for the model's own limit. `on_text` gets the reply's text in pieces
    as it is written, thoughts left out; `has_left` says that nobody waits any more, so writing can end.

    The model notes the tokens of the prompt, frames included, those of the frames alone, those of each option or of
    the reply without its end token, and whether the reply ended at the limit. None is what it does not know.
    """

    max_new_tokens: int | None = None
    on_text: Callable[[str], None] | None = None
    has_left: Callable[[], bool] = lambda: False
    prompt_tokens: int | None = None
    visual_tokens: int | None = None
    option_tokens: tuple[int, ...] | None = None
    reply_tokens: int | None = None
    truncated: bool = False

    def limit(self, default: int, *, room: float) -> int:
        """How many tokens a reply may have: no more than there is `room` for, if the listener set a limit."""
        return default if self.max_new_tokens is None else int(min(self.max_new_tokens, room))


@dataclass(kw_only=True, eq=False)
class Writing:
    """A reply in words that grows token by token."""

    tokenizer: Any
    listener: Listener = field(default_factory=Listener)
    ids: list[int] = field(default_factory=list)
    _sent: str = ""

    @property
    def text(self) -> str:
        return str(self.tokenizer.decode(self.ids, skip_special_tokens=True)).strip()

    def add(self, token: int) -> None:
        self.ids.append(token)
        if self.listener.on_text is not None:
            text = without_thoughts(self.text) or ""
            while text != (text := _UNSETTLED.sub("", text)):
                pass
            self._send(text)

    def end(self, *, truncated: bool) -> str:
        """The whole reply."""
        self.listener.reply_tokens, self.listener.truncated = len(self.ids), truncated
        text = self.text
        self._send(without_thoughts(text) or "")
        return text

    def _send(self, text: str) -> None:
        if self.listener.on_text is not None and len(text) > len(self._sent) and text.startswith(self._sent):
            self.listener.on_text(text[len(self._sent) :])
            self._sent = text
