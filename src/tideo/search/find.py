"""A text → the moments of a library, by an exact search or through an index."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from tideo.encoders.dual import load_encoder
from tideo.loading import Loading
from tideo.search.index import FrameIndex
from tideo.search.library import Library
from tideo.search.moments import Moment, best_moments
from tideo.types import UserError

log = logging.getLogger(__name__)


def find(
    folder: str | Path,
    text: str,
    *,
    num: int = 10,
    index: bool = False,
    encoder: str | None = None,
    loading: Loading | None = None,
) -> list[Moment]:
    """At most `num` moments of the videos that `tideo encode` wrote into `folder`, the most similar first.

    The text is encoded by the encoder of the features, which the folder names; `encoder` is another name for it. With
    `index` the search goes through one, which is built if the folder has none. Raises UserError for an empty text, a
    folder without features of videos, damage, and an encoder that is not the one of the features.
    """
    if not text.strip():
        raise UserError('the text is empty: say what to look for, as in "someone waters the plants"')
    if num < 1:
        raise UserError(f"num must be at least 1, not {num}")
    library = Library(folder)
    name = encoder or library.encoder_name
    try:
        loaded = load_encoder(name, loading=loading)
    except UserError as error:
        if encoder is not None:
            raise
        raise UserError(f"{error} (it made {folder}: if it has moved, give --encoder E)") from error
    if loaded.id != library.encoder_id:
        raise UserError(
            f"{folder} holds features of the encoder {library.encoder_id}, and {name} is {loaded.id}: give "
            "--encoder E, the one that made them, or encode again into another folder"
        )
    vectors_QD: np.ndarray = loaded.encode_text([text])
    if not index:
        return best_moments(library.items, library.scores(vectors_QD)[0], num=num)
    frames = FrameIndex(library, loaded.encode_text)
    log.info("%s", frames.summary)
    return frames.search(vectors_QD[0], num=num)
