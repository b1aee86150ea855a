"""Moments → one HTML page with their pictures, which needs nothing but itself."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tideo.evaluate.html import jpeg_uri
from tideo.search.moments import Moment
from tideo.store.files import atomic_write_text
from tideo.store.remote import content_of, local_copy
from tideo.types import VideoError
from tideo.video.decode import decode_at

log = logging.getLogger(__name__)
PICTURE_WIDTH = 288


def write_page(moments: Sequence[Moment], *, text: str, folder: str | Path, out: str | Path) -> None:
    """One warning names the videos that are gone or changed, whose moments are without pictures."""
    pictures, lost = _pictures(moments)
    if lost:
        first = next(iter(lost.items()))
        more = f", and those of {len(lost) - 1} more videos" if len(lost) > 1 else ""
        log.warning("the page lacks the pictures of %s (%s)%s", *first, more)
    template = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("page.html.j2")
    shown = [
        {
            "video": moment.item.id,
            "path": moment.item.path or "",
            "span": span(moment),
            "score": moment.score,
            "pictures": [(pictures.get((moment.item.id, t)), clock(t)) for t in moment.shown_s],
            "note": lost.get(moment.item.id, ""),
        }
        for moment in moments
    ]
    atomic_write_text(out, template.render(text=text, folder=str(folder), moments=shown))


def _pictures(moments: Sequence[Moment]) -> tuple[dict[tuple[str, float], str], dict[str, str]]:
    """The pictures as data URIs by video and time, and why the other videos give none. Each video is opened once."""
    of_item = defaultdict(list)
    for moment in moments:
        of_item[moment.item].append(moment)
    pictures: dict[tuple[str, float], str] = {}
    lost: dict[str, str] = {}
    for item, group in of_item.items():
        if item.path is None:
            lost[item.id] = "their folder does not say where the video lies: run tideo encode on it again"
            continue
        try:
            if content_of(item.path) != item.content:
                lost[item.id] = f"{item.path} is not the file any more that was encoded: encode it again"
                continue
            times_s = sorted({t for moment in group for t in moment.shown_s})
            with local_copy(item.path) as path:
                frames = decode_at(path, times_s, video_id=item.id)
        except (OSError, VideoError) as error:
            lost[item.id] = f"{item.path}: {getattr(error, 'strerror', None) or error}"
            continue
        shown = [t for t in times_s if t not in frames.missing_s]
        for t, rgb_HWC in zip(shown, frames.rgb_THWC, strict=True):
            pictures[item.id, t] = jpeg_uri(rgb_HWC, width=PICTURE_WIDTH)
    return pictures, lost


def span(moment: Moment) -> str:
    """Where in its video the moment lies, as 1:02:03 - 1:02:09."""
    return f"{clock(moment.start_s)} - {clock(moment.end_s)}"


def clock(time_s: float) -> str:
    """0:07, 12:30 or 1:02:03."""
    minutes, seconds = divmod(int(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
