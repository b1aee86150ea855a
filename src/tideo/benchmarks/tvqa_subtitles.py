"""TVQA (Lei et al., EMNLP 2018) with the subtitles of the moment before each question."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tideo.benchmarks.annotations import annotation
from tideo.benchmarks.tvqa import tvqa
from tideo.store.text import NotUtf8, text_of
from tideo.types import Cue, Sample, UserError, Video

log = logging.getLogger(__name__)
SUBTITLES = "tvqa_subtitles"  # the folder beside the annotations
_CUE = re.compile(r"(\d+):(\d\d):(\d\d)[,.](\d{3}) --> (\d+):(\d\d):(\d\d)[,.](\d{3})")


def tvqa_subtitles(data: str | Path, *, videos: str | Path) -> list[Sample]:
    """The questions of `tvqa`, each after what is said within its span.

    The subtitles are read from tvqa_subtitles/VID.srt beside the file: as UTF-8 or, where they are not, as Windows-1252
    with a warning. Raises UserError if those of a clip are missing or are neither.
    """
    folder, subtitles = annotation(data, "*.jsonl").parent / SUBTITLES, _Subtitles()
    samples = []
    for s in tvqa(data, videos=videos):
        said = subtitles.of(s.video, folder=folder)
        words = f"Subtitles: {' '.join(cue.text for cue in said)}\n" if said else ""
        samples.append(replace(s, question=words + s.question, stem=s.question, cues=said))
    if subtitles.legacy:
        log.warning(
            "%d of %d files of subtitles in %s are not UTF-8 and are read as Windows-1252, such as %s",
            len(subtitles.legacy), len(subtitles.cues), folder, subtitles.legacy[0].name,
        )  # fmt: skip
    return samples


class _Subtitles:
    """Files of subtitles, each read once; `legacy` are those that are not UTF-8."""

    def __init__(self) -> None:
        self.cues: dict[Path, list[Cue]] = {}
        self.legacy: list[Path] = []

    def of(self, video: Video, *, folder: Path) -> tuple[Cue, ...]:
        path = folder / f"{video.id}.srt"
        if path not in self.cues:
            self.cues[path] = [
                Cue(start_s=start_s, end_s=end_s, text=words)
                for start_s, end_s, words in cues(self._text(path))
            ]
        return tuple(
            cue
            for cue in self.cues[path]
            if (video.end_s is None or cue.start_s < video.end_s)
            and (video.start_s is None or cue.end_s > video.start_s)
        )

    def _text(self, path: Path) -> str:
        if not path.is_file():
            raise UserError(
                f"{path} is missing: unpack the subtitles beside the annotations, or use tvqa without them"
            )
        try:
            return text_of(path)
        except NotUtf8 as not_utf8:  # old subtitles of English series are in the encoding of old Windows
            try:
                text = path.read_bytes().decode("windows-1252")
            except UnicodeDecodeError:
                raise not_utf8 from None
            self.legacy.append(path)
            return text


def cues(srt: str) -> Iterator[tuple[float, float, str]]:
    """Start and end in seconds, and words, of each subtitle of a SubRip file."""
    for block in re.split(r"\n\s*\n", srt.replace("\r\n", "\n").replace("\r", "\n").strip()):
        lines = block.split("\n")
        for number, line in enumerate(lines):
            if found := _CUE.search(line):
                h1, m1, s1, f1, h2, m2, s2, f2 = map(int, found.groups())
                words = " ".join(" ".join(lines[number + 1 :]).split())
                yield 3600 * h1 + 60 * m1 + s1 + f1 / 1000, 3600 * h2 + 60 * m2 + s2 + f2 / 1000, words
                break
