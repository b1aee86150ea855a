"""What keeping a frozen tower's output is worth: an epoch of finetuning on grids, with pixels and with kept features.

    OMP_NUM_THREADS=2 python speed/tower.py [--grids 64] [--repeats 3]

The tiny LLaVA of the dollhouse reads the same grids in turns: drawn, brought to the processor, through the tower and
trained on; or the tower's output read from disk and trained on. The least seconds of the repeats, forward and backward;
the losses must agree within 1e-2, or the run fails. `first epoch` is what writing the features costs on top.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import torch

from tideo.registry import load
from tideo.tiny.grid_episodes import grid_conversations
from tideo.train.grid.examples import Chat, ChatExamples, collate_chats
from tideo.train.grid.finetune import starting_model
from tideo.train.grid.modules import train_only
from tideo.train.grid.patch_features import PatchFeatures, patch_features, restore_tower, use_features

BATCH = 16


def epoch(model: torch.nn.Module, examples: ChatExamples, *, pad_id: int) -> tuple[float, float]:
    """Seconds and the mean loss."""
    started_s, losses = time.perf_counter(), []
    for start in range(0, len(examples), BATCH):
        indices = range(start, min(start + BATCH, len(examples)))
        loss = model(**collate_chats([examples[i] for i in indices], pad_id=pad_id)).loss
        loss.backward()
        losses.append(loss.item())
    return time.perf_counter() - started_s, sum(losses) / len(losses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grids", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    config = load("finetunes", "dollhouse")()
    model, processor = starting_model(config)
    train_only(model, config.parts)
    side, pad_id = config.grid.image_size, processor.tokenizer.pad_token_id
    grids = grid_conversations(num=args.grids, settings=config.grid)

    def examples(features: PatchFeatures | None) -> ChatExamples:
        return ChatExamples(
            grids,
            processor=processor,
            image_size=side,
            num=len(grids),
            packed=config.packed,
            features=features,
        )

    with tempfile.TemporaryDirectory() as folder:
        started_s = time.perf_counter()
        kept = patch_features(
            model, grids, pixels=Chat(processor, image_size=side).pixels, tower_key="-", cache_dir=folder
        )
        first_s = time.perf_counter() - started_s
        pixels_s, kept_s = [], []
        for _ in range(args.repeats):
            seconds, expected = epoch(model, examples(None), pad_id=pad_id)
            pixels_s.append(seconds)
            tower = use_features(model)
            seconds, loss = epoch(model, examples(kept), pad_id=pad_id)
            kept_s.append(seconds)
            restore_tower(model, tower)
            if abs(loss - expected) > 1e-2:
                raise SystemExit(
                    f"the losses differ: {expected:.4f} with pixels, {loss:.4f} with kept features"
                )
    print(
        f"{len(grids)} grids of {side} pixels, an epoch: pixels {min(pixels_s):.2f} s, kept {min(kept_s):.2f} s"
    )
    print(f"{min(pixels_s) / min(kept_s):.2f}x; first epoch {first_s:.2f} s more")


if __name__ == "__main__":
    main()
