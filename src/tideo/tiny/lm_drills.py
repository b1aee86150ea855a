"""Drills of the tiny language model: copy tasks, retrieval tasks and facts by name."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from tideo.dollhouse import world
from tideo.dollhouse.captions import action_phrase, shelf_phrase, tool_phrase
from tideo.dollhouse.script import FrameState

Task = tuple[str, ...]  # prompt, answer, prompt, answer, ...; only answers are scored

# The facts, besides actions and tools, that each form of a story contains.
FACTS = {"full": ("shirt", "weather", "shelf", "side", "could"), "main": ("shirt",)}


def copy_task(
    actions: Sequence[str], name: Callable[[str], str], between: str, rng: random.Random, *, back: bool
) -> Task:
    """Copy the list from a random place on, cyclically, and with `back` in reverse order.

    For each action the model has to find the last one again and to step to its neighbour.
    """
    start = rng.randrange(len(actions))
    order = list(actions[::-1] if back else actions)
    first, *others = order[start:] + order[:start]
    title = "\nBackwards:" if back else "\nAgain:"
    return f"{title} {name(first)}", "".join(f"{between} {name(a)}" for a in others) + "."


def fact_task(states: Sequence[FrameState], names: Sequence[str], rng: random.Random) -> Task:
    """Facts by name, in random order; a tool goes by the name of its action. Empty if there is no fact.

    Questions about looks and tools are rare, and with questions alone colours and tools stayed at chance.
    """
    first = states[0]
    values = {
        "shirt": first.shirt,
        "weather": first.weather,
        "shelf": shelf_phrase(first.shelf_count, first.shelf_item),
        "side": first.side_object,
        "could": world.SIDE_OBJECTS[first.side_object],
    }
    pairs = [(name, values[name]) for name in names]
    tools = {s.action: s.tool for s in states if s.tool}
    pairs += [(action_phrase(action, rng), tool_phrase(action, tool)[1:]) for action, tool in tools.items()]
    rng.shuffle(pairs)
    texts = ["\nFacts:"]
    for name, value in pairs:
        texts[-1] += f" {name}:"
        texts += [f" {value}.", ""]
    return tuple(texts[:-1])


def facts_in(story: str, state: FrameState) -> tuple[str, ...]:
    """The names of the facts that a story contains, since a caption leaves some of them out."""
    words = {
        "shirt": (f" {state.shirt} shirt",),
        "weather": world.WEATHER_PHRASES[state.weather],
        "shelf": (shelf_phrase(state.shelf_count, state.shelf_item),),
        "side": (state.side_object,),
        "could": (state.side_object,),
    }
    return tuple(name for name, phrases in words.items() if any(phrase in story for phrase in phrases))


def retrieval_task(
    actions: Sequence[str], frames: Sequence[int], name: Callable[[str], str], rng: random.Random
) -> Task:
    """A question that needs one match in the story: of a frame and its action, or of an action and its neighbour.

    `frames` has for each frame the index of its action in `actions`.
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
