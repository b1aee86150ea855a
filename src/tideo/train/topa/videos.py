"""Finetuning after pre-alignment, TOPA's second half: a benchmark's questions and image features of its videos.

What is learned from has the form of Tideos without captions, so the training is the pre-alignment's own.
Shapes: T frames, D feature width.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch

from tideo.encoders.dual import DualEncoder
from tideo.encoders.encode import encode_videos
from tideo.encoders.features import read_features
from tideo.encoders.memory import Memory, project
from tideo.encoders.sources import segments_of, video_key
from tideo.models.topa.settings import MEMORY_FILE
from tideo.processes import Processes
from tideo.store.features import FeatureStore
from tideo.store.files import content_key, file_hash, key_of
from tideo.train.annotated import annotated_segments
from tideo.train.skipped import SKIPPED_FILE, Skipped
from tideo.train.topa.config import PrealignConfig
from tideo.train.topa.features import StoredFeatures, fill_store
from tideo.train.trainer import last_checkpoint
from tideo.types import Question, Sample, Tideo, UserError, Video

PROJECTED = 256  # videos that a process projects at a time


def annotated_questions(config: PrealignConfig) -> list[tuple[Video, Tideo]]:
    """The questions about the videos that the recipe's share draws, each with its video or segment.

    Raises UserError for missing videos, and for a question without options or without its right answer.
    """
    assert config.data is not None
    assert config.path is not None
    assert config.videos is not None
    groups = annotated_segments(config.data, path=config.path, videos=config.videos)
    paths = list(
        dict.fromkeys(group[0].video.path for group in groups)
    )  # a video is drawn with all its segments
    order = random.Random(f"share/{config.seed}").sample(paths, len(paths))
    drawn = set(order[: max(1, round(config.share * len(paths)))])
    return [_annotated(sample) for group in groups if group[0].video.path in drawn for sample in group]


def _annotated(sample: Sample) -> tuple[Video, Tideo]:
    if sample.answer is None or len(sample.options) < 2:
        raise UserError(
            f"{sample.id}: training needs two or more options and the right answer of each question"
        )
    (video,) = segments_of([sample])
    question = Question(
        question=sample.question, options=sample.options, answer=sample.answer, kind=sample.kind
    )
    return video, Tideo(id=sample.id, frames=(), summary="", questions=(question,))


def image_features(
    config: PrealignConfig, annotated: Sequence[tuple[Video, Tideo]], encoder: DualEncoder, *, out: Path
) -> tuple[list[Tideo], StoredFeatures]:
    """The questions and the features of the videos that can be read; OUT/skipped.jsonl lists the others.

    The features are read from the recipe's folder, which `tideo encode` filled, or encoded beside the run. Raises
    UserError for a folder of another encoder, and if too many videos are left out.
    """
    processes = Processes.launched()
    videos = list(dict.fromkeys(video for video, _ in annotated))
    reasons: dict[str, str] = {}
    if config.features is None:
        folder = out.parent / "image_features" / f"{encoder.id}-{getattr(encoder, 'dtype', 'float32')}"
        if processes.first:
            done = encode_videos(videos, encoder=encoder, out=folder, num_frames=config.max_frames)
            reasons = done.failed
        processes.wait()
    else:
        folder = Path(config.features)
    store = FeatureStore(folder)
    if (of := store.about.get("encoder")) != encoder.id:
        raise UserError(f"{folder} holds features of encoder {of}, not {encoder.id}")
    contents = {path: content_key(path) for path in {video.path for video in videos}}
    key_of_video = {
        video: video_key(content, video, num_frames=config.max_frames)
        for video in videos
        if (content := contents[video.path]) is not None
    }
    skipped = Skipped(out / SKIPPED_FILE, share=config.max_unreadable)
    skipped.num = len(videos)
    lacking = f"{folder} does not hold it with {config.max_frames} frames: run tideo encode again"
    found = {video: key for video, key in key_of_video.items() if key in store}
    skipped.add((video.id, reasons.get(video.id, lacking)) for video in videos if video not in found)
    skipped.check()
    read = [(tideo, found[video]) for video, tideo in annotated if video in found]
    return [tideo for tideo, _ in read], StoredFeatures(store, [key for _, key in read])


def projected_images(
    features: StoredFeatures, *, start: Path, temperature: float, folder: Path, device: torch.device
) -> StoredFeatures:
    """The features projected onto the memory of the pre-alignment in `start`, in a store in `folder`.

    All processes share the work. Raises UserError if the checkpoints in `folder` learned from others.
    """
    about = {
        "encoder": features.store.about["encoder"],
        "modality": "projected",
        "temperature": temperature,
        "memory": file_hash(start / MEMORY_FILE),
        "features": key_of(sorted(set(features.keys))),
    }
    place = folder / f"projected-{key_of(about)[:16]}"
    if not place.exists() and last_checkpoint(folder) is not None:
        raise UserError(
            f"{folder} holds checkpoints of a run, since which the memory of {start} or the videos that can be read "
            "have changed: undo that, or give another --out to start anew"
        )
    memory = Memory.load(start / MEMORY_FILE, device=device)
    store = fill_store(
        place,
        {key: key for key in features.keys},
        lambda shard: (
            project(read_features(features.store, key), memory, temperature=temperature).values_TD
            for key in shard
        ),
        dim=features.store.dim,
        about=about,
        shard=PROJECTED,
        what="projecting images",
    )
    return StoredFeatures(store, features.keys)
