"""Scripts → episodes: who does what, when and where. This module makes neither pictures nor words.

An activity is a partially ordered script (opening < free steps < closing). An episode consists of one to four
activities of one purpose, with distractors passing by. Splits are disjoint by construction: an episode's
signature (actor, rooms, activities, actions) hashes into exactly one of them, and some combinations of
activity, room and actor occur in test episodes only.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tideo.dollhouse import world
from tideo.types import UserError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
NUM_FRAMES = 10  # every event lasts at least a tenth of the episode, so ten even frames show all of them
HELD_OUT_PERCENT = 15
_SPLIT_OF_BUCKET: tuple[Split, ...] = ("test", "val") + ("train",) * 8


@dataclass(frozen=True)
class Event:
    """One atomic action from `start_s` to `end_s`."""

    action: str
    tool: str | None
    start_s: float
    end_s: float
    segment: int  # index of the activity it belongs to
    role: Literal["opening", "free", "closing"]


@dataclass(frozen=True)
class Segment:
    """One activity in its room."""

    activity: str
    room: str


@dataclass(frozen=True)
class Distractor:
    id: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Style:
    """How the episode is filmed."""

    width: int
    height: int
    fps: int
    camera: int  # seed of the camera's and the light's path


@dataclass(frozen=True)
class FrameState:
    """Everything that a picture or a caption of one moment may show."""

    actor: world.Actor
    shirt: str
    room: str
    action: str
    tool: str | None
    progress: float  # 0..1 within the event
    time_s: float
    distractor: str | None
    distractor_progress: float  # 0..1 while it passes
    weather: str
    shelf_item: str
    shelf_count: int
    side_object: str
    camera: int


@dataclass(frozen=True)
class Episode:
    """The script of one video."""

    id: str
    split: Split
    held_out: bool
    actor_id: str
    shirt: str
    purpose: str
    segments: tuple[Segment, ...]
    events: tuple[Event, ...]
    distractors: tuple[Distractor, ...]
    weather: str
    shelf_item: str
    shelf_count: int
    side_object: str
    style: Style

    @property
    def actor(self) -> world.Actor:
        return world.ACTORS[self.actor_id]

    @property
    def duration_s(self) -> float:
        return self.events[-1].end_s

    def event_at(self, time_s: float) -> Event:
        return next((event for event in self.events if time_s < event.end_s), self.events[-1])

    def state_at(self, time_s: float) -> FrameState:
        """The state of the world at `time_s`."""
        event = self.event_at(time_s)
        passing = next((d for d in self.distractors if d.start_s <= time_s < d.end_s), None)
        return FrameState(
            actor=self.actor,
            shirt=self.shirt,
            room=self.segments[event.segment].room,
            action=event.action,
            tool=event.tool,
            progress=min(1.0, max(0.0, (time_s - event.start_s) / (event.end_s - event.start_s))),
            time_s=time_s,
            distractor=passing.id if passing else None,
            distractor_progress=(time_s - passing.start_s) / (passing.end_s - passing.start_s)
            if passing
            else 0.0,
            weather=self.weather,
            shelf_item=self.shelf_item,
            shelf_count=self.shelf_count,
            side_object=self.side_object,
            camera=self.style.camera,
        )

    def cut_before_closing(self) -> Episode | None:
        """The episode without its closing step, about which a prediction can then ask.

        None if the episode has no closing step, or if no step before it is specific to an activity: then the
        remaining video does not determine the answer.
        """
        *before, last = self.events
        specific = [e for e in before if e.segment == last.segment and e.action not in world.SHARED]
        if last.role != "closing" or not specific:
            return None
        end_s = last.start_s
        passing = tuple(d for d in self.distractors if d.end_s <= end_s)
        return replace(self, events=self.events[:-1], distractors=passing)


def sample_episode(split: Split, index: int, *, seed: int = 0) -> Episode:
    """Episode number `index` of a split. The same arguments always give the same episode.

    Every second test episode has a held-out combination of activity, room and actor; no other episode has one.
    """
    if split not in SPLITS:
        raise UserError(f"split '{split}' is unknown; the dollhouse has {', '.join(SPLITS)}")
    held_out = split == "test" and index % 2 == 1
    rng = random.Random(f"dollhouse/{seed}/{split}/{index}")
    while True:  # about one try in ten gives an episode of val or test
        actor_id = rng.choice(list(world.ACTORS))
        purpose, segments = _sample_segments(rng)
        if any(is_held_out(s.activity, s.room, actor_id) for s in segments) != held_out:
            continue
        steps = sample_steps(rng, segments)
        if split_of(signature(actor_id, segments, tuple(action for action, *_ in steps))) == split:
            break
    duration_s = round(10 * 18 ** rng.random(), 1)
    events = lay_out(rng, steps, duration_s)
    return Episode(
        id=f"{split}_{seed}_{index:06d}",
        split=split,
        held_out=held_out,
        actor_id=actor_id,
        shirt=rng.choice(world.SHIRTS),
        purpose=purpose,
        segments=segments,
        events=events,
        distractors=sample_distractors(rng, events),
        weather=rng.choice(world.WEATHER),
        shelf_item=rng.choice(world.SHELF_ITEMS),
        shelf_count=rng.randint(1, len(world.COUNTS)),
        side_object=rng.choice(list(world.SIDE_OBJECTS)),
        style=_sample_style(rng, duration_s),
    )


def is_held_out(activity: str, room: str, actor_id: str) -> bool:
    """Whether this combination is kept out of all training text and images."""
    return _bucket(f"{activity}/{room}/{actor_id}", 100) < HELD_OUT_PERCENT


def split_of(signature: str) -> Split:
    return _SPLIT_OF_BUCKET[_bucket(signature, len(_SPLIT_OF_BUCKET))]


def signature(actor_id: str, segments: tuple[Segment, ...], actions: tuple[str, ...]) -> str:
    return "|".join((actor_id, *(f"{s.activity}@{s.room}" for s in segments), *actions))


def _bucket(text: str, buckets: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % buckets


def _sample_segments(rng: random.Random) -> tuple[str, tuple[Segment, ...]]:
    purpose = rng.choice(list(world.PURPOSES))
    _, members = world.PURPOSES[purpose]
    num = rng.choices((1, 2, 3, 4), weights=(4, 3, 2, 1))[0]
    activities = rng.sample(members, min(num, len(members)))
    rooms = [rng.choice(world.ACTIVITIES[a].rooms) for a in activities]
    shared = [r for r in world.ROOMS if all(r in world.ACTIVITIES[a].rooms for a in activities)]
    if shared and rng.random() < 0.6:
        rooms = [rng.choice(shared)] * len(activities)
    return purpose, tuple(Segment(activity=a, room=r) for a, r in zip(activities, rooms, strict=True))


def sample_steps(rng: random.Random, segments: tuple[Segment, ...]) -> list[tuple[str, int, str]]:
    """(action, segment, role) in order. No action occurs twice, so a question can refer to it unambiguously."""
    num_events = rng.randint(6, 9) if len(segments) == 1 else rng.randint(7, 9)
    used: set[str] = set()
    for segment in segments:
        used |= {world.ACTIVITIES[segment.activity].opening, world.ACTIVITIES[segment.activity].closing}
    share = [num_events // len(segments)] * len(segments)
    for i in rng.sample(range(len(segments)), num_events % len(segments)):
        share[i] += 1
    steps: list[tuple[str, int, str]] = []
    finished: set[str] = set()
    for i, segment in enumerate(segments):
        script = world.ACTIVITIES[segment.activity]
        closing = script.closing not in finished and rng.random() < 0.7
        opening = script.opening not in finished and share[i] - closing >= 2 and rng.random() < 0.5
        num_free = share[i] - opening - closing
        free = [a for a in script.free if a not in used]
        chosen = rng.sample(free, min(num_free, len(free)))
        used |= set(chosen)
        middle = [(a, i, "free") for a in chosen]
        steps += (
            [(script.opening, i, "opening")] * opening + middle + [(script.closing, i, "closing")] * closing
        )
        finished |= {script.opening} if opening else set()
        finished |= {script.closing} if closing else set()
    return steps


def lay_out(rng: random.Random, steps: list[tuple[str, int, str]], duration_s: float) -> tuple[Event, ...]:
    least = 1.03 / NUM_FRAMES
    cuts = [0.0, *sorted(rng.random() for _ in range(len(steps) - 1)), 1.0]
    slack = 1.0 - least * len(steps)
    events, start_s = [], 0.0
    for i, (action, segment, role) in enumerate(steps):
        length_s = duration_s * (least + slack * (cuts[i + 1] - cuts[i]))
        end_s = duration_s if i == len(steps) - 1 else round(start_s + length_s, 3)
        tool = rng.choice(world.TOOLS[action]) if action in world.TOOLS else None
        events.append(Event(action, tool, start_s, end_s, segment, role))  # type: ignore[arg-type]
        start_s = end_s
    return tuple(events)


def sample_distractors(
    rng: random.Random, events: tuple[Event, ...], *, among: Sequence[str] = tuple(world.DISTRACTORS)
) -> tuple[Distractor, ...]:
    """Each one passes within one event, long enough for one of ten even frames to show it."""
    least_s = 1.02 / NUM_FRAMES * events[-1].end_s
    num = min(rng.choices((0, 1, 2), weights=(2, 5, 3))[0], len(among))
    chosen = sorted(rng.sample(range(len(events)), num))
    passing = []
    for index, name in zip(chosen, rng.sample(among, num), strict=True):
        event = events[index]
        length_s = min(least_s, event.end_s - event.start_s)
        start_s = event.start_s + rng.random() * (event.end_s - event.start_s - length_s)
        passing.append(Distractor(name, round(start_s, 3), round(start_s + length_s, 3)))
    return tuple(passing)


def _sample_style(rng: random.Random, duration_s: float) -> Style:
    width, height = rng.choice(((320, 240), (384, 216), (256, 256), (352, 288), (320, 180)))
    fps = rng.choice((12, 15, 24, 30) if duration_s < 30 else (12, 15) if duration_s < 60 else (8, 10, 12))
    return Style(width, height, fps, rng.randrange(10**6))
