"""How often models warn of a video: by folder of videos, and of pictures that show nothing.

    tideo dollhouse make --split test --num 60 --out runs/unlike
    python -m tideo.lab.unlike_videos runs/unlike/videos my_videos \\
        --models dollhouse-topa dollhouse-grid dollhouse-fusion

Of the model's own world each warning is a false alarm; of any other folder it is a hit.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import numpy as np

from tideo.encoders.sources import videos_in
from tideo.models.fusion import Fusion
from tideo.models.interface import VideoModel
from tideo.models.load import load_model
from tideo.types import Frames, Video

PLAIN = {"black": 0, "white": 255, "grey": 128, "red": (200, 30, 30), "blue": (30, 60, 200)}
HEIGHT, WIDTH, NUM = 180, 320, 16


def pictures_of_nothing() -> Iterator[Frames]:
    """Noise, a slope of colours, checks, bars, plain colours: sixteen frames of each."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    bars = np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)]) * 255
    rgb_by_name = {
        "noise": rng.integers(0, 256, (NUM, HEIGHT, WIDTH, 3)),
        "slope": np.stack([x * 255 / WIDTH, y * 255 / HEIGHT, (x + y) % 256], axis=-1),
        "checks": np.repeat(((x // 20 + y // 20) % 2 * 255)[..., None], 3, axis=-1),
        "bars": bars[x * 8 // WIDTH],
        "changing colours": rng.integers(0, 256, (NUM, 1, 1, 3)),
        **{name: np.array(colour) for name, colour in PLAIN.items()},
    }
    for name, rgb in rgb_by_name.items():
        rgb_THWC = np.broadcast_to(rgb, (NUM, HEIGHT, WIDTH, 3)).astype(np.uint8)
        yield Frames(rgb_THWC=rgb_THWC, pts_s_T=np.arange(float(NUM)), video_id=name)


def warned(model: VideoModel, videos: Sequence[Video]) -> list[str]:
    """The ids of the videos that the model warns of."""
    looked = ((video.id, model.look(video)) for video in videos)
    return [name for name, frames in looked if frames is not None and model.out_of_distribution(frames)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--models", nargs="+", required=True)
    args = parser.parse_args()
    nothing = list(pictures_of_nothing())
    for name in args.models:
        model = load_model(name)
        for folder in args.folders:
            videos = videos_in(folder)
            found = warned(model, videos)
            print(f"{name} {folder}: warns of {len(found)} of {len(videos)}: {', '.join(found[:5])}")
        alone = (
            model.models if isinstance(model, Fusion) else [model]
        )  # these frames were looked at by no model
        hits = [f.video_id for f in nothing if any(m.out_of_distribution(f) for m in alone)]
        print(f"{name} pictures of nothing: warns of {len(hits)} of {len(nothing)}: {', '.join(hits)}")


if __name__ == "__main__":
    main()
