"""Episodes → questions: NExT-QA's eight types, STAR's four and EgoSchema's overall purpose.

Each kind yields the drafts that an episode allows. `Balance` (distractors.py) chooses the wrong options and the
position of the right one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from tideo.dollhouse import world
from tideo.dollhouse.captions import action_phrase
from tideo.dollhouse.distractors import NUM_OPTIONS, Balance, Draft
from tideo.dollhouse.script import Episode, Event
from tideo.types import Question

TEMPORAL = ("TN", "TP", "TC", "Sequence")
DESCRIPTIVE = ("DC", "DL", "DO", "Interaction", "Feasibility")


def ask(
    episode: Episode, rng: random.Random, balance: Balance, *, kinds: Iterable[str] | None = None
) -> list[Question]:
    """At most one question of each kind about the whole episode. A Prediction needs a cut episode: see `predict`."""
    names = [k for k in KINDS if k != "Prediction"] if kinds is None else list(kinds)
    questions = []
    for kind in names:
        if drafts := list(KINDS[kind](episode, rng)):
            questions.append(balance.question(kind, rng.choice(drafts), rng))
    return [q for q in questions if q is not None]


def predict(episode: Episode, rng: random.Random, balance: Balance) -> tuple[Episode, Question] | None:
    """STAR's prediction: the episode cut before its closing step, and a question about what comes next."""
    cut = episode.cut_before_closing()
    if cut is None:
        return None
    question = balance.question("Prediction", next(_prediction(episode, rng)), rng)
    return (cut, question) if question else None


# --- what the kinds share ----------------------------------------------------------------------------


def _activity_phrase(name: str, rng: random.Random) -> str:
    return rng.choice(world.ACTIVITIES[name].phrases)


def _span(first: Event, second: Event) -> tuple[float, float]:
    return min(first.start_s, second.start_s), max(first.end_s, second.end_s)


def _whole(episode: Episode) -> tuple[float, float]:
    return 0.0, episode.duration_s


def _segment_span(episode: Episode, segment: int) -> tuple[float, float]:
    events = [e for e in episode.events if e.segment == segment]
    return events[0].start_s, events[-1].end_s


def _free_steps(episode: Episode, segment: int) -> tuple[str, ...]:
    return tuple(e.action for e in episode.events if e.segment == segment and e.role == "free")


def _pool(episode: Episode, segment: int) -> tuple[str, ...]:
    """Free steps of the activity that are not played here, though they could be played at any point."""
    played = {e.action for e in episode.events}
    return tuple(a for a in world.ACTIVITIES[episode.segments[segment].activity].free if a not in played)


# --- the drafts of each kind -------------------------------------------------------------------------


def _neighbours(episode: Episode, rng: random.Random, *, step: int) -> Iterator[Draft]:
    words = ("after", "right after") if step == 1 else ("before", "right before")
    for i, reference in enumerate(episode.events):
        j = i + step
        if not 0 <= j < len(episode.events):
            continue
        answer = episode.events[j]
        if answer.segment != reference.segment or answer.role != "free":
            continue
        inside = tuple(a for a in _free_steps(episode, answer.segment) if a != reference.action)
        yield Draft(
            question=f"what is the {episode.actor.noun} doing {rng.choice(words)} "
            f"{action_phrase(reference.action, rng)}?",
            answer=answer.action,
            inside=inside,
            outside=_pool(episode, answer.segment),
            key=reference.action,
            evidence_s=_span(reference, answer),
            text=action_phrase,
        )


def _while(episode: Episode, rng: random.Random) -> Iterator[Draft]:
    for passing in episode.distractors:
        event = episode.event_at((passing.start_s + passing.end_s) / 2)
        if event.role != "free":
            continue
        yield Draft(
            question=f"what is the {episode.actor.noun} doing while {rng.choice(world.DISTRACTORS[passing.id])}?",
            answer=event.action,
            inside=tuple(e.action for e in episode.events if e.role == "free"),
            outside=_pool(episode, event.segment),
            key=passing.id,
            evidence_s=(passing.start_s, passing.end_s),
            text=action_phrase,
        )


def _sequence(episode: Episode, rng: random.Random) -> Iterator[Draft]:
    """The first and last of the episode's free steps, and of its activities."""
    for word, event, end in (("first", episode.events[0], 0), ("last", episode.events[-1], -1)):
        if event.role == "free" and len(episode.segments) == 1:
            yield Draft(
                question=f"what is the {episode.actor.noun} doing {word}?",
                answer=event.action,
                inside=_free_steps(episode, event.segment),
                outside=_pool(episode, event.segment),
                key=f"{word} step",
                evidence_s=_span(event, event),
                text=action_phrase,
            )
        if len(episode.segments) > 1:
            played = tuple(s.activity for s in episode.segments)
            yield Draft(
                question=f"which activity of the {episode.actor.noun} comes {word}?",
                answer=played[end],
                inside=played,
                outside=tuple(world.ACTIVITIES),
                key=f"{word} activity",
                evidence_s=_segment_span(episode, event.segment),
                text=_activity_phrase,
            )


def _why(episode: Episode, rng: random.Random) -> Iterator[Draft]:
    """The reason for a step that at least five activities share."""
    for event in episode.events:
        sharing = tuple(a.id for a in world.ACTIVITIES.values() if event.action in a.free)
        if event.role != "free" or len(sharing) < NUM_OPTIONS:
            continue
        played = {s.activity for s in episode.segments}
        yield Draft(
            question=f"why is the {episode.actor.noun} {action_phrase(event.action, rng)}?",
            answer=episode.segments[event.segment].activity,
            # No option is another activity of the episode: if it has this step too, it would be right as well.
            outside=tuple(a for a in sharing if a not in played),
            key=event.action,
            evidence_s=_segment_span(episode, event.segment),
            text=lambda name, r: f"for {_activity_phrase(name, r)}",
        )


def _how(episode: Episode, rng: random.Random) -> Iterator[Draft]:
    for event in episode.events:
        if event.tool is None:
            continue
        word = world.TOOL_WORD[event.action]
        yield Draft(
            question=f"how is the {episode.actor.noun} {action_phrase(event.action, rng)}?",
            answer=event.tool,
            outside=world.TOOLS[event.action],
            key=event.action,
            evidence_s=_span(event, event),
            text=lambda name, r, word=word: f"{word} {name}",  # type: ignore[misc]
        )


def _count(episode: Episode, rng: random.Random) -> Iterator[Draft]:
    yield Draft(
        question=f"how many {episode.shelf_item} are on the shelf?",
        answer=world.COUNTS[episode.shelf_count - 1],
        outside=world.COUNTS,
        evidence_s=_whole(episode),
    )


def _location(episode: Episode, rng: random.Random) -> Iterator[Draft]:
    noun, rooms = episode.actor.noun, tuple(s.room for s in episode.segments)
    if len(set(rooms)) == 1:
        yield Draft(
            question=rng.choice((f"where is the {noun}?", f"in which room is the {noun}?")),
            answer=rooms[0],
            outside=world.ROOMS,
            evidence_s=_whole(episode),
            text=lambda name, r: f"in the {name}",
        )
        return
    for word, end in (("at the beginning", 0), ("at the end", -1)):
        yield Draft(
            question=f"where is the {noun} {word}?",
            answer=rooms[end],
            inside=rooms,
            outside=world.ROOMS,
            key=word,
            evidence_s=_segment_span(episode, end % len(rooms)),
            text=lambda name, r: f"in the {name}",
        )


def _look(episode: Episode, rng: random.Random) -> Iterator[Draft]:
    """The colour of the shirt, and the weather."""
    noun = episode.actor.noun
    yield Draft(
        question=rng.choice((f"what color is the shirt of the {noun}?", f"what color does the {noun} wear?")),
        answer=episode.shirt,
        outside=world.SHIRTS,
        key="shirt",
        evidence_s=_whole(episode),
    )
    yield Draft(
        question=rng.choice(("what is the weather like outside?", "how is it outside?")),
        answer=episode.weather,
        outside=world.WEATHER,
        key="weather",
        evidence_s=_whole(episode),
    )


def _interaction(episode: Episode, rng: random.Random) -> Iterator[Draft]:
    noun, played = episode.actor.noun, {e.action for e in episode.events}
    event = rng.choice(episode.events)
    yield Draft(
        question=rng.choice((f"which thing does the {noun} use?", f"which thing did the {noun} handle?")),
        answer=world.ACTIONS[event.action].object,
        outside=tuple(a.object for a in world.ACTIONS.values() if a.id not in played),
        evidence_s=_span(event, event),
    )


def _prediction(episode: Episode, rng: random.Random) -> Iterator[Draft]:
    noun, played = episode.actor.noun, {e.action for e in episode.events}
    last = episode.events[-1]
    closings = sorted({a.closing for a in world.ACTIVITIES.values()} - played)
    yield Draft(
        question=rng.choice((f"what will the {noun} do next?", f"what is the {noun} going to do next?")),
        answer=last.action,
        outside=tuple(closings),
        evidence_s=(_segment_span(episode, last.segment)[0], last.start_s),
        text=action_phrase,
    )


def _feasibility(episode: Episode, rng: random.Random) -> Iterator[Draft]:
    noun = episode.actor.noun
    yield Draft(
        question=rng.choice(
            (f"what else could the {noun} do here?", f"which other thing is the {noun} able to do here?")
        ),
        answer=world.SIDE_OBJECTS[episode.side_object],
        outside=tuple(world.SIDE_OBJECTS.values()),
        evidence_s=_whole(episode),
    )


def _purpose(episode: Episode, rng: random.Random) -> Iterator[Draft]:
    played = tuple(s.activity for s in episode.segments)
    overall = "what is the overall purpose of the video?"
    if len(played) == 1:
        yield Draft(
            question=rng.choice((f"what is the {episode.actor.noun} mainly doing?", overall)),
            answer=played[0],
            outside=tuple(world.ACTIVITIES),
            key="activity",
            evidence_s=_whole(episode),
            text=_activity_phrase,
        )
        return
    others = tuple(p for p, (_, members) in world.PURPOSES.items() if not set(played) <= set(members))
    yield Draft(
        question=overall,
        answer=episode.purpose,
        outside=others,
        key="purpose",
        evidence_s=_whole(episode),
        text=lambda name, r: world.PURPOSES[name][0],
    )


KINDS: dict[str, Callable[[Episode, random.Random], Iterator[Draft]]] = {
    "CW": _why,
    "CH": _how,
    "TN": partial(_neighbours, step=1),
    "TP": partial(_neighbours, step=-1),
    "TC": _while,
    "DC": _count,
    "DL": _location,
    "DO": _look,
    "Interaction": _interaction,
    "Sequence": _sequence,
    "Prediction": _prediction,
    "Feasibility": _feasibility,
    "Purpose": _purpose,
}
