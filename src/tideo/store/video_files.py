"""The one way from a name in an annotation file to a video: a file, or a folder of numbered pictures."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath
from unicodedata import normalize

from tideo.types import UserError

# Such a name promises a video. Of files that differ in their endings alone it decides which is meant; whether a file
# is a video is decided by its content everywhere.
_ENDINGS = (
    ".3g2 .3gp .asf .avi .divx .f4v .flv .gif .gxf .m1v .m2ts .m2v .m4v .mjpeg .mkv .mov .mp4 .mpeg .mpg .mts .mxf "
    ".nut .ogm .ogv .qt .rm .rmvb .ts .vob .webm .wmv .wtv .y4m"
)
ENDINGS = frozenset(_ENDINGS.split())
NUMBERED_PICTURE = re.compile(r"(\d+)\.(jpg|jpeg|png)")


class VideoFolder:
    """Finds videos by name below a folder, and reads each folder's list of files once. Nothing is opened.

    A name is the file's place below the folder with its ending or without, or a folder of numbered pictures. It may
    hold dots, colons and any other characters: it is never taken for an address.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        # folder → a name or a stem in it → the files of that name
        self._listed: dict[str, dict[str, list[str]]] = {}

    def find(self, *names: str) -> str:
        """The path of the video of the first of these names that is there, else where it was expected.

        A file of exactly that name counts before all others; then a folder of pictures of that name, and a file
        that adds one ending to it. Raises UserError for a name that leads out of the folder, and where two
        videos differ in their endings alone.
        """
        for name in names:
            if (found := self._find(name)) is not None:
                return found
        last = names[-1]
        return str(self.root / (last if PurePath(last).suffix else f"{last}.mp4"))

    def _find(self, name: str) -> str | None:
        if not name or "\0" in name or os.path.isabs(name) or ".." in PurePath(name).parts:
            raise UserError(f"expected a place below the folder of videos, not {name!r}")
        folder, last = os.path.split(PurePath(name))
        candidates = self._files(folder).get(normalize("NFC", last), [])
        paths = [os.path.join(self.root, folder, file) for file in candidates]
        for path, file in zip(paths, candidates, strict=True):
            if normalize("NFC", file) == normalize("NFC", last) and os.path.isfile(path):
                return path
        videos = [path for path in paths if is_picture_folder(path) or _promises(path)]
        videos = videos or [path for path in paths if os.path.isfile(path) and not is_text(path)]
        if len(videos) > 1:
            raise UserError(
                f"{name!r} may be {' or '.join(os.path.basename(path) for path in sorted(videos))} in "
                f"{os.path.join(self.root, folder)}: give the name with its ending, or leave one file there"
            )
        return videos[0] if videos else None

    def _files(self, folder: str) -> dict[str, list[str]]:
        if folder not in self._listed:
            listed: dict[str, list[str]] = {}
            try:
                names = os.listdir(self.root / folder)
            except OSError:
                names = []  # no such folder: its videos are missing
            for file in names:
                for key in {normalize("NFC", file), normalize("NFC", os.path.splitext(file)[0])}:
                    listed.setdefault(key, []).append(file)
            self._listed[folder] = listed
        return self._listed[folder]


def is_picture_folder(path: str | Path) -> bool:
    """Whether it is a folder that holds a numbered picture."""
    if not os.path.isdir(path):
        return False
    with os.scandir(path) as entries:
        return any(NUMBERED_PICTURE.fullmatch(entry.name) for entry in entries)


def is_text(path: str | Path) -> bool:
    """Whether a file can be read and begins as text in UTF-8: subtitles, annotations, notes."""
    try:
        with open(path, "rb") as file:
            start = file.read(1024)
    except OSError:
        return False  # whoever opens it says why it cannot be read
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # a character may be cut off at the end
            return False
        text = start[: error.start].decode()
    return bool(text) and not re.search(r"[\x00-\x08\x0e-\x1a]", text)


def _promises(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in ENDINGS and os.path.isfile(path)
