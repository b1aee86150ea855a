"""How well the court's encoder tells the frames of the evidence from the others of a day's pool.

What a selector can find is bounded by this: with 16 frames of a pool, a frame of the evidence has to be among the first
few of a thousand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tideo.evaluate.grounding import in_evidence
from tideo.lab.court_frames import SELECTORS, chooser
from tideo.models.selecting import stem
from tideo.types import Sample


def separation(by_video: Mapping[str, Sequence[Sample]], *, pools: Path) -> list[dict[str, Any]]:
    """For each kind of questions that have evidence, over the days whose pools are there:

    `questions`, `evidence_s` (the median length), `in_pool` (the share of questions with a pool frame in the evidence);
    `auc`, the chance that a frame of the evidence is more relevant than another one (0.5 is by lot); `rank`, the median
    over questions of the place of the most relevant frame of the evidence.
    """
    choosing = chooser(SELECTORS[0], pools)
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for samples in by_video.values():
        pool = choosing.pools.pool(samples[0].video)
        for sample in (s for s in samples if s.kind != "Purpose"):
            inside_P = np.array([in_evidence(float(time_s), sample) for time_s in pool.times_s_P])
            relevance_P = choosing.relevance(pool, question=stem(sample))
            ((start_s, end_s),) = sample.evidence_s
            auc = rank = np.nan
            if inside_P.any() and not inside_P.all():
                auc = float((relevance_P[inside_P][:, None] > relevance_P[~inside_P]).mean())
                rank = 1 + float((relevance_P > relevance_P[inside_P].max()).sum())
            for kind in (sample.kind, "all"):
                rows.setdefault(kind, []).append((end_s - start_s, auc, rank))
    return [
        {
            "kind": kind,
            "questions": len(of_kind),
            "evidence_s": float(np.median([row[0] for row in of_kind])),
            "in_pool": float(np.mean([not np.isnan(row[1]) for row in of_kind])),
            "auc": float(np.nanmean([row[1] for row in of_kind])),
            "rank": float(np.nanmedian([row[2] for row in of_kind])),
        }
        for kind, of_kind in sorted(rows.items())
    ]
