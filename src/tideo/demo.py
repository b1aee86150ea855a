"""`tideo demo`: render episodes that no model was trained on, evaluate the bundled models, show the results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from tideo.benchmarks.dollhouse import dollhouse
from tideo.dollhouse.export import make
from tideo.evaluate.answers import MAIN, read_answers
from tideo.evaluate.html import write_report
from tideo.evaluate.run import evaluate
from tideo.evaluate.summary import Report, read_report
from tideo.models.interface import VideoModel
from tideo.models.load import load_model
from tideo.scoring import decide
from tideo.types import Answer, Sample
from tideo.video.decode import decode_at

# About 170 questions: rendering the videos and answering takes a minute or two on two cores.
NUM_EPISODES = 14
COLUMNS = 5  # frames in a row of example.png


def demo(
    *,
    out: str | Path,
    model: str | VideoModel = "dollhouse-topa",
    others: Sequence[str | VideoModel] = ("dollhouse-grid", "dollhouse-fusion"),
    num_episodes: int = NUM_EPISODES,
) -> Report:
    """Write OUT/dollhouse (a small test split), OUT/report.json, OUT/report.html and OUT/example.png.

    `model` is evaluated with all its controls, the `others` without controls, in subfolders of OUT. Prints the table of
    results and one question with its answer. A second call continues where the first one stopped. Raises UserError if
    a model is missing.
    """
    out = Path(out)
    # Models load first: a missing one is reported before the videos are rendered.
    main, *rest = [load_model(m) if isinstance(m, str) else m for m in (model, *others)]
    data = out / "dollhouse"
    make(split="test", num=num_episodes, out=data)
    runs = {out: main} | {out / m.name: m for m in rest}
    for run, m in runs.items():
        controls: list[str] | None = None if m is main else []
        evaluate(
            benchmark="dollhouse", data=data, videos=data / "videos", model=m, out=run, controls=controls
        )
    report, *other_reports = map(read_report, runs)
    write_report(list(runs), out=out / "report.html")
    console = Console()
    console.print(_table(report, other_reports))
    _print_example(
        out, dollhouse(data, videos=data / "videos"), reduction=main.settings.reduction, console=console
    )
    return report


def _table(report: Report, other_reports: Sequence[Report]) -> Table:
    table = Table(title=f"{report.n} questions", title_justify="left")
    for name in ("model", "accuracy %", "95% interval"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for result in (report, *other_reports):
        table.add_row(f"[bold]{result.model}", *_cells(result.accuracy, result.ci95))
    table.add_section()
    table.add_row(f"[dim]controls of {report.model}")
    for name, control in report.controls.items():
        table.add_row(name.replace("_", " "), *_cells(control["accuracy"], control["ci95"]))
    return table


def _cells(accuracy: float, ci95: tuple[float, float]) -> tuple[str, str]:
    return f"{100 * accuracy:.1f}", f"{100 * ci95[0]:.1f} to {100 * ci95[1]:.1f}"


def _print_example(out: Path, samples: list[Sample], *, reduction: str, console: Console) -> None:
    """Print the first question about what happens before or after, and its answer; its frames become one picture."""
    answers, _ = read_answers(out)
    with_frames = [s for s in samples if answers[MAIN][s.id].pts_s]
    sample = next((s for s in with_frames if s.kind in ("TN", "TP")), with_frames[0] if with_frames else None)
    if sample is None:
        return
    answer = decide(answers[MAIN][sample.id], reduction=reduction)
    picture = _picture(sample, answer, path=out / "example.png")
    console.print(f"\n[bold]{sample.question}", highlight=False)
    for i, option in enumerate(sample.options):
        marks = ("answered " if i == answer.choice else "") + ("right" if i == sample.answer else "")
        console.print(f"  {'ABCDE'[i]} {option:40} {marks}".rstrip(), highlight=False)
    console.print(f"the frames that the model saw: {picture}", highlight=False, soft_wrap=True)


def _picture(sample: Sample, answer: Answer, *, path: Path) -> Path:
    """Write the frames of an answer to `path`, in rows of COLUMNS."""
    rgb_THWC = decode_at(sample.video.path, answer.pts_s).rgb_THWC
    blank = np.full_like(rgb_THWC[:1], 255)
    padded = np.concatenate([rgb_THWC, *[blank] * (-len(rgb_THWC) % COLUMNS)])
    rows = [np.concatenate(list(padded[i : i + COLUMNS]), axis=1) for i in range(0, len(padded), COLUMNS)]
    Image.fromarray(np.concatenate(rows)).save(path)
    return path
