"""The model `blind` of the dollhouse: the language model of dollhouse-topa, which never looks."""

from __future__ import annotations

from tideo.bundled import located
from tideo.models.topa.blind import Blind


def blind() -> Blind:
    """The language model of dollhouse-topa without the video: what the questions give away."""
    return Blind.load(located("dollhouse-topa"))
