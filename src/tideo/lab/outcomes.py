"""What the models of a study answered: a small file a model, so that what is there is neither made nor asked again.

The files of one machine count on another, once they are put there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tideo.lab.tables import Rates
from tideo.store.files import atomic_write_text, key_of
from tideo.types import Sample, UserError


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of one model, by condition: 1 or 0 for each question. `figures`: what else is told of it."""

    rates: Mapping[str, Rates]
    figures: Mapping[str, float] = field(default_factory=dict)


class Outcomes:
    """FOLDER/NAME.json: the right answers as a row of digits, in the order of `samples`.

    `about` is all that an outcome depends on, but for the questions and the code.
    """

    def __init__(self, folder: Path, samples: Sequence[Sample]) -> None:
        self.folder, self.samples = folder, samples
        self._asked = [[s.id, s.question, s.options, s.answer] for s in samples]

    def keep(self, name: str, outcome: Outcome, *, about: Any) -> Outcome:
        right = {c: "".join(str(int(of[s.id])) for s in self.samples) for c, of in outcome.rates.items()}
        kept = {"key": self._key(about), "figures": dict(outcome.figures), "right": right}
        atomic_write_text(self._file(name), json.dumps(kept, indent=1) + "\n")
        return outcome

    def kept(self, name: str, *, about: Any) -> Outcome | None:
        """Raises UserError for an outcome of something else."""
        file = self._file(name)
        if not file.is_file():
            return None
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["key"] != self._key(about):
            raise UserError(
                f"{file} is of another recipe or of other questions: take it away, or give another --out"
            )
        rates = {
            condition: {s.id: float(digit) for s, digit in zip(self.samples, digits, strict=True)}
            for condition, digits in kept["right"].items()
        }
        return Outcome(rates=rates, figures=kept["figures"])

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _key(self, about: Any) -> str:
        return key_of([about, self._asked])
