"""Contrastive groups of the dollhouse: (image, captions) pairs whose members differ from the first in one fact.

A group is a frame of a training episode and variants of it: the same scene with another action, tool, shirt, and so
on, one fact at a time. In a batch they are hard negatives; without them a small CLIP learns rooms and colours but no
actions. An image shows only what some training episode can show, so no held-out combination of activity, room and actor
occurs. Shapes: G images of a group, P pixels a side, N groups.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from tideo.dollhouse import world
from tideo.dollhouse.captions import action_phrase, caption, shelf_phrase, tool_phrase
from tideo.dollhouse.render import draw_frame
from tideo.dollhouse.script import FrameState, Split, is_held_out, sample_episode

SIZES = ((320, 240), (384, 216), (256, 256), (352, 288), (320, 180))  # sizes of the videos
SCALES = (
    0.5,
    0.75,
    1.0,
)  # factors of these sizes: videos have other sizes too, and small drawings are faster
DISTRACTED = 0.35  # share of groups whose first frame has a distractor; in an episode it is one frame of ten
CHUNK = 16  # groups that one worker draws at a time


@dataclass(frozen=True, kw_only=True)
class GroupsConfig:
    """`groups` groups of `group` images, each `image_px` pixels square."""

    groups: int = 8000
    group: int = 8
    image_px: int = 96
    seed: int = 0
    split: Split = "train"


# --- scenes ---------------------------------------------------------------------------------------

Vary = Callable[[FrameState, random.Random], FrameState | None]


@cache
def shown() -> frozenset[tuple[str, str, str]]:
    """Every (action, room, actor) that some training episode can show."""
    return frozenset(
        (action, room, actor)
        for script in world.ACTIVITIES.values()
        for room in script.rooms
        for actor in world.ACTORS
        if not is_held_out(script.id, room, actor)
        for action in (script.opening, script.closing, *script.free)
    )


def _another(values: Sequence[Any], old: Any, rng: random.Random) -> Any:
    return rng.choice([v for v in values if v != old])


def _vary_action(state: FrameState, rng: random.Random) -> FrameState | None:
    possible = [a for a in world.ACTIONS if a != state.action and (a, state.room, state.actor.id) in shown()]
    if not possible:
        return None
    action = rng.choice(possible)
    return replace(
        state, action=action, tool=rng.choice(world.TOOLS[action]) if action in world.TOOLS else None
    )


def _vary_tool(state: FrameState, rng: random.Random) -> FrameState | None:
    return replace(state, tool=_another(world.TOOLS[state.action], state.tool, rng)) if state.tool else None


def _vary_room(state: FrameState, rng: random.Random) -> FrameState | None:
    possible = [r for r in world.ROOMS if r != state.room and (state.action, r, state.actor.id) in shown()]
    return replace(state, room=rng.choice(possible)) if possible else None


def _vary_actor(state: FrameState, rng: random.Random) -> FrameState | None:
    possible = [a for a in world.ACTORS if a != state.actor.id and (state.action, state.room, a) in shown()]
    return replace(state, actor=world.ACTORS[rng.choice(possible)]) if possible else None


def _vary_shelf_count(state: FrameState, rng: random.Random) -> FrameState:
    return replace(state, shelf_count=_another(range(1, len(world.COUNTS) + 1), state.shelf_count, rng))


def _vary_field(name: str, values: Sequence[Any]) -> Vary:
    return lambda state, rng: replace(state, **{name: _another(values, getattr(state, name), rng)})


# fact → (how often a variant changes it, how)
VARY: dict[str, tuple[float, Vary]] = {
    "action": (0.30, _vary_action),
    "tool": (0.15, _vary_tool),
    "shirt": (0.07, _vary_field("shirt", world.SHIRTS)),
    "room": (0.06, _vary_room),
    "actor": (0.07, _vary_actor),
    "distractor": (0.09, _vary_field("distractor", (None, *world.DISTRACTORS))),
    "weather": (0.07, _vary_field("weather", world.WEATHER)),
    "shelf_item": (0.05, _vary_field("shelf_item", world.SHELF_ITEMS)),
    "shelf_count": (0.15, _vary_shelf_count),
    "side_object": (0.07, _vary_field("side_object", list(world.SIDE_OBJECTS))),
}


def scene(index: int, *, split: Split, seed: int) -> FrameState:
    """A random moment of episode number `index`, more often with a distractor than in the episode."""
    rng = random.Random(f"scene/{seed}/{split}/{index}")
    episode = sample_episode(split, index, seed=seed)
    state = episode.state_at(rng.random() * episode.duration_s)
    if rng.random() < DISTRACTED:
        state = replace(state, distractor=rng.choice(list(world.DISTRACTORS)))
    return _at_another_moment(state, rng)


def group_states(index: int, config: GroupsConfig) -> list[FrameState]:
    """A scene and its variants, each at another moment and with one fact changed."""
    rng = random.Random(f"group/{config.seed}/{config.split}/{index}")
    states = [scene(index, split=config.split, seed=config.seed)]
    names, weights = list(VARY), [weight for weight, _ in VARY.values()]
    while len(states) < config.group:
        _, vary = VARY[rng.choices(names, weights=weights)[0]]
        variant = vary(states[0], rng)
        if variant is not None:
            states.append(_at_another_moment(variant, rng))
    return states


def _at_another_moment(state: FrameState, rng: random.Random) -> FrameState:
    """The same facts with another pose, camera and progress of the action."""
    return replace(
        state,
        progress=rng.random(),
        time_s=rng.uniform(0, 180),
        distractor_progress=rng.random() if state.distractor else 0.0,
        camera=rng.randrange(10**6),
    )


# --- images ---------------------------------------------------------------------------------------


def squared(rgb_HWC: np.ndarray, px: int) -> np.ndarray:
    """uint8 [px, px, 3], squeezed like in the model's image processor, without cutting anything off."""
    return np.asarray(Image.fromarray(rgb_HWC).resize((px, px), Image.Resampling.BICUBIC))


def draw_group(index: int, config: GroupsConfig) -> np.ndarray:
    """The images of a group, uint8 [G, P, P, 3]: drawn in the size of a video, then squeezed into squares."""
    rng = random.Random(f"size/{config.seed}/{index}")
    (full_width, full_height), scale = rng.choice(SIZES), rng.choice(SCALES)
    width, height = round(full_width * scale), round(full_height * scale)
    states = group_states(index, config)
    return np.stack([squared(draw_frame(s, width=width, height=height), config.image_px) for s in states])


def images(config: GroupsConfig, out: str | Path, *, workers: int = 1) -> np.ndarray:
    """All images: a read-only uint8 memory map [N, G, P, P, 3] in `out`, drawn again if the data set has changed."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    path, key_path = folder / "images.npy", folder / "images.json"
    # The first group's pixels are part of the key, since a change of the renderer changes the data set.
    key = asdict(config) | {"probe": hashlib.sha256(draw_group(0, config).tobytes()).hexdigest()}
    if not (key_path.is_file() and json.loads(key_path.read_text(encoding="utf-8")) == key):
        key_path.unlink(missing_ok=True)
        shape = (config.groups, config.group, config.image_px, config.image_px, 3)
        np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape).flush()
        jobs = [(path, config, start) for start in range(0, config.groups, CHUNK)]
        if workers == 1:
            list(map(_draw_chunk, jobs))
        else:
            with get_context("spawn").Pool(workers) as pool:
                pool.map(_draw_chunk, jobs, chunksize=1)
        key_path.write_text(json.dumps(key), encoding="utf-8")
    drawn: np.ndarray = np.load(path, mmap_mode="r")
    return drawn


def _draw_chunk(job: tuple[Path, GroupsConfig, int]) -> None:
    path, config, start = job
    drawn = np.load(path, mmap_mode="r+")
    for index in range(start, min(start + CHUNK, config.groups)):
        drawn[index] = draw_group(index, config)


# --- captions -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A part of a caption that states one fact: its values, the value in a state, and the words for a value."""

    values: tuple[Any, ...]
    of: Callable[[FrameState], Any]  # None if the state shows no value
    words: Callable[[Any, random.Random], str]


PARTS: dict[str, Part] = {
    "action": Part(tuple(world.ACTIONS), lambda s: s.action, action_phrase),
    "tool": Part(
        tuple((action, tool) for action, tools in world.TOOLS.items() for tool in tools),
        lambda s: (s.action, s.tool) if s.tool else None,
        lambda v, rng: action_phrase(v[0], rng) + tool_phrase(*v),
    ),
    "room": Part(world.ROOMS, lambda s: s.room, lambda v, rng: f"in the {v}"),
    "actor": Part(
        tuple(world.ACTORS),
        lambda s: s.actor.id,
        lambda v, rng: f"a {world.ACTORS[v].noun} with {world.ACTORS[v].looks}",
    ),
    "shirt": Part(world.SHIRTS, lambda s: s.shirt, lambda v, rng: f"a {v} shirt"),
    "weather": Part(world.WEATHER, lambda s: s.weather, lambda v, rng: rng.choice(world.WEATHER_PHRASES[v])),
    "shelf": Part(
        tuple((n, item) for n in range(1, len(world.COUNTS) + 1) for item in world.SHELF_ITEMS),
        lambda s: (s.shelf_count, s.shelf_item),
        lambda v, rng: rng.choice(("{} on the shelf", "the shelf holds {}")).format(shelf_phrase(*v)),
    ),
    "side_object": Part(
        tuple(world.SIDE_OBJECTS),
        lambda s: s.side_object,
        lambda v, rng: rng.choice((f"{v} at the side", f"{v} lies there")),
    ),
    "distractor": Part(
        tuple(world.DISTRACTORS), lambda s: s.distractor, lambda v, rng: rng.choice(world.DISTRACTORS[v])
    ),
}  # fmt: skip


def part_texts(rng: random.Random) -> list[str]:
    """A wording of every value of every part, part after part."""
    return [part.words(value, rng) for part in PARTS.values() for value in part.values]


def part_labels(state: FrameState) -> list[int]:
    """For each part, the index of the value in the state; -100 if the state shows none."""
    values = [(part, part.of(state)) for part in PARTS.values()]
    return [-100 if value is None else part.values.index(value) for part, value in values]


def caption_texts(num_groups: int, *, seed: int = 0) -> Iterator[str]:
    """Captions of training scenes, for the tokenizer."""
    rng = random.Random(f"captions/{seed}")
    for index in range(num_groups):
        for state in group_states(index, GroupsConfig(group=4, seed=seed)):
            yield from caption(state, rng).captions
        yield from part_texts(rng) if index % 50 == 0 else ()


@dataclass(frozen=True)
class Group:
    """An item of the data set: G images, three captions of each, and the values of each one's parts."""

    rgb_GPPC: np.ndarray
    texts: list[str]  # 3 G
    labels: list[list[int]]  # [G][parts]
    rng: random.Random


class ContrastiveGroups(Dataset[Group]):
    """Item `index` is a group; each of `passes` passes has another order and wording.

    An item depends on its index alone, so a resumed training continues exactly.
    """

    def __init__(self, rgb_NGPPC: np.ndarray, config: GroupsConfig, *, passes: int) -> None:
        self.rgb_NGPPC, self.config, self.passes = rgb_NGPPC, config, passes
        self.states = [group_states(i, config) for i in range(config.groups)]

    def __len__(self) -> int:
        return self.passes * self.config.groups

    def __getitem__(self, index: int) -> Group:
        number = int(_order(self.config.groups, index // self.config.groups)[index % self.config.groups])
        rng = random.Random(f"words/{self.config.seed}/{index}")
        states = self.states[number]
        texts = [text for state in states for text in caption(state, rng).captions]
        return Group(self.rgb_NGPPC[number], texts, [part_labels(s) for s in states], rng)


@cache
def _order(groups: int, number: int) -> np.ndarray:
    return np.random.default_rng(number).permutation(groups)
