"""Uneven times for training: close together here, far apart there, as selectors choose frames for a question."""

from __future__ import annotations

import math
import random
from itertools import accumulate
from typing import Any

MOST_UNEVEN, LEAST_UNEVEN = 0.2, 2.0  # shapes of the gamma distribution: a few clusters, and almost even


def uneven_places(num: int, *, rng: random.Random) -> list[float]:
    """`num` places in a segment, ascending, from 0 at its start to 1 at its end.

    The gaps between them are gamma-distributed, and how unevenly is drawn too.
    """
    shape = MOST_UNEVEN * (LEAST_UNEVEN / MOST_UNEVEN) ** rng.random()
    gaps = [rng.gammavariate(shape, 1.0) for _ in range(num + 1)]
    whole = sum(gaps)
    return [min(at / whole, 1.0) for at in accumulate(gaps[:-1])]


def uneven_times(video: Any, num: int, start_s: float, end_s: float, *, seed: str) -> list[float]:
    """A sampler: `num` times that are uneven and always the same for a seed; `video` does not count.

    They are those of a pool of a frame a second, from which selectors choose, so that no two are closer than that; a
    segment of fewer seconds has even times.
    """
    parts = max(num, math.ceil(end_s - start_s))
    left = parts - num  # how many stay out
    places = uneven_places(num, rng=random.Random(f"uneven times/{seed}"))
    chosen = [k + min(int(place * (left + 1)), left) for k, place in enumerate(places)]
    return [start_s + (part + 0.5) * (end_s - start_s) / parts for part in chosen]
