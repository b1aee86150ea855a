"""The data card of an exported split: README.md with the front matter that the Hugging Face hub reads.

Its text is card.md, of days days_card.md, with a field in braces for each figure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tideo.dollhouse import world
from tideo.dollhouse.day import Day
from tideo.dollhouse.script import HELD_OUT_PERCENT, NUM_FRAMES, Episode, Split

_TIDEOS = "| `tideos.json` | the episodes in words, with their questions, in TextVid's JSON |\n"


def data_card(episodes: Sequence[Episode], *, split: Split, seed: int, by_kind: Mapping[str, int]) -> str:
    """The card of these episodes, the first of the split and seed."""
    lengths_s = [e.duration_s for e in episodes]
    text = Path(__file__).with_name("card.md").read_text(encoding="utf-8")
    return text.format(
        split=split,
        seed=seed,
        num=len(episodes),
        minutes=sum(lengths_s) / 60,
        shortest=min(lengths_s),
        longest=max(lengths_s),
        tideos=_TIDEOS if split == "train" else "",
        total=sum(by_kind.values()),
        by_kind=Counter(by_kind),  # so that a kind without questions is 0
        num_frames=NUM_FRAMES,
        held_out_percent=HELD_OUT_PERCENT,
        num_held_out=sum(e.held_out for e in episodes),
        rooms=len(world.ROOMS),
        actors=len(world.ACTORS),
        actions=len(world.ACTIONS),
        activities=len(world.ACTIVITIES),
        purposes=len(world.PURPOSES),
    )


def days_card(days: Sequence[Day], *, split: Split, seed: int, by_kind: Mapping[str, int]) -> str:
    """The card of these days, the first of the split, seed and length."""
    text = Path(__file__).with_name("days_card.md").read_text(encoding="utf-8")
    return text.format(
        split=split,
        seed=seed,
        num=len(days),
        length=f"{days[0].duration_s / 60:g}",
        total=sum(by_kind.values()),
        by_kind=Counter(by_kind),
        episodes=sum(len(day.episodes) for day in days),
    )
