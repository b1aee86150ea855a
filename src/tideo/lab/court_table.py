"""The verdict of the sampler court: a table in Markdown and a plot, with paired intervals against `middle`."""

from __future__ import annotations

import io
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLED = 2000  # draws of the bootstrap
BASELINE = "middle"
MEASURES = {"hit": "evidence recall", "text_only": "text-only", "grid": "grid"}
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A sampler's rows at one length and number of frames, one a question.

    `look_s`: seconds to choose and decode the frames once, for a question, or for a video where all questions share
    them. `pool_s`: seconds that the pool of a video took, 0 without one.
    """

    seconds: int
    budget: int
    sampler: str
    look_s: float
    pool_s: float
    rows: Sequence[Row]


def table(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The figures of table.json, one for each cell: shares from 0 to 1, and differences from `middle`."""
    by_place = {(c.seconds, c.budget, c.sampler): c for c in cells}
    figures = []
    for cell in cells:
        base = by_place.get((cell.seconds, cell.budget, BASELINE))
        figure: dict[str, Any] = {
            "seconds": cell.seconds,
            "frames": cell.budget,
            "sampler": cell.sampler,
            "questions": len(cell.rows),
            "videos": len({row["video"] for row in cell.rows}),
            "look_s": cell.look_s,
            "pool_s": cell.pool_s,
        }
        for measure in MEASURES:
            values = _values(cell, measure)
            figure[measure] = sum(values.values()) / len(values) if values else None
            if base is not None and base is not cell and values:
                figure[f"{measure}_minus_{BASELINE}"] = _difference(cell, base, measure)
        figures.append(figure)
    return figures


def paired_bootstrap(
    deltas: Sequence[float], *, clusters: Sequence[Hashable], seed: int = 0
) -> tuple[float, float]:
    """The 95% percentile interval of the mean of paired differences; whole videos (the clusters) are drawn again."""
    names = list(dict.fromkeys(clusters))
    of_cluster = np.array([names.index(c) for c in clusters])
    sums_G = np.bincount(of_cluster, weights=np.asarray(deltas, dtype=float), minlength=len(names))
    counts_G = np.bincount(of_cluster, minlength=len(names))
    drawn = np.random.default_rng(seed).integers(0, len(names), (RESAMPLED, len(names)))
    low, high = np.percentile(sums_G[drawn].sum(axis=1) / counts_G[drawn].sum(axis=1), [2.5, 97.5])
    return float(low), float(high)


def page(figures: Sequence[Mapping[str, Any]]) -> str:
    """table.md: an overview for each number of frames, then all figures."""
    budgets = sorted({f["frames"] for f in figures})
    lines = [
        line
        for num in budgets
        for line in (
            f"{num} frames: {', '.join(MEASURES.values())}, in percent",
            "",
            *overview(figures, num),
            "",
        )
    ]
    lines += [
        "Shares in percent; in brackets the difference from `middle` with its 95% interval, a paired bootstrap over "
        "videos. Chance is 20. The text-only model is shown at most 10 of the frames, evenly.",
        "",
        "| length | frames | sampler | questions (videos) | " + " | ".join(MEASURES.values()) + " "
        "| s to choose and decode | s for the pool of a video |",
        "|---" * (6 + len(MEASURES)) + "|",
    ]
    for figure in figures:
        shares = [_share(figure, measure) for measure in MEASURES]
        costs = [f"{figure['look_s']:.2f}", f"{figure['pool_s']:.1f}" if figure["pool_s"] else ""]
        about = f"{figure['questions']} ({figure['videos']})"
        place = [_length(figure["seconds"]), str(figure["frames"]), figure["sampler"]]
        lines.append("| " + " | ".join([*place, about, *shares, *costs]) + " |")
    return "\n".join(lines) + "\n"


def overview(figures: Sequence[Mapping[str, Any]], frames: int) -> list[str]:
    """The lines of a table with a row for each sampler and a column for each length, for one number of frames."""
    chosen = {(f["sampler"], f["seconds"]): f for f in figures if f["frames"] == frames}
    lengths = sorted({seconds for _, seconds in chosen})
    lines = ["| sampler | " + " | ".join(map(_length, lengths)) + " |", "|---" * (1 + len(lengths)) + "|"]
    for sampler in dict.fromkeys(name for name, _ in chosen):
        of_sampler = [chosen.get((sampler, seconds), {}) for seconds in lengths]
        cells = [" · ".join(_percent(figure.get(measure)) for measure in MEASURES) for figure in of_sampler]
        lines.append("| " + " | ".join([sampler, *cells]) + " |")
    return lines


def plot(figures: Sequence[Mapping[str, Any]]) -> str:
    """An SVG: each measure by the length of the video, a line for each sampler, a row for each number of frames."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    budgets = sorted({f["frames"] for f in figures})
    samplers = list(dict.fromkeys(f["sampler"] for f in figures))
    figure = Figure(figsize=(12, 3.2 * len(budgets)), layout="constrained")
    axes = figure.subplots(len(budgets), len(MEASURES), squeeze=False)
    for row, budget in enumerate(budgets):
        for axis, (measure, title) in zip(axes[row], MEASURES.items(), strict=True):
            for color, sampler in enumerate(samplers):
                points = [
                    (f["seconds"] / 60, 100 * f[measure])
                    for f in figures
                    if (f["frames"], f["sampler"]) == (budget, sampler) and f[measure] is not None
                ]
                style = "--" if sampler == "oracle" else "-"
                axis.plot(
                    *zip(*sorted(points), strict=True), style, marker=".", color=f"C{color}", label=sampler
                )
            axis.set(xscale="log", xlabel="minutes", ylim=(0, 101), title=f"{title}, {budget} frames, %")
    axes[0][-1].legend(fontsize=7)
    file = io.StringIO()
    with rc_context(
        {"svg.hashsalt": "court", "svg.fonttype": "none"}
    ):  # the same figures give the same bytes
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return file.getvalue()


def _values(cell: Cell, measure: str) -> dict[str, float]:
    return {row["id"]: row[measure] for row in cell.rows if row[measure] is not None}


def _difference(cell: Cell, base: Cell, measure: str) -> dict[str, Any]:
    ours, theirs = _values(cell, measure), _values(base, measure)
    deltas = [ours[name] - theirs[name] for name in ours]
    videos = {row["id"]: row["video"] for row in cell.rows}
    ci95 = paired_bootstrap(deltas, clusters=[videos[name] for name in ours])
    return {"difference": sum(deltas) / len(deltas), "ci95": list(ci95)}


def _share(figure: Mapping[str, Any], measure: str) -> str:
    if figure[measure] is None:
        return ""
    share = f"{100 * figure[measure]:.1f}"
    if (less := figure.get(f"{measure}_minus_{BASELINE}")) is None:
        return share
    low, high = (100 * bound for bound in less["ci95"])
    return f"{share} ({100 * less['difference']:+.1f}: {low:+.1f} to {high:+.1f})"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f}"


def _length(seconds: int) -> str:
    return f"{seconds} s" if seconds < 60 else f"{seconds / 60:g} min"
