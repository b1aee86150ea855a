"""Parts of a pool that fail: an error never passes for frames that are lost."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from tideo.types import Video, VideoError
from tideo.video.limits import OutOfTime, limited
from tideo.video.pool import PoolSettings, decode_part, pool_parts
from tideo.video.streams import OpenVideo
from videos import encode


def test_after_an_error_in_the_middle_a_part_is_decoded_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode(tmp_path / "v.ts", num=80, container_format="mpegts")
    monkeypatch.setattr("tideo.video.pool.PART_FRAMES", 3)
    parts = pool_parts(Video(id="v", path=str(tmp_path / "v.ts")), PoolSettings())
    decode, packets = OpenVideo.decode, iter(range(1000))

    def late(self: OpenVideo, packet: av.Packet | None) -> list[av.VideoFrame]:
        if next(packets) == 20:
            raise OutOfTime("it takes too long")
        return decode(self, packet)

    monkeypatch.setattr(OpenVideo, "decode", late)
    with pytest.raises(OutOfTime):
        decode_part(parts[0])
    assert [(len(f), f.missing_s) for f in map(decode_part, parts)] == [(3, ()), (3, ()), (2, ())]


def test_frames_beyond_a_limit_are_an_error(tmp_path: Path) -> None:
    encode(tmp_path / "v.mp4", num=30)
    (part,) = pool_parts(Video(id="v", path=str(tmp_path / "v.mp4")), PoolSettings())
    with (
        limited(seconds=60, max_pixels=10**8, max_bytes=1000),
        pytest.raises(VideoError, match="expected at most 1,000: send a smaller one"),
    ):
        decode_part(part)
