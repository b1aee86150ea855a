"""Whether the words of a text are among those that a tiny model knows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice

from tideo.types import UserError

ENCODER, READER = "dollhouse-clip", "dollhouse-lm"
MOST_UNKNOWN = 0.1  # of the words that the dollhouse's models are shown


def _some_text(source: str) -> list[str]:
    """The captions of up to a hundred Tideos that can be read."""
    from tideo.textvid.schema import Record, load_each

    whole = (read for _, read in load_each(source) if isinstance(read, Record))
    return [text for record in islice(whole, 100) for frame in record.frames for text in frame.values()]


def _knows(model: str, texts: Sequence[str]) -> None:
    """Raises UserError where the dollhouse's tiny models would judge what they cannot read."""
    from transformers import AutoTokenizer

    from tideo.bundled import bundled

    vocabulary = AutoTokenizer.from_pretrained(bundled(READER)).get_vocab()
    known = {word.lower() for token in vocabulary for word in token.replace("\u0120", " ").split()}
    words = [word for text in texts for word in re.findall(r"[a-z]+", text.lower())]
    unknown = sum(word not in known for word in words) / max(1, len(words))
    if unknown > MOST_UNKNOWN:
        raise UserError(
            f"{model} knows the dollhouse alone, and {unknown:.0%} of the words here are none of its: give --encoder "
            "and --reader for your domain, as in --encoder openai/clip-vit-large-patch14 --reader none"
        )
