"""Descriptions against those of people: CIDEr and ROUGE-L as pycocoevalcap computes them, with intervals.

Both scores of a corpus are means over its videos, so that they have intervals, and a control its paired difference, as
accuracies do. CIDEr is on the published scale, on which 1 is written as 100; it weighs words by the references of all
videos that are scored, so that other videos are another scale.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tideo import registry
from tideo.evaluate.answers import MAIN
from tideo.evaluate.metrics import mean
from tideo.store.files import atomic_write_text
from tideo.types import Answer, Sample, UserError

CAPTIONS_FILE = "captions.json"
Scores = Mapping[str, np.ndarray]  # by metric, a score for each video


@dataclass(frozen=True, kw_only=True)
class CaptionReport:
    """captions.json. `cider` and `rouge_l` hold `mean`, `stderr`, `ci95`; a failure has a score of 0.

    Each of `controls` has both, each with its `difference`, the result minus the control. `examples`: of the best and
    the worst by CIDEr, the video, the description, and the first reference.
    """

    benchmark: str
    split: str
    model: str
    n: int
    n_failed: int
    cider: dict[str, Any]
    rouge_l: dict[str, Any]
    controls: dict[str, dict[str, Any]]
    failures: list[dict[str, Any]]
    examples: list[dict[str, Any]]
    run: dict[str, Any]
    n_strange: int = 0
    n_left_out: int = 0

    def save(self, directory: str | Path) -> None:
        text = json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False, allow_nan=False)
        atomic_write_text(Path(directory) / CAPTIONS_FILE, text + "\n")


def read_caption_report(directory: str | Path) -> CaptionReport:
    """Raises UserError where there is no finished run of captions."""
    path = Path(directory) / CAPTIONS_FILE
    try:
        return CaptionReport(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{directory} holds no finished run of captions ({CAPTIONS_FILE})") from error


def summarise_captions(
    samples: Sequence[Sample],
    answers: Mapping[str, Mapping[str, Answer]],
    *,
    controls: Sequence[str],
    num_examples: int = 5,
    **about: Any,
) -> CaptionReport:
    """The report of a run's answers by control and sample id. Raises UserError where a sample has no reference."""
    bare = next((s for s in samples if not s.references), None)
    if bare is not None:
        raise UserError(f"{bare.id}: a video to be described needs at least one reference")
    scored = {name: caption_scores(samples, answers[name]) for name in (MAIN, *controls)}
    order = np.argsort(-scored[MAIN]["cider"], kind="stable").tolist()
    shown = dict.fromkeys(order[:num_examples] + order[-num_examples:])
    errors = {s.video.id: answers[MAIN][s.id].error for s in samples}
    return CaptionReport(
        split=", ".join(sorted({str(s.meta.get("split", "all")) for s in samples})),
        n=len(samples),
        n_failed=sum(e is not None for e in errors.values()),
        cider=mean(scored[MAIN]["cider"]),
        rouge_l=mean(scored[MAIN]["rouge_l"]),
        controls={
            name: {
                metric: mean(of[metric]) | {"difference": mean(scored[MAIN][metric] - of[metric])}
                for metric in of
            }
            for name, of in scored.items()
            if name != MAIN
        },
        failures=[{"video": v, "error": e} for v, e in errors.items() if e is not None],
        examples=[
            {
                "video": samples[i].video.id,
                "cider": float(scored[MAIN]["cider"][i]),
                "said": answers[MAIN][samples[i].id].text,
                "reference": samples[i].references[0],
            }
            for i in shown
        ],
        **about,
    )


def caption_scores(samples: Sequence[Sample], answers: Mapping[str, Answer]) -> Scores:
    """CIDEr and ROUGE-L of each sample, after PTB tokenisation of descriptions and references."""
    tokenise, metrics = scorers()
    texts = {s.id: [" ".join(answers[s.id].text.split())] for s in samples}
    # The tokeniser reads a text a line, and cannot take an empty one.
    filled = {i: [{"caption": text}] for i, (text,) in texts.items() if text}
    tokens = {s.id: [""] for s in samples} | (tokenise(filled) if filled else {})
    references = tokenise(
        {s.id: [{"caption": " ".join(text.split())} for text in s.references] for s in samples}
    )
    return {
        name: np.asarray(metric.compute_score(references, tokens)[1], dtype=float)
        for name, metric in metrics.items()
    }


def scorers() -> tuple[Any, dict[str, Any]]:
    """pycocoevalcap's tokeniser and metrics. Raises UserError where it or Java is not installed."""
    cider = registry.require("pycocoevalcap.cider.cider")
    rouge = registry.require("pycocoevalcap.rouge.rouge")
    tokenizer = registry.require("pycocoevalcap.tokenizer.ptbtokenizer")
    if shutil.which("java") is None:
        raise UserError("captions are tokenised by a Java program, as published ones are: install Java")
    return tokenizer.PTBTokenizer().tokenize, {"cider": cider.Cider(), "rouge_l": rouge.Rouge()}
