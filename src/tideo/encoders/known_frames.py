"""Whether a video looks like those that a model was trained on, by the model's own vision tower.

Each of up to eight frames goes through the tower alone and at the tower's full size, so that the shape of a grid does
not matter. It becomes the mean and the standard deviation over its patches after the tower's first layer. Frames of
known videos span few principal directions; what a frame has outside of them, the residual of a principal component
analysis (Jackson and Mudholkar, Technometrics 1979), is large if it looks otherwise. This judges how pictures look,
not what happens in them.

A model folder may hold the known frames in FILE; a model without it warns of no video. The keys of answers leave that
file out. Shapes: T frames, N tokens of the tower, D = 2 × its width, K directions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tideo.store.files import atomic_path
from tideo.types import Frames, UserError

FILE = "familiarity/known_frames.safetensors"  # in a folder of its own: the model's key hashes the files beside it
MOST_FRAMES = 8
DIRECTIONS = 16
FOLDS = 5
DEVIATIONS = 4.0


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownFrames:
    """The mean [D] and the directions [K, D], float32; `threshold` is the distance above which a video is unlike."""

    mean_D: np.ndarray
    directions_KD: np.ndarray
    threshold: float

    def distance(self, rows_TD: np.ndarray) -> float:
        """The median over a video's frames of the part that lies outside the directions."""
        centred_TD = rows_TD - self.mean_D
        outside_TD = centred_TD - centred_TD @ self.directions_KD.T @ self.directions_KD
        return float(np.median(np.linalg.norm(outside_TD, axis=1)))

    def warning(self, rows_TD: np.ndarray, *, video_id: str, model: str) -> str | None:
        """One line if these frames are unlike, else None."""
        distance = self.distance(rows_TD)
        if distance <= self.threshold:
            return None
        return (
            f"video {video_id} is unlike what {model} was trained on (distance {distance:.4f}, expected at most "
            f"{self.threshold:.4f})"
        )

    def save(self, folder: str | Path) -> Path:
        """Write FILE of a model's folder, whole or not at all, and return its path."""
        path = Path(folder) / FILE
        tensors = {"mean": self.mean_D, "directions": np.ascontiguousarray(self.directions_KD)}
        with atomic_path(path) as tmp:
            save_file(tensors, tmp, metadata={"known_frames": json.dumps({"threshold": self.threshold})})
        return path

    @classmethod
    def load(cls, folder: str | Path) -> KnownFrames | None:
        """From a model's folder; None if it has no such file. Raises UserError if the file holds something else."""
        path = Path(folder) / FILE
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads((file.metadata() or {})["known_frames"])
                mean_D, directions_KD = file.get_tensor("mean"), file.get_tensor("directions")
            return cls(mean_D=mean_D, directions_KD=directions_KD, threshold=float(about["threshold"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} holds no known frames ({error}): make them again, or delete the file"
            ) from error


def known_frames(videos: Iterable[np.ndarray]) -> KnownFrames:
    """From the rows [T, D] of videos that the model knows.

    The threshold is DEVIATIONS standard deviations above the mean distance of videos that were held out, each once, in
    cross-validation. Raises UserError for less than FOLDS videos.
    """
    rows = list(videos)
    if len(rows) < FOLDS:
        raise UserError(f"{len(rows)} videos: known frames need {FOLDS} at least, better a hundred")
    distances = [
        _fitted([r for i, r in enumerate(rows) if i % FOLDS != fold]).distance(held_out)
        for fold in range(FOLDS)
        for held_out in rows[fold::FOLDS]
    ]
    known = _fitted(rows)
    threshold = float(np.mean(distances) + DEVIATIONS * np.std(distances))
    return KnownFrames(mean_D=known.mean_D, directions_KD=known.directions_KD, threshold=threshold)


def _fitted(rows: Sequence[np.ndarray]) -> KnownFrames:
    rows_TD = np.concatenate(rows)
    mean_D = rows_TD.mean(axis=0)
    directions_KD = np.linalg.svd(rows_TD - mean_D, full_matrices=False)[2][:DIRECTIONS]
    return KnownFrames(mean_D=mean_D, directions_KD=directions_KD, threshold=float("inf"))


def frame_rows(frames: Frames, *, tower: Any, preprocess: Callable[[list[np.ndarray]], Any]) -> np.ndarray:
    """float32 [T, D] of up to MOST_FRAMES even frames.

    `tower` is a vision model of transformers, `preprocess` makes its pixels, a tensor, of uint8 pictures
    [H, W, 3].
    """
    import torch

    side = tower.config.image_size
    places = np.unique(np.linspace(0, len(frames) - 1, MOST_FRAMES).round().astype(int))
    pictures = [
        np.asarray(Image.fromarray(rgb_HWC).resize((side, side), Image.Resampling.BICUBIC))
        for rgb_HWC in frames.at(places).rgb_THWC
    ]
    parameter = next(tower.parameters())
    pixels = preprocess(pictures).to(device=parameter.device, dtype=parameter.dtype)
    with torch.inference_mode():
        tokens_TNd = tower(pixel_values=pixels, output_hidden_states=True).hidden_states[1].float()
    rows: np.ndarray = torch.cat([tokens_TNd.mean(1), tokens_TNd.std(1)], dim=1).cpu().numpy()
    return rows
