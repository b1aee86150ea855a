"""The videos of episodes and days, rendered on all cores; what is complete is not rendered again.

A day is rendered in parts of a minute, which are kept in a folder until they are joined. So the cores share one long
video, and an interrupted one goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av

from tideo.console import progress
from tideo.dollhouse.day import PICTURES_PER_S, Day
from tideo.dollhouse.render import FASTSTART, draw_frame, num_frames, render_video, write_video
from tideo.dollhouse.script import Episode
from tideo.parallel import in_processes
from tideo.store.files import atomic_path

PART_S = 60
# Measured: with the macroblock tree, about one rendering in ten of the same part had other bytes.
SAME_BYTES = {"mbtree": "0"}


def render_missing(episodes: Sequence[Episode], *, folder: Path) -> int:
    """Render the episodes without a complete video in `folder`; returns their number."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [(e, folder / f"{e.id}.mp4") for e in episodes]
    missing = [(e, path) for e, path in paths if not _is_complete(path, e, num=num_frames(e))]
    missing.sort(key=lambda pair: -num_frames(pair[0]))  # a long video at the end would leave cores idle
    _render(render_video, missing, folders=[folder])
    return len(missing)


def render_missing_days(days: Sequence[Day], *, folder: Path, parts: Path) -> int:
    """Render the days without a complete video in `folder`, each by way of PARTS/ID; returns their number."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = {d.id: d for d in days if not _is_complete(folder / f"{d.id}.mp4", d, num=num_frames(d))}
    units, left = [], Counter[str]()
    for day in missing.values():
        (parts / day.id).mkdir(parents=True, exist_ok=True)
        for part, path in enumerate(_part_paths(day, parts)):
            if not _is_complete(path, day, num=_num_pictures(day, part) * _held(day)):
                units.append((day, part, path))
                left[day.id] += 1

    def finish(day: Day) -> None:
        _join(_part_paths(day, parts), folder / f"{day.id}.mp4")
        shutil.rmtree(parts / day.id)

    def count(name: str) -> None:
        left[name] -= 1
        if not left[name]:
            finish(missing[name])

    for day in missing.values():
        if not left[day.id]:  # all parts are there
            finish(day)
    _render(render_part, units, folders=[folder, *(parts / name for name in missing)], each=count)
    if missing and not any(parts.iterdir()):  # there may be parts of other days, from a run that was ended
        parts.rmdir()
    return len(missing)


def render_part(day: Day, part: int, path: Path) -> str:
    """Write one part of a day's video; returns the day's id."""
    style, first = day.style, part * PART_S * PICTURES_PER_S
    times_s = ((first + i) / PICTURES_PER_S for i in range(_num_pictures(day, part)))
    pictures = (draw_frame(day.state_at(t), width=style.width, height=style.height) for t in times_s)
    write_video(pictures, path, style=style, name=f"day {day.id}", held=_held(day), options=SAME_BYTES)
    return day.id


def _held(day: Day) -> int:
    return day.style.fps // PICTURES_PER_S


def _num_pictures(day: Day, part: int) -> int:
    return PICTURES_PER_S * min(PART_S, round(day.duration_s) - part * PART_S)


def _part_paths(day: Day, parts: Path) -> list[Path]:
    return [parts / day.id / f"{part:03d}.mp4" for part in range(-(-round(day.duration_s) // PART_S))]


def _join(paths: Sequence[Path], path: Path) -> None:
    """Write the packets of the parts, one after another, without decoding them."""
    with atomic_path(path) as tmp, av.open(str(tmp), "w", format="mp4", options=FASTSTART) as joined:
        target, begin = None, 0
        for part in paths:
            with av.open(str(part)) as container:
                stream = container.streams.video[0]
                target = target or joined.add_stream_from_template(stream)
                for packet in container.demux(stream):
                    if packet.pts is None or packet.dts is None:  # the end of the part
                        continue
                    packet.stream = target
                    packet.pts, packet.dts = packet.pts + begin, packet.dts + begin
                    joined.mux(packet)
                begin += stream.duration or 0


def _render(
    work: Callable[..., Any],
    units: Sequence[tuple[Any, ...]],
    *,
    folders: Sequence[Path],
    each: Callable[[Any], None] = lambda result: None,
) -> None:
    """Do the units of work on all cores, and `each` with its result; clear the folders of unfinished files."""
    with progress() as shown:
        bar = shown.add_task("rendering", total=len(units))
        try:
            if units:
                workers = min(len(units), os.cpu_count() or 1)
                with contextlib.closing(in_processes(work, units, jobs=workers)) as rendered:
                    for result in rendered:
                        each(result)
                        shown.advance(bar)
        finally:
            for unfinished in (file for folder in folders for file in folder.glob(".*.tmp")):
                unfinished.unlink(missing_ok=True)  # of processes that were ended


def _is_complete(path: Path, script: Episode | Day, *, num: int) -> bool:
    """Whether the file has `num` frames in the script's size, judged by its packets without decoding."""
    if not path.is_file():
        return False
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            packets = [p for p in container.demux(stream) if p.size]
            return (
                len(packets) == num
                and not any(p.is_corrupt for p in packets)
                and (stream.width, stream.height) == (script.style.width, script.style.height)
            )
    except (av.FFmpegError, IndexError):
        return False
