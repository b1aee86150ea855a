"""One question about one video: what `tideo ask` answers."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tideo.models.interface import DO_NOT_TRUST, NO_POOLS, VideoModel
from tideo.models.load import load_model
from tideo.scoring import decide, scores
from tideo.types import Sample, UserError, Video
from tideo.video.decode import lost_frames
from tideo.video.samplers import sample_frames

log = logging.getLogger(__name__)


def ask(
    video: str | Path,
    *,
    question: str,
    options: Sequence[str] = (),
    model: str | VideoModel,
    model_args: Sequence[str] = (),
    start_s: float | None = None,
    end_s: float | None = None,
    features: str | Path | None = None,
) -> dict[str, Any]:
    """The object that `tideo ask --json` prints.

    `answer` is the chosen option, or generated text where there are no options; `choice` its 0-based index or
    None. `loglikelihoods` are the options' scores, of which the best is chosen: the mean over the tokens,
    unless the model's settings say otherwise. `pts_s` are the times of the frames, `seconds` the time from call to
    answer. Where a selector chose the frames, `relevance` has times of the video and how relevant each is, from 0 to 1.
    `model_args` are those of `load_model`, for a model given by its name; `features` is a folder that keeps the pool
    that a selector chooses from. One line of the log warns of a video unlike what the model was trained on.

    Raises UserError for a video that gives no frame, an empty question, options that are one, empty or
    equal, or what the model cannot take.
    """
    started_s = time.perf_counter()
    if not question.strip():
        raise UserError("the question is empty: ask something")
    if isinstance(options, str):  # its letters would each be an option
        raise UserError(f"options {options!r} is one text: give several, as in [{options!r}, 'reading']")
    options = [option.strip() for option in options]  # white space would change an option's likelihood
    if len(options) == 1 or not all(options):
        raise UserError(f"options {options}: give two or more, none empty, or none at all for a free answer")
    if len(set(options)) < len(options):
        raise UserError(f"options {options}: two of them are equal; give each once")
    path = str(video)
    sample = Sample(
        id="ask",
        video=Video(id=Path(path).name, path=path, start_s=start_s, end_s=end_s),
        question=question,
        options=tuple(options),
    )
    if isinstance(model, str):
        sample_frames(
            sample.video, 1
        )  # a video that cannot be read is known before a model is loaded for minutes
        model = load_model(model, args=model_args)
    from tideo.device import memory_reported  # with torch, after all that can be wrong without it

    if features is not None:
        if not model.chooses:
            raise UserError(NO_POOLS)
        model.keep_pools(features)
    frames = model.look_for(sample)
    with memory_reported():
        warning = model.out_of_distribution(frames) if frames is not None else None
    if warning is not None:
        log.warning("%s: %s", warning, DO_NOT_TRUST)
    if frames is not None and len(frames) < model.num_frames():
        lost = f", {lost_frames(frames.missing_s)}" if frames.missing_s else ""
        log.warning(
            "%s: %d distinct frames for the %d that the model takes%s",
            path, len(frames), model.num_frames(), lost,
        )  # fmt: skip
    reduction = model.settings.reduction
    answer = decide(model.answer(sample.video, [sample], seen=frames)[0], reduction=reduction)
    if answer.error is not None:
        raise UserError(answer.error)
    if (usage := model.usage()) is not None:
        log.info(usage)
    return {
        "answer": answer.text if answer.choice is None else options[answer.choice],
        "choice": answer.choice,
        "options": options,
        "loglikelihoods": list(scores(answer.loglikelihoods, answer.num_tokens, reduction=reduction)),
        "model": model.name,
        "pts_s": list(answer.pts_s),
        **(
            {"relevance": [list(moment) for moment in frames.relevance]}
            if frames and frames.relevance
            else {}
        ),
        "seconds": round(time.perf_counter() - started_s, 3),
    }
