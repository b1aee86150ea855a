"""Registered conversations of the dollhouse: grids of episodes with questions, and single pictures with captions."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial

import numpy as np
from PIL import Image

from tideo.dollhouse.captions import action_phrase, caption, one_line
from tideo.dollhouse.export import EpisodeQuestions, ask_split, tideo_of
from tideo.dollhouse.render import draw_frame
from tideo.dollhouse.script import Episode, FrameState, Split
from tideo.models.grid.settings import GridSettings
from tideo.models.prompts import VIDEO, style, summary_prompt
from tideo.store.files import key_of
from tideo.tiny import lm_drills
from tideo.tiny.clip_groups import scene
from tideo.train.grid.conversations import Conversation, Pictures, Turn, image_settings, look_of, qa_turn
from tideo.train.uneven import uneven_times
from tideo.types import Frames, Sample, UserError, Video

CAPTION = "What happens?"
NUM_EPISODES, NUM_CAPTIONS, RETRIEVAL_TASKS = 4000, 8000, 6
REDUCED = 2  # frames are drawn at half the size of the videos, which is still larger than a cell of a grid
# Episodes whose frames are kept, 1.2 MB each: the teacher encodes the frames of the grid that was drawn last, and a
# training that keeps no features shows them in every pass.
_KEPT = 256
WIDTH, HEIGHT = 128, 96  # of a single picture


def grid_conversations(
    *,
    num: int | None,
    settings: GridSettings,
    split: Split = "train",
    seed: int = 0,
    summaries: bool = True,
    retrieval_tasks: int = RETRIEVAL_TASKS,
) -> list[Conversation]:
    """`num` episodes as grid images with their questions and, with `summaries`, their summaries.

    Unless `retrieval_tasks` is 0, each also has that many retrieval tasks, two copy tasks and single facts
    (lm_drills.py).
    """
    if settings.sampler != "middle":
        raise UserError(
            f"sampler {settings.sampler!r}: drawn episodes have the sampler 'middle' only; for another, write videos "
            "with tideo dollhouse make and set data, path and videos"
        )
    return [
        _conversation(
            item, settings=settings, summaries=summaries, retrieval_tasks=retrieval_tasks, seed=seed
        )
        for item in ask_split(split, num=num or NUM_EPISODES, seed=seed)
    ]


def _conversation(
    item: EpisodeQuestions,
    uneven_seed: str | None = None,
    *,
    settings: GridSettings,
    summaries: bool,
    retrieval_tasks: int,
    seed: int,
) -> Conversation:
    """With `uneven_seed` the frames are at uneven times."""
    name = f"{item.episode.id}{'_cut' if item.is_cut else ''}"
    times = _times(item.episode, settings, uneven_seed)
    num_images = settings.panels if settings.shows_grids else settings.num_frames
    in_words = partial(settings.turn, num_images=num_images, pts_s=times)
    video = Video(id=name, path="")
    turns = [
        qa_turn(
            Sample(id=f"{name}_{i}", video=video, question=q.question, options=q.options, answer=q.answer, kind=q.kind),
            settings=settings, num_images=num_images, pts_s=times,
        )
        for i, q in enumerate(item.questions)
    ]  # fmt: skip
    if summaries:
        words = style(settings.prompt_style)
        user = in_words(summary_prompt(style=words))
        turns.append(Turn(user=user, reply=tideo_of(item, seed=seed).summary + words.end))
    if retrieval_tasks:
        for prompt, reply in _drills(
            [item.episode.state_at(t) for t in times],
            retrieval_tasks=retrieval_tasks,
            rng=random.Random(f"lessons/{seed}/{name}"),
        ):
            user = in_words(f"Video:{VIDEO}{prompt} ")
            turns.append(Turn(user=user, reply=reply.lstrip()))
    depends = ["episode", seed, name, image_settings(settings), REDUCED]
    again = partial(
        _conversation,
        item,
        settings=settings,
        summaries=summaries,
        retrieval_tasks=retrieval_tasks,
        seed=seed,
    )
    return Conversation(
        id=name,
        pictures=Pictures(
            key=key_of([*depends, *([times] if uneven_seed else [])]),
            num=num_images,
            open=partial(_grid, item.episode, times, settings)
            if settings.shows_grids
            else partial(_frames, item.episode, times),
            look=look_of(settings),
        ),
        turns=tuple(turns),
        uneven=None if uneven_seed else again,
    )


def _drills(
    states: Sequence[FrameState], *, retrieval_tasks: int, rng: random.Random
) -> Iterator[tuple[str, str]]:
    """Prompts and replies about the cells, in the words of the language model's drills."""
    actions = list(dict.fromkeys(state.action for state in states))
    name = partial(action_phrase, rng=rng)
    task = lm_drills.fact_task(states, lm_drills.FACTS["full"], rng)
    for prompt, value in zip(task[::2], task[1::2], strict=True):
        yield "\nFacts:" + prompt.removeprefix("\nFacts:"), value
    if len(actions) > 1:
        frames = [actions.index(state.action) for state in states]
        for _ in range(retrieval_tasks):
            prompt, reply = lm_drills.retrieval_task(actions, frames, name, rng)
            yield prompt, reply
        for back in (False, True):
            prompt, reply = lm_drills.copy_task(actions, name, ",", rng, back=back)
            yield prompt + ",", reply.removeprefix(",")


def _times(episode: Episode, settings: GridSettings, uneven_seed: str | None = None) -> tuple[float, ...]:
    num, end_s = settings.num_frames, episode.duration_s
    if uneven_seed is not None:
        return tuple(uneven_times(None, num, 0.0, end_s, seed=uneven_seed))
    return tuple((k + 0.5) * end_s / num for k in range(num))


def _grid(episode: Episode, times: tuple[float, ...], settings: GridSettings) -> list[Image.Image]:
    return settings.images(_frames(episode, times))


def grids_with_frames(
    *, num: int, settings: GridSettings, seed: int = 0
) -> list[tuple[Conversation, Callable[[], Frames]]]:
    """`num` training episodes as grids without questions, each with a function that returns its frames."""
    return [
        (
            _conversation(item, settings=settings, summaries=False, retrieval_tasks=0, seed=seed),
            partial(_frames, item.episode, _times(item.episode, settings)),
        )
        for item in ask_split("train", num=num, seed=seed)
    ]


@lru_cache(maxsize=_KEPT)
def _frames(episode: Episode, times: tuple[float, ...]) -> Frames:
    width, height = episode.style.width // REDUCED, episode.style.height // REDUCED
    rgb = np.stack([draw_frame(episode.state_at(t), width=width, height=height) for t in times])
    return Frames(
        rgb_THWC=rgb, pts_s_T=np.array(times), video_id=episode.id, bounds_s=(0.0, episode.duration_s)
    )


def captioned_pictures(
    *, num: int | None, settings: GridSettings, split: Split = "train", seed: int = 0
) -> list[Conversation]:
    """`num` single pictures of scenes with their captions, for LLaVA's alignment stage."""
    return [
        _captioned(index, image_size=settings.image_size, split=split, seed=seed)
        for index in range(num or NUM_CAPTIONS)
    ]


def _captioned(index: int, *, image_size: int, split: Split, seed: int) -> Conversation:
    state = scene(index, split=split, seed=seed)
    rng = random.Random(f"caption/{seed}/{split}/{index}")
    return Conversation(
        id=f"{split}_scene_{index}",
        pictures=Pictures(
            key=key_of(["scene", seed, split, index, image_size]),
            num=1,
            open=partial(_picture, state, image_size),
        ),
        turns=(Turn(user=CAPTION, reply=one_line(caption(state, rng)) + "."),),
    )


def _picture(state: FrameState, image_size: int) -> list[Image.Image]:
    scale = 2 if image_size > HEIGHT else 1
    rgb = draw_frame(state, width=scale * WIDTH, height=scale * HEIGHT)
    return [Image.fromarray(rgb).resize((image_size, image_size), Image.Resampling.BICUBIC)]
