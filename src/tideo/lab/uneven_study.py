"""What frames chosen for the question cost models, and what training at uneven times gives back.

    python -m tideo.lab.uneven_study --out runs/uneven \
        --models dollhouse-topa runs/dollhouse_topa_uneven

Every model answers the same test questions with even frames (`middle`) and with those of each selector. All is compared
with the first model on even frames: paired differences with 95% intervals, clustered by video. Writes OUT/table.md and
OUT/table.json; what is answered already is not asked again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tideo.evaluate.answers import MAIN
from tideo.lab.tables import Rates, Study, evaluated, markdown, questions_of, study_of, table
from tideo.models.load import load_model
from tideo.store.files import atomic_write_text

EVEN = "middle"
SAMPLERS = ("question", "bolt", "aks", "coverage")


def uneven_study(
    models: Sequence[str], *, out: str | Path, samplers: Sequence[str] = SAMPLERS, num: int = 90
) -> Study:
    """Ask all models about `num` test episodes, write the table."""
    out = Path(out)
    samples = questions_of("test", num=num, out=out)
    runs: dict[str, list[Rates]] = {}
    for name in models:
        model = load_model(name)
        for sampler in (EVEN, *samplers):
            model.settings = replace(model.settings, sampler=sampler)
            pools = out / "pools-{encoder}" if model.chooses else None
            run = f"{Path(name).name}_{sampler}"
            rates = evaluated(model, "test", samples, out=out, run=run, controls=[], features=pools)[MAIN]
            first = name == models[0] and sampler == EVEN
            runs[MAIN if first else f"{Path(name).name}, {sampler}"] = [rates]
    study = study_of(samples, runs)
    figures = table(study)
    atomic_write_text(out / "table.json", json.dumps(figures, indent=2) + "\n")
    atomic_write_text(
        out / "table.md", markdown(figures, trained="training", result=f"{Path(models[0]).name}, {EVEN}")
    )
    return study


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--models", nargs="+", required=True, help="the first one is compared with")
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS))
    parser.add_argument("--num", type=int, default=90, help="test episodes")
    args = vars(parser.parse_args())
    uneven_study(**args)
    print((Path(args["out"]) / "table.md").read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
