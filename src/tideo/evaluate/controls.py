"""The control conditions of an evaluation: what is changed to see where an answer comes from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tideo.evaluate.benchmark import Benchmark
from tideo.models.interface import AS_TRAINED, Controls, VideoModel
from tideo.registry import unknown
from tideo.types import Sample, UserError

CONTROLS: dict[str, Controls] = {
    "blind": Controls(blind=True),
    "single_frame": Controls(num_frames=1),
    "two_frames": Controls(num_frames=2),
    "five_frames": Controls(num_frames=5),
    "shuffled_frames": Controls(shuffled=0),
    "projection_off": Controls(project=False),
    "text_features": Controls(source="text"),
    "letter_scoring": Controls(form="letter"),
    "text_scoring": Controls(form="text"),
}


def choose_controls(
    names: Sequence[str] | None, samples: Sequence[Sample], *, model: VideoModel, benchmark: Benchmark
) -> dict[str, Controls]:
    """name → Controls; None: all that change something for this model and these questions.

    Raises UserError for an unknown name, or one that this model does not heed or this benchmark does not have.
    """
    if names is None:
        return {
            name: c
            for name, c in CONTROLS.items()
            if _applies(c, samples, model=model) and _has(c, benchmark)
        }
    for name in names:
        if name not in CONTROLS:
            raise UserError(unknown(name, known=CONTROLS, what="control"))
        if not _changed(CONTROLS[name]) <= model.controls:
            raise UserError(f"the control {name} does not apply to model {model.name}: leave it out")
        if not _has(CONTROLS[name], benchmark):
            raise UserError(
                f"the control {name} needs the captions of the frames, which {benchmark.name} has not: leave it out"
            )
    return {name: CONTROLS[name] for name in names}


def _applies(controls: Controls, samples: Sequence[Sample], *, model: VideoModel) -> bool:
    return (
        _changed(controls) <= model.controls
        and controls.form != model.settings.form
        and (controls.form is None or any(s.options for s in samples))
        and controls.num_frames != model.settings.num_frames
    )


def _has(controls: Controls, benchmark: Benchmark) -> bool:
    return controls.source == "video" or benchmark.tideo is not None


def _changed(controls: Controls) -> set[str]:
    return {
        f.name
        for f in dataclasses.fields(Controls)
        if f.name != "rotated" and getattr(controls, f.name) != getattr(AS_TRAINED, f.name)
    }
