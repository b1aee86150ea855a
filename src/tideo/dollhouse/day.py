"""A household's day: many episodes one after another, in one video of ten seconds to three hours.

Each episode shows one person of the household at one activity, and most activities serve the day's purpose. Some
things happen at most once in a day: each person has rare actions, and rare passers-by. Questions ask about them. Every
episode of a day belongs to the day's split by its own signature (script.py), so days leak nothing between splits.
"""

from __future__ import annotations

import bisect
import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from tideo.dollhouse import world
from tideo.dollhouse.script import (
    SPLITS,
    Episode,
    FrameState,
    Segment,
    Split,
    Style,
    is_held_out,
    lay_out,
    sample_distractors,
    sample_episode,
    sample_steps,
    signature,
    split_of,
)
from tideo.types import UserError

LEAST_S, MOST_S = 10, 180 * 60
PICTURES_PER_S = 2  # of a day's video, whatever its frame rate: a picture stands for half a second
_SIZES = ((320, 240), (320, 180), (256, 256))
_RATES = (8, 10, 12)  # frames a second; each a multiple of PICTURES_PER_S
_RARE_TOOLS, _RARE_ACTIONS, _RARE_PASSERS = 2, 7, 3  # of a person
_OF_THE_PURPOSE, _SAME_PERSON = 0.75, 0.5  # chances of the next episode


@dataclass(frozen=True)
class Day:
    """The script of one long video. `starts_s` are the seconds of the file at which its episodes begin."""

    id: str
    split: Split
    purpose: str
    episodes: tuple[Episode, ...]
    starts_s: tuple[float, ...]
    style: Style

    @property
    def duration_s(self) -> float:
        return self.starts_s[-1] + self.episodes[-1].duration_s

    @property
    def held_out(self) -> bool:
        return any(episode.held_out for episode in self.episodes)

    def state_at(self, time_s: float) -> FrameState:
        """The state of the world at that second of the file."""
        at = max(0, bisect.bisect_right(self.starts_s, time_s) - 1)
        return self.episodes[at].state_at(time_s - self.starts_s[at])

    def times_of(self) -> Counter[tuple[str, str]]:
        """How often each person does each action, and meets each passer-by: (actor, name) → number."""
        return Counter(deed for episode in self.episodes for deed in _deeds(episode))


def sample_day(split: Split, index: int, *, seconds: int, seed: int = 0) -> Day:
    """Day number `index` of a split, `seconds` long. The same arguments always give the same day."""
    if split not in SPLITS:
        raise UserError(f"split '{split}' is unknown; the dollhouse has {', '.join(SPLITS)}")
    if not LEAST_S <= seconds <= MOST_S:
        raise UserError(f"a day of {seconds} s: expected {LEAST_S} to {MOST_S} s, which is three hours")
    name = f"{split}_{seed}_{index:06d}_{seconds}s"
    rng = random.Random(f"dollhouse day/{name}")
    starts_s = _starts(rng, seconds)
    household = _Household(rng, split, seconds=seconds)
    ends_s = (*starts_s[1:], float(seconds))
    episodes = tuple(
        household.episode(f"{name}_{i}", start_s=start_s, duration_s=round(end_s - start_s, 1))
        for i, (start_s, end_s) in enumerate(zip(starts_s, ends_s, strict=True))
    )
    width, height = rng.choice(_SIZES)
    style = Style(width, height, rng.choice(_RATES), camera=0)
    return Day(name, split, household.purpose, episodes, starts_s, style)


def _starts(rng: random.Random, seconds: int) -> tuple[float, ...]:
    """Lengths as of single episodes, 10 s to 3 min; in a short day shorter ones, so that it has three or more."""
    longest_s = max(10.0, min(180.0, seconds / 3))
    lengths_s = [10 * (longest_s / 10) ** rng.random()]
    while sum(lengths_s) < seconds - 10:
        lengths_s.append(10 * (longest_s / 10) ** rng.random())
    scale = seconds / sum(lengths_s)
    return tuple(round(scale * sum(lengths_s[:i]), 1) for i in range(len(lengths_s)))


class _Household:
    """Who lives there, what they are up to on that day, and what may happen once alone.

    A rare action or passer-by has a moment before which it does not come, so that rare things do not crowd at the
    beginning.
    """

    def __init__(self, rng: random.Random, split: Split, *, seconds: int) -> None:
        self._rng, self._split = rng, split
        nouns = sorted({actor.noun for actor in world.ACTORS.values()})
        members = rng.sample(nouns, rng.randint(3, len(nouns)))  # one of each noun: "the girl" is one person
        self._actors = [
            rng.choice([a for a in world.ACTORS if world.ACTORS[a].noun == noun]) for noun in members
        ]
        self._shirts = dict(zip(self._actors, rng.sample(world.SHIRTS, len(members)), strict=True))
        self._home = {
            room: {
                "shelf_item": rng.choice(world.SHELF_ITEMS),
                "shelf_count": rng.randint(1, len(world.COUNTS)),
                "side_object": rng.choice(list(world.SIDE_OBJECTS)),
            }
            for room in world.ROOMS
        }
        self.purpose = rng.choice(list(world.PURPOSES))
        self._weather = rng.choice(world.WEATHER)
        self._not_before_s = {
            (actor, name): rng.uniform(0, seconds - LEAST_S)
            for actor in self._actors
            for name in self._rare_names()
        }
        self._before: Episode | None = None

    def _rare_names(self) -> list[str]:
        others = [action for action in world.ACTIONS if action not in world.TOOLS]
        return [
            *self._rng.sample(list(world.TOOLS), _RARE_TOOLS),
            *self._rng.sample(others, _RARE_ACTIONS),
            *self._rng.sample(list(world.DISTRACTORS), _RARE_PASSERS),
        ]

    def episode(self, name: str, *, start_s: float, duration_s: float) -> Episode:
        """The next episode of the day."""
        rng, before = self._rng, self._before
        excluded = {deed for deed, earliest_s in self._not_before_s.items() if start_s < earliest_s}
        if before is not None and rng.random() < _SAME_PERSON:
            actor = before.actor_id
        else:
            actor = rng.choice([a for a in self._actors if before is None or a != before.actor_id])
        if rng.random() < 0.25:
            self._weather = rng.choice(world.WEATHER)
        segment, steps = self._script(actor, excluded)
        events = lay_out(rng, steps, duration_s)
        passers = [passer for passer in world.DISTRACTORS if (actor, passer) not in excluded]
        made = Episode(
            id=name,
            split=self._split,
            held_out=is_held_out(segment.activity, segment.room, actor),
            actor_id=actor,
            shirt=self._shirts[actor],
            purpose=self.purpose,
            segments=(segment,),
            events=events,
            distractors=sample_distractors(rng, events, among=passers),
            weather=self._weather,
            style=Style(2, 2, 1, rng.randrange(10**6)),  # the file's size and rate are the day's
            **self._home[segment.room],  # type: ignore[arg-type]
        )
        for deed in self._not_before_s.keys() & set(_deeds(made)):
            self._not_before_s[deed] = math.inf
        self._before = made
        return made

    def _script(
        self, actor: str, excluded: Set[tuple[str, str]]
    ) -> tuple[Segment, list[tuple[str, int, str]]]:
        """Of another activity than before and of this split, without the excluded actions."""
        rng = self._rng
        last = self._before.segments[0].activity if self._before else None
        of_purpose = rng.random() < _OF_THE_PURPOSE
        among = world.PURPOSES[self.purpose][1] if of_purpose else tuple(world.ACTIVITIES)
        for attempt in range(10**5):  # about one try in twenty suits
            if attempt == 2000:  # the rare actions leave nothing of the purpose
                among = tuple(world.ACTIVITIES)
            activity = rng.choice([a for a in among if a != last])
            segment = Segment(activity, rng.choice(world.ACTIVITIES[activity].rooms))
            if self._split != "test" and is_held_out(activity, segment.room, actor):
                continue
            steps = self._rare_to_an_end(actor, sample_steps(rng, (segment,)))
            actions = tuple(action for action, *_ in steps)
            if split_of(signature(actor, (segment,), actions)) != self._split:
                continue
            if excluded.isdisjoint((actor, action) for action in actions):
                return segment, steps
        raise AssertionError("no episode suits this day")

    def _rare_to_an_end(self, actor: str, steps: list[tuple[str, int, str]]) -> list[tuple[str, int, str]]:
        """A rare free step comes first or last where it may: there, a question can go on to the next episode."""
        rare = [step for step in steps if step[2] == "free" and (actor, step[0]) in self._not_before_s]
        if not rare:
            return steps
        moved = self._rng.choice(rare)
        others = [step for step in steps if step != moved]
        orders = [[moved, *others]] * (others[0][2] == "free") + [[*others, moved]] * (
            others[-1][2] == "free"
        )
        return self._rng.choice(orders or [steps])


def _deeds(episode: Episode) -> Iterator[tuple[str, str]]:
    yield from ((episode.actor_id, event.action) for event in episode.events)
    yield from ((episode.actor_id, passing.id) for passing in episode.distractors)


def script_of(reference: Mapping[str, Any]) -> Episode | Day:
    """The episode or the day that an annotation's `episode` refers to: split, index, seed, and a day's seconds."""
    split, index, seed = reference["split"], reference["index"], reference["seed"]
    if reference.get("seconds") is None:
        return sample_episode(split, index, seed=seed)
    return sample_day(split, index, seed=seed, seconds=reference["seconds"])
