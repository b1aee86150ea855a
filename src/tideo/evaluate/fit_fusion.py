"""Weights for a fusion, from two or more runs of different models on the same validation questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tideo import registry
from tideo.evaluate.answers import MAIN, read_answers
from tideo.models.fusion import FusionSettings, option_logprobs, relative
from tideo.runs import read_run
from tideo.types import Sample, UserError


def fuse(run_dirs: Sequence[str | Path], *, models: Sequence[str], out: str | Path) -> FusionSettings:
    """Fit weights on runs of `tideo eval` and write OUT/fusion.json; `models` are what `--model` named, run by run.

    A question counts where every run has answered it. Raises UserError where runs share no question.
    """
    if len(run_dirs) < 2 or len(run_dirs) != len(models):
        raise UserError(
            f"{len(run_dirs)} runs and {len(models)} models: a fusion needs two at least, and --model for each run"
        )
    runs = [read_run(run).recipe for run in run_dirs]
    if len({(r["benchmark"], r["data"]) for r in runs}) != 1:
        raise UserError(
            "the runs are of different benchmarks or data: fuse models that answered the same questions"
        )
    for run, recipe, model in zip(run_dirs, runs, models, strict=True):
        if recipe["model"] != model and not _same_folder(recipe["model"], model):
            raise UserError(
                f"{run} is a run of {recipe['model']}, not of {model}: name the models in the runs' order"
            )
    samples: list[Sample] = registry.load("benchmarks", runs[0]["benchmark"])(
        runs[0]["data"], videos=runs[0]["videos"]
    )
    by_run = [read_answers(run)[0].get(MAIN, {}) for run in run_dirs]
    shared = [
        s
        for s in samples
        if s.answer is not None and all(s.id in of and of[s.id].loglikelihoods for of in by_run)
    ]
    if not shared:
        raise UserError("no question was answered in all runs: finish them with tideo eval")
    logprobs = [
        [option_logprobs(answers[s.id], reduction=run["reduction"]) for s in shared]
        for answers, run in zip(by_run, runs, strict=True)
    ]
    weights = fit_weights(logprobs, [s.answer for s in shared if s.answer is not None])
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    settings = FusionSettings(models=tuple(relative(m, out=out) for m in models), weights=tuple(weights))
    settings.save(out)
    return settings


def _same_folder(one: str, other: str) -> bool:
    return Path(one).is_dir() and Path(other).is_dir() and Path(one).samefile(other)


def fit_weights(logprobs: Sequence[Sequence[np.ndarray]], right: Sequence[int]) -> list[float]:
    """Multinomial logistic regression: the weights of the models' log-probabilities that make right options likeliest.

    `logprobs` by model and question; the options of a question may be of any number.
    """
    import torch

    most = max(len(options) for options in logprobs[0])
    padded_MNO = torch.full((len(logprobs), len(right), most), 0.0, dtype=torch.float64)
    absent_NO = torch.ones(len(right), most, dtype=torch.bool)
    for m, questions in enumerate(logprobs):
        for n, options in enumerate(questions):
            padded_MNO[m, n, : len(options)] = torch.from_numpy(options)
            absent_NO[n, : len(options)] = False
    right_N = torch.tensor(right)
    weights_M = torch.full((len(logprobs),), 1 / len(logprobs), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights_M], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        total_NO = torch.einsum("m,mno->no", weights_M, padded_MNO).masked_fill(absent_NO, -torch.inf)
        # A weight without bound would fit questions that all models answer right.
        loss = torch.nn.functional.cross_entropy(total_NO, right_N) + 1e-4 * weights_M.square().sum()
        loss.backward()
        return loss.item()

    optimizer.step(closure)
    return [float(w) for w in weights_M.detach()]
