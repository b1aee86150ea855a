"""Gate: does the tiny language model answer if its prompt has the captions as text, without any feature?

    python -m tideo.lab.reading_gate --split test --num 120

Pre-alignment cannot teach what fails here. The text of a video is the captions of ten even frames.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

from tideo.bundled import located
from tideo.dollhouse.captions import frame_times
from tideo.dollhouse.export import ask_split
from tideo.dollhouse.script import Split
from tideo.loading import Loading
from tideo.models.grid.loading import load_vlm
from tideo.models.grid.settings import GRID_FILE
from tideo.models.prompts import FORMS
from tideo.scoring import best
from tideo.textvid.reader import Reader
from tideo.tiny.llava import language_of
from tideo.tiny.lm_corpus import frame_lines


def text_stories(
    llm: str | Path, *, split: Split = "test", num: int = 120, seed: int = 0, form: str = "text"
) -> dict[str, tuple[int, int]]:
    """(Right answers, questions) by kind, over `num` episodes. `form`: a name in models/prompts.py, FORMS.

    `llm` is the folder of a language model, or of a model that contains one: pre-aligned with LoRA or finetuned on
    grids.
    """
    reader = Reader(*_language_model(Path(llm)), form=form)
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for item in ask_split(split, num=num, seed=seed):
        rng = random.Random(f"text stories/{item.episode.id}/{item.is_cut}")
        states = [item.episode.state_at(t) for t in frame_times(item.episode.duration_s)]
        lines = frame_lines(states, rng, form="full")
        for question, scores in zip(item.questions, reader.scores(lines, item.questions), strict=True):
            counts[question.kind][0] += best(scores) == question.answer
            counts[question.kind][1] += 1
    return {kind: (right, of) for kind, (right, of) in sorted(counts.items())}


def _language_model(folder: Path) -> tuple[Any, Any]:
    if not (folder / GRID_FILE).is_file():
        model, tokenizer = language_of(folder)
        return model.eval(), tokenizer
    model, processor = load_vlm(str(folder), loading=Loading())
    return model, processor.tokenizer  # without an image, the model is its language model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llm", help="a folder; the bundled dollhouse-lm if left out")
    parser.add_argument("--split", default="test", choices=("train", "val", "test"))
    parser.add_argument("--num", type=int, default=120)
    parser.add_argument("--form", default="text", choices=tuple(FORMS))
    args = parser.parse_args()
    table = text_stories(args.llm or located("dollhouse-lm"), split=args.split, num=args.num, form=args.form)
    right, of = (sum(column) for column in zip(*table.values(), strict=True))
    for kind, (r, n) in [*table.items(), ("all", (right, of))]:
        print(f"{kind:12} {100 * r / n:5.1f}%  ({r} of {n})")


if __name__ == "__main__":
    main()
