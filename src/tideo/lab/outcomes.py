"""The outcomes of a study, one small file per model: a model whose file exists is neither trained nor evaluated again.

The files can be copied to another machine, which then continues the study.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from tideo.lab.tables import Rates
from tideo.store.files import atomic_write_text, key_of
from tideo.types import Sample, UserError


def chosen(config: Any) -> Any:
    """The settings of a recipe that are not their class's defaults, as JSON values, for `about`.

    So a setting that comes later, with a default that changes nothing, leaves outcomes valid. A default whose value
    changes does not: who changes one removes the outcomes that it concerns.
    """
    if isinstance(config, tuple | list):
        return [chosen(value) for value in config]
    if not is_dataclass(config) or isinstance(config, type):
        return config
    settings = {}
    for of in fields(config):
        value = getattr(config, of.name)
        default = of.default_factory() if of.default_factory is not MISSING else of.default
        if default is MISSING or value != default:
            settings[of.name] = chosen(value)
    return settings


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of one model: 1 or 0 for each question, by condition. `figures`: other numbers that the study reports."""

    rates: Mapping[str, Rates]
    figures: Mapping[str, float] = field(default_factory=dict)


class Outcomes:
    """FOLDER/NAME.json: per question the digit 1 if the answer is right, else 0, in the order of `samples`.

    `about` is everything that an outcome depends on, except the questions and the code.
    """

    def __init__(self, folder: Path, samples: Sequence[Sample]) -> None:
        self.folder, self.samples = folder, samples
        self._questions = [[s.id, s.question, s.options, s.answer] for s in samples]

    def keep(self, name: str, outcome: Outcome, *, about: Any) -> Outcome:
        """Write the outcome, and return it."""
        right = {
            condition: "".join(str(int(rates[s.id])) for s in self.samples)
            for condition, rates in outcome.rates.items()
        }
        content = {"key": self._key(about), "figures": dict(outcome.figures), "right": right}
        atomic_write_text(self._file(name), json.dumps(content, indent=1) + "\n")
        return outcome

    def kept(self, name: str, *, about: Any) -> Outcome | None:
        """The outcome that `keep` wrote, None if there is none. Raises UserError if it depends on something else."""
        file = self._file(name)
        if not file.is_file():
            return None
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["key"] != self._key(about):
            raise UserError(
                f"{file} is of another recipe or of other questions: remove it, or give another --out"
            )
        rates = {
            condition: {s.id: float(digit) for s, digit in zip(self.samples, digits, strict=True)}
            for condition, digits in content["right"].items()
        }
        return Outcome(rates=rates, figures=content["figures"])

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _key(self, about: Any) -> str:
        return key_of([about, self._questions])
