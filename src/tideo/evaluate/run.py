"""A benchmark, a model and its controls → a run directory that a kill at any time cannot spoil.

    OUT/run.json        what was run: recipe, versions, commit, command
    OUT/answers.jsonl   one Answer a line, under a key that hashes all that it depends on
    OUT/report.json, OUT/report.html (of captions OUT/captions.json)

A second call answers only what has no answer yet: more questions, another control, a video that was missing.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tideo import registry
from tideo.evaluate.answers import (
    ANSWERS_FILE,
    MAIN,
    Item,
    by_segment,
    drop_failed,
    drop_replaced,
    plan,
    read_answers,
)
from tideo.evaluate.caption_scores import CaptionReport, read_caption_report, scorers, summarise_captions
from tideo.evaluate.controls import choose_controls
from tideo.evaluate.html import write_report
from tideo.evaluate.loop import answer_all
from tideo.evaluate.option_order import orders
from tideo.evaluate.processes import Team, gather, team
from tideo.evaluate.summary import Report, Unscored, num_failed, read_report, summarise_run
from tideo.models.interface import AS_TRAINED, Controls, VideoModel
from tideo.models.load import load_model
from tideo.runs import RUN_FILE, read_run, write_run
from tideo.store.records import RecordStore, read_records
from tideo.types import Answer, Sample, UserError

log = logging.getLogger(__name__)


def evaluate(
    *,
    benchmark: str,
    data: str | Path,
    videos: str | Path,
    model: str | VideoModel,
    out: str | Path,
    limit: int | None = None,
    controls: Sequence[str] | None = None,
    reduction: str | None = None,
    permute: bool = False,
    missing: Literal["wrong", "skip"] = "wrong",
    retry_failed: bool = False,
) -> Report:
    """Answer a benchmark's questions and write the run directory; continues where an earlier call stopped.

    `limit` takes the first questions. `controls` are names in plan.CONTROLS; None takes all that apply.
    `reduction`: a name in scoring.py, else the model's own. `permute` asks with the options in every cyclic
    order. A question that fails is kept with its error and counts as wrong, unless `missing` leaves out those whose
    video is missing; `retry_failed` asks again what failed before. Raises UserError for a wrong name, malformed data,
    or an OUT of another model or benchmark; Unscored where all is answered and no right answer is known.
    """
    out, of_team = Path(out), team()
    done = _answered(
        "benchmarks", benchmark, data=data, videos=videos, model=model, out=out, limit=limit, controls=controls,
        reduction=reduction, permute=permute, missing=missing, retry_failed=retry_failed, of_team=of_team,
    )  # fmt: skip
    if all(s.answer is None for s in done.samples):
        failed = num_failed(done.samples, done.answers[MAIN]) if of_team.first else 0
        raise Unscored(out, n=len(done.samples), n_failed=failed)
    if not of_team.first:
        of_team.wait()  # for the report
        return read_report(out)
    report = summarise_run(
        done.samples,
        done.answers,
        reduction=done.recipe["reduction"],
        controls=done.recipe["controls"],
        **done.about,
    )
    report.save(out)
    write_report([out], out=out / "report.html")
    of_team.wait()
    return report


def evaluate_captions(
    *,
    benchmark: str,
    data: str | Path,
    videos: str | Path,
    model: str | VideoModel,
    out: str | Path,
    limit: int | None = None,
    controls: Sequence[str] | None = None,
    missing: Literal["wrong", "skip"] = "wrong",
    retry_failed: bool = False,
) -> CaptionReport:
    """Describe a benchmark's videos (`tideo list captions`), as `evaluate` answers questions; OUT/captions.json."""
    scorers()  # what is missing is told before anything is described
    out, of_team = Path(out), team()
    done = _answered(
        "captions", benchmark, data=data, videos=videos, model=model, out=out, limit=limit, controls=controls,
        missing=missing, retry_failed=retry_failed, of_team=of_team,
    )  # fmt: skip
    if of_team.first:
        summarise_captions(done.samples, done.answers, controls=done.recipe["controls"], **done.about).save(
            out
        )
    of_team.wait()
    return read_caption_report(out)


@dataclass(frozen=True, kw_only=True)
class _Answered:
    samples: list[Sample]
    answers: dict[str, dict[str, Answer]]  # by control and sample id
    recipe: dict[str, Any]
    about: dict[str, Any]  # what a report tells of the run


def _answered(
    kind: str,
    benchmark: str,
    *,
    data: str | Path,
    videos: str | Path,
    model: str | VideoModel,
    out: Path,
    limit: int | None,
    controls: Sequence[str] | None,
    reduction: str | None = None,
    permute: bool = False,
    missing: Literal["wrong", "skip"],
    retry_failed: bool,
    of_team: Team,
) -> _Answered:
    """Answer what has no answer yet. The first process gathers the answers of all; what the others return has none."""
    samples: list[Sample] = registry.load(kind, benchmark)(data, videos=videos)[:limit]
    every = len(samples)
    if missing == "skip":
        samples = _with_video(samples)
    asked = load_model(model) if isinstance(model, str) else model
    in_order = {MAIN: AS_TRAINED, **(orders(samples) if permute else {})}
    named = {**in_order, **choose_controls(controls, samples, model=asked)}
    recipe = {
        "benchmark": benchmark,
        "data": str(data),
        "videos": str(videos),
        "model": asked.name,
        "settings": dataclasses.asdict(asked.settings),
        "limit": limit,
        "controls": [name for name in named if name not in in_order],
        "reduction": reduction or asked.settings.reduction,
        "permute": permute,
        "missing": missing,
    }
    _check_same_run(out, benchmark=benchmark, model=asked.name)
    items = plan(samples, named, model=asked)
    if of_team.first:
        write_run(out, recipe=recipe)
        gather(out)
        if retry_failed:
            drop_failed(out / ANSWERS_FILE)
    _answer_shares(items, named, model=asked, out=out, of_team=of_team)
    if of_team.first:
        drop_replaced(out / ANSWERS_FILE, items)
    answers, strange = read_answers(out) if of_team.first else ({}, set())
    about = {
        "benchmark": benchmark,
        "model": asked.name,
        "run": dataclasses.asdict(read_run(out)),
        "n_strange": len({s.video.id for s in samples if s.id in strange}),
        "n_left_out": every - len(samples),
    }
    return _Answered(
        samples=samples,
        answers={name: answers[name] for name in named if name in answers},
        recipe=recipe,
        about=about,
    )


def _answer_shares(
    items: Sequence[Item], named: Mapping[str, Controls], *, model: VideoModel, out: Path, of_team: Team
) -> None:
    """Each process answers every so many-th segment of those that have questions without an answer."""
    of_team.wait()
    done = {r["key"] for r in read_records(out / ANSWERS_FILE)}
    of_team.wait()  # nobody writes before all have read the same
    segments = list(by_segment(item for item in items if item.key not in done))
    with RecordStore(of_team.answers(out), id_field="key") as store:
        answer_all(segments[of_team.rank :: of_team.size], named, model=model, store=store)
    of_team.wait()
    if of_team.first:
        gather(out)


def _with_video(samples: Sequence[Sample]) -> list[Sample]:
    """The questions whose video is there; the others are told. Raises UserError where none is left."""
    there = {path: Path(path).exists() for path in {s.video.path for s in samples}}
    kept = [s for s in samples if there[s.video.path]]
    if not kept:
        raise UserError(
            f"none of {len(there)} videos is there, such as {min(there)}: give their folder with --videos"
        )
    if len(kept) < len(samples):
        gone = sorted(path for path, is_there in there.items() if not is_there)
        log.warning(
            "%d questions about %d missing videos are left out: %s%s",
            len(samples) - len(kept), len(gone), ", ".join(gone[:5]), " …" if len(gone) > 5 else "",
        )  # fmt: skip
    return kept


def _check_same_run(out: Path, *, benchmark: str, model: str) -> None:
    if not (out / RUN_FILE).exists():
        return
    there = read_run(out).recipe
    if (there.get("benchmark"), there.get("model")) != (benchmark, model):
        raise UserError(
            f"{out} holds a run of {there.get('model')} on {there.get('benchmark')}, "
            f"not of {model} on {benchmark}: give another --out"
        )
