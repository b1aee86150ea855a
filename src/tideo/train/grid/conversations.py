"""The training data of an image-text model: pictures, and turns of a user and the model about them.

It comes from the annotated videos of a benchmark, a file in LLaVA's format (llava_json.py), or a registered function
(`tideo.conversations`): `(*, num, settings, split, seed)` → conversations, where `num` None means its own number.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby

import numpy as np
from PIL import Image

from tideo import registry
from tideo.console import tracked
from tideo.models.grid.settings import QUESTION, GridSettings
from tideo.models.prompts import FORMS, style
from tideo.store.files import file_hash, key_of
from tideo.types import Frames, Sample, UserError, Video, VideoError
from tideo.video.samplers import sample_frames

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """One or several square images of the same size, which `open` makes. `key` hashes everything they depend on."""

    key: str
    num: int
    open: Callable[[], list[Image.Image]]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """The user's text, without the marker of the images, and the model's reply."""

    user: str
    reply: str


@dataclass(frozen=True, kw_only=True)
class Conversation:
    id: str
    pictures: Pictures
    turns: tuple[Turn, ...]


def qa_turn(sample: Sample, *, settings: GridSettings, num_images: int, num_frames: int) -> Turn:
    """A question in the wording of inference, with the right option as the reply."""
    if sample.answer is None:
        raise UserError(f"{sample.id}: training needs the right answer of each question")
    prompt, options = FORMS[settings.form](sample.question, sample.options, style(settings.prompt_style))
    user = settings.turn(prompt, num_images=num_images, num_frames=num_frames)
    return Turn(user=user, reply=options[sample.answer])


# --- a benchmark's videos -------------------------------------------------------------------------


def annotated(
    benchmark: str, *, data: str, videos: str, settings: GridSettings, num: int | None = None
) -> list[Conversation]:
    """A conversation for each video or segment of a benchmark's training file, with all questions about it.

    With `num`, only the first `num` of them. A video that gives no frame is left out, with a warning. Raises UserError
    for the sampler `question`, if videos are missing, with their number and the first, and if none gives a frame.
    """
    if settings.sampler == QUESTION:
        raise UserError(
            "sampler 'question' chooses frames for each question: train with another, and evaluate with this one"
        )
    samples = registry.load("benchmarks", benchmark)(data, videos=videos)
    missing = sorted({s.video.path for s in samples if not os.path.exists(s.video.path)})
    if missing:
        raise UserError(
            f"{len(missing)} of {len({s.video.path for s in samples})} videos are missing, the first {missing[0]}: "
            "get them, or leave their questions out of the file"
        )
    by_video = sorted(samples, key=_segment)
    groups = [list(group) for _, group in groupby(by_video, key=_segment)][:num]
    conversations: list[Conversation] = []
    failed: list[VideoError] = []
    for group in tracked(groups, "reading videos"):
        try:
            conversations.append(_conversation(group, settings=settings))
        except VideoError as error:
            failed.append(error)
    warn_of_failed(failed, conversations)
    return conversations


def warn_of_failed(failed: Sequence[VideoError], conversations: Sequence[Conversation]) -> None:
    """Log the number of videos that a training leaves out because they give no frame. Raises the first if all do."""
    if failed and not conversations:
        raise failed[0]
    if failed:
        num = len(failed) + len(conversations)
        log.warning("%d of %d videos are left out, the first: %s", len(failed), num, failed[0])


def _segment(sample: Sample) -> tuple[str, float, float]:
    video = sample.video
    return video.path, video.start_s or 0.0, video.end_s or 0.0


def _conversation(samples: Sequence[Sample], *, settings: GridSettings) -> Conversation:
    def turns(num_images: int, num_frames: int) -> tuple[Turn, ...]:
        return tuple(
            qa_turn(s, settings=settings, num_images=num_images, num_frames=num_frames) for s in samples
        )

    return about_video(samples[0].video, turns, id=samples[0].id, settings=settings)


def about_video(
    video: Video, turns: Callable[[int, int], tuple[Turn, ...]], *, id: str, settings: GridSettings
) -> Conversation:
    """A conversation about a video's grids; `turns` gets the numbers of its images and of its frames."""
    # A short video may have fewer frames than the grid has cells, and so fewer panels.
    num_frames = min(settings.num_frames, len(_frames(video, settings, size=(8, 8))))
    num_images = -(-num_frames // (settings.rows * settings.cols))
    return Conversation(
        id=id,
        pictures=Pictures(
            key=key_of([file_hash(video.path), video.start_s, video.end_s, image_settings(settings)]),
            num=num_images,
            open=lambda: _grid(video, settings),
        ),
        turns=turns(num_images, num_frames),
    )


def _grid(video: Video, settings: GridSettings) -> list[Image.Image]:
    return settings.images(_frames(video, settings))


def _frames(video: Video, settings: GridSettings, *, size: tuple[int, int] | None = None) -> Frames:
    return sample_frames(video, settings.num_frames, sampler=settings.sampler, size=size)


def image_settings(settings: GridSettings) -> dict[str, object]:
    """The settings that the pixels of an image depend on."""
    names = ("rows", "cols", "panels", "image_size", "sampler", "fit", "stamps")
    return {name: value for name, value in asdict(settings).items() if name in names}


# --- captioned pictures, pasted --------------------------------------------------------------------


def pasted(captioned: Sequence[Conversation], *, settings: GridSettings) -> list[Conversation]:
    """Conversations about single pictures, joined so that their pictures are the cells of one grid image.

    Every turn names its cell, by number in reading order, so the model learns cells without any video. Pictures that
    do not fill a last grid are left out.
    """
    cells = settings.rows * settings.cols
    groups = [captioned[i : i + cells] for i in range(0, len(captioned) - cells + 1, cells)]
    return [_pasted(group, settings) for group in groups]


def _pasted(group: Sequence[Conversation], settings: GridSettings) -> Conversation:
    one = replace(settings, panels=1)
    return Conversation(
        id="+".join((group[0].id, group[-1].id)),
        pictures=Pictures(
            key=key_of([[c.pictures.key for c in group], image_settings(one)]),
            num=1,
            open=lambda: _paste(group, one),
        ),
        turns=tuple(
            Turn(user=f"Picture {cell}: {turn.user}", reply=turn.reply)
            for cell, conversation in enumerate(group, 1)
            for turn in conversation.turns
        ),
    )


def _paste(group: Sequence[Conversation], settings: GridSettings) -> list[Image.Image]:
    rgb_THWC = np.stack([np.asarray(c.pictures.open()[0]) for c in group])
    times = np.arange(len(group), dtype=float)
    return settings.images(Frames(rgb_THWC=rgb_THWC, pts_s_T=times, video_id=group[0].id))
