"""`tideo prealign`, `train`, `finetune`, `import topa`, `push`: train models, import and publish them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tideo.bundled import RUNS, located
from tideo.commands.options import (
    Out,
    OutOrRuns,
    Recipe,
    Resume,
    Settings,
    new_folder,
    print_result,
    results_alone,
)
from tideo.recipe_files import name_of
from tideo.types import UserError

Plan = Annotated[bool, typer.Option("--plan", help="Only print parameters, memory and hours.")]
Gpus = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="With --plan: the number of GPUs, by default 1.")
]
Card = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="With --plan: the GPU, as A100-40G, H100 or RTX4090."),
]
ONLY_PLAN = (
    "--gpus and --card are for --plan; a training runs on the processes that `accelerate launch` starts"
)


def prealign(
    recipe: Recipe,
    settings: Settings = None,
    out: OutOrRuns = None,
    resume: Resume = False,
    plan: Plan = False,
    gpus: Gpus = None,
    card: Card = None,
) -> None:
    """Pre-align a frozen language model on text alone (TOPA)."""
    if (gpus is not None or card is not None) and not plan:
        raise UserError(ONLY_PLAN)
    if plan and (out is not None or resume):
        raise UserError("--plan trains nothing: give it without --out and --resume")
    # Before the slow imports, so that a wrong name fails at once.
    config = _recipe(recipe, settings, command="prealign")
    if plan:
        from tideo.train.plan import DEFAULT_CARD
        from tideo.train.topa.plan import plan as plan_of

        with results_alone():
            text = plan_of(config, gpus=gpus or 1, on=card or DEFAULT_CARD)
        print(text)
        return
    folder = _run(config, out, recipe=recipe)
    with results_alone():
        from tideo.train.topa.prealign import prealign as train_prefix

        folder = train_prefix(config, out=folder, resume=resume)
    print_result(folder)


def train(
    recipe: Recipe,
    settings: Settings = None,
    out: OutOrRuns = None,
    resume: Resume = False,
    plan: Annotated[bool, typer.Option("--plan", hidden=True)] = False,
) -> None:
    """Train a tiny model: a CLIP, a language model or, by feature distillation, a LLaVA."""
    if plan:
        raise UserError(
            "--plan is for prealign and finetune: these trainings take a CPU, and their recipes' files say how long"
        )
    config = _recipe(recipe, settings, command="train")
    folder = _run(config, out, recipe=recipe)
    with results_alone():
        from tideo.tiny.train import train as run

        folder = run(config, out=folder, resume=resume)
    print_result(folder)


def finetune(
    recipe: Recipe,
    settings: Settings = None,
    out: OutOrRuns = None,
    resume: Resume = False,
    plan: Plan = False,
    gpus: Gpus = None,
    card: Card = None,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            file_okay=False,
            callback=new_folder,
            help="Only write the training set in LLaVA's format.",
        ),
    ] = None,
) -> None:
    """Finetune an image-text model on grids of frames (top-down grid)."""
    if (gpus is not None or card is not None) and not plan:
        raise UserError(ONLY_PLAN)
    if (plan or export is not None) and (out is not None or resume or (plan and export is not None)):
        raise UserError(
            "--plan and --export train nothing: give one of them alone, without --out and --resume"
        )
    config = _recipe(recipe, settings, command="finetune")
    if plan:
        from tideo.train.grid.memory_plan import plan as memory_plan

        with results_alone():
            text = memory_plan(config, gpus=gpus or 1, on=card)
        print(text)
        return
    if export is not None:
        from tideo.train.grid.finetune import export_llava

        with results_alone():
            written = export_llava(config, out=export)
        print(written)
        return
    folder = _run(config, out, recipe=recipe)
    with results_alone():
        from tideo.train.grid.finetune import finetune as train_grids

        folder = train_grids(config, out=folder, resume=resume)
    print_result(folder)


def topa(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT.pth", exists=True, dir_okay=False)],
    llm: Annotated[str, typer.Option(metavar="DIR_OR_ID", help="The Llama it was trained on.")],
    memory: Annotated[
        Path,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Its memory.pkl of caption features."),
    ],
    out: Out,
    encoder: Annotated[
        str, typer.Option(metavar="E", help="The dual encoder it was trained on.")
    ] = "openai/clip-vit-large-patch14",
) -> None:
    """Convert a released TOPA checkpoint to a model directory, without unpickling it."""
    for name in (llm, encoder):
        located(name)
    with results_alone():
        from tideo.models.topa.released import import_topa

        folder = import_topa(checkpoint, llm=llm, memory=memory, encoder=encoder, out=out)
    print(folder)


def push(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="A folder that training wrote.")
    ],
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
) -> None:
    """Upload a model to the Hugging Face Hub, with a card."""
    from tideo.models.hub import push as upload

    print(upload(folder, repo, private=private))


# The class of a recipe's config → the command that runs it.
COMMANDS = {
    "PrealignConfig": "prealign",
    "FinetuneConfig": "finetune",
    "ClipRecipe": "train",
    "LMConfig": "train",
    "DistillConfig": "train",
    "LooksConfig": "train",
}


def _recipe(name: str, settings: Sequence[str] | None, *, command: str) -> Any:
    """The config of a recipe with other settings. Raises UserError for a recipe of another command."""
    from tideo.config import override
    from tideo.recipe_files import load_recipe

    config = load_recipe(name)
    right = COMMANDS.get(type(config).__name__)
    if right is None:
        raise UserError(
            f"{name} returns a {type(config).__name__}; expected a recipe: {', '.join(COMMANDS)}, as those that "
            "`tideo list recipes` names return"
        )
    if right != command:
        raise UserError(f"{name} is a recipe for `tideo {right}`, not for `tideo {command}`")
    return override(config, settings or ())


def _run(config: Any, out: Path | None, *, recipe: str) -> Path:
    """The folder of a run. Raises UserError if it cannot be written, or if the run would lack what it reads."""
    folder = out or Path(RUNS, name_of(recipe))
    new_folder(folder)
    if hasattr(config, "check_inputs"):
        config.check_inputs()
    return folder
