"""The data card of an exported split: README.md with the front matter that the Hugging Face hub reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tideo.dollhouse import world
from tideo.dollhouse.script import HELD_OUT_PERCENT, NUM_FRAMES, Episode, Split

MEANING = {
    "CW": "causal, why (NExT-QA)",
    "CH": "causal, how (NExT-QA)",
    "TN": "temporal, what comes after (NExT-QA)",
    "TP": "temporal, what came before (NExT-QA)",
    "TC": "temporal, what happens at the same time (NExT-QA)",
    "DC": "descriptive, counting (NExT-QA)",
    "DL": "descriptive, location (NExT-QA)",
    "DO": "descriptive, other (NExT-QA)",
    "Interaction": "which thing is used (STAR)",
    "Sequence": "what is first or last (STAR)",
    "Prediction": "what comes next, asked of the segment before it (STAR)",
    "Feasibility": "what else would be possible (STAR)",
    "Purpose": "the overall purpose (EgoSchema)",
}

_CARD = """---
license: apache-2.0
language: [en]
task_categories: [visual-question-answering, video-text-to-text]
pretty_name: Tideo dollhouse
---
# Dollhouse, {split} split

A procedural household world, made by `tideo dollhouse make --split {split} --num {num} --seed {seed}`.
People, rooms, pictures and sentences are all generated; nothing was filmed or collected.
The same command gives the same bytes of annotation.

| file | content |
|---|---|
| `videos/ID.mp4` | {num} episodes of {shortest:.0f} to {longest:.0f} s, {minutes:.1f} minutes in all, H.264 |
| `{split}.jsonl` | one question a line; `answer` is the 0-based index of the right option |
| `{split}.csv` | the same in NExT-QA's multi-choice columns; it has no segments, so Prediction is not in it |
{tideos}
## Questions

{total} multiple-choice questions with five options. `start_s` and `end_s` name the segment that a question is
about, where it is not the whole video: a Prediction is asked of the part before the step that it asks for.

| kind | questions | meaning |
|---|---|---|
{kinds}

## What is balanced

- The right answer stands equally often at each of the five positions, within each kind.
- Within each kind and reference, an option is wrong about four times as often as it is right.
- Wrong options come from the same episode where it has enough, else from what was equally likely there.
- Every step that is asked for lasts at least a tenth of the episode, so {num_frames} even frames show it.

## Splits

An episode's script (actor, rooms, activities, actions in order) hashes into exactly one of train (80%),
val (10%) and test (10%). Of the combinations of activity, room and actor, {held_out_percent}% never occur
in train and val; every second test episode plays one of them (`held_out`, {num_held_out} of {num} here).

World: {rooms} rooms, {actors} actors, {actions} atomic actions, {activities} activities, {purposes} purposes.

## Licence

Apache-2.0.
"""

_TIDEOS = "| `tideos.json` | the episodes told in words, with their questions, in TextVid's JSON |\n"


def data_card(episodes: Sequence[Episode], *, split: Split, seed: int, by_kind: Mapping[str, int]) -> str:
    """The card of these episodes, the first of the split and seed."""
    lengths_s = [e.duration_s for e in episodes]
    return _CARD.format(
        split=split,
        seed=seed,
        num=len(episodes),
        minutes=sum(lengths_s) / 60,
        shortest=min(lengths_s),
        longest=max(lengths_s),
        tideos=_TIDEOS if split == "train" else "",
        total=sum(by_kind.values()),
        kinds="\n".join(
            f"| {kind} | {by_kind.get(kind, 0)} | {meaning} |" for kind, meaning in MEANING.items()
        ),
        num_frames=NUM_FRAMES,
        held_out_percent=HELD_OUT_PERCENT,
        num_held_out=sum(e.held_out for e in episodes),
        rooms=len(world.ROOMS),
        actors=len(world.ACTORS),
        actions=len(world.ACTIONS),
        activities=len(world.ACTIVITIES),
        purposes=len(world.PURPOSES),
    )
