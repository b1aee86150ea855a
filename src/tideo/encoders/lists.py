"""Videos by path and URL: in a list, in a Parquet table, below a URL, in a folder here."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from tideo.encoders.sources import videos_in
from tideo.registry import require
from tideo.store.remote import files_below, is_url, local_copy, opened
from tideo.store.text import lines_of, text_of
from tideo.store.video_files import ENDINGS, is_text
from tideo.types import UserError, Video

log = logging.getLogger(__name__)

PARQUET, LISTS = (".parquet", ".pq"), (".txt", ".lst", ".list")
_JSON = re.compile(
    r'\s*(\[\s*(\{|$)|\{\s*("|\}|$))'
)  # a list's line may begin with a bracket too, as [2020] a.mp4


def is_list(path: str | Path) -> bool:
    """Whether a file here is text, but no JSON: a path or URL a line."""
    return (
        Path(path).is_file()
        and not str(path).endswith((".json", ".jsonl"))
        and is_text(path)
        and not _JSON.match(text_of(path)[:4096])
    )


def videos_at(source: str) -> list[Video]:
    """The videos of a folder, a list, a table or a URL, in their order, each once.

    A list has a path or URL a line; relative ones begin at its folder. A Parquet table (*.parquet, also a folder of
    its parts) has a column `path`, and `id` if the paths should not name them. Below a URL, names decide what a video
    is. Raises UserError where there is none.
    """
    ending = _ending(source)
    if ending in PARQUET:
        return _of_table(source)
    if is_url(source):
        return _of_list(source) if ending in LISTS else _below(source)
    return _of_list(source) if is_list(source) else videos_in(source)


def _of_list(source: str) -> list[Video]:
    with local_copy(source) as path:
        lines = [line.strip() for line in lines_of(path)]
    given = [line for line in lines if line]
    paths = [_from(source, line) for line in given]
    if not any(is_url(path) or os.path.exists(path) for path in paths):
        first = f", the first is {given[0][:80]!r}" if given else ""
        raise UserError(
            f"{source}: expected Tideos in JSON, or a list with the path or URL of a video a line; none of "
            f"{len(given)} lines is one{first}"
        )
    return [Video(id=name, path=path) for name, path in zip(_names(given), paths, strict=True)]


def _of_table(source: str) -> list[Video]:
    arrow: Any = require("pyarrow")
    parquet: Any = require("pyarrow.parquet")
    try:
        if is_url(source):
            with opened(source) as file:
                schema = parquet.read_schema(file)
                table = parquet.read_table(file, columns=[c for c in ("id", "path") if c in schema.names])
        else:
            names = parquet.ParquetDataset(source).schema.names
            table = parquet.read_table(source, columns=[c for c in ("id", "path") if c in names])
    except (OSError, arrow.ArrowException) as error:
        raise UserError(f"{source} cannot be read as Parquet: {' '.join(str(error).split())}") from error
    columns = {name: table[name].to_pylist() for name in table.column_names}
    if "path" not in columns:
        raise UserError(f"{source} has no column `path`: expected one with the path or URL of each video")
    for name, values in columns.items():
        for row, value in enumerate(values):
            if not isinstance(value, str) or not value:
                raise UserError(f"{source}, row {row}: the {name} is {value!r}; expected a text")
    given = columns["path"]
    if not given:
        raise UserError(f"{source} has no rows")
    names = columns.get("id") or _names(given)
    return [Video(id=name, path=_from(source, path)) for name, path in zip(names, given, strict=True)]


def _below(url: str) -> list[Video]:
    found = files_below(url)
    if list(found) == [""]:
        return [Video(id=PurePosixPath(urlsplit(url).path).stem, path=url)]
    videos = {place: path for place, path in found.items() if _ending(place) in ENDINGS}
    if not videos:
        raise UserError(
            f"{url} holds no video: none of its {len(found)} files is named as one, such as a.mp4"
        )
    if left_out := len(found) - len(videos):
        log.warning("%s: %d files are not named as videos and are left out", url, left_out)
    names = _names(list(videos))
    return [Video(id=name, path=path) for name, path in zip(names, videos.values(), strict=True)]


def _from(source: str, path: str) -> str:
    """A path or URL of a list, which begins at the list's folder unless it is absolute."""
    if is_url(path):
        return path
    folder = source.rpartition("/")[0] if is_url(source) else os.path.dirname(source)
    return f"{folder}/{path}" if is_url(source) else os.path.join(folder, path)


def _names(paths: Sequence[str]) -> list[str]:
    """The paths without their endings, where those stay different."""
    stems = [os.path.splitext(path)[0] for path in paths]
    times = Counter(stems)
    return [stem if times[stem] == 1 else path for stem, path in zip(stems, paths, strict=True)]


def _ending(source: str) -> str:
    return PurePosixPath(urlsplit(source).path if is_url(source) else source).suffix.lower()
