"""The grid table: finetune a tiny LLaVA on grids in several ways, ask all about the same rendered test videos.

    OMP_NUM_THREADS=1 python -m tideo.lab.grid_study --out runs/grid_study --seeds 3 --num 90 --jobs 2

Per seed and variant one finetuning as the recipe has it but for the variant's change; then, for the recipe itself,
every control, the samplers, and the fusion with its teacher, whose weights are fitted on validation videos. Beside it,
what is kept of reading: how many questions the language model answers from captions in words, without an image.

What a model answered lies in OUT/outcomes, a small file each, and is not asked again, nor the model trained: a killed
study goes on, and the files of another machine count once they are put there. An imitation is shared by the variants
that begin with it. Writes OUT/table.md and OUT/table.json. `--variants` names some of them only, `--variant-seeds` how
many seeds they get.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tideo import registry
from tideo.config import override
from tideo.dollhouse.script import Split
from tideo.evaluate.answers import MAIN
from tideo.evaluate.fit_fusion import fuse
from tideo.lab.outcomes import Outcome, Outcomes
from tideo.lab.reading_gate import text_stories
from tideo.lab.tables import Rates, Study, evaluated, markdown, questions_of, study_of, table
from tideo.models.grid.settings import GRID_FILE
from tideo.models.grid.vlm import GridVLM
from tideo.models.interface import VideoModel
from tideo.models.load import load_model
from tideo.registry import unknown
from tideo.store.files import atomic_write_text
from tideo.train.grid.config import FinetuneConfig
from tideo.train.grid.finetune import finetune
from tideo.train.grid.stage import folder_of
from tideo.types import UserError

RECIPE, TEACHER, FUSION, READING = "recipe", "teacher", "fusion", "reading"
# name → what is set otherwise in the recipe; cells of 3 x 3 and 5 x 5 are as large as those of 4 x 4
VARIANTS: dict[str, tuple[str, ...]] = {
    RECIPE: (),
    "grid 3 x 3": ("grid.rows=3", "grid.cols=3", "grid.image_size=144"),
    "grid 5 x 5": ("grid.rows=5", "grid.cols=5", "grid.image_size=240"),
    "one frame": ("grid.rows=1", "grid.cols=1"),
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
    asking = Asking(recipe, out=out, num=num, num_val=num_val)
    of_teacher = asking.teacher()
    _make(asking, chosen, jobs=jobs)
    runs: dict[str, list[Rates]] = {}
    read: dict[str, list[float]] = {TEACHER: [of_teacher.figures[READING]]}
    for name, seed in chosen:
        outcome = asking.outcome(name, seed)
        read.setdefault(name, []).append(outcome.figures[READING])
        for condition, rates in outcome.rates.items():
            runs.setdefault(condition, []).append(rates)
    runs[TEACHER] = [of_teacher.rates[TEACHER]] * seeds
    study = study_of(asking.samples["test"], runs)
    reading = {name: sum(values) / len(values) for name, values in read.items()}
    atomic_write_text(out / "table.json", json.dumps(table(study) | {READING: reading}, indent=2) + "\n")
    atomic_write_text(out / "table.md", page(study, reading))
    return study, reading


class Asking:
    """A recipe's models, each made and asked once about the same questions."""

    def __init__(self, recipe: FinetuneConfig, *, out: Path, num: int, num_val: int) -> None:
        self.recipe, self.out = recipe, out
        self.nums: dict[Split, int] = {"test": num, "val": num_val}
        self.samples = {
            split: questions_of(split, num=num, out=out, videos=False) for split, num in self.nums.items()
        }
        self.outcomes = Outcomes(out / "outcomes", self.samples["test"])

    def teacher(self) -> Outcome:
        """The text-only model that all begin with."""
        name, about = str(self.recipe.teacher), self.recipe.teacher
        if (kept := self.outcomes.kept(TEACHER, about=about)) is not None:
            return kept
        self.render()
        outcome = Outcome(
            rates={TEACHER: self._asked(load_model(name), TEACHER)[MAIN]},
            figures={READING: _reading(folder_of(name))},
        )
        return self.outcomes.keep(TEACHER, outcome, about=about)

    def render(self) -> None:
        for split, num in self.nums.items():
            questions_of(split, num=num, out=self.out)

    def ask_for_fusions(self) -> None:
        """The teacher about the validation videos, once for the fusions of all seeds."""
        self._asked(load_model(str(self.recipe.teacher)), f"{TEACHER}_val", split="val")

    def kept(self, name: str, seed: int) -> Outcome | None:
        return self.outcomes.kept(_folder(name, seed), about=self._about(name, seed))

    def outcome(self, name: str, seed: int) -> Outcome:
        """Trains and asks what was not asked yet."""
        if (kept := self.kept(name, seed)) is not None:
            return kept
        folder = _folder(name, seed)
        model = self.out / "models" / folder
        if not (model / GRID_FILE).is_file():
            finetune(self.variant(name, seed), out=model, resume=True)
        loaded = GridVLM.load(model)
        if name != RECIPE:
            rates = {name: self._asked(loaded, folder)[MAIN]}
        else:
            rates = self._asked(loaded, folder, all_controls=True)
            rates[FUSION] = self._fused(loaded, folder, seed)
            for sampler in SAMPLERS:
                loaded.settings = replace(loaded.settings, sampler=sampler)
                rates[f"sampler {sampler}"] = self._asked(loaded, f"{folder}_{sampler}")[MAIN]
        outcome = Outcome(rates=rates, figures={READING: _reading(model)})
        return self.outcomes.keep(folder, outcome, about=self._about(name, seed))

    def variant(self, name: str, seed: int) -> FinetuneConfig:
        return override(replace(self.recipe, seed=seed), VARIANTS[name])

    def _about(self, name: str, seed: int) -> dict[str, Any]:
        told = asdict(self.variant(name, seed)) | {"num_val": self.nums["val"]}
        for stage in ("imitate", "align", "train"):
            (told[stage] or {}).pop("bf16", None)  # the machine's matter
        return told

    def _asked(
        self, model: VideoModel, run: str, *, split: Split = "test", all_controls: bool = False
    ) -> dict[str, Rates]:
        controls: list[str] | None = None if all_controls else []
        return evaluated(model, split, self.samples[split], out=self.out, run=run, controls=controls)

    def _fused(self, model: GridVLM, folder: str, seed: int) -> Rates:
        teacher, both = str(self.recipe.teacher), self.out / "models" / f"{FUSION}_{seed}"
        self._asked(model, f"{folder}_val", split="val")
        fuse(
            [self.out / "eval" / f"{TEACHER}_val", self.out / "eval" / f"{folder}_val"],
            models=[teacher, str(self.out / "models" / folder)], out=both,
        )  # fmt: skip
        return self._asked(load_model(str(both)), both.name)[MAIN]


def _reading(model: Path) -> float:
    counts = text_stories(model, num=NUM_READ).values()
    return float(sum(right for right, _ in counts) / sum(of for _, of in counts))


def _folder(name: str, seed: int) -> str:
    return f"{name.replace(' ', '_')}_{seed}"


def _make(asking: Asking, chosen: Sequence[tuple[str, int]], *, jobs: int) -> None:
    """Make what is not there, each in a process of its own; the recipe first, whose imitation others take."""
    missing = [of for of in chosen if asking.kept(*of) is None]
    if missing:
        asking.render()
    own = [name for name, changes in VARIANTS.items() if any(c.startswith("grid.") for c in changes)]
    if any(name == RECIPE for name, _ in missing):
        asking.ask_for_fusions()
    missing.sort(key=lambda of: (of[0] != RECIPE, of[0] not in own))
    # A process a training: the memory of one is not the next one's.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        waiting = [pool.submit(asking.outcome, name, seed) for name, seed in missing]
        try:
            for done in as_completed(waiting):
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def page(study: Study, reading: Mapping[str, float]) -> str:
    """table.md."""
    text = markdown(table(study), trained="finetuning", result="grid, finetuned")
    lines = ["", "| language model of | questions answered from captions in words, % |", "|---|---|"]
    lines += [f"| {name} | {100 * share:.1f} |" for name, share in reading.items()]
    return text + "\n".join(lines) + "\n"


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
    parser.add_argument("--jobs", type=int, default=1, help="models made at a time")
    args = parser.parse_args()
    recipe = registry.load("finetunes", args.recipe)()
    done = grid_study(
        recipe, out=args.out, seeds=args.seeds, num=args.num, variants=args.variants,
        variant_seeds=args.variant_seeds, jobs=args.jobs,
    )  # fmt: skip
    print(page(*done), end="")


if __name__ == "__main__":
    main()
