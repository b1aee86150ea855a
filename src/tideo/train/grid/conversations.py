"""The training data of an image-text model: pictures, and turns of a user and the model about them.

It comes from the annotated videos of a benchmark, a file in LLaVA's format (llava_json.py), or a registered function
(`tideo.conversations`): `(*, num, settings, split, seed)` → conversations, where `num` None means its own number.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from PIL import Image

from tideo.console import tracked
from tideo.models.grid.settings import GridSettings
from tideo.models.prompts import FORMS, style
from tideo.parallel import threads
from tideo.store.files import content_key, key_of
from tideo.train.annotated import annotated_segments
from tideo.train.uneven import uneven_times
from tideo.types import Frames, Sample, UserError, Video, VideoError
from tideo.video.samplers import Sampler, frame_times, sample_frames

log = logging.getLogger(__name__)
AT_ONCE = 8  # files that are opened at a time: on a network's disk each waits for the first answer
Result = TypeVar("Result")
PicturesLook = Literal["image", "frames", "video"]
# The number of images and the times of the frames → turns about them.
Turns: TypeAlias = "Callable[[int, Sequence[float]], tuple[Turn, ...]]"


class OtherFrames(VideoError):
    """A video gives another number of frames than its container promised; `pts_s` are their times."""

    def __init__(self, video: Video, pts_s: Sequence[float]) -> None:
        super().__init__(f"video {video.path}: it gives {len(pts_s)} frames")
        self.pts_s = pts_s


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of a video; `content` is a key of the file's content, whatever its name."""

    content: str
    path: str
    start_s: float = 0.0
    end_s: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """One or several square images of the same size, which `open` makes. `key` hashes everything they depend on.

    With `look` "frames" or "video" they are single frames of a video, as it has them. `open` raises UserError if the
    file cannot be read, and OtherFrames if the video has fewer frames than expected.
    """

    key: str
    num: int
    open: Callable[[], Any]
    segment: Segment | None = None
    look: PicturesLook = "image"


@dataclass(frozen=True, kw_only=True)
class Turn:
    """The user's text, without the marker of the images, and the model's reply, of several `options` or free."""

    user: str
    reply: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Pictures and turns about them.

    `recount` gives the same about as many of the video's frames as there are times, `uneven` about frames at uneven
    times, which are drawn from a seed.
    """

    id: str
    pictures: Pictures
    turns: tuple[Turn, ...]
    recount: Callable[[Sequence[float]], Conversation] | None = None
    uneven: Callable[[str], Conversation] | None = None


def adapted(conversation: Conversation, read: Callable[[Pictures], Result]) -> tuple[Conversation, Result]:
    """What `read` makes of the pictures, and the conversation in the words for as many frames as the video gives."""
    try:
        return conversation, read(conversation.pictures)
    except OtherFrames as error:
        if conversation.recount is None:
            raise
        conversation = conversation.recount(error.pts_s)
        return conversation, read(conversation.pictures)


def qa_turn(sample: Sample, *, settings: GridSettings, num_images: int, pts_s: Sequence[float]) -> Turn:
    """A question in the wording of inference, with the right option as the reply."""
    if sample.answer is None:
        raise UserError(f"{sample.id}: training needs the right answer of each question")
    prompt, options = FORMS[settings.form](sample.question, sample.options, style(settings.prompt_style))
    user = settings.turn(prompt, num_images=num_images, pts_s=pts_s)
    return Turn(user=user, reply=options[sample.answer], options=tuple(options))


# --- a benchmark's videos -------------------------------------------------------------------------


def annotated(
    benchmark: str,
    *,
    data: str,
    videos: str,
    settings: GridSettings,
    num: int | None = None,
    failed: list[tuple[str, str]] | None = None,
) -> list[Conversation]:
    """A conversation for each video or segment of a benchmark's training file, with all questions about it.

    With `num`, only the first `num` of them. A video that cannot be opened is left out, with a warning, and its id and
    error are appended to `failed`; no video is decoded. Raises UserError for a selector, if videos are
    missing, with their number and the first, and if none can be opened.
    """
    if settings.chooses:
        raise UserError(
            f"sampler {settings.sampler!r} chooses frames for each question: train with another, and evaluate with "
            "this one"
        )
    groups = annotated_segments(benchmark, path=data, videos=videos)[:num]
    read = [(group[0].id, partial(_conversation, group, settings=settings)) for group in groups]
    return readable(read, failed=failed)


def readable(
    items: Sequence[tuple[str, Callable[[], Conversation]]], *, failed: list[tuple[str, str]] | None = None
) -> list[Conversation]:
    """The conversations that are made for the ids, several at a time, without those whose videos cannot be opened.

    These are logged as one warning; their ids and errors are appended to `failed`. Raises the first error if no video
    can be opened.
    """

    def tried(item: tuple[str, Callable[[], Conversation]]) -> Conversation | VideoError:
        try:
            return item[1]()
        except VideoError as error:
            return error

    with threads(AT_ONCE) as pool:
        results = list(tracked(pool.map(tried, items), "opening videos", total=len(items)))
    errors = {id: r for (id, _), r in zip(items, results, strict=True) if isinstance(r, VideoError)}
    warn_of_failed(list(errors.values()), len(results))
    if failed is not None:
        failed += [(id, str(error)) for id, error in errors.items()]
    return [result for result in results if isinstance(result, Conversation)]


def warn_of_failed(errors: Sequence[VideoError], num: int) -> None:
    """Log how many of `num` videos are left out because they give no frame. Raises the first error if all are."""
    if errors and len(errors) == num:
        raise errors[0]
    if errors:
        log.warning("%d of %d videos are left out, the first: %s", len(errors), num, errors[0])


def _conversation(samples: Sequence[Sample], *, settings: GridSettings) -> Conversation:
    turns = partial(_turns, samples, settings)
    return about_video(samples[0].video, turns, id=samples[0].id, settings=settings)


def _turns(
    samples: Sequence[Sample], settings: GridSettings, num_images: int, pts_s: Sequence[float]
) -> tuple[Turn, ...]:
    return tuple(qa_turn(s, settings=settings, num_images=num_images, pts_s=pts_s) for s in samples)


def about_video(
    video: Video, turns: Turns, uneven_seed: str | None = None, *, id: str, settings: GridSettings
) -> Conversation:
    """A conversation about a video's grids; `turns` gets the number of its images and the times of its frames.

    With `uneven_seed` the frames are at uneven times. Nothing is decoded: the container says which frames there
    are. Raises VideoError if it cannot be read.
    """
    sampler = settings.sampler if uneven_seed is None else partial(uneven_times, seed=uneven_seed)
    # A short video may have fewer frames than the grid has cells, and so fewer panels.
    pts_s = frame_times(video, settings.num_frames, sampler=sampler, exact=settings.states_times)
    content = content_key(video.path)
    if content is None:
        raise VideoError(f"video {video.path}: it cannot be read; ask for the permission to read it")
    end_s = math.inf if video.end_s is None else video.end_s
    segment = Segment(content=content, path=video.path, start_s=video.start_s or 0.0, end_s=end_s)
    conversation = _about_frames(video, turns, id, settings, segment, sampler, pts_s)
    uneven = partial(about_video, video, turns, id=id, settings=settings)
    return conversation if uneven_seed else replace(conversation, uneven=uneven)


def _about_frames(
    video: Video,
    turns: Turns,
    id: str,
    settings: GridSettings,
    segment: Segment,
    sampler: str | Sampler,
    pts_s: Sequence[float],
) -> Conversation:
    single = not settings.shows_grids
    num_images = len(pts_s) if single else -(-len(pts_s) // (settings.rows * settings.cols))
    times = [] if isinstance(sampler, str) else [list(pts_s)]
    depends = [segment.content, video.start_s, video.end_s, image_settings(settings), len(pts_s), *times]
    return Conversation(
        id=id,
        pictures=Pictures(
            key=key_of(depends),
            num=num_images,
            open=partial(_frames if single else _grid, video, settings, sampler, len(pts_s)),
            segment=segment,
            look=look_of(settings),
        ),
        turns=turns(num_images, pts_s),
        recount=partial(_about_frames, video, turns, id, settings, segment, sampler),
    )


def _grid(video: Video, settings: GridSettings, sampler: str | Sampler, num_frames: int) -> list[Image.Image]:
    return settings.images(_frames(video, settings, sampler, num_frames))


def _frames(video: Video, settings: GridSettings, sampler: str | Sampler, num_frames: int) -> Frames:
    frames = sample_frames(video, settings.num_frames, sampler=sampler)
    if len(frames) != num_frames:
        raise OtherFrames(video, frames.pts_s_T.tolist())
    return frames


def look_of(settings: GridSettings) -> PicturesLook:
    """What `open` of Pictures gives under these settings."""
    return "frames" if settings.look == "frames" else "video" if settings.look == "video" else "image"


def image_settings(settings: GridSettings) -> dict[str, object]:
    """The settings that the pixels of an image depend on."""
    names = ["rows", "cols", "panels", "image_size", "sampler", "fit", "stamps"]
    names += [] if settings.shows_grids else ["look", "frames"]
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
            open=partial(_paste, group, one),
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
