"""The zero-shot table: pre-align with several seeds, ask about rendered test videos, put controls beside the result.

    python -m tideo.lab.topa_study --out runs/zero_shot --seeds 3 --num 90

Per seed one pre-alignment as the recipe has it and, for the first --ablations seeds, one without the multi-choice task,
then every control. What is there is not made again, so a killed study goes on. Writes OUT/table.md and
OUT/table.json. Figures are means over
seeds; intervals are clustered by video and tell how sure the mean over these seeds is of other videos.
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
from tideo.models.topa.settings import SETTINGS_FILE
from tideo.store.files import atomic_write_text
from tideo.train.topa.prealign import PrealignConfig, prealign
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
    """Train, evaluate and write the tables to `out`; `ablations` seeds (None: all) also without the multi-choice task.

    Returns the study, and the accuracy on validation questions by form of their options.
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
            model = _prealigned(config, out=out / "models" / f"{variant}_{seed}")
            controls: list[str] | None = None if variant == FULL else []
            for name, rates in _asked(model, "test", test, out=out, controls=controls).items():
                condition = name if variant == FULL else NO_CHOOSING
                answers.setdefault(condition, []).append(rates)
    val = questions_of("val", num=num_val, out=out)
    asked = _asked(out / "models" / f"{FULL}_0", "val", val, out=out, controls=["letter_scoring"])
    validation = {
        "text" if name == MAIN else "letter": sum(rates.values()) / len(rates)
        for name, rates in asked.items()
    }
    study = study_of(test, answers)
    figures = table(study) | {"validation": validation}
    atomic_write_text(out / "table.json", json.dumps(figures, indent=2) + "\n")
    atomic_write_text(out / "table.md", page(study, validation))
    return study, validation


def page(study: Study, validation: Mapping[str, float]) -> str:
    """table.md."""
    told = ", ".join(f"{form} scoring {100 * a:.1f}" for form, a in validation.items())
    text = markdown(table(study), trained="pre-alignment", result="video, zero-shot")
    return f"{text}On validation videos (seed 0), {told}.\n"


def _prealigned(config: PrealignConfig, *, out: Path) -> Path:
    return out if (out / SETTINGS_FILE).is_file() else prealign(config, out=out, resume=True)


def _asked(
    model: Path, split: Split, samples: Sequence[Sample], *, out: Path, controls: list[str] | None
) -> dict[str, Rates]:
    loaded = load_model(str(model))
    return evaluated(loaded, split, samples, out=out, run=f"{split}_{model.name}", controls=controls)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--recipe", default="dollhouse")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--num", type=int, default=90, help="test episodes")
    parser.add_argument("--ablations", type=int, help="seeds of pre-alignment without multi-choice, if fewer")
    args = parser.parse_args()
    recipe = registry.load("recipes", args.recipe)()
    done = zero_shot_study(recipe, out=args.out, seeds=args.seeds, num=args.num, ablations=args.ablations)
    print(page(*done), end="")


if __name__ == "__main__":
    main()
