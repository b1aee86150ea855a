"""A check that the models which ship with the package know the words of a text; they can judge only their own world."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tideo.bundled import located, names
from tideo.types import UserError

MAX_UNKNOWN = 0.1  # share of the words


def check_vocabulary(model: str, texts: Sequence[str]) -> None:
    """Raises UserError if a bundled model is to judge texts and does not know their words.

    All other models pass: their vocabularies cover whole languages.
    """
    if model not in names():
        return
    from transformers import AutoTokenizer

    folders = [Path(located(name)) for name in names() if Path(located(name), "tokenizer.json").is_file()]
    tokens = {token for folder in folders for token in AutoTokenizer.from_pretrained(folder).get_vocab()}
    known = {word.lower() for token in tokens for word in token.replace("\u0120", " ").split()}
    words = [word for text in texts for word in re.findall(r"[a-z]+", text.lower())]
    unknown = sum(word not in known for word in words) / max(1, len(words))
    if unknown > MAX_UNKNOWN:
        raise UserError(
            f"{model} does not know {unknown:.0%} of the words here: give --encoder and --reader for your domain, "
            "as in --encoder openai/clip-vit-large-patch14 --reader none"
        )
