"""TVQA (Lei et al., EMNLP 2018) with the subtitles of the moment before each question."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tideo.benchmarks.annotations import annotation, text_of
from tideo.benchmarks.tvqa import tvqa
from tideo.types import Sample, UserError, Video

SUBTITLES = "tvqa_subtitles"  # the folder beside the annotations
_CUE = re.compile(r"(\d+):(\d\d):(\d\d)[,.](\d{3}) --> (\d+):(\d\d):(\d\d)[,.](\d{3})")


def tvqa_subtitles(data: str | Path, *, videos: str | Path) -> list[Sample]:
    """The questions of `tvqa`, each after what is said within its span.

    The subtitles are read from tvqa_subtitles/VID.srt beside the file. Raises UserError if those of a clip are missing.
    """
    folder = annotation(data, "*.jsonl").parent / SUBTITLES
    return [
        replace(s, question=_subtitles(s.video, folder=folder) + s.question)
        for s in tvqa(data, videos=videos)
    ]


def _subtitles(video: Video, *, folder: Path) -> str:
    path = folder / f"{video.id}.srt"
    if not path.is_file():
        raise UserError(
            f"{path} is missing: unpack the subtitles beside the annotations, or use tvqa without them"
        )
    lines = [
        words
        for start_s, end_s, words in cues(text_of(path))
        if (video.end_s is None or start_s < video.end_s) and (video.start_s is None or end_s > video.start_s)
    ]
    return f"Subtitles: {' '.join(lines)}\n" if lines else ""


def cues(srt: str) -> Iterator[tuple[float, float, str]]:
    """Start and end in seconds, and words, of each subtitle of a SubRip file."""
    for block in re.split(r"\n\s*\n", srt.replace("\r\n", "\n").strip()):
        lines = block.split("\n")
        for number, line in enumerate(lines):
            if found := _CUE.search(line):
                h1, m1, s1, f1, h2, m2, s2, f2 = map(int, found.groups())
                words = " ".join(" ".join(lines[number + 1 :]).split())
                yield 3600 * h1 + 60 * m1 + s1 + f1 / 1000, 3600 * h2 + 60 * m2 + s2 + f2 / 1000, words
                break
