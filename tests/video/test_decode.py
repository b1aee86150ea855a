"""Frames at times, checked frame by frame against a plain decode from first to last."""

from __future__ import annotations

import bisect
import io
import random
import warnings
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tideo.types import UserError, VideoError
from tideo.video import decode
from tideo.video.bitstream import droppable, only_refreshes
from tideo.video.decode import decode_at, probe
from videos import SHARED, encode, encode_audio, index_of, picture, read_all, sequential

X265 = {"preset": "ultrafast", "x265-params": "log-level=none:keyint=12:open-gop=1:bframes=4"}
LAYERS = {
    "preset": "ultrafast",
    "x265-params": "log-level=none:keyint=16:temporal-layers=3:bframes=4:b-adapt=0",
}
ODD: dict[str, dict] = {
    "h264.mp4": {"options": {"x264-params": "keyint=12"}},
    "h264_ten_bit.mp4": {"pix_fmt": "yuv420p10le"},
    "h264_open_gop.mp4": {"options": {"x264-params": "open-gop=1:keyint=8:min-keyint=8:bframes=3"}},
    "h264_pyramid.mp4": {"options": {"x264-params": "keyint=30:bframes=7:b-pyramid=normal:b-adapt=0"}},
    "h264_intra_refresh.mp4": {"options": {"x264-params": "intra-refresh=1:keyint=10"}},
    "h264_interlaced.mp4": {"options": {"x264-params": "interlaced=1:keyint=10"}},
    "h264.mkv": {"options": {"x264-params": "keyint=12"}},
    "h264.ts": {"container_format": "mpegts", "options": {"x264-params": "keyint=12"}},
    "h264.flv": {"options": {"x264-params": "keyint=12"}},
    "h265_open_gop.mp4": {"codec": "libx265", "options": X265},
    "h265_layers.mp4": {"codec": "libx265", "options": LAYERS},
    "h265.mkv": {"codec": "libx265", "options": X265},
    "av1.mp4": {
        "codec": "libsvtav1",
        "size": (64, 64),
        "options": {"preset": "12", "svtav1-params": "keyint=10"},
    },
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8", "g": "10"}},
    "vp8_hidden_frames.webm": {
        "codec": "libvpx",
        "options": {"g": "10", "auto-alt-ref": "1", "lag-in-frames": "10", "b": "200k", "cpu-used": "4"},
    },
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"bf": "2", "g": "12"}},
    "mpeg2.mpg": {"codec": "mpeg2video", "fps": 25, "options": {"bf": "2", "g": "12"}},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "animation.gif": {"codec": "gif", "pix_fmt": "rgb8"},
    "odd_size.mp4": {"size": (65, 49), "pix_fmt": "yuv444p"},
    "odd_size.webm": {
        "size": (65, 49),
        "codec": "libvpx-vp9",
        "options": {"deadline": "realtime", "cpu-used": "8"},
    },
    "variable_rate.mp4": {"pts_ms": [k * k * 10 + k for k in range(40)]},
    "variable_rate.mkv": {"pts_ms": [k * k * 10 + k for k in range(40)]},
    "starts_late.mp4": {"pts_ms": [k * 100 + 5000 for k in range(40)]},
    "negative_then_edit_list.mp4": {"pts_ms": [k * 100 - 1000 for k in range(40)]},
    "ntsc.mp4": {"fps": 24, "options": {"x264-params": "keyint=5"}},
    "one_frame.mp4": {"num": 1},
    "one_frame.gif": {"num": 1, "codec": "gif", "pix_fmt": "rgb8"},
    "with_sound.mp4": {"audio": True},
}
# Where the shortcut must do: one packet a frame, and key frames that can be decoded alone.
SHORT = {name for name in ODD if name.endswith((".mp4", ".mkv", "vp9.webm"))} - {"h264_intra_refresh.mp4"}
REAL = ("av1_video.mkv", "h265_video.mp4", "nasa_13013.mp4", "rlQ2kW-FvMk_66_79.mp4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture
def plain(folder: Path) -> Path:
    path = folder / "plain.mp4"
    if not path.exists():
        encode(path, options={"x264-params": "keyint=12:min-keyint=12:bframes=1:b-adapt=0:scenecut=0"})
    return path


def check(path: Path, times_s: list[float], *, pts_s: list[float], rgb: list[np.ndarray]) -> None:
    frames = decode_at(path, times_s)
    expected = [max(bisect.bisect_right(pts_s, time_s) - 1, 0) for time_s in times_s]
    assert frames.pts_s_T.tolist() == [pts_s[k] for k in expected]
    assert frames.missing_s == ()
    for found, k in zip(frames.rgb_THWC, expected, strict=True):
        np.testing.assert_array_equal(found, rgb[k])


@pytest.mark.parametrize("name", [*ODD, *REAL])
def test_every_frame_is_the_one_a_sequential_decode_shows(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = SHARED / name if name in REAL else folder / name
    if name in REAL and not path.exists():
        pytest.skip("the shared videos are not here")
    if name not in REAL:
        encode(path, **ODD[name])
    pts_s, rgb = sequential(path)
    assert pts_s == sorted(pts_s)
    if name in SHORT or name in REAL:
        monkeypatch.setattr(
            decode, "decode_from_start", lambda video, ticks: pytest.fail("slow") if ticks else iter(())
        )
    times_s = [pts_s[0] - 1, pts_s[-1] + 0.01, *pts_s, *(time_s + 0.013 for time_s in pts_s)]
    random.Random(0).shuffle(times_s)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(path, times_s if name not in REAL else times_s[:40], pts_s=pts_s, rgb=rgb)
        for time_s in times_s[:6]:
            check(path, [time_s], pts_s=pts_s, rgb=rgb)
        check(path, [times_s[0], times_s[1], times_s[0]], pts_s=pts_s, rgb=rgb)
    assert probe(path).start_s == pts_s[0]


def test_the_frames_of_a_stream_are_a_sequential_decode(plain: Path) -> None:
    pts_s, rgb = sequential(plain)
    frames = read_all(plain)
    assert frames.pts_s_T.tolist() == pts_s
    np.testing.assert_array_equal(frames.rgb_THWC, np.stack(rgb))


@settings(max_examples=25, deadline=None)
@given(times_s=st.lists(st.floats(-2, 6), min_size=1, max_size=12))
def test_any_times_in_any_order(times_s: list[float]) -> None:
    data, pts_s, rgb = in_memory()
    frames = decode_at(data, times_s)
    expected = [max(bisect.bisect_right(pts_s, time_s) - 1, 0) for time_s in times_s]
    assert [index_of(found) for found in frames.rgb_THWC] == expected
    np.testing.assert_array_equal(frames.rgb_THWC, np.stack([rgb[k] for k in expected]))


@cache
def in_memory() -> tuple[bytes, list[float], list[np.ndarray]]:
    file = io.BytesIO()
    encode(file, container_format="mp4", options={"x264-params": "keyint=7:bframes=3"})
    return file.getvalue(), *sequential(file.getvalue())


def test_the_pictures_are_known_by_their_number(plain: Path) -> None:
    frames = decode_at(plain, [3.05, 0.0, 1.2, 1.2, -5.0, 99.0], video_id="v")
    assert [index_of(rgb) for rgb in frames.rgb_THWC] == [30, 0, 12, 12, 0, 39]
    assert frames.pts_s_T.tolist() == [3.0, 0.0, 1.2, 1.2, 0.0, 3.9]
    assert frames.video_id == "v"


def test_an_edit_list_hides_the_frames_before_its_start(folder: Path) -> None:
    path = folder / "edited.mp4"
    encode(path, pts_ms=[k * 100 - 1000 for k in range(40)])
    frames = decode_at(path, [-0.5, 0.0, 0.55])
    assert [index_of(rgb) for rgb in frames.rgb_THWC] == [10, 10, 15]


@pytest.mark.parametrize("name", ["raw.h264", "b_frames.avi"])
def test_frames_without_times_are_counted(folder: Path, name: str) -> None:
    path = folder / name
    encode(path, fps=25, options={"x264-params": "bframes=2"})
    frames = decode_at(path, [0.0, 0.5, 0.99, 1.4])
    assert [index_of(rgb) for rgb in frames.rgb_THWC] == [0, 12, 24, 35]
    assert probe(path).duration_s == pytest.approx(40 / 25, abs=0.05)


@pytest.mark.parametrize("vflip", [False, True])
@pytest.mark.parametrize("hflip", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_and_mirroring(folder: Path, degrees: int, hflip: bool, vflip: bool) -> None:
    path = folder / f"turned{degrees}{hflip}{vflip}.mp4"
    encode(path, num=3, rotation=(degrees, hflip, vflip))
    right = np.rot90(sequential(path)[1][1], degrees // 90)  # counter-clockwise, then the mirrors
    right = right[:: -1 if vflip else 1, :: -1 if hflip else 1]
    frames = decode_at(path, [0.1])
    np.testing.assert_array_equal(frames.rgb_THWC[0], right)
    info = probe(path)
    assert (info.width, info.height) == ((48, 64) if degrees % 180 else (64, 48))
    assert decode_at(path, [0.1], size=(30, 20)).rgb_THWC.shape == (1, 20, 30, 3)


def test_rotation_alone_agrees_with_pyav(folder: Path) -> None:
    path = folder / "rotated.mp4"
    encode(path, num=2, rotation=(90, False, False))
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).rotation == 90


def test_size_scales_straight_to_it(plain: Path) -> None:
    small = decode_at(plain, [1.0], size=(32, 24)).rgb_THWC[0].astype(float)
    full = decode_at(plain, [1.0]).rgb_THWC[0].astype(float)
    assert small.shape == (24, 32, 3)
    box = full.reshape(24, 2, 32, 2, 3).mean((1, 3))
    smooth = np.abs(np.diff(box, axis=1, prepend=box[:, :1])).max(-1) < 20  # away from the edges
    assert np.abs(small - box).max(-1)[smooth].mean() < 6


def test_facts(plain: Path) -> None:
    info = probe(plain)
    assert (info.width, info.height, info.fps, info.codec) == (64, 48, 10.0, "h264")
    assert (info.start_s, info.duration_s) == (0.0, 4.0)


@pytest.mark.parametrize("name", ["guessed.ts", "guessed.flv", "told.mkv", "told.gif"])
def test_durations_are_counted_where_headers_guess(folder: Path, name: str) -> None:
    path = folder / name
    gif = {"codec": "gif", "pix_fmt": "rgb8"} if name.endswith("gif") else {}
    encode(path, **gif)
    assert probe(path).duration_s == pytest.approx(4.0, abs=0.02)


def test_the_best_stream_is_taken() -> None:
    if not (SHARED / "nasa_13013.mp4").exists():
        pytest.skip("the shared videos are not here")
    info = probe(SHARED / "nasa_13013.mp4")
    assert (info.stream_index, info.width, info.height) == (3, 480, 270)


# ------------------------------------------------------------ less work


H264 = bytes([1, 100, 0, 30, 0xFF, *[0] * 20])  # avcC with sizes of four bytes
HEVC = bytes([1, *[0] * 20, 0b00_001_0_11, *[0] * 10])  # hvcC: one temporal layer, sizes of four bytes
HEVC2 = bytes([1, *[0] * 20, 0b00_010_0_11, *[0] * 10])  # two temporal layers


def unit(*data: int) -> bytes:
    return len(data).to_bytes(4, "big") + bytes(data)


@pytest.mark.parametrize(
    ("codec", "extradata", "packet", "expected"),
    [
        ("h264", H264, unit(0x01, 9), True),  # a slice with nal_ref_idc 0
        ("h264", H264, unit(0x41, 9), False),
        ("h264", H264, unit(0x65, 9), False),
        ("h264", H264, unit(0x06, 9) + unit(0x01, 9), True),  # SEI, then the slice
        ("h264", H264, unit(0x01, 9) + unit(0x41, 9), False),
        ("h264", H264, unit(0x06, 9), False),  # no slice at all
        ("h264", H264, unit(0x01, 9)[:-1], False),  # cut off
        ("h264", b"\0\0\0\1" + H264, unit(0x01, 9), False),  # Annex B
        ("h264", None, unit(0x01, 9), False),
        ("hevc", HEVC, unit(0 << 1, 1, 9), True),  # TRAIL_N
        ("hevc", HEVC, unit(1 << 1, 1, 9), False),  # TRAIL_R
        ("hevc", HEVC, unit(8 << 1, 1, 9), True),  # RASL_N
        ("hevc", HEVC, unit(20 << 1, 1, 9), False),  # IDR
        ("hevc", HEVC2, unit(0 << 1, 1, 9), False),  # the upper layer may refer to it
        ("hevc", HEVC2, unit(0 << 1, 2, 9), True),
        ("vp9", HEVC, unit(0, 1, 9), False),
    ],
)
def test_droppable(codec: str, extradata: bytes | None, packet: bytes, expected: bool) -> None:
    assert droppable(codec, extradata)(av.Packet(packet)) is expected


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (unit(0x65, 0x88), False),  # IDR
        (unit(0x41, 0b1_0001000), False),  # a slice of type 7: intra
        (unit(0x41, 0b1_011_0000), False),  # of type 2
        (unit(0x41, 0b1_00110_00), True),  # of type 5: predicted
        (unit(0x06, 9) + unit(0x41, 0b1_1_000000), True),  # SEI, then one of type 0
        (unit(0x06, 9), False),  # no slice at all
        (unit(0x41), False),  # cut off
    ],
)
def test_only_refreshes(packet: bytes, expected: bool) -> None:
    assert only_refreshes("h264", H264)(av.Packet(packet)) is expected
    assert not only_refreshes("hevc", H264)(av.Packet(packet))
    assert not only_refreshes("h264", None)(av.Packet(packet))


# ------------------------------------------------------------ damage


@pytest.fixture
def fast_start(folder: Path) -> Path:
    """The header before the pictures, a key frame every ten."""
    path = folder / "fast_start.mp4"
    if not path.exists():
        encode(path, options={"x264-params": "keyint=10:min-keyint=10:scenecut=0"}, faststart=True)
    return path


def packet_places(path: Path) -> list[tuple[int, int]]:
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def test_cut_off(fast_start: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(fast_start.read_bytes()[: packet_places(fast_start)[20][0]])
    with pytest.warns(
        UserWarning, match=r"cut\.mp4: of 3 frames, 1 could not be decoded \(damaged or cut off: 3\.500 s\)"
    ):
        frames = decode_at(path, [1.0, 3.5, 0.3])
    assert frames.missing_s == (3.5,)
    assert [index_of(rgb) for rgb in frames.rgb_THWC] == [10, 3]


def test_a_hole_within_a_frame(fast_start: Path, tmp_path: Path) -> None:
    path = tmp_path / "hole.mp4"
    data = bytearray(fast_start.read_bytes())
    pos, size = packet_places(fast_start)[20]
    data[pos + size // 2 : pos + size - 50] = bytes(size - 50 - size // 2)
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="damaged or cut off: 2.000 s"):
        frames = decode_at(path, [1.9, 2.0])
    assert frames.missing_s == (2.0,)
    assert [index_of(rgb) for rgb in frames.rgb_THWC] == [19]
    assert len(read_all(path)) < 40


def test_most_of_a_picture_is_no_picture(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.mov", tmp_path / "half.mov"
    encode(whole, num=5, codec="mjpeg", pix_fmt="yuvj420p", faststart=True)
    pos, size = packet_places(whole)[3]
    path.write_bytes(whole.read_bytes()[: pos + size * 9 // 10])
    with pytest.warns(UserWarning, match="damaged or cut off: 0.300 s"):
        frames = decode_at(path, [0.2, 0.3])
    assert [index_of(rgb) for rgb in frames.rgb_THWC] == [2]


def test_cut_off_within_a_frame(fast_start: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    pos, size = packet_places(fast_start)[20]
    path.write_bytes(fast_start.read_bytes()[: pos + size // 2])
    with pytest.warns(UserWarning, match="damaged or cut off: 2.000 s"):
        frames = decode_at(path, [1.9, 2.0])
    assert frames.missing_s == (2.0,)
    assert [index_of(rgb) for rgb in frames.rgb_THWC] == [19]


def test_a_damaged_stretch(fast_start: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.mp4"
    data = bytearray(fast_start.read_bytes())
    for pos, size in packet_places(fast_start)[10:20]:
        data[pos : pos + size] = b"\xff" * size
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="damaged or cut off: 1.500 s"):
        frames = decode_at(path, [0.5, 1.5, 2.5])
    assert frames.missing_s == (1.5,)
    assert [index_of(rgb) for rgb in frames.rgb_THWC] == [5, 25]


def test_nothing_decodable(fast_start: Path, tmp_path: Path) -> None:
    path = tmp_path / "noise.mp4"
    data = bytearray(fast_start.read_bytes())
    for pos, size in packet_places(fast_start):
        data[pos : pos + size] = b"\xff" * size
    path.write_bytes(data)
    for read in (lambda: decode_at(path, [1.0]), lambda: probe(path)):
        with pytest.raises(VideoError, match=r"noise\.mp4: none of the frames could be decoded \(h264\)"):
            read()


def test_no_videos(plain: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.mp4"
    half.write_bytes(plain.read_bytes()[:3000])  # the header was at the end
    text = tmp_path / "notes.txt"
    text.write_text("hello\n" * 500)
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{plain}\n#EXT-X-ENDLIST\n")
    sound = tmp_path / "sound.m4a"
    encode_audio(sound)
    cover = tmp_path / "cover.m4a"
    encode_audio(cover, cover=True)
    for source, message in [
        (tmp_path / "absent.mp4", r"absent\.mp4: there is no such file; give the path"),
        (tmp_path, "it is a folder; give a video file"),
        (b"", r"video of 0 bytes: it is empty \(0 bytes\); copy or download it again"),
        (half, r"half\.mp4: it cannot be read as a video .*; expected a whole mp4"),
        (text, r"notes\.txt: it cannot be read as a video"),
        (playlist, r"list\.m3u8: it cannot be read as a video"),
        (b"\x00" * 4000, "video of 4000 bytes: it cannot be read as a video"),
        (cover, r"cover\.m4a: it holds no video stream, only audio and a cover picture"),
        (sound, r"sound\.m4a: it holds no video stream, only audio; give a file with moving pictures"),
    ]:
        with pytest.raises(VideoError, match=message) as caught:
            decode_at(source, [0.0])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("times_s", "size", "message"),
    [
        ([], None, "expected at least one"),
        ([0.0, float("nan")], None, "all of them finite"),
        ([0.0], (0, 5), r"size \(0, 5\): expected \(width, height\)"),
    ],
)
def test_bad_questions(plain: Path, times_s: list[float], size: tuple[int, int] | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        decode_at(plain, times_s, size=size)


def test_the_painted_number_is_read_back() -> None:
    assert [index_of(picture(k, width=64, height=48)) for k in (0, 7, 255)] == [0, 7, 255]
