"""Episodes → words: captions of single frames, summaries, and whole Tideos.

A caption depends on one `FrameState` only, so it cannot contain what came before or comes after.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from tideo.dollhouse import world
from tideo.dollhouse.day import script_of
from tideo.dollhouse.script import NUM_FRAMES, Episode, FrameState
from tideo.types import Question, Sample, TextFrame, Tideo, UserError


def frame_times(duration_s: float, num: int = NUM_FRAMES) -> list[float]:
    """The middles of `num` equal intervals, as the sampler `middle` takes them."""
    return [(i + 0.5) * duration_s / num for i in range(num)]


def action_phrase(action: str, rng: random.Random) -> str:
    return rng.choice(world.ACTIONS[action].phrases)


def tool_phrase(action: str, tool: str | None) -> str:
    return f" {world.TOOL_WORD[action]} {tool}" if tool else ""


def shelf_phrase(count: int, item: str) -> str:
    return f"{world.COUNTS[count - 1]} {item if count > 1 else item[:-1]}"


def caption(state: FrameState, rng: random.Random) -> TextFrame:
    """Three captions: who does what and where (main), what is near (foreground), what is behind (background)."""
    return TextFrame(
        main=_main(state, rng), foreground=_foreground(state, rng), background=_background(state, rng)
    )


def one_line(frame: TextFrame) -> str:
    """The captions of a frame as one text."""
    return ". ".join(frame.captions)


def _main(state: FrameState, rng: random.Random) -> str:
    noun = state.actor.noun
    doing = action_phrase(state.action, rng) + tool_phrase(state.action, state.tool)
    form = rng.randrange(4)
    if form == 0:
        return f"a {noun} in a {state.shirt} shirt is {doing} in the {state.room}"
    if form == 1:
        return f"in the {state.room}, a {noun} with {state.actor.looks} is {doing}"
    if form == 2:
        return f"a {noun} is {doing} in the {state.room}"
    return f"in the {state.room}, a {noun} in a {state.shirt} shirt is {doing}"


def _foreground(state: FrameState, rng: random.Random) -> str:
    noun = state.actor.noun
    if state.distractor:
        passing = rng.choice(world.DISTRACTORS[state.distractor])
        return rng.choice((passing, f"{passing} in the foreground", f"{passing}, close to the {noun}"))
    near = world.ACTIONS[state.action].object
    return rng.choice(
        (
            f"the {noun} wears a {state.shirt} shirt",
            f"the {noun} has {state.actor.looks} and a {state.shirt} shirt",
            f"{near} can be seen near the {noun} in a {state.shirt} shirt",
        )
    )


def _background(state: FrameState, rng: random.Random) -> str:
    items = shelf_phrase(state.shelf_count, state.shelf_item)
    facts = [
        rng.choice(world.WEATHER_PHRASES[state.weather]),
        rng.choice((f"{items} on the shelf", f"the shelf holds {items}")),
        rng.choice((f"{state.side_object} at the side", f"{state.side_object} lies there")),
    ]
    rng.shuffle(facts)
    return ", ".join(facts[: rng.choice((2, 3))])


def summary(episode: Episode, rng: random.Random) -> str:
    """The whole episode in one sentence: the person, the purpose, the room, and the steps in order."""
    noun, looks = episode.actor.noun, episode.actor.looks
    doing = [rng.choice(world.ACTIVITIES[s.activity].phrases) for s in episode.segments]
    who = rng.choice((f"a {noun}", f"a {noun} with {looks}", f"a {noun} in a {episode.shirt} shirt"))
    where = list(dict.fromkeys(s.room for s in episode.segments))
    place = f" in the {where[0]}" if len(where) == 1 else ""
    aim = doing[0] if len(doing) == 1 else f"{world.PURPOSES[episode.purpose][0]}, by {', then '.join(doing)}"
    steps = ", ".join(action_phrase(e.action, rng) + tool_phrase(e.action, e.tool) for e in episode.events)
    return f"{who} is {aim}{place}: {steps}"


def episode_tideo(episode: Episode, rng: random.Random, questions: Sequence[Question] = ()) -> Tideo:
    """The textual video of an episode: captions of ten even frames, and the summary."""
    states = [episode.state_at(t) for t in frame_times(episode.duration_s)]
    return Tideo(
        id=episode.id,
        frames=tuple(caption(s, rng) for s in states),
        summary=summary(episode, rng),
        questions=tuple(questions),
        provenance={"writer": "tideo.dollhouse", "episode": episode.id},
    )


def text_video(sample: Sample, *, num: int) -> Tideo:
    """The captions of `num` even frames of the segment that a dollhouse question is about.

    A model that is shown them sees the segment without a modality gap. Raises UserError for a sample of another
    benchmark.
    """
    video, reference = sample.video, sample.meta.get("episode")
    if reference is None:
        raise UserError(
            f"video {video.id}: text features need a sample of the dollhouse, which knows its script"
        )
    script = script_of(reference)
    start_s, end_s = video.start_s or 0.0, script.duration_s if video.end_s is None else video.end_s
    rng = random.Random(f"text features/{script.id}/{end_s}")
    states = [script.state_at(start_s + t) for t in frame_times(end_s - start_s, num)]
    return Tideo(id=video.id, frames=tuple(caption(s, rng) for s in states), summary="")
