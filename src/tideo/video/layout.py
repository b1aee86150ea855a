"""How a file is built at its top level: whether it ends before it should, and whether it is one recording.

Headers lie about durations; sizes seldom do, because a reader cannot find the next element without them.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MAX_ELEMENTS = 100_000  # a fragmented mp4 of many hours has fewer; a hostile file could have millions
# The file's next bytes → an element's name and its size with its header; None for a size that is not given.
Header = Callable[[bytes], tuple[bytes, int | None] | None]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Facts that the sizes of the top-level elements prove."""

    cut_off: bool = False  # an element is larger than what is left of the file
    single: bool = False  # one recording: not several files joined end to end
    fragmented: bool = False  # an mp4 whose index is spread over the file
    promised_s: float | None = None  # the header's duration of a cut AVI or ASF, which FFmpeg no longer tells


def layout_of(source: str | Path | bytes, container_format: str) -> Layout:
    """The layout of an mp4, Matroska, AVI or ASF file; nothing is known of the others, which give no sizes."""
    known = next((each for each in _KNOWN if each in container_format.split(",")), None)
    if known is None:
        return Layout()
    header, main = _KNOWN[known]
    names: list[bytes] = []
    sizes_known = True
    with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
        length = file.seek(0, io.SEEK_END)
        at = 0
        while at < length and len(names) < MAX_ELEMENTS:
            file.seek(at)
            element = header(file.read(24))
            if element is None:
                break
            name, size = element
            names.append(name)
            sizes_known = sizes_known and size is not None
            at = length if size is None else at + size
        file.seek(0)
        head = file.read(65_536) if at > length else b""
    return Layout(
        cut_off=at > length,
        # The index of an mp4 finds its frames wherever the file ends; elsewhere another recording may be hidden in
        # an element that is cut off or has no size.
        single=names.count(main) == 1 and (known == "mp4" or (sizes_known and at == length)),
        fragmented=b"moof" in names,
        promised_s=_avi_s(head) if known == "avi" else _asf_s(head) if known == "asf" else None,
    )


def _box(head: bytes) -> tuple[bytes, int | None] | None:
    """ISO/IEC 14496-12, section 4.2: size, name, and a long size if the size is 1; 0 is the rest of the file."""
    size, name = int.from_bytes(head[:4], "big"), head[4:8]
    if size == 1:
        size = int.from_bytes(head[8:16], "big")
    return (name, size or None) if len(name) == 4 and (size == 0 or size >= 8) else None


def _ebml(head: bytes) -> tuple[bytes, int | None] | None:
    """RFC 8794, sections 4 and 6: an id and a size, each as long as its leading zero bits say.

    None for an id that does not stand at the top: a Segment's size then leads into the midst of another recording.
    """
    num_id = 9 - head[0].bit_length()
    if head[:num_id] not in _EBML_TOP or len(head) <= num_id or not head[num_id]:
        return None
    num_size = 9 - head[num_id].bit_length()
    bits = int.from_bytes(head[num_id : num_id + num_size], "big") & ((1 << 7 * num_size) - 1)
    unknown = bits == (1 << 7 * num_size) - 1
    return head[:num_id], None if unknown else num_id + num_size + bits


def _riff(head: bytes) -> tuple[bytes, int | None] | None:
    """A name and a size, padded to an even one; a recorder that was killed leaves the size 0."""
    size = int.from_bytes(head[4:8], "little")
    return (head[:4], size + size % 2 + 8 if size else None) if len(head) >= 8 else None


def _asf(head: bytes) -> tuple[bytes, int | None] | None:
    """Advanced Systems Format, section 2.1: an object's GUID and size; a broadcast has a small or no size."""
    size = int.from_bytes(head[16:24], "little")
    return (head[:16], size if size >= 24 else None) if len(head) == 24 else None


def _avi_s(head: bytes) -> float | None:
    """Frames times microseconds a frame, of the main header that an AVI begins with."""
    if head[24:28] != b"avih" or len(head) < 52:
        return None
    return int.from_bytes(head[48:52], "little") * int.from_bytes(head[32:36], "little") / 1e6


def _asf_s(head: bytes) -> float | None:
    """The play duration less the preroll, of the File Properties Object (section 3.2)."""
    at = head.find(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
    if at < 0 or len(head) < at + 88:
        return None
    play, preroll = (int.from_bytes(head[at + k : at + k + 8], "little") for k in (64, 80))
    return max(0.0, play / 1e7 - preroll / 1e3)


_EBML_TOP = (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\xec", b"\xbf")  # head, Segment, Void, CRC-32
_KNOWN: dict[str, tuple[Header, bytes]] = {
    "mp4": (_box, b"moov"),
    "matroska": (_ebml, b"\x18\x53\x80\x67"),
    "avi": (_riff, b"RIFF"),
    "asf": (_asf, bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")),
}
