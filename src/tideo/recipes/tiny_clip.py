"""The tiny CLIP of the dollhouse, shipped in tideo/assets/dollhouse-clip."""

from __future__ import annotations

from tideo.train.pretrain_clip import ClipRecipe


def tiny_clip() -> ClipRecipe:
    """A CLIP of 2.5M parameters for the dollhouse, from scratch, on single (image, caption) pairs.

    tideo train tiny_clip; the figures are in the model card.
    """
    return ClipRecipe()
