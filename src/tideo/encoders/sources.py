"""What there is to encode: the videos of a folder, or those that a benchmark's questions are about."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tideo.store.files import key_of
from tideo.store.video_files import ENDINGS, NUMBERED_PICTURE, is_text
from tideo.types import Sample, UserError, Video, VideoError
from tideo.video.frame_folder import frame_folder
from tideo.video.streams import OpenVideo

log = logging.getLogger(__name__)


def videos_in(source: str | Path) -> list[Video]:
    """The videos below a folder, with their places there as ids, without endings where those stay different.

    Their content makes them videos: whatever opens as one, and folders of numbered pictures. A file whose name promises
    a video is among them unopened, so that a broken one is an item that failed. One warning names what is left out;
    only hidden files are left out without a word. A file is one video. Raises UserError for a folder without any.
    """
    root = Path(source)
    if root.is_file():
        return [Video(id=root.stem, path=str(root))]
    found, left_out = _sorted_out(root)
    if left_out:
        first = "; ".join(f"{place} ({reason})" for place, reason in list(left_out.items())[:5])
        more = f"; and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        log.warning("%s: left out as no videos: %s%s", root, first, more)
    if not found:
        raise UserError(f"{root} holds no video: expected video files, or folders of numbered pictures")
    stems = {place: place if place.is_dir() else place.with_suffix("") for place in found}
    times = Counter(stems.values())
    names = {place: stem if times[stem] == 1 else place for place, stem in stems.items()}
    return [
        Video(id=name.relative_to(root).as_posix() if name != root else root.resolve().name, path=str(place))
        for place, name in names.items()
    ]


def _sorted_out(root: Path) -> tuple[list[Path], dict[str, str]]:
    """The videos below a folder, sorted, and the places of other files with the reasons why they are none."""
    found, left_out, walked = [], {}, set()
    for here, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if (real := os.path.realpath(here)) in walked:  # a link that leads back
            folders.clear()
            continue
        walked.add(real)
        if any(map(NUMBERED_PICTURE.fullmatch, files)):
            files = [name for name in files if not NUMBERED_PICTURE.fullmatch(name)]
            try:
                frame_folder(Path(here))
                found.append(Path(here))
            except ValueError as error:
                left_out[f"{os.path.relpath(here, root)}/"] = str(error)
        for name in files:
            place = Path(here, name)
            if name.startswith("."):
                continue
            if reason := _no_video(place):
                left_out[str(place.relative_to(root))] = reason
            else:
                found.append(place)
    return sorted(found), dict(sorted(left_out.items()))


def _no_video(path: Path) -> str:
    """Why a file is no video; empty for one that is, or whose name promises it."""
    if path.suffix.lower() in ENDINGS:
        return ""
    if path.exists() and not path.is_file():
        return "no file"  # but a pipe or a device, and reading it may never end
    if is_text(path):
        return "text"
    try:
        OpenVideo(path).close()
    except VideoError as error:
        return str(error).removeprefix(f"video {path}: ").partition(";")[0]
    return ""


def segments_of(samples: Iterable[Sample]) -> list[Video]:
    """Each video or segment that the samples are about, once. A segment's id has its seconds, as in VIDEO#t=2.5,7."""

    def span(video: Video) -> str:
        times = ["" if time_s is None else str(time_s) for time_s in (video.start_s, video.end_s)]
        return f"#t={','.join(times)}" if any(times) else ""

    return [replace(v, id=v.id + span(v)) for v in dict.fromkeys(s.video for s in samples)]


def video_key(content: str, video: Video, *, num_frames: int, sampler: str = "middle") -> str:
    """The key of a video's rows; `content` identifies the content of its file."""
    return key_of([content, video.start_s, video.end_s, num_frames, sampler])
