"""Text files as people and spreadsheets write them, and the JSON in them. Errors name the file and the place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tideo.types import UserError

# What is sometimes given in the place of a text file, by its first bytes.
_OTHER_FILES = {b"PK\x03\x04": "a spreadsheet (xlsx) or a zip file", b"\x1f\x8b": "a gzip file"}


class NotUtf8(UserError):
    """Text in an encoding of one language, which its bytes do not name."""


def text_of(path: str | Path) -> str:
    """A file's text, line ends as they are: UTF-8, or UTF-16 and UTF-32 as spreadsheets write them ("Unicode text").

    Raises UserError for a file that cannot be read, and NotUtf8 for one in another encoding, with the command that
    converts it.
    """
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    encoding = json.detect_encoding(data)  # by the byte order mark, or by where the zeros of ASCII text stand
    try:
        return data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        raise _undecodable(path, data, error, encoding=encoding) from error


def _undecodable(path: str | Path, data: bytes, error: UnicodeDecodeError, *, encoding: str) -> UserError:
    name = encoding.upper().removesuffix("-SIG")
    for start, kind in _OTHER_FILES.items():
        if data.startswith(start):
            return UserError(
                f"{path} is not {name} text but {kind}: save or unpack it as text, such as CSV UTF-8"
            )
    line = data.count(b"\n", 0, error.start) + 1
    place = f"{error.reason}: byte 0x{data[error.start]:02x} in line {line}"
    if encoding != "utf-8":
        return UserError(f"{path} is not whole {name} text ({place}): save it again as UTF-8")
    # In Western European text a letter outside ASCII mostly stands between letters of ASCII.
    groups = re.findall(rb"[\x80-\xff]+", data)
    western = 2 * sum(len(group) == 1 for group in groups) > len(groups)
    likely = (
        "it is probably WINDOWS-1252" if western else "find its ENCODING, such as SHIFT_JIS or WINDOWS-1251"
    )
    source = "WINDOWS-1252" if western else "ENCODING"
    return NotUtf8(
        f"{path} is not UTF-8 text ({place}): {likely}; save it again as UTF-8, or run "
        f"iconv -f {source} -t UTF-8 '{path}' > NEW_FILE"
    )


def lines_of(path: str | Path) -> list[str]:
    """The lines of a text file, without their ends. Only ends of lines divide them, which U+2028 and others are not."""
    return text_of(path).replace("\r\n", "\n").removesuffix("\n").split("\n")


def json_lines(path: str | Path) -> Iterator[tuple[str, Any]]:
    """Where each line stands, and what it holds. Blank lines are left out."""
    for number, line in enumerate(lines_of(path), start=1):
        if line.strip():
            where = f"{path} line {number}"
            yield where, parsed_json(line, where=where)


def json_of(path: str | Path) -> Any:
    """What a JSON file holds. Raises UserError where it is not JSON."""
    return parsed_json(text_of(path), where=str(path))


def parsed_json(text: str, *, where: str) -> Any:
    r"""The value of a JSON text. Raises UserError for any other text, and for half a character, as in "\ud83d"."""
    try:
        value = json.loads(text)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where} holds half of a character (\\u{ord(error.object[error.start]):04x}): mend the text"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON ({error}): repair or remove it") from error
    return value
