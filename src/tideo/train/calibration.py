"""Videos that a model knows, which set what it calls unfamiliar: a folder of them, or a registered source of frames.

    python -m tideo.train.calibration runs/my_model --videos my_videos

writes the known frames (encoders/known_frames.py) into the model's folder, so that it warns of videos that look
otherwise. The videos, fifty or more, should be like those of later questions and not those of the training. No answer
and no key of one changes.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

from tideo import registry
from tideo.bundled import located
from tideo.encoders.known_frames import MOST_FRAMES, known_frames
from tideo.encoders.sources import videos_in
from tideo.models.load import load_model
from tideo.types import Frames, UserError, VideoError
from tideo.video.samplers import sample_frames

log = logging.getLogger(__name__)


def calibration_frames(source: str, *, num_frames: int, seed: int) -> Iterator[Frames]:
    """The frames of each video; `num_frames` are taken of the videos of a folder, `seed` is of a registered source.

    A video that gives no frame is left out, with a warning. Raises UserError for a folder without videos.
    """
    if source in registry.targets("frames"):
        yield from registry.load("frames", source)(seed=seed)
        return
    for video in videos_in(Path(source)):
        try:
            yield sample_frames(video, num_frames)
        except VideoError as error:
            log.warning("left out of the calibration: %s", error)


def calibrate(name: str, *, videos: str, seed: int = 0) -> Path:
    """Write and return the file. Raises UserError if the model is no folder, or of a kind that has no known frames."""
    folder = Path(located(name))
    model = load_model(name) if folder.is_dir() else None
    if model is None or not hasattr(model, "frame_rows"):
        raise UserError(f"{name}: expected the folder of a model that `prealign` or `finetune` wrote")
    frames = calibration_frames(videos, num_frames=MOST_FRAMES, seed=seed)
    return known_frames(map(model.frame_rows, frames)).save(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--videos", required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(calibrate(args.model, videos=args.videos, seed=args.seed))


if __name__ == "__main__":
    main()
