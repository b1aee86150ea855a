"""A benchmark, a model and its controls → a run directory that a kill at any time cannot spoil.

    OUT/run.json        what was run: recipe, versions, commit, command
    OUT/answers.jsonl   one Answer a line, under a key that hashes all that it depends on
    OUT/report.json, OUT/report.html (of captions OUT/captions.json)

A second call answers only what has no answer yet: more questions, another control, a video that was missing.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from tideo.evaluate.ahead import default_workers
from tideo.evaluate.answers import (
    ANSWERS_FILE,
    MAIN,
    Item,
    announced,
    by_segment,
    drop_failed,
    plan,
    read_answers,
    settle,
)
from tideo.evaluate.benchmark import Benchmark, TideoOf, load_benchmark
from tideo.evaluate.caption_scores import CaptionReport, read_caption_report, scorers, summarise_captions
from tideo.evaluate.controls import check_names, choose_controls
from tideo.evaluate.html import write_report
from tideo.evaluate.loop import answer_all
from tideo.evaluate.option_order import option_orders
from tideo.evaluate.processes import answers_of, gather
from tideo.evaluate.summary import Report, Unscored, num_failed, read_report, summarise_run
from tideo.models.interface import AS_TRAINED, DO_NOT_TRUST, NO_POOLS, Controls, VideoModel
from tideo.models.load import load_model
from tideo.processes import Processes
from tideo.runs import RUN_FILE, read_run, write_run
from tideo.scoring import scores
from tideo.store.records import RecordStore, read_records
from tideo.types import Sample, UserError

log = logging.getLogger(__name__)


def evaluate(
    *,
    benchmark: str,
    data: str | Path,
    videos: str | Path,
    model: str | VideoModel,
    out: str | Path,
    model_args: Sequence[str] = (),
    limit: int | None = None,
    controls: Sequence[str] | None = None,
    reduction: str | None = None,
    permute: bool = False,
    missing: Literal["wrong", "skip"] = "wrong",
    retry_failed: bool = False,
    workers: int | None = None,
    features: str | Path | None = None,
) -> Report | CaptionReport:
    """Answer a benchmark's questions and write the run directory; continues where an earlier call stopped.

    The videos of a benchmark of SCORE "cider" are described in the same way; only then the report is a CaptionReport.
    `model_args` are those of `load_model`, for a model given by its name. `limit` takes the first questions.
    `controls` are names in controls.CONTROLS; None takes all that apply.
    `reduction`: a name in scoring.py, else the model's own. `permute` asks with the options in every cyclic
    order. A question that fails is kept with its error and counts as wrong, unless `missing` leaves out those whose
    video is missing; `retry_failed` asks again what failed before. `features` is a folder that keeps the
    pools that a selector chooses from, by default one below OUT. `workers` threads decode videos, by default one for
    each core. Raises UserError for a wrong name, malformed data, or an OUT of another model or benchmark;
    Unscored where all is answered and no right answer is known.
    """
    out, processes = Path(out), Processes.launched()
    loaded = load_benchmark(benchmark)
    if loaded.describes:
        scorers()  # raises before anything is described if something is missing
    samples = loaded.read(data, videos=videos)[:limit]
    num_read = len(samples)
    if missing == "skip":
        samples = _with_video(samples)
    # All that is cheap comes before the weights.
    check_names(controls or (), samples, benchmark=loaded)
    if reduction is not None:
        scores((), (), reduction=reduction)  # raises for an unknown one
    if isinstance(model, str):
        _check_same_run(out, benchmark=benchmark)
        model = load_model(model, args=model_args)
    _check_same_run(out, benchmark=benchmark, model=model.name)
    if (out / RUN_FILE).exists() and hasattr(model.settings, "as_begun"):
        model.settings = model.settings.as_begun(read_run(out).recipe.get("settings") or {})
    if features is not None and not model.chooses:
        raise UserError(NO_POOLS)
    if model.chooses:
        model.keep_pools(features or out / "pools-{encoder}")
    in_order = {MAIN: AS_TRAINED, **(option_orders(samples) if permute else {})}
    named = {**in_order, **choose_controls(controls, samples, model=model, benchmark=loaded)}
    decided_by: str = reduction or model.settings.reduction
    recipe = {
        "benchmark": benchmark,
        "data": str(data),
        "videos": str(videos),
        "model": model.name,
        "settings": dataclasses.asdict(model.settings),
        "limit": limit,
        "controls": [name for name in named if name not in in_order],
        "reduction": decided_by,
        "permute": permute,
        "missing": missing,
    }
    items = plan(samples, named, model=model, benchmark=loaded)
    if processes.first:
        write_run(out, recipe=recipe)
        gather(out)
        if retry_failed:
            drop_failed(out / ANSWERS_FILE)
    _answer_shares(
        items, named, model=model, tideo_of=loaded.tideo, reduction=decided_by, out=out, processes=processes,
        workers=workers or default_workers(),
    )  # fmt: skip
    failed = 0
    if processes.first:
        settle(out / ANSWERS_FILE, items, reduction=decided_by)
        failed = _write_report(loaded, samples, named, num_left_out=num_read - len(samples), out=out)
    processes.wait()
    if loaded.describes:
        return read_caption_report(out)
    if all(s.answer is None for s in samples):
        raise Unscored(out, n=len(samples), n_failed=failed)
    return read_report(out)


def _write_report(
    benchmark: Benchmark, samples: Sequence[Sample], named: Iterable[str], *, num_left_out: int, out: Path
) -> int:
    """Write what can be said of a run whose questions all have an answer; returns how many of them failed."""
    run = read_run(out)
    stored, unlike = read_answers(out)
    answers = {name: stored[name] for name in named if name in stored}
    about = {
        "controls": run.recipe["controls"],
        "benchmark": benchmark.name,
        "model": run.recipe["model"],
        "run": dataclasses.asdict(run),
        "n_strange": (num_unlike := len({s.video.id for s in samples if s.id in unlike})),
        "n_left_out": num_left_out,
    }
    if num_unlike:
        log.warning(
            "%d of %d videos are unlike what %s was trained on: %s",
            num_unlike, len({s.video.id for s in samples}), run.recipe["model"], DO_NOT_TRUST,
        )  # fmt: skip
    if benchmark.describes:
        summarise_captions(samples, answers, **about).save(out)
    elif any(s.answer is not None for s in samples):
        summarise_run(samples, answers, reduction=run.recipe["reduction"], **about).save(out)
        write_report([out], out=out / "report.html")
    return num_failed(samples, answers[MAIN])


def _answer_shares(
    items: Sequence[Item],
    named: Mapping[str, Controls],
    *,
    model: VideoModel,
    tideo_of: TideoOf | None,
    reduction: str,
    out: Path,
    processes: Processes,
    workers: int,
) -> None:
    """Of the segments with questions that have no answer, process r of n answers the r-th and each n-th after it."""
    processes.wait()
    stored = {r["key"] for r in read_records(out / ANSWERS_FILE)}
    processes.wait()  # no process writes before all have read the same
    todo = [item for item in items if item.key not in stored]
    if todo and processes.first:
        log.info(announced(items, todo, model=model))
    segments = list(by_segment(todo))
    with RecordStore(answers_of(processes, out), id_field="key") as store:
        of_this_process = segments[processes.rank :: processes.size]
        shown = [v for v, of in of_this_process if any(named[name].shows_video for name in of)]
        model.prepare([video for video in shown if os.path.exists(video.path)])
        answer_all(
            of_this_process,
            named,
            model=model,
            tideo_of=tideo_of,
            reduction=reduction,
            store=store,
            workers=workers,
        )
    if todo and (usage := model.usage()) is not None:
        log.info(usage)
    processes.wait()
    if processes.first:
        gather(out)


def _with_video(samples: Sequence[Sample]) -> list[Sample]:
    """The questions whose video exists; warns of the others. Raises UserError if none is left."""
    there = {path: os.path.exists(path) for path in {s.video.path for s in samples}}
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


def _check_same_run(out: Path, *, benchmark: str, model: str | None = None) -> None:
    if not (out / RUN_FILE).exists():
        return
    there = read_run(out).recipe
    wanted = f"of {model} on {benchmark}" if model else f"on {benchmark}"
    if there.get("benchmark") != benchmark or model not in (None, there.get("model")):
        raise UserError(
            f"{out} holds a run of {there.get('model')} on {there.get('benchmark')}, "
            f"not {wanted}: give another --out"
        )
