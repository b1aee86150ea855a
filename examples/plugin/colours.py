"""An encoder: texts and pictures as the shares of the colours that they name or show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RGB = {
    "black": (0, 0, 0), "white": (255, 255, 255), "grey": (128, 128, 128), "red": (220, 30, 30),
    "green": (40, 160, 60), "blue": (40, 80, 220), "yellow": (240, 220, 50), "brown": (130, 80, 40),
}  # fmt: skip


class Colours:
    """What every encoder has: `id`, which no other has; the width `dim`; unit rows, float32, from both methods."""

    id, dim = "colours-1", len(RGB)

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """[N, D]; a text that names no colour is near to all of them."""
        counts_ND = [[text.lower().split().count(name) for name in RGB] for text in texts]
        return self._unit(np.array(counts_ND, dtype=np.float32))

    def encode_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """[T, D] of uint8 pictures [H, W, 3]: how many pixels are nearest to each colour."""
        colours_DC = np.array(list(RGB.values()), dtype=np.float32)
        rows = []
        for rgb_HWC in images:
            pixels_PC = rgb_HWC[::4, ::4].reshape(-1, 3).astype(np.float32)
            nearest_P = ((pixels_PC[:, None] - colours_DC) ** 2).sum(-1).argmin(1)
            rows.append(np.bincount(nearest_P, minlength=self.dim))
        return self._unit(np.array(rows, dtype=np.float32))

    @staticmethod
    def _unit(values_ND: np.ndarray) -> np.ndarray:
        values_ND = values_ND + 1e-3  # no row is zero
        unit: np.ndarray = values_ND / np.linalg.norm(values_ND, axis=1, keepdims=True)
        return unit


def colours() -> Colours:
    """Eight colours, counted."""
    return Colours()
