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
    """name → Controls; None: all that change something for this model and these questions, of a paid model none.

    Raises UserError for an unknown name, or one that changes nothing for this model or that these questions lack.
    """
    if names is None:
        return {
            name: c
            for name, c in CONTROLS.items()
            if not model.paid
            and _lacking(c, samples, benchmark=benchmark) is None
            and _no_change(c, model=model) is None
        }
    check_names(names, samples, benchmark=benchmark)
    for name in names:
        if (reason := _no_change(CONTROLS[name], model=model)) is not None:
            raise UserError(f"the control {name} does not apply to model {model.name}{reason}: leave it out")
    return {name: CONTROLS[name] for name in names}


def check_names(names: Sequence[str], samples: Sequence[Sample], *, benchmark: Benchmark) -> None:
    """Raises UserError for a name that is none of CONTROLS, or that these questions lack something for."""
    for name in names:
        if name not in CONTROLS:
            raise UserError(unknown(name, known=CONTROLS, what="control"))
        if (reason := _lacking(CONTROLS[name], samples, benchmark=benchmark)) is not None:
            raise UserError(f"the control {name} needs {reason}: leave it out")


def _lacking(controls: Controls, samples: Sequence[Sample], *, benchmark: Benchmark) -> str | None:
    """What these questions would have to have."""
    if controls.form is not None and not any(s.options for s in samples):
        return f"options, which no question of {benchmark.name} has"
    if controls.source == "text":
        if benchmark.tideo is None:
            return f"the captions of the frames, which {benchmark.name} has not"
        try:
            for of_video in {s.video: s for s in samples}.values():
                benchmark.tideo([of_video], num=1)
        except UserError as error:
            return f"the captions of the frames ({error})"
    return None


def _no_change(controls: Controls, *, model: VideoModel) -> str | None:
    """Why a control changes nothing for a model, perhaps without more to say."""
    if not _changed(controls) <= model.controls:
        return f" ({model.no_other_controls})" if model.no_other_controls else ""
    if controls.form is not None and controls.form == model.settings.form:
        return f", whose own form is {controls.form}"
    if controls.num_frames is not None and controls.num_frames == model.num_frames():
        return f", which looks at {controls.num_frames} of the frames anyway"
    if controls.shuffled is not None and model.num_frames() == 1:
        return ", which looks at one frame"
    return None


def _changed(controls: Controls) -> set[str]:
    return {
        f.name
        for f in dataclasses.fields(Controls)
        if f.name != "rotated" and getattr(controls, f.name) != getattr(AS_TRAINED, f.name)
    }
