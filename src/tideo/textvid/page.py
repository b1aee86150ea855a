"""The results of a check, as lines for a terminal and as one HTML page."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

FAULT_NAMES = {
    "schema": "not a Tideo",
    "copy": "copy of another",
    "order": "frames out of order",
    "stranger": "a frame of another video",
    "answer": "doubtful answer",
    "unread": "frames that do not show the answers",
}
FIGURE_NAMES = {
    "words": "words a frame",
    "objects": "things named a frame",
    "attributes": "attributes a frame",
    "actions": "actions a frame",
    "captions": "captions a frame",
    "frames": "frames",
    "effective_tideos": "effective number of Tideos",
    "longest_option": "right by choosing the longest option",
    "shortest_option": "right by choosing the shortest",
    "in_question": "right by words of the question",
    "reading": "right from the frames",
    "blind": "right without the frames",
    "chance": "right by chance",
}
MAX_LISTED = 200  # faults on the page


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The contents of check.json. `num` counts all records, valid or not; `faults` maps a Tideo's id to kind → reason.

    A doubtful answer is a fault of its question: the Tideo is kept without that question, unless several are doubtful
    or none is left. `spread` holds values of every Tideo for plots: `order` (p) and `stranger` (deviations).
    """

    source: str
    num: int
    faults: dict[str, dict[str, str]]
    measures: dict[str, Any]
    spread: dict[str, list[float | None]] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """The number of Tideos with each kind of fault."""
        found = Counter(kind for reasons in self.faults.values() for kind in reasons)
        return {kind: found[kind] for kind in FAULT_NAMES}


def rows(checked: Checked) -> Iterator[tuple[str, str, str]]:
    """Section, name and value of every figure."""
    yield "faults", "records read", str(checked.num)
    if "tideos" in checked.measures:
        for kind, num in checked.counts.items():
            yield "faults", FAULT_NAMES[kind], f"{num} ({num / max(1, checked.num):.1%})"
    for section in ("detail", "diversity", "balance", "leakage", "overlap"):
        for name, value in _flat(checked.measures.get(section, {})):
            yield section, name, value


def _flat(figures: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in figures.items():
        name = f"{before}{FIGURE_NAMES.get(name, name)}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}: ")
        else:
            yield name, f"{value:.3f}" if isinstance(value, float) else str(value)


def page(checked: Checked) -> str:
    """The HTML page."""
    template = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    ).get_template("check.html.j2")
    has_spread = any(value is not None for values in checked.spread.values() for value in values)
    return template.render(
        source=checked.source,
        figures=list(rows(checked)),
        plots=_plots(checked) if has_spread else "",
        faults=[
            (idx, FAULT_NAMES.get(kind, kind), reason)
            for idx, reasons in checked.faults.items()
            for kind, reason in reasons.items()
        ],
        most_listed=MAX_LISTED,
    )


def _plots(checked: Checked) -> str:
    from matplotlib.figure import Figure

    letters = checked.measures.get("balance", {}).get("letters", {})
    figure = Figure(figsize=(10, 2.8), layout="constrained")
    axes = figure.subplots(1, 3)
    titles = {
        "order": "random orders that fit as well (p)",
        "stranger": "the oddest frame, deviations",
    }
    for axis, (name, title) in zip(axes, titles.items(), strict=False):
        axis.hist([v for v in checked.spread.get(name, []) if v is not None], bins=40, color="#2563a8")
        axis.set_title(title, fontsize=10)
    axes[2].bar(list(letters), [100 * share for share in letters.values()], color="#2563a8")
    axes[2].set_title("right answers by letter, %", fontsize=10)
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return file.getvalue()[file.getvalue().index("<svg") :]
