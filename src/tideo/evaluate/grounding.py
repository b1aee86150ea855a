"""Did the model look where the answer is? Its frames against the spans that show the answer.

NExT-GQA (Xiao et al., CVPR 2024) asks for a span; our models choose frames, so a frame stands for itself: the share of
frames in the evidence takes the place of IoP, and "grounded" asks half of them, as their Acc@GQA does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tideo.evaluate.metrics import accuracy
from tideo.types import Answer, Sample

GROUNDED = 0.5


def in_evidence(pts_s: float, sample: Sample) -> bool:
    """Whether a frame of that time lies in a span, its end excluded."""
    return any(start_s <= pts_s < end_s for start_s, end_s in sample.evidence_s)


def grounding_figures(samples: Sequence[Sample], answers: Mapping[str, Answer]) -> dict[str, Any]:
    """Over the questions with evidence whose answers name their frames; empty without such questions.

    `n`; `frames`, the mean share of frames in the evidence; `seen`, the share of questions with such a frame; and
    accuracies with `n` and `ci95`: `if_seen`, `if_not_seen` (None where no question is so) and `right_and_grounded`.
    """
    with_evidence = [s for s in samples if s.evidence_s and s.answer is not None and answers[s.id].pts_s]
    if not with_evidence:
        return {}
    share = {
        s.id: sum(in_evidence(t, s) for t in answers[s.id].pts_s) / len(answers[s.id].pts_s)
        for s in with_evidence
    }
    right = {s.id: answers[s.id].choice == s.answer for s in with_evidence}

    def figures(part: Sequence[Sample], correct: Mapping[str, bool]) -> dict[str, Any] | None:
        if not part:
            return None
        found = accuracy([correct[s.id] for s in part], clusters=[s.video.id for s in part])
        return dataclasses.asdict(found)

    return {
        "n": len(with_evidence),
        "frames": sum(share.values()) / len(with_evidence),
        "seen": sum(x > 0 for x in share.values()) / len(with_evidence),
        "if_seen": figures([s for s in with_evidence if share[s.id] > 0], right),
        "if_not_seen": figures([s for s in with_evidence if share[s.id] == 0], right),
        "right_and_grounded": figures(
            with_evidence, {s.id: right[s.id] and share[s.id] >= GROUNDED for s in with_evidence}
        ),
    }
