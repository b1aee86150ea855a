"""The dollhouse's CLIP, bundled as `dollhouse-clip`.

    tideo train tiny_clip --out runs/tiny_clip

One thread; the pictures are drawn first (1.8 GB for 64,000, kept beside the checkpoints for another run). Expected on
validation pictures: people, rooms, actions, weather and things lying about at 95% and more, shelves less.
"""

from tideo.train.pretrain_clip import ClipRecipe


def tiny_clip() -> ClipRecipe:
    return ClipRecipe()
