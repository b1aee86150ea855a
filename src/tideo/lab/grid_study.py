"""The grid table: finetune a tiny LLaVA on grids in several ways, ask all about the same rendered test videos.

    python -m tideo.lab.grid_study --out runs/grid_study --seeds 3 --num 90

Per seed and variant one finetuning as the recipe has it but for the variant's change; then, for the recipe itself,
every control and the samplers. What is there is not made again, so a killed study goes on. Writes OUT/table.md and
OUT/table.json. `--variants` names some of them only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tideo import registry
from tideo.config import override
from tideo.evaluate.plan import MAIN
from tideo.lab.studies import Rates, Study, evaluated, markdown, questions_of, study_of, table
from tideo.models.grid_settings import GRID_FILE
from tideo.models.grid_vlm import GridVLM
from tideo.registry import unknown
from tideo.store import atomic_write_text
from tideo.train.finetune import finetune
from tideo.train.finetune_config import FinetuneConfig
from tideo.types import UserError

RECIPE = "recipe"
# name → what is set otherwise in the recipe
VARIANTS: dict[str, tuple[str, ...]] = {
    RECIPE: (),
    "grid 3 x 3": ("grid.rows=3", "grid.cols=3"),
    "grid 5 x 5": ("grid.rows=5", "grid.cols=5"),
    "tower trained": ("parts=tower,projector,llm",),
    "LoRA": ("lora_rank=16",),
    "captions mixed in": ("captions=0.2",),
    "distilled": ("distill=0.5",),
}
SAMPLERS = ("uniform", "question")  # at inference; all are trained with the recipe's


def grid_study(
    recipe: FinetuneConfig,
    *,
    out: str | Path,
    seeds: int = 3,
    num: int = 90,
    variants: Sequence[str] | None = None,
) -> tuple[Study, dict[str, float]]:
    """Train, evaluate, write the table; returns it with each variant's forgetting, in nats a token of captions."""
    if seeds < 1:
        raise UserError(f"a study needs at least one seed, not {seeds}")
    for name in variants or ():
        if name not in VARIANTS:
            raise UserError(unknown(name, known=VARIANTS, what="variant"))
    out = Path(out)
    test = questions_of("test", num=num, out=out)
    runs: dict[str, list[Rates]] = {}
    forgot: dict[str, list[float]] = {}
    for seed in range(seeds):
        for name in dict.fromkeys([RECIPE, *(variants if variants is not None else VARIANTS)]):
            folder = f"{name.replace(' ', '_')}_{seed}"
            model = _finetuned(
                override(replace(recipe, seed=seed), VARIANTS[name]), out=out / "models" / folder
            )
            told = json.loads((model / "forgetting.json").read_text(encoding="utf-8"))
            forgot.setdefault(name, []).append(told["caption_loss_after"] - told["caption_loss_before"])
            loaded = GridVLM.load(model)
            controls: list[str] | None = None if name == RECIPE else []
            for control, rates in evaluated(
                loaded, "test", test, out=out, run=folder, controls=controls
            ).items():
                runs.setdefault(control if name == RECIPE else name, []).append(rates)
            for sampler in SAMPLERS if name == RECIPE else ():
                loaded.settings = replace(loaded.settings, sampler=sampler)
                other = evaluated(loaded, "test", test, out=out, run=f"{folder}_{sampler}", controls=[])
                runs.setdefault(f"sampler {sampler}", []).append(other[MAIN])
    study = study_of(test, runs)
    forgetting = {name: sum(values) / len(values) for name, values in forgot.items()}
    atomic_write_text(
        out / "table.json", json.dumps(table(study) | {"forgetting": forgetting}, indent=2) + "\n"
    )
    atomic_write_text(out / "table.md", page(study, forgetting))
    return study, forgetting


def page(study: Study, forgetting: Mapping[str, float]) -> str:
    """table.md."""
    text = markdown(table(study), trained="finetuning", result="grid, finetuned")
    lines = ["", "| variant | loss on held-out captions, after − before |", "|---|---|"]
    lines += [f"| {name} | {more:+.3f} |" for name, more in forgetting.items()]
    return text + "\n".join(lines) + "\n"


def _finetuned(config: FinetuneConfig, *, out: Path) -> Path:
    return out if (out / GRID_FILE).is_file() else finetune(config, out=out, resume=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--recipe", default="dollhouse")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--num", type=int, default=90, help="test episodes")
    parser.add_argument("--variants", nargs="*", metavar="NAME", help=f"of: {', '.join(VARIANTS)}")
    args = parser.parse_args()
    recipe = registry.load("finetunes", args.recipe)()
    done = grid_study(recipe, out=args.out, seeds=args.seeds, num=args.num, variants=args.variants)
    print(page(*done), end="")


if __name__ == "__main__":
    main()
