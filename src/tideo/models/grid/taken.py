"""Whether a server took the pictures it was sent: the tokens that it counts have to grow with them.

Servers drop pictures without a word: transformers serve those for a model without eyes, others all beyond a limit. No
field of the reply says so, but the prompt's tokens do.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from tideo.llms.interface import Reply
from tideo.types import UserError

log = logging.getLogger(__name__)
Part = dict[str, Any]
# No tokenizer makes more tokens than bytes, and few chat templates add more than this: what exceeds both is pictures.
TEMPLATE_TOKENS = 256
FEW_TOKENS = 8  # a part that is left out may still leave a marker or a line


class TakenCheck:
    """Checks the first reply about one part and the first about several, and warns once. For several threads.

    `ask` makes a request of some parts and a text; it is called at most twice for each of the two checks.
    """

    def __init__(self, ask: Callable[[Sequence[Part]], Reply], *, name: str) -> None:
        self.ask, self.name = ask, name
        self._lock = threading.Lock()
        self._checked: set[bool] = set()
        self._warned = False

    def check(self, media: Sequence[Part], text: Part, reply: Reply) -> None:
        """`reply` is that to `media` and `text`. It raises nothing: a check that fails is reported."""
        several = len(media) > 1
        with self._lock:
            if not media or self._warned or several in self._checked:
                return
            self._checked.add(several)
        try:
            warning = self._missing(media, text, reply)
        except UserError as error:
            warning = f"whether the server takes what it is sent could not be checked ({error})"
        if warning is not None:
            with self._lock:
                first, self._warned = not self._warned, True
            if first:
                log.warning("%s: %s", self.name, warning)

    def _missing(self, media: Sequence[Part], text: Part, reply: Reply) -> str | None:
        """The evidence that something was not taken, in one line."""
        what = _in_words(media)
        if not reply.tokens_in:
            return f"the server does not count tokens, so nothing shows whether it took {what}"
        if len(media) == 1 and reply.tokens_in > len(text["text"].encode()) + TEMPLATE_TOKENS:
            return None
        without = self.ask([text]).tokens_in
        grown = reply.tokens_in - without
        if grown < FEW_TOKENS:
            return (
                f"the server seems not to have taken {what}: it counts {reply.tokens_in:,} tokens of the prompt, and "
                f"{without:,} without {what}; name a model that takes such input, or set another send="
            )
        if len(media) == 1:
            return None
        one = self.ask([media[0], text]).tokens_in - without
        if one < FEW_TOKENS or grown > (len(media) - 0.5) * one:
            return None
        return (
            f"the server seems not to have taken all of {what}: they add {grown:,} tokens to the prompt and one alone "
            f"adds {one:,}, so {grown / one:.1f} came through, or all of them smaller; send fewer, or raise the "
            "server's limits"
        )


def _in_words(media: Sequence[Part]) -> str:
    if media[0]["type"] != "image_url":
        return "the video"
    return "the picture" if len(media) == 1 else f"the {len(media)} pictures"
