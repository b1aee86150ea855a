"""The grid table: finetune a tiny LLaVA on grids in several ways, ask all about the same rendered test videos.

    OMP_NUM_THREADS=1 python -m tideo.lab.grid_study --out runs/grid_study --seeds 3 --num 90 --jobs 2

Per seed and variant one finetuning as the recipe has it but for the variant's change; then, for the recipe itself,
every control, the samplers, and the fusion with its teacher, whose weights are fitted on validation videos. Beside it,
what is kept of reading: how many questions the language model answers from captions in words, without an image. What is
there is not made again, so a killed study goes on; an imitation is shared by the variants that begin with it. Writes
OUT/table.md and OUT/table.json. `--variants` names some of them only, `--variant-seeds` how many seeds they get.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from tideo import registry
from tideo.config import override
from tideo.evaluate.fusion import fuse
from tideo.evaluate.plan import MAIN
from tideo.lab.studies import Rates, Study, evaluated, markdown, questions_of, study_of, table
from tideo.lab.text_stories import text_stories
from tideo.models.bundled import load_model
from tideo.models.grid_settings import GRID_FILE
from tideo.models.grid_vlm import GridVLM
from tideo.registry import unknown
from tideo.store import atomic_write_text
from tideo.train.finetune import finetune
from tideo.train.finetune_config import FinetuneConfig
from tideo.train.grid_work import folder_of
from tideo.types import UserError

RECIPE, TEACHER, FUSION = "recipe", "teacher", "fusion"
# name → what is set otherwise in the recipe
VARIANTS: dict[str, tuple[str, ...]] = {
    RECIPE: (),
    "grid 3 x 3": ("grid.rows=3", "grid.cols=3"),
    "grid 5 x 5": ("grid.rows=5", "grid.cols=5"),
    "tower trained": ("parts=tower,projector,llm",),
    "LoRA": ("lora_rank=16", "lora_alpha=32"),
    "captions mixed in": ("captions=0.2", "num_captions=32000", "paste_captions=true"),
    "distilled": ("distill=0.5",),
    "no question asked": ("train.steps=1", "train.lr=0", "train.muon_lr=0"),
    "without imitation": ("imitate=none",),
    "plain language model": ("imitate=none", "teacher=none"),
}
SAMPLERS = ("uniform", "question")  # at inference; all are trained with the recipe's
NUM_READ = 45  # episodes whose captions are read


def grid_study(
    recipe: FinetuneConfig,
    *,
    out: str | Path,
    seeds: int = 3,
    num: int = 90,
    num_val: int = 40,
    variants: Sequence[str] | None = None,
    variant_seeds: int | None = None,
    jobs: int = 1,
) -> tuple[Study, dict[str, float]]:
    """Train, evaluate, write the table; returns it with each variant's reading: the share of questions answered.

    `variant_seeds`: how many of the seeds the variants get, None for all. `jobs` models are trained at a time.
    """
    if seeds < 1:
        raise UserError(f"a study needs at least one seed, not {seeds}")
    for name in variants or ():
        if name not in VARIANTS:
            raise UserError(unknown(name, known=VARIANTS, what="variant"))
    out, teacher = Path(out), str(recipe.teacher)
    chosen = [
        (name, seed)
        for name in dict.fromkeys([RECIPE, *(variants if variants is not None else VARIANTS)])
        for seed in range(seeds)
        if name == RECIPE or variant_seeds is None or seed < variant_seeds
    ]
    _train(recipe, chosen, out=out / "models", jobs=jobs)
    test = questions_of("test", num=num, out=out)
    val = questions_of("val", num=num_val, out=out)
    runs: dict[str, list[Rates]] = {}
    read: dict[str, list[float]] = {
        TEACHER: [_reading(folder_of(teacher), kept=out / "reading" / "teacher.json")]
    }
    of_teacher = {split: load_model(teacher) for split in ("test", "val")}
    runs[TEACHER] = [
        evaluated(of_teacher["test"], "test", test, out=out, run=TEACHER, controls=[])[MAIN]
    ] * seeds
    evaluated(of_teacher["val"], "val", val, out=out, run=f"{TEACHER}_val", controls=[])
    for name, seed in chosen:
        folder = _folder(name, seed)
        model = out / "models" / folder
        read.setdefault(name, []).append(_reading(model, kept=out / "reading" / f"{folder}.json"))
        loaded = GridVLM.load(model)
        if name != RECIPE:
            found = evaluated(loaded, "test", test, out=out, run=folder, controls=[])
            runs.setdefault(name, []).append(found[MAIN])
            continue
        for control, rates in evaluated(loaded, "test", test, out=out, run=folder, controls=None).items():
            runs.setdefault(control, []).append(rates)
        evaluated(loaded, "val", val, out=out, run=f"{folder}_val", controls=[])
        both = out / "models" / f"{FUSION}_{seed}"
        fuse(
            [out / "eval" / f"{TEACHER}_val", out / "eval" / f"{folder}_val"],
            models=[teacher, str(model)], out=both,
        )  # fmt: skip
        found = evaluated(load_model(str(both)), "test", test, out=out, run=f"{FUSION}_{seed}", controls=[])
        runs.setdefault(FUSION, []).append(found[MAIN])
        for sampler in SAMPLERS:
            loaded.settings = replace(loaded.settings, sampler=sampler)
            other = evaluated(loaded, "test", test, out=out, run=f"{folder}_{sampler}", controls=[])
            runs.setdefault(f"sampler {sampler}", []).append(other[MAIN])
    study = study_of(test, runs)
    reading = {name: sum(values) / len(values) for name, values in read.items()}
    atomic_write_text(out / "table.json", json.dumps(table(study) | {"reading": reading}, indent=2) + "\n")
    atomic_write_text(out / "table.md", page(study, reading))
    return study, reading


def page(study: Study, reading: Mapping[str, float]) -> str:
    """table.md."""
    text = markdown(table(study), trained="finetuning", result="grid, finetuned")
    lines = ["", "| language model of | questions answered from captions in words, % |", "|---|---|"]
    lines += [f"| {name} | {100 * share:.1f} |" for name, share in reading.items()]
    return text + "\n".join(lines) + "\n"


def _folder(name: str, seed: int) -> str:
    return f"{name.replace(' ', '_')}_{seed}"


def _train(recipe: FinetuneConfig, chosen: Sequence[tuple[str, int]], *, out: Path, jobs: int) -> None:
    """Train what is not there, each in a process of its own; the recipe first, whose imitation others take."""
    missing = [(name, seed) for name, seed in chosen if not (out / _folder(name, seed) / GRID_FILE).is_file()]
    own = [name for name, changes in VARIANTS.items() if any(c.startswith("grid.") for c in changes)]
    missing.sort(key=lambda of: (of[0] != RECIPE, of[0] not in own))
    # A process a training: the memory of one is not the next one's.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        waiting = [
            pool.submit(
                finetune,
                override(replace(recipe, seed=seed), VARIANTS[name]),
                out=out / _folder(name, seed),
                resume=True,
            )
            for name, seed in missing
        ]
        for done in waiting:
            done.result()


def _reading(model: Path, *, kept: Path) -> float:
    if not kept.is_file():
        atomic_write_text(kept, json.dumps(text_stories(model, num=NUM_READ)) + "\n")
    counts = json.loads(kept.read_text(encoding="utf-8")).values()
    return float(sum(right for right, _ in counts) / sum(of for _, of in counts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--recipe", default="dollhouse")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--num", type=int, default=90, help="test episodes")
    parser.add_argument("--variants", nargs="*", metavar="NAME", help=f"of: {', '.join(VARIANTS)}")
    parser.add_argument(
        "--variant-seeds", type=int, metavar="N", help="seeds of the variants; all if left out"
    )
    parser.add_argument("--jobs", type=int, default=1, help="models trained at a time")
    args = parser.parse_args()
    recipe = registry.load("finetunes", args.recipe)()
    done = grid_study(
        recipe, out=args.out, seeds=args.seeds, num=args.num, variants=args.variants,
        variant_seeds=args.variant_seeds, jobs=args.jobs,
    )  # fmt: skip
    print(page(*done), end="")


if __name__ == "__main__":
    main()
