"""`tideo eval`, `fuse`, `report`, `export`: many questions, and what came of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from tideo.commands.options import Features, ModelArgs, Out, finish, new_file, pairs, results_alone
from tideo.types import UserError


def evaluate(
    benchmark: Annotated[str, typer.Argument(help="See tideo list benchmarks.")],
    data: Annotated[Path, typer.Option(exists=True, help="Its annotations.")],
    videos: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Its videos.")],
    model: Annotated[str, typer.Option(metavar="M", help="As for tideo ask.")],
    out: Out,
    model_args: ModelArgs = "",
    limit: Annotated[int | None, typer.Option(metavar="N", min=1)] = None,
    control: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this control; repeat it, or `none`; without, all."),
    ] = None,
    permute: Annotated[
        bool, typer.Option("--permute", help="Also ask with the options in every cyclic order.")
    ] = False,
    missing: Annotated[
        Literal["wrong", "skip"], typer.Option(help="What a question about a missing video counts as.")
    ] = "wrong",
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask again what failed before.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Threads that decode; without, one a core.")
    ] = None,
    features: Features = None,
) -> None:
    """Answer a benchmark's questions, or describe its videos; continues where it stopped."""
    from tideo.evaluate.benchmark import load_benchmark
    from tideo.evaluate.caption_scores import CaptionReport
    from tideo.evaluate.processes import Processes
    from tideo.evaluate.run import evaluate as answer_questions
    from tideo.evaluate.summary import Unscored, headline, usage_line

    loaded, first = load_benchmark(benchmark), Processes.launched().first  # the first process prints
    if loaded.describes and permute:
        raise UserError(f"--permute: {benchmark} has no options")
    try:
        with results_alone():
            report = answer_questions(
                benchmark=benchmark,
                data=data,
                videos=videos,
                model=model,
                model_args=pairs(model_args),
                out=out,
                limit=limit,
                controls=[name for name in control if name != "none"] if control else None,
                permute=permute,
                missing=missing,
                retry_failed=retry_failed,
                workers=workers,
                features=features,
            )
    except Unscored as unscored:
        if first:
            print(f"{benchmark}: {unscored}")
            finish(unscored.n_failed, unscored.n, "questions")
        return
    if not first:
        return
    if isinstance(report, CaptionReport):
        print(f"{benchmark}: CIDEr {100 * report.cider['mean']:.1f} of {report.n} videos")
        print(f"{benchmark}: ROUGE-L {100 * report.rouge_l['mean']:.1f}")
        finish(report.n_failed, report.n, "videos")
        return
    for line in headline(report, score=loaded.score):
        print(f"{benchmark}: {line}")
    if usage := usage_line(report.per_question):
        print(f"{benchmark}: {usage}")
    if permute:
        print(
            f"{report.orders['accuracy']:.1%} right in all {report.orders['num_orders']} orders of the options"
        )
    finish(report.n_failed, report.n, "questions")


def fuse(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR...", exists=True, file_okay=False)],
    model: Annotated[list[str], typer.Option(metavar="M", help="The model of each run, in order.")],
    out: Out,
) -> None:
    """Fit weights of several models on their validation runs; --out is a model that answers with all."""
    from tideo.evaluate.fit_fusion import fuse as fit

    settings = fit(run_dirs, models=model, out=out)
    for name, weight in zip(settings.models, settings.weights, strict=True):
        print(f"{weight:8.3f}  {name}", file=sys.stderr)
    print(out)


def report(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR...", exists=True, file_okay=False)],
    out: Annotated[Path | None, typer.Option(metavar="FILE.html", dir_okay=False, callback=new_file)] = None,
    reduction: Annotated[
        str | None, typer.Option(metavar="NAME", help="Choose anew by it: mean, sum, …")
    ] = None,
) -> None:
    """Write one page about one or several runs."""
    from tideo.evaluate.html import write_report

    print(write_report(run_dirs, out=out or run_dirs[0] / "report.html", reduction=reduction))


def export(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Option(metavar="FILE", dir_okay=False, callback=new_file)],
) -> None:
    """Write a run's choices as the benchmark's own scripts read them."""
    from tideo.evaluate.export import export as write

    failed, of = write(run_dir, out=out)
    print(out)
    finish(failed, of, "questions")
