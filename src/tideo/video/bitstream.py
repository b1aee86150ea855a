"""What the headers of NAL units say: which frames no other frame refers to, and which key frames are none.

A frame that no other refers to needs decoding only where the frame itself is wanted. H.264 marks it with
`nal_ref_idc` 0 (ITU-T H.264, section 7.4.1), HEVC with the sub-layer non-reference types (ITU-T H.265, table 7-1).
Those may still serve a higher temporal layer, so only those of the highest layer count.
"""

from __future__ import annotations

from collections.abc import Callable

import av


def droppable(codec: str, extradata: bytes | None) -> Callable[[av.Packet], bool]:
    """A test for packets that no other packet needs; False for every packet of a codec or layout it cannot read."""
    if extradata is None or len(extradata) < 23 or extradata[0] != 1:  # not avcC or hvcC, so Annex B
        return lambda packet: False
    if codec == "h264":
        return lambda packet: _unneeded_h264(memoryview(packet), (extradata[4] & 3) + 1)
    if codec == "hevc":
        num_layers = extradata[21] >> 3 & 7
        return lambda packet: _unneeded_hevc(memoryview(packet), (extradata[21] & 3) + 1, num_layers)
    return lambda packet: False


def only_refreshes(codec: str, extradata: bytes | None) -> Callable[[av.Packet], bool]:
    """A test for packets that are called key frames, but only begin an intra refresh of H.264.

    Such a frame is predicted from others, so decoding from there on shows wrong pictures. Its first slice is neither
    of an IDR picture nor intra-coded.
    """
    if codec != "h264" or extradata is None or len(extradata) < 23 or extradata[0] != 1:
        return lambda packet: False
    size_bytes = (extradata[4] & 3) + 1

    def test(packet: av.Packet) -> bool:
        data = memoryview(packet)
        first = next((at for at in _units(data, size_bytes) if 1 <= data[at] & 31 <= 5), None)
        if first is None or data[first] & 31 == 5:
            return False
        bits = "".join(f"{byte:08b}" for byte in data[first + 1 : first + 9])
        _, bits = _golomb(bits)  # first_mb_in_slice
        slice_type, _ = _golomb(bits)
        return bool(bits) and slice_type % 5 not in (2, 4)

    return test


def _golomb(bits: str) -> tuple[int, str]:
    """A number ue(v) of ITU-T H.264, section 9.1, and the bits behind it."""
    zeros = len(bits) - len(bits.lstrip("0"))
    end = 2 * zeros + 1
    return int(bits[:end] or "1", 2) - 1, bits[end:]


def _unneeded_h264(data: memoryview, size_bytes: int) -> bool:
    # Each packet of a video comes by here, so it ends at the first slice that others refer to.
    end, size, found = 0, len(data), False
    while end < size:
        start = end + size_bytes
        end = start + int.from_bytes(data[end:start], "big")
        if not start < end <= size:
            return False
        header = data[start]
        if 1 <= header & 31 <= 5:
            if header & 0x60:
                return False
            found = True
    return found


def _unneeded_hevc(data: memoryview, size_bytes: int, num_layers: int) -> bool:
    starts = [at for at in _units(data, size_bytes) if at + 1 < len(data)]
    slices = [(data[at] >> 1 & 63, data[at + 1] & 7) for at in starts if data[at] >> 1 & 63 < 32]
    return bool(slices) and all(kind < 16 and kind % 2 == 0 and layer == num_layers for kind, layer in slices)


def _units(data: memoryview, size_bytes: int) -> list[int]:
    """Where each unit starts; empty if the units' sizes do not add up to the packet's."""
    starts = []
    end = 0
    while end < len(data):
        start = end + size_bytes
        end = start + int.from_bytes(data[end:start], "big")
        if not start < end <= len(data):
            return []
        starts.append(start)
    return starts
