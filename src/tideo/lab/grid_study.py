"""The grid table: finetune a tiny LLaVA on grids in several ways, ask all about the same rendered test videos.

    OMP_NUM_THREADS=1 python -m tideo.lab.grid_study --out runs/grid_study --seeds 3 --num 90 --jobs 2

Each seed and variant is one finetuning with the recipe, apart from the variant's change, which starts from a feature
distillation that variants share. The recipe itself is also evaluated under every control, with other
samplers, and fused with the text-only model, the weights fitted on validation videos. The study also measures how much
reading is kept: how many questions the language model answers from captions in words, without an image.

The outcome of a model lies in a small file in OUT/outcomes; a model with an outcome is neither trained nor evaluated
again. So a killed study continues, and files from another machine count once they lie there. Writes OUT/table.md and
OUT/table.json. `--variants` selects some of them, `--variant-seeds` limits their seeds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tideo import registry
from tideo.bundled import located
from tideo.config import override
from tideo.dollhouse.script import Split
from tideo.evaluate.answers import MAIN
from tideo.evaluate.fit_fusion import fuse
from tideo.lab.outcomes import Outcome, Outcomes, chosen
from tideo.lab.reading_gate import text_stories
from tideo.lab.tables import Rates, Study, evaluated, markdown, questions_of, study_of, table
from tideo.models.grid.settings import GRID_FILE
from tideo.models.grid.vlm import GridVLM
from tideo.models.interface import VideoModel
from tideo.models.load import load_model
from tideo.parallel import in_processes
from tideo.registry import unknown
from tideo.store.files import atomic_write_text, key_of
from tideo.tiny.distill import DistillConfig, distill
from tideo.train.grid.config import FinetuneConfig
from tideo.train.grid.finetune import finetune
from tideo.types import UserError

RECIPE, TEACHER, FUSION, READING = "recipe", "teacher", "fusion", "reading"
# name → changed settings of the recipe; cells of 3 x 3 and 5 x 5 are as large as those of 4 x 4
VARIANTS: dict[str, tuple[str, ...]] = {
    RECIPE: (),
    "grid 3 x 3": ("grid.rows=3", "grid.cols=3", "grid.image_size=144"),
    "grid 5 x 5": ("grid.rows=5", "grid.cols=5", "grid.image_size=240"),
    "one frame": ("grid.rows=1", "grid.cols=1"),
    "tower trained": ("modules=tower,projector,llm",),
    "LoRA": ("lora_rank=16", "lora_alpha=32"),
    "captions mixed in": (
        "captions=0.2", "captions_path=dollhouse_captions", "num_captions=32000", "paste_captions=true",
    ),
    "distilled": ("kl=0.5",),
    "no question asked": ("train.steps=1", "train.lr=0", "train.muon_lr=0"),
    "without feature distillation": (),
    "plain language model": (),
}  # fmt: skip
# The same for the feature distillation; what changes the grid changes it too.
DISTILL_VARIANTS: dict[str, tuple[str, ...]] = {
    "without feature distillation": ("train=none",),
    "plain language model": ("train=none", "teacher=none"),
}
SAMPLERS = ("uniform", "question")  # at inference; all are trained with the recipe's
NUM_READ = 45  # episodes whose captions are read


def grid_study(
    recipe: FinetuneConfig,
    *,
    distillation: DistillConfig,
    out: str | Path,
    seeds: int = 3,
    num: int = 90,
    num_val: int = 40,
    variants: Sequence[str] | None = None,
    variant_seeds: int | None = None,
    jobs: int = 1,
) -> tuple[Study, dict[str, float]]:
    """Train, evaluate, write the table; returns it with each variant's reading: the share of questions answered.

    `variant_seeds`: how many of the seeds the variants get, None for all. `jobs` models are made at a time.
    """
    if seeds < 1:
        raise UserError(f"a study needs at least one seed, not {seeds}")
    for name in variants or ():
        if name not in VARIANTS:
            raise UserError(unknown(name, known=VARIANTS, what="variant"))
    out = Path(out)
    chosen = [
        (name, seed)
        for name in dict.fromkeys([RECIPE, *(variants if variants is not None else VARIANTS)])
        for seed in range(seeds)
        if name == RECIPE or variant_seeds is None or seed < variant_seeds
    ]
    models = Models(recipe, distillation, out=out, num=num, num_val=num_val)
    of_teacher = models.teacher()
    _make(models, chosen, jobs=jobs)
    runs: dict[str, list[Rates]] = {}
    read: dict[str, list[float]] = {TEACHER: [of_teacher.figures[READING]]}
    for name, seed in chosen:
        outcome = models.outcome(name, seed)
        read.setdefault(name, []).append(outcome.figures[READING])
        for condition, rates in outcome.rates.items():
            runs.setdefault(condition, []).append(rates)
    runs[TEACHER] = [of_teacher.rates[TEACHER]] * seeds
    study = study_of(models.samples["test"], runs)
    reading = {name: sum(values) / len(values) for name, values in read.items()}
    atomic_write_text(out / "table.json", json.dumps(table(study) | {READING: reading}, indent=2) + "\n")
    atomic_write_text(out / "table.md", page(study, reading))
    return study, reading


class Models:
    """The models of a study, each trained once and evaluated on the same questions."""

    def __init__(
        self, recipe: FinetuneConfig, distillation: DistillConfig, *, out: Path, num: int, num_val: int
    ) -> None:
        self.recipe, self.distillation, self.out = recipe, distillation, out
        self.nums: dict[Split, int] = {"test": num, "val": num_val}
        self.samples = {
            split: questions_of(split, num=num, out=out, videos=False) for split, num in self.nums.items()
        }
        self.outcomes = Outcomes(out / "outcomes", self.samples["test"])

    def teacher(self) -> Outcome:
        """The text-only model that all start from."""
        name, about = str(self.distillation.teacher), self.distillation.teacher
        if (kept := self.outcomes.kept(TEACHER, about=about)) is not None:
            return kept
        self.render()
        outcome = Outcome(
            rates={TEACHER: self._evaluated(load_model(name), TEACHER)[MAIN]},
            figures={READING: _reading(Path(located(name)))},
        )
        return self.outcomes.keep(TEACHER, outcome, about=about)

    def render(self) -> None:
        for split, num in self.nums.items():
            questions_of(split, num=num, out=self.out)

    def prepare_fusions(self) -> None:
        """Evaluate the teacher on the validation videos, once for the fusions of all seeds."""
        self._evaluated(load_model(str(self.distillation.teacher)), f"{TEACHER}_val", split="val")

    def kept(self, name: str, seed: int) -> Outcome | None:
        return self.outcomes.kept(_folder(name, seed), about=self._about(name, seed))

    def outcome(self, name: str, seed: int) -> Outcome:
        """Train and evaluate what has no outcome yet."""
        if (kept := self.kept(name, seed)) is not None:
            return kept
        folder = _folder(name, seed)
        model, start = self.out / "models" / folder, self._distilled_folder(name, seed)
        if not (model / GRID_FILE).is_file():
            self.distilled(name, seed)
        # A finished one is taken as it is; one of another recipe is an error.
        finetune(replace(self.variant(name, seed), model=str(start)), out=model, resume=True)
        loaded = GridVLM.load(model)
        if name != RECIPE:
            rates = {name: self._evaluated(loaded, folder)[MAIN]}
        else:
            rates = self._evaluated(loaded, folder, all_controls=True)
            rates[FUSION] = self._fused(loaded, folder, seed)
            for sampler in SAMPLERS:
                loaded.settings = replace(loaded.settings, sampler=sampler)
                rates[f"sampler {sampler}"] = self._evaluated(loaded, f"{folder}_{sampler}")[MAIN]
        outcome = Outcome(rates=rates, figures={READING: _reading(model)})
        return self.outcomes.keep(folder, outcome, about=self._about(name, seed))

    def variant(self, name: str, seed: int) -> FinetuneConfig:
        return override(replace(self.recipe, seed=seed), VARIANTS[name])

    def distill_variant(self, name: str, seed: int) -> DistillConfig:
        changes = [change for change in VARIANTS[name] if change.startswith("grid.")]
        return override(replace(self.distillation, seed=seed), [*changes, *DISTILL_VARIANTS.get(name, ())])

    def distilled(self, name: str, seed: int) -> Path:
        """The folder of the feature distillation that a variant starts from; variants with the same one share it."""
        return distill(self.distill_variant(name, seed), out=self._distilled_folder(name, seed), resume=True)

    def _distilled_folder(self, name: str, seed: int) -> Path:
        return self.out / "models" / f"distilled_{key_of(asdict(self.distill_variant(name, seed)))[:12]}"

    def _about(self, name: str, seed: int) -> dict[str, Any]:
        finetuning, distillation = chosen(self.variant(name, seed)), chosen(self.distill_variant(name, seed))
        del finetuning["model"]  # the distillation's folder
        for stage in (finetuning, distillation):
            (stage.get("train") or {}).pop("bf16", None)  # depends on the machine
        return {"finetuning": finetuning, "distillation": distillation, "num_val": self.nums["val"]}

    def _evaluated(
        self, model: VideoModel, run: str, *, split: Split = "test", all_controls: bool = False
    ) -> dict[str, Rates]:
        controls: list[str] | None = None if all_controls else []
        return evaluated(model, split, self.samples[split], out=self.out, run=run, controls=controls)

    def _fused(self, model: GridVLM, folder: str, seed: int) -> Rates:
        teacher, both = str(self.distillation.teacher), self.out / "models" / f"{FUSION}_{seed}"
        self._evaluated(model, f"{folder}_val", split="val")
        fuse(
            [self.out / "eval" / f"{TEACHER}_val", self.out / "eval" / f"{folder}_val"],
            models=[teacher, str(self.out / "models" / folder)], out=both,
        )  # fmt: skip
        return self._evaluated(load_model(str(both)), both.name)[MAIN]


def _reading(model: Path) -> float:
    counts = text_stories(model, num=NUM_READ).values()
    return float(sum(right for right, _ in counts) / sum(of for _, of in counts))


def _folder(name: str, seed: int) -> str:
    return f"{name.replace(' ', '_')}_{seed}"


def _make(models: Models, chosen: Sequence[tuple[str, int]], *, jobs: int) -> None:
    """Make the missing outcomes: first the distillations, each once, then the finetunings, the recipe's own first."""
    missing = [of for of in chosen if models.kept(*of) is None]
    if missing:
        models.render()
    if any(name == RECIPE for name, _ in missing):
        models.prepare_fusions()
    missing.sort(key=lambda of: of[0] != RECIPE)
    distillations = {key_of(asdict(models.distill_variant(*of))): of for of in missing}
    _in_processes(models.distilled, distillations.values(), jobs=jobs)
    _in_processes(models.outcome, missing, jobs=jobs)


def _in_processes(
    function: Callable[[str, int], object], units: Iterable[tuple[str, int]], *, jobs: int
) -> None:
    """Call the function for each unit in a process of its own, so that none keeps the memory of another."""
    for _ in in_processes(function, list(units), jobs=jobs, fresh=True):
        pass


def page(study: Study, reading: Mapping[str, float]) -> str:
    """table.md."""
    text = markdown(table(study), trained="finetuning", result="grid, finetuned")
    lines = ["", "| language model of | questions answered from captions in words, % |", "|---|---|"]
    lines += [f"| {name} | {100 * share:.1f} |" for name, share in reading.items()]
    return text + "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--recipe", default="dollhouse_grid")
    parser.add_argument(
        "--distillation", default="dollhouse_distill", help="recipe that the finetuning starts from"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--num", type=int, default=90, help="test episodes")
    parser.add_argument("--variants", nargs="*", metavar="NAME", help=f"of: {', '.join(VARIANTS)}")
    parser.add_argument(
        "--variant-seeds", type=int, metavar="N", help="seeds of the variants; all if left out"
    )
    parser.add_argument("--jobs", type=int, default=1, help="models made at a time")
    args = vars(parser.parse_args())
    recipe, distillation = (
        registry.load("recipes", args.pop(which))() for which in ("recipe", "distillation")
    )
    study, reading = grid_study(recipe, distillation=distillation, **args)
    print(page(study, reading), end="")


if __name__ == "__main__":
    main()
