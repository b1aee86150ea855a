"""The registered model `blind`: the language model of dollhouse-topa without any video."""

from __future__ import annotations

from tideo.bundled import located
from tideo.models.topa.blind import Blind


def blind() -> Blind:
    """The language model of dollhouse-topa without the video: what the questions give away."""
    return Blind.load(located("dollhouse-topa"))
