"""Days → questions: needles (one event of a day), before and after across episodes, and the day's purpose.

The kinds are those of single episodes (questions.py), so that models trained on episodes can be asked. A question
refers only to what happens once in the day. Its wrong options are what the same person does at other times of the
day, then what was as likely but did not happen; `Balance` keeps each option as often wrong as chance has it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial

from tideo.dollhouse import world
from tideo.dollhouse.captions import action_phrase
from tideo.dollhouse.day import Day
from tideo.dollhouse.distractors import Balance, Draft
from tideo.dollhouse.script import Episode
from tideo.types import Question


def ask_day(day: Day, rng: random.Random, balance: Balance) -> list[Question]:
    """At most so many questions of each kind as KINDS says; evidence in seconds of the file."""
    questions = []
    for kind, (most, drafts_of) in KINDS.items():
        drafts = list(drafts_of(day, rng))
        for draft in rng.sample(drafts, min(most, len(drafts))):
            questions.append(balance.question(kind, draft, rng))
    return [q for q in questions if q is not None]


def _how(day: Day, rng: random.Random) -> Iterator[Draft]:
    """A needle: with which tool something is done that is done once."""
    times = day.times_of()
    for episode, start_s in zip(day.episodes, day.starts_s, strict=True):
        for event in episode.events:
            if event.tool is None or times[episode.actor_id, event.action] > 1:
                continue
            word = world.TOOL_WORD[event.action]
            yield Draft(
                question=f"how is the {episode.actor.noun} {action_phrase(event.action, rng)}?",
                answer=event.tool,
                outside=world.TOOLS[event.action],
                key=event.action,
                evidence_s=_span(start_s + event.start_s, start_s + event.end_s),
                text=lambda name, r, word=word: f"{word} {name}",  # type: ignore[misc]
            )


def _while(day: Day, rng: random.Random) -> Iterator[Draft]:
    """A needle: what someone does while something passes by that passes once."""
    times = day.times_of()
    for episode, start_s in zip(day.episodes, day.starts_s, strict=True):
        for passing in episode.distractors:
            event = episode.event_at((passing.start_s + passing.end_s) / 2)
            if event.role != "free" or times[episode.actor_id, passing.id] > 1:
                continue
            yield Draft(
                question=f"what is the {episode.actor.noun} doing while {rng.choice(world.DISTRACTORS[passing.id])}?",
                answer=event.action,
                inside=_free_steps(day, episode.actor_id),
                outside=_possible(episode),
                key=passing.id,
                evidence_s=_span(start_s + passing.start_s, start_s + passing.end_s),
                text=action_phrase,
            )


def _across(day: Day, rng: random.Random, *, step: int) -> Iterator[Draft]:
    """What ends one episode and begins the next one of the same person: what comes after, or before."""
    words = ("after", "right after") if step == 1 else ("before", "right before")
    times = day.times_of()
    for i, (first, second) in enumerate(zip(day.episodes, day.episodes[1:], strict=False)):
        ends = (first.events[-1], second.events[0])
        reference, answer = ends if step == 1 else ends[::-1]
        if first.actor_id != second.actor_id or times[first.actor_id, reference.action] > 1:
            continue
        if answer.role != "free" or answer.action == reference.action:
            continue
        inside = tuple(a for a in _free_steps(day, first.actor_id) if a != reference.action)
        yield Draft(
            question=f"what is the {first.actor.noun} doing {rng.choice(words)} "
            f"{action_phrase(reference.action, rng)}?",
            answer=answer.action,
            inside=inside,
            outside=tuple(a for a in _possible(second if step == 1 else first) if a != reference.action),
            key=reference.action,
            evidence_s=_span(day.starts_s[i] + ends[0].start_s, day.starts_s[i + 1] + ends[1].end_s),
            text=action_phrase,
        )


def _purpose(day: Day, rng: random.Random) -> Iterator[Draft]:
    """The purpose of most of the day. No option is a purpose that more than half as many episodes would serve."""
    serving = {
        purpose: sum(e.segments[0].activity in members for e in day.episodes)
        for purpose, (_, members) in world.PURPOSES.items()
    }
    if not serving[day.purpose]:  # of a very short day
        return
    yield Draft(
        question="what is the overall purpose of the video?",
        answer=day.purpose,
        outside=tuple(p for p in serving if 2 * serving[p] <= serving[day.purpose]),
        key="purpose",
        evidence_s=(0.0, day.duration_s),
        text=lambda name, r: world.PURPOSES[name][0],
    )


def _span(start_s: float, end_s: float) -> tuple[float, float]:
    return round(start_s, 3), round(end_s, 3)


def _free_steps(day: Day, actor_id: str) -> tuple[str, ...]:
    return tuple(
        event.action
        for episode in day.episodes
        if episode.actor_id == actor_id
        for event in episode.events
        if event.role == "free"
    )


def _possible(episode: Episode) -> tuple[str, ...]:
    """Steps that could as well have been taken in an episode."""
    played = {event.action for event in episode.events}
    return tuple(a for a in world.ACTIVITIES[episode.segments[0].activity].free if a not in played)


# kind → (the most in a day, its drafts)
KINDS: dict[str, tuple[int, Callable[[Day, random.Random], Iterator[Draft]]]] = {
    "CH": (4, _how),
    "TC": (3, _while),
    "TN": (3, partial(_across, step=1)),
    "TP": (3, partial(_across, step=-1)),
    "Purpose": (1, _purpose),
}
