"""The dollhouse's CLIP, bundled as `dollhouse-clip`.

    tideo train tiny_clip --out runs/tiny_clip

One thread, about 35 minutes; two processes draw the pictures first (1.8 GB for 64,000, kept beside the checkpoints for
another run). Expected on
validation pictures (`python -m tideo.tiny.clip_probe DIR`): every fact at 95% and more.
"""

from tideo.tiny.clip import ClipRecipe


def tiny_clip() -> ClipRecipe:
    return ClipRecipe()
