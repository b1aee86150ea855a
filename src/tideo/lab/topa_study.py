"""The zero-shot table: pre-align with several seeds, evaluate on rendered test videos, compare with controls.

    python -m tideo.lab.topa_study --out runs/zero_shot --seeds 3 --num 90

Each seed has one pre-alignment with the recipe, evaluated with every control; the first --ablations seeds have another
one without the multiple-choice task. Results that exist are not computed again, so a stopped study continues. Writes
OUT/table.md and OUT/table.json. Figures are means over seeds. Intervals are clustered by video: they show how far the
mean over these seeds may differ on other videos.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tideo import registry
from tideo.dollhouse.script import Split
from tideo.evaluate.answers import MAIN
from tideo.lab.tables import Rates, Study, evaluated, markdown, questions_of, study_of, table
from tideo.models.load import load_model
from tideo.store.files import atomic_write_text
from tideo.train.topa.config import PrealignConfig
from tideo.train.topa.prealign import prealign
from tideo.types import Sample, UserError

FULL, NO_CHOOSING = "full", "no_choosing"


def zero_shot_study(
    recipe: PrealignConfig,
    *,
    out: str | Path,
    seeds: int = 3,
    num: int = 90,
    num_val: int = 40,
    ablations: int | None = None,
) -> tuple[Study, dict[str, float]]:
    """Train, evaluate and write the tables to `out`.

    `ablations`: the number of seeds that are also trained without the multiple-choice task; None for all. Returns the
    study, and the accuracy on validation questions by the form of their options. Raises UserError if a model in `out`
    is of another recipe.
    """
    if seeds < 1:
        raise UserError(f"a study needs at least one seed, not {seeds}")
    out = Path(out)
    test = questions_of("test", num=num, out=out)
    answers: dict[str, list[Rates]] = {}
    for seed in range(seeds):
        for variant in (FULL, NO_CHOOSING) if ablations is None or seed < ablations else (FULL,):
            config = replace(recipe, seed=seed)
            if variant == NO_CHOOSING:
                config = replace(config, tasks=replace(config.tasks, choose=0.0))
            # A finished one is taken as it is; one of another recipe is an error.
            model = prealign(config, out=out / "models" / f"{variant}_{seed}", resume=True)
            controls: list[str] | None = None if variant == FULL else []
            for name, rates in _rates(model, "test", test, out=out, controls=controls).items():
                condition = name if variant == FULL else NO_CHOOSING
                answers.setdefault(condition, []).append(rates)
    val = questions_of("val", num=num_val, out=out)
    rates_of = _rates(out / "models" / f"{FULL}_0", "val", val, out=out, controls=["letter_scoring"])
    validation = {
        "text" if name == MAIN else "letter": sum(rates.values()) / len(rates)
        for name, rates in rates_of.items()
    }
    study = study_of(test, answers)
    figures = table(study) | {"validation": validation}
    atomic_write_text(out / "table.json", json.dumps(figures, indent=2) + "\n")
    atomic_write_text(out / "table.md", page(study, validation))
    return study, validation


def page(study: Study, validation: Mapping[str, float]) -> str:
    """table.md."""
    accuracies = ", ".join(f"{form} scoring {100 * a:.1f}" for form, a in validation.items())
    text = markdown(table(study), trained="pre-alignment", result="video, zero-shot")
    return f"{text}On validation videos (seed 0), {accuracies}.\n"


def _rates(
    model: Path, split: Split, samples: Sequence[Sample], *, out: Path, controls: list[str] | None
) -> dict[str, Rates]:
    loaded = load_model(str(model))
    return evaluated(loaded, split, samples, out=out, run=f"{split}_{model.name}", controls=controls)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--recipe", default="dollhouse_topa")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--num", type=int, default=90, help="test episodes")
    parser.add_argument(
        "--ablations", type=int, help="seeds of pre-alignment without multiple choice, if fewer"
    )
    args = vars(parser.parse_args())
    recipe = registry.load("recipes", args.pop("recipe"))()
    study, validation = zero_shot_study(recipe, **args)
    print(page(study, validation), end="")


if __name__ == "__main__":
    main()
