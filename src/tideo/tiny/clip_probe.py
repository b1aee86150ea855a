"""A probe of a dollhouse CLIP: accuracy for each fact, retrieval among hard captions, distance of images and texts.

    python -m tideo.tiny.clip_probe src/tideo/assets/dollhouse-clip --num 300

The frames are of the validation split. Shapes: S scenes, D projection width, V values of a fact.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoProcessor, CLIPModel, CLIPProcessor

from tideo.dollhouse import world
from tideo.dollhouse.captions import caption
from tideo.dollhouse.render import draw_frame
from tideo.dollhouse.script import FrameState, Split
from tideo.tiny.clip import unit
from tideo.tiny.clip_groups import PARTS, SIZES, VARY, part_texts, scene

HARD = 256  # candidates of the retrieval probe


def measure_clip(
    model: CLIPModel, processor: CLIPProcessor, *, num: int = 400, split: Split = "val", seed: int = 0
) -> dict[str, float]:
    """name → accuracy (0..1), cosine or distance.

    `part/…` is the accuracy for a fact among caption parts, `frame/…` among whole textual frames that differ in that
    fact; `retrieval` is the accuracy for the right textual frame among 256 that share most facts. `cosine` is the mean
    over images and their own textual frames, `gap` the distance between the centroids of the two.
    """
    states = [scene(index, split=split, seed=seed) for index in range(num)]
    rng = random.Random(f"probe/{seed}")
    image_SD = image_vectors(model, processor, states, rng)
    text_SD = frame_vectors(model, processor, [caption(s, rng).captions for s in states])
    scores = _parts(model, processor, states, image_SD, rng)
    scores |= _facts(model, processor, states, image_SD)
    scores["retrieval"] = _retrieval(model, processor, states[:100], image_SD, rng)
    scores["cosine"] = float((image_SD * text_SD).sum(1).mean())
    scores["gap"] = float((image_SD.mean(0) - text_SD.mean(0)).norm())
    return scores


@torch.inference_mode()
def image_vectors(
    model: CLIPModel,
    processor: CLIPProcessor,
    states: Sequence[FrameState],
    rng: random.Random,
    *,
    batch: int = 64,
) -> Tensor:
    """Unit vectors [S, D] of drawn frames, through the model's own processor."""
    rows = []
    for start in range(0, len(states), batch):
        drawn = []
        for state in states[start : start + batch]:
            width, height = rng.choice(SIZES)
            drawn.append(draw_frame(state, width=width, height=height))
        pixels = processor(images=drawn, return_tensors="pt")["pixel_values"]
        rows.append(unit(model.get_image_features(pixels).pooler_output))
    return torch.cat(rows)


@torch.inference_mode()
def text_vectors(
    model: CLIPModel, processor: CLIPProcessor, texts: Sequence[str], *, batch: int = 512
) -> Tensor:
    """Unit vectors of single texts; equal texts are encoded once."""
    distinct = sorted(set(texts), key=len)
    rows = []
    for start in range(0, len(distinct), batch):
        chunk = distinct[start : start + batch]
        ids = processor(text=chunk, padding=True, truncation=True, return_tensors="pt")["input_ids"]
        rows.append(unit(model.get_text_features(ids).pooler_output))
    place = {text: i for i, text in enumerate(distinct)}
    return torch.cat(rows)[[place[text] for text in texts]]


def frame_vectors(model: CLIPModel, processor: CLIPProcessor, frames: Sequence[Sequence[str]]) -> Tensor:
    """Textual frame features [S, D]: the normalised mean of each frame's unit caption vectors (TOPA)."""
    flat = text_vectors(model, processor, [text for frame in frames for text in frame])
    return unit(flat.unflatten(0, (len(frames), -1)).mean(1))


def _parts(
    model: CLIPModel,
    processor: CLIPProcessor,
    states: Sequence[FrameState],
    image_SD: Tensor,
    rng: random.Random,
) -> dict[str, float]:
    part_KD = text_vectors(model, processor, part_texts(rng))
    columns = (image_SD @ part_KD.T).split([len(part.values) for part in PARTS.values()], dim=1)
    accuracies = {}
    for (name, part), scores_SV in zip(PARTS.items(), columns, strict=True):
        rows = [(row, part.of(s)) for row, s in zip(scores_SV, states, strict=True) if part.of(s) is not None]
        if name == "tool":  # among the tools of its action, since its caption part names the action too
            hits = [_best(row, part.values, only=value[0]) == value for row, value in rows]
        else:
            hits = [part.values[int(row.argmax())] == value for row, value in rows]
        accuracies[f"part/{name}"] = float(np.mean(hits))
    return accuracies


def _best(row: Tensor, values: Sequence[tuple[str, str]], *, only: str) -> tuple[str, str]:
    return max((float(score), v) for score, v in zip(row, values, strict=True) if v[0] == only)[1]


def _alternatives(state: FrameState, fact: str) -> list[FrameState]:
    """The state, followed by its copies with every other value of one fact."""
    if fact == "action":
        others = [
            replace(state, action=a, tool=world.TOOLS[a][0] if a in world.TOOLS else None)
            for a in world.ACTIONS
        ]
    elif fact == "tool":
        others = [replace(state, tool=t) for t in world.TOOLS.get(state.action, ())]
    elif fact == "actor":
        others = [replace(state, actor=a) for a in world.ACTORS.values()]
    else:
        values: dict[str, Sequence[Any]] = {
            "shirt": world.SHIRTS,
            "room": world.ROOMS,
            "distractor": (None, *world.DISTRACTORS),
            "weather": world.WEATHER,
            "shelf_item": world.SHELF_ITEMS,
            "shelf_count": range(1, len(world.COUNTS) + 1),
            "side_object": tuple(world.SIDE_OBJECTS),
        }
        others = [replace(state, **{fact: value}) for value in values[fact]]
    return [state, *(s for s in others if getattr(s, fact) != getattr(state, fact))]


def _facts(
    model: CLIPModel, processor: CLIPProcessor, states: Sequence[FrameState], image_SD: Tensor
) -> dict[str, float]:
    accuracies = {}
    for fact in VARY:
        frames: list[tuple[str, ...]] = []
        counts: list[tuple[int, int]] = []  # (scene, number of candidates)
        for number, state in enumerate(states):
            # With the same seed for all, candidates have the same wording except for the fact.
            worded = [
                caption(s, random.Random(f"fact/{number}")).captions for s in _alternatives(state, fact)
            ]
            candidates = [worded[0], *(w for w in worded[1:] if w != worded[0])]
            if len(candidates) > 1:
                counts.append((number, len(candidates)))
                frames += candidates
        vectors = frame_vectors(model, processor, frames)
        hits, start = [], 0
        for number, count in counts:
            hits.append(int((vectors[start : start + count] @ image_SD[number]).argmax()) == 0)
            start += count
        accuracies[f"frame/{fact}"] = float(np.mean(hits))
    return accuracies


def _retrieval(
    model: CLIPModel,
    processor: CLIPProcessor,
    states: Sequence[FrameState],
    image_SD: Tensor,
    rng: random.Random,
) -> float:
    hits = []
    for number, state in enumerate(states):
        frames = [caption(state, rng).captions]
        while len(frames) < HARD:
            changed = state
            for fact in rng.sample(list(VARY), rng.choice((1, 2))):
                changed = VARY[fact][1](changed, rng) or changed
            wording = rng.random()
            captions = caption(changed, random.Random(wording)).captions
            if captions != caption(state, random.Random(wording)).captions:  # else the texts hide the change
                frames.append(captions)
        hits.append(int((frame_vectors(model, processor, frames) @ image_SD[number]).argmax()) == 0)
    return float(np.mean(hits))


def main() -> None:
    parser = argparse.ArgumentParser(description="Probe a dollhouse CLIP on validation frames.")
    parser.add_argument("directory")
    parser.add_argument("--num", type=int, default=400)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = CLIPModel.from_pretrained(args.directory).eval()
    for name, value in measure_clip(
        model, AutoProcessor.from_pretrained(args.directory), num=args.num
    ).items():
        print(f"{name:20} {value:.3f}")


if __name__ == "__main__":
    main()
