"""Run directories → one HTML page that needs no network: figures, controls, bars by kind, and all questions."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from tideo.config import from_plain
from tideo.evaluate.answers import MAIN, read_answers
from tideo.evaluate.benchmark import load_benchmark
from tideo.evaluate.grounding import in_evidence
from tideo.evaluate.questions import Condition, all_questions, question
from tideo.evaluate.strip import relevance_strip
from tideo.evaluate.summary import compared, read_report, summarise_run, usage_line
from tideo.models.grid.settings import OF_GRIDS, GridSettings
from tideo.scoring import decide
from tideo.store.files import atomic_write_text
from tideo.types import Answer, Frames, Sample, UserError, VideoError
from tideo.video.decode import decode_at

TEMPLATE = "report.html.j2"
PAGE = 20  # questions that the page shows at a time, and without its script
THUMBNAIL_WIDTH, GRID_WIDTH = 144, 480


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A question of the gallery, with the pictures that its model saw."""

    question: dict[str, Any]  # of questions.py
    frames: tuple[tuple[str, float, bool], ...]  # data URI, time in seconds, inside the evidence
    grids: tuple[str, ...] = ()  # data URIs of the images that a grid model saw instead
    note: str = ""
    strip: str = ""  # SVG of the video's relevance, where a selector chose the frames


@dataclass(frozen=True, kw_only=True)
class _Run:
    name: str
    report: dict[str, Any]
    conditions: list[Condition]  # the result first, then the controls
    kinds: Mapping[str, str]  # in words
    note: str

    @property
    def samples(self) -> Sequence[Sample]:
        return self.conditions[0].samples

    @property
    def answers(self) -> Mapping[str, Answer]:
        return self.conditions[0].answers


def write_report(
    run_dirs: Sequence[str | Path], *, out: str | Path, examples: int = 6, reduction: str | None = None
) -> Path:
    """Write one page about one or several runs: all questions, and `examples` right and wrong ones with their frames.

    Runs over the same questions are compared with the first one. With another `reduction` than theirs the choices are
    made anew from the likelihoods, without a model, and the runs are left as they are. Raises UserError where a
    directory holds no finished run.
    """
    directories = [Path(d) for d in run_dirs]
    names = [d.resolve().name for d in directories]
    if len(set(names)) < len(names):
        names = [str(d) for d in directories]
    runs = [_read(d, name=name, reduction=reduction) for d, name in zip(directories, names, strict=True)]
    views = [
        {
            "name": run.name,
            "report": run.report,
            "kinds": run.kinds,
            "right": _gallery(run, right=True, num=examples),
            "wrong": _gallery(run, right=False, num=examples),
            "difference": _minus(runs[0], run) if run is not runs[0] else None,
            "note": run.note,
            "usage": usage_line(run.report["per_question"]),
        }
        for run in runs
    ]
    conditions = [
        replace(c, name=f"{run.name}: {c.name}") if len(runs) > 1 else c
        for run in runs
        for c in run.conditions
    ]
    page = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(TEMPLATE)
    html = page.render(
        runs=views,
        conditions=[c.name for c in conditions],
        questions=all_questions(conditions),
        page_size=PAGE,
        kinds={kind: words for run in runs for kind, words in run.kinds.items()},
    )
    atomic_write_text(out, html)
    return Path(out)


def _read(directory: Path, *, name: str, reduction: str | None) -> _Run:
    report = dataclasses.asdict(read_report(directory))
    recipe = report["run"]["recipe"]
    answers, _ = read_answers(directory)
    anew = reduction not in (None, recipe["reduction"])
    samples: list[Sample] = []
    kinds: Mapping[str, str] = {}
    note = ""
    try:
        benchmark = load_benchmark(recipe["benchmark"])
        kinds = benchmark.kinds
        samples = benchmark.read(recipe["data"], videos=recipe["videos"])[: recipe["limit"]]
    except UserError as error:
        if anew:
            raise
        note = f"No questions: {error}"  # the figures need none
    if anew:
        recipe["reduction"] = reduction
        report |= _decided_anew(report, samples, answers)
    conditions = [
        Condition(
            name="the result" if control == MAIN else control.replace("_", " "),
            samples=samples,
            answers={
                i: decide(a, reduction=recipe["reduction"]) for i, a in answers.get(control, {}).items()
            },
            reduction=recipe["reduction"],
            is_control=control != MAIN,
        )
        for control in (MAIN, *report["controls"])
    ]
    return _Run(name=name, report=report, conditions=conditions, kinds=kinds, note=note)


def _decided_anew(
    report: dict[str, Any], samples: Sequence[Sample], answers: Mapping[str, Mapping[str, Answer]]
) -> dict[str, Any]:
    """The report's figures under the reduction that its recipe now names."""
    recipe = report["run"]["recipe"]
    samples = [s for s in samples if s.id in answers[MAIN]]
    about = {name: report[name] for name in ("benchmark", "model", "run", "n_strange", "n_left_out")}
    result = summarise_run(
        samples, answers, reduction=recipe["reduction"], controls=recipe["controls"], **about
    )
    return dataclasses.asdict(result)


def _minus(first: _Run, other: _Run) -> dict[str, Any] | None:
    """The first run's accuracy minus the other's, over the questions that both answered; None where there are none."""
    both = [
        s for s in first.samples if s.answer is not None and s.id in first.answers and s.id in other.answers
    ]
    same = {s.id: (s.question, s.options) for s in other.samples}
    both = [s for s in both if same.get(s.id) == (s.question, s.options)]
    return compared(both, first.answers, other.answers) if both else None


# --- gallery ---------------------------------------------------------------------------------------


def _gallery(run: _Run, *, right: bool, num: int) -> list[Shown]:
    """Up to `num` questions, of as many kinds and videos as there are."""
    by_kind: dict[str, list[Sample]] = defaultdict(list)
    for sample in run.samples:
        answer = run.answers.get(sample.id)
        if sample.answer is not None and answer is not None and (answer.choice == sample.answer) == right:
            by_kind[sample.kind].append(sample)
    seen: defaultdict[str, int] = defaultdict(int)
    chosen: list[Sample] = []
    while len(chosen) < num and any(by_kind.values()):
        for kind in [k for k, of in by_kind.items() if of][: num - len(chosen)]:
            sample = min(by_kind[kind], key=lambda s: seen[s.video.id])
            by_kind[kind].remove(sample)
            seen[sample.video.id] += 1
            chosen.append(sample)
    return [_shown(s, run) for s in chosen]


def _shown(sample: Sample, run: _Run) -> Shown:
    answer = run.answers[sample.id]
    frames, note = _looked_at(sample, answer)
    settings = run.report["run"]["recipe"].get("settings", {})
    shows_grid = "rows" in settings and settings.get("look", "auto") in OF_GRIDS
    return Shown(
        question=question(sample, run.conditions[0]),
        frames=() if frames is None or shows_grid else _thumbnails(sample, frames),
        grids=() if frames is None or not shows_grid else _grids(frames, settings),
        note=note,
        strip=relevance_strip(answer.relevance, pts_s=answer.pts_s, evidence_s=sample.evidence_s),
    )


def _looked_at(sample: Sample, answer: Answer) -> tuple[Frames | None, str]:
    """The frames that the model looked at, or a note why they cannot be shown."""
    if not answer.pts_s:
        return None, ""
    try:
        return decode_at(sample.video.path, answer.pts_s, video_id=sample.video.id), ""
    except VideoError as error:
        return None, f"No frames: {error}"


def _thumbnails(sample: Sample, frames: Frames) -> tuple[tuple[str, float, bool], ...]:
    pairs = zip(frames.rgb_THWC, frames.pts_s_T.tolist(), strict=True)
    return tuple((jpeg_uri(rgb_HWC), pts_s, in_evidence(pts_s, sample)) for rgb_HWC, pts_s in pairs)


def _grids(frames: Frames, settings: dict[str, Any]) -> tuple[str, ...]:
    """The images as the model saw them, but of their frames' own size."""
    of_grid = {field.name: settings[field.name] for field in fields(GridSettings) if field.name in settings}
    shown = replace(from_plain(GridSettings, of_grid), image_size=GRID_WIDTH)
    images = shown.images(frames, one_frame=len(frames) == 1)
    return tuple(jpeg_uri(np.asarray(image), width=GRID_WIDTH) for image in images)


def jpeg_uri(rgb_HWC: np.ndarray, *, width: int = THUMBNAIL_WIDTH) -> str:
    """A small JPEG of the picture as a data URI."""
    image = Image.fromarray(rgb_HWC)
    image.thumbnail((width, width))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
