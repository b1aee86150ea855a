"""The registered model `blind`: the language model of dollhouse-topa without any video."""

from __future__ import annotations

from tideo.bundled import located
from tideo.loading import Loading
from tideo.models.topa.blind import Blind


def blind(*, loading: Loading | None = None) -> Blind:
    """The language model of dollhouse-topa without the video: what the questions give away."""
    return Blind.load(located("dollhouse-topa"), loading=loading)
