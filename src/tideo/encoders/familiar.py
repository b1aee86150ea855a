"""Whether a video looks like anything a model was made for: the Mahalanobis distance of its image features.

The nearest caption does not tell: an encoder that never saw such pictures still puts them near some caption. How
the features of fitting pictures spread does (Lee et al., arXiv 1807.03888). Shapes: T frames, N pictures, D width.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tideo.store import atomic_path
from tideo.types import Features, UserError

SHRINKAGE = 0.01  # of the covariance towards a sphere: fewer pictures than dimensions are no obstacle
_TENSORS = ("mean", "precision")


@dataclass(frozen=True, kw_only=True, eq=False)
class Familiar:
    """How the image features of fitting videos spread, and the largest distance that is usual among them."""

    mean_D: np.ndarray  # float32
    precision_DD: np.ndarray  # float32, the inverse of the covariance
    farthest: float
    encoder: str

    def distance(self, features: Features) -> float:
        """The median over the frames: one odd frame (a fade, a title) does not make a video strange."""
        if not len(features):
            raise UserError("no frame to compare: the features are empty")
        if features.encoder != self.encoder or features.values_TD.shape[1:] != self.mean_D.shape:
            raise UserError(f"features of {features.encoder} cannot be compared with those of {self.encoder}")
        away_TD = features.values_TD - self.mean_D
        squared_T = np.einsum("td,de,te->t", away_TD, self.precision_DD, away_TD)
        return float(np.sqrt(np.median(np.maximum(squared_T, 0))))

    def save(self, path: str | Path) -> None:
        """One safetensors file, whole or not at all."""
        about = {"encoder": self.encoder, "farthest": self.farthest}
        tensors = dict(zip(_TENSORS, (self.mean_D, self.precision_DD), strict=True))
        with atomic_path(path) as tmp:
            save_file(tensors, tmp, metadata={"tideo_familiar": json.dumps(about)})

    @classmethod
    def load(cls, path: str | Path) -> Familiar:
        """Read what `save` wrote. Raises UserError where the file is missing or is something else."""
        try:
            with safe_open(path, framework="np") as file:
                about = json.loads((file.metadata() or {})["tideo_familiar"])
                mean_D, precision_DD = map(file.get_tensor, _TENSORS)
        except (OSError, SafetensorError, KeyError) as error:
            raise UserError(
                f"{path} does not tell which videos are familiar ({error}): train again"
            ) from error
        return cls(mean_D=mean_D, precision_DD=precision_DD, **about)


def learn_familiar(held_in: Sequence[Features], *, percentile: float = 99.0) -> Familiar:
    """From videos that are known to fit: the spread of every second one, `farthest` from the others' distances.

    So about 100 - `percentile` in a hundred fitting videos will be called unfamiliar. Raises UserError for fewer than
    two videos.
    """
    if len(held_in) < 2:
        raise UserError(
            f"to know what is familiar takes the features of two or more videos, not of {len(held_in)}"
        )
    values_ND = np.concatenate([f.values_TD for f in held_in[::2]]).astype(np.float64)
    covariance_DD = np.cov(values_ND.T)
    width = len(covariance_DD)
    covariance_DD += SHRINKAGE * np.trace(covariance_DD) / width * np.eye(width)
    known = Familiar(
        mean_D=values_ND.mean(0).astype(np.float32),
        precision_DD=np.linalg.inv(covariance_DD).astype(np.float32),
        farthest=0.0,
        encoder=held_in[0].encoder,
    )
    farthest = np.percentile([known.distance(f) for f in held_in[1::2]], percentile)
    return Familiar(
        mean_D=known.mean_D, precision_DD=known.precision_DD, farthest=float(farthest), encoder=known.encoder
    )
