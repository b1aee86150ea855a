"""Short lessons for the tiny language model: a list told again, a match of contents, facts by their names.

Each returns texts in turn given and scored: prompt, answer, prompt, answer, ...
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from tideo.dollhouse import world
from tideo.dollhouse.captions import action_phrase, shelf_phrase, tool_phrase
from tideo.dollhouse.script import FrameState

Asked = tuple[str, ...]  # texts in turn given and scored: prompt, answer, prompt, answer, ...

# The facts that each form tells besides actions and tools.
FACTS = {"full": ("shirt", "weather", "shelf", "side", "could"), "main": ("shirt",)}


def again(
    actions: Sequence[str], name: Callable[[str], str], between: str, rng: random.Random, *, back: bool
) -> Asked:
    """The list told again from a random place on, round its end: each next action is a match and a step."""
    start = rng.randrange(len(actions))
    order = list(actions[::-1] if back else actions)
    first, *others = order[start:] + order[:start]
    title = "\nBackwards:" if back else "\nAgain:"
    return f"{title} {name(first)}", "".join(f"{between} {name(a)}" for a in others) + "."


def facts(states: Sequence[FrameState], names: Sequence[str], rng: random.Random) -> Asked:
    """Facts of what was told by name, in any order: dense lessons in what questions about looks and tools ask rarely.

    A tool is asked by its action. Empty where there is none to ask. Questions alone left colours and tools at chance.
    """
    one = states[0]
    values = {
        "shirt": one.shirt,
        "weather": one.weather,
        "shelf": shelf_phrase(one.shelf_count, one.shelf_item),
        "side": one.side_object,
        "could": world.SIDE_OBJECTS[one.side_object],
    }
    pairs = [(name, values[name]) for name in names]
    tools = {s.action: s.tool for s in states if s.tool}
    pairs += [(action_phrase(action, rng), tool_phrase(action, tool)[1:]) for action, tool in tools.items()]
    rng.shuffle(pairs)
    told = ["\nFacts:"]
    for name, value in pairs:
        told[-1] += f" {name}:"
        told += [f" {value}.", ""]
    return tuple(told[:-1])


def facts_told(story: str, state: FrameState) -> tuple[str, ...]:
    """The names of the facts that the words of a story tell: a caption leaves some of them out."""
    words = {
        "shirt": (f" {state.shirt} shirt",),
        "weather": world.WEATHER_PHRASES[state.weather],
        "shelf": (shelf_phrase(state.shelf_count, state.shelf_item),),
        "side": (state.side_object,),
        "could": (state.side_object,),
    }
    return tuple(name for name, phrases in words.items() if any(phrase in story for phrase in phrases))


def match(
    actions: Sequence[str], frames: Sequence[int], name: Callable[[str], str], rng: random.Random
) -> Asked:
    """A question whose answer needs one match: frame and action, or an action and its neighbour.

    `frames` says which of `actions` fills each frame.
    """
    noun = rng.choice(list(world.ACTORS.values())).noun
    task = rng.choices(("number", "frames", "after", "before"), weights=(1, 1, 2, 2))[0]
    if task == "number":
        n = rng.randrange(len(frames))
        return (
            f"\nQuestion: what is the {noun} doing in frame {n + 1}?\nAnswer:",
            f" {name(actions[frames[n]])}.",
        )
    if task == "frames":
        i = rng.randrange(len(actions))
        where = " ".join(str(n) for n, f in enumerate(frames, 1) if f == i)
        return f"\nQuestion: in which frames is the {noun} {name(actions[i])}?\nAnswer:", f" {where}."
    i = rng.randrange(len(actions) - 1)
    known, wanted = (i, i + 1) if task == "after" else (i + 1, i)
    word = rng.choice((task, f"right {task}"))
    return (
        f"\nQuestion: what is the {noun} doing {word} {name(actions[known])}?\nAnswer:",
        f" {name(actions[wanted])}.",
    )
