"""Streams that no encoder of the other tests writes: edit lists, joins of unlike files, colours, EXIF, cut ends."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

from odd_videos import FPS, full_decode, video
from tideo.types import VideoError
from tideo.video.decode import decode_at, probe
from tideo.video.limits import limited
from tideo.video.samplers import sample_frames
from tideo.video.streams import OpenVideo
from videos import encode, index_of, picture, read_all

KEYS = {"x264-params": "keyint=25:min-keyint=25:scenecut=0:bframes=0"}


def numbers(data: bytes | Path, times_s: list[float]) -> list[int]:
    return [index_of(rgb) for rgb in decode_at(data, times_s).rgb_THWC]


# ------------------------------------------------------------ edit lists


def with_edit_list(data: bytes, entries: list[tuple[float, float]]) -> bytes:
    """An mp4 whose edit list shows these parts, each (start, length) in seconds. Its moov must come last."""
    movie, media = (
        int.from_bytes(data[(at := data.index(name)) + 16 : at + 20], "big") for name in (b"mvhd", b"mdhd")
    )
    rows = b"".join(struct.pack(">Iihh", round(n * movie), round(s * media), 1, 0) for s, n in entries)
    at = data.index(b"elst") - 4
    old = int.from_bytes(data[at : at + 4], "big")
    new = struct.pack(">I4sII", 16 + len(rows), b"elst", 0, len(entries)) + rows
    changed = bytearray(data[:at] + new + data[at + old :])
    for name in (b"moov", b"trak", b"edts"):
        place = data.index(name) - 4
        (size,) = struct.unpack_from(">I", changed, place)
        struct.pack_into(">I", changed, place, size + len(new) - old)
    return bytes(changed)


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        ([(0.4, 1.0), (4.4, 1.0)], [*range(10, 35), *range(110, 135)]),  # neither begins with a key frame
        ([(0.4, 1.0), (2.0, 1.0), (5.0, 0.4)], [*range(10, 35), *range(50, 75), *range(125, 135)]),
        ([(4.4, 1.0), (0.4, 1.0)], [*range(110, 135), *range(10, 35)]),  # a part that goes back
        ([(2.4, 2.0)], list(range(60, 110))),
    ],
)
def test_parts_of_an_edit_list(parts: list[tuple[float, float]], shown: list[int]) -> None:
    file = io.BytesIO()
    encode(file, container_format="mp4", num=150, fps=25, options=KEYS)
    data = with_edit_list(file.getvalue(), parts)
    assert full_decode(data) == shown
    assert numbers(data, [(k + 0.5) / 25 for k in range(len(shown))]) == shown
    assert all(numbers(data, [(k + 0.5) / 25]) == [shown[k]] for k in range(0, len(shown), 3))
    keys = sample_frames(data, 8, sampler="keyframes")
    assert [index_of(rgb) for rgb in keys.rgb_THWC] == [number for number in shown if number % 25 == 0]


def test_a_part_of_an_edit_list_that_overlaps_the_one_before() -> None:
    # The second part is cut within a group with B frames: FFmpeg gives its first frames times of the first part.
    file = io.BytesIO()
    options = {"x264-params": "keyint=25:min-keyint=25:scenecut=0:bframes=3:b-adapt=0"}
    encode(file, container_format="mp4", num=120, fps=25, options=options)
    data = with_edit_list(file.getvalue(), [(0.68, 1.0), (3.48, 0.6)])
    with OpenVideo(data) as opened:
        in_order = [
            (opened.seconds(tick), index_of(opened.rgb(frame, None)))
            for tick, frame in opened.frames()
            if frame
        ]
    shown = [(time_s, [n for at_s, n in in_order if at_s <= time_s][-1]) for time_s, _ in in_order]
    assert [numbers(data, [time_s])[0] for time_s, _ in shown] == [number for _, number in shown]


@pytest.mark.parametrize("kind", ["mp4", "matroska"])
def test_an_intra_refresh_is_no_key_frame(kind: str) -> None:
    file = io.BytesIO()
    refresh = {"preset": "ultrafast", "x264-params": "intra-refresh=1:keyint=20:bframes=0"}
    encode(file, container_format=kind, num=120, fps=25, options=refresh)
    data = file.getvalue()
    assert full_decode(data) == list(range(120))
    assert [numbers(data, [(k + 0.5) / 25])[0] for k in range(70, 110, 2)] == list(range(70, 110, 2))


def test_an_index_without_display_times_is_decoded_in_order() -> None:
    data = bytearray(video("mp4", places=list(range(50))))
    at = data.index(b"ctts")
    data[at : at + 4] = b"free"  # the packets keep their times of decoding, in another order than the frames
    found = numbers(bytes(data), [(k + 0.5) / FPS for k in range(48)])
    assert found == sorted(found)
    assert (
        max(abs(number - k) for k, number in enumerate(found)) <= 3
    )  # the delay of the decoder is not known


# ------------------------------------------------------------ joined recordings


def test_recordings_of_unlike_sizes_are_seen_to_the_end() -> None:
    half = list(range(25))
    data = video("ts", places=half) + video("ts", places=half, first=25, size=(128, 96))
    frames = sample_frames(data, 10)
    assert frames.rgb_THWC.shape == (10, 48, 64, 3)
    assert [index_of(rgb) for rgb in frames.rgb_THWC] == [2, 7, 12, 17, 22, 27, 32, 37, 42, 47]


@pytest.mark.parametrize("kind", ["ts", "mpg"])
@pytest.mark.parametrize("start_s", [95442, 95380, 3600])  # the counter of 33 bits overflows after 95,443.7 s
def test_a_recording_that_continues_at_another_time(kind: str, start_s: int) -> None:
    half = list(range(50))
    data = video(kind, places=half) + video(kind, places=[start_s * FPS + k for k in half], first=50)
    frames = sample_frames(data, 10)
    assert probe(data).duration_s == pytest.approx(4, abs=0.05)
    assert [index_of(rgb) for rgb in frames.rgb_THWC] == [5, 15, 25, 35, 45, 55, 65, 75, 85, 95]


@pytest.mark.parametrize("kind", ["mkv", "webm", "live webm", "ts"])
@pytest.mark.parametrize("part", [0.35, 0.6, 0.9])
def test_a_recording_that_broke_off_and_was_begun_anew(kind: str, part: float) -> None:
    half = list(range(50))
    broken, again = video(kind, places=half), video(kind, places=half, first=50)
    data = broken[: int(len(broken) * part)] + again
    frames = read_all(data)
    shown = [index_of(rgb) for rgb in frames.rgb_THWC]
    assert len([number for number in shown if number < 50]) >= 50 * part - 20
    assert shown[-40:] == list(range(60, 100))
    assert probe(data).duration_s == pytest.approx(len(full_decode(data)) / FPS, abs=0.25)
    found = decode_at(data, frames.pts_s_T.tolist())
    assert [index_of(rgb) for rgb in found.rgb_THWC] == shown


def test_a_lost_signal_is_a_hole() -> None:
    data = video("ts", places=[*range(25), *range(25 + 20 * FPS, 50 + 20 * FPS)])
    start_s = probe(data).start_s
    assert probe(data).duration_s == pytest.approx(22, abs=0.05)
    assert numbers(data, [start_s + 0.99, start_s + 15.0, start_s + 21.02]) == [24, 24, 25]


# ------------------------------------------------------------ cut off


@pytest.mark.parametrize("kind", ["mkv", "webm", "avi", "wmv", "mjpeg avi"])
def test_a_file_that_breaks_off_names_what_is_lost(kind: str) -> None:
    data = video(kind, places=list(range(100)))
    with pytest.warns(UserWarning, match="damaged or cut off"):
        frames = sample_frames(data[: len(data) // 2], 8)
    assert 2 <= len(frames) <= 6
    assert len(frames) + len(frames.missing_s) == 8
    assert [index_of(rgb) for rgb in frames.rgb_THWC] == pytest.approx(
        [6, 18, 31, 43, 56, 68][: len(frames)], abs=1
    )


@pytest.mark.parametrize("kind", ["ts", "mpg", "flv", "gif"])
def test_one_that_promises_nothing_is_seen_to_its_end(kind: str) -> None:
    data = video(kind, places=list(range(100)))
    frames = sample_frames(data[: len(data) * 2 // 3], 8)
    assert len(frames) >= 7
    assert 40 <= index_of(frames.rgb_THWC[-1]) <= 90


# ------------------------------------------------------------ colours, EXIF, sizes


@pytest.mark.parametrize("matrix", ["YCgCo", "bt2020c", "chroma-derived-nc", "ICtCp"])
def test_a_video_of_a_matrix_that_swscale_refuses_is_seen(matrix: str) -> None:
    file = io.BytesIO()
    encode(file, num=20, container_format="mp4", options={"x264-params": f"colormatrix={matrix}"})
    assert numbers(file.getvalue(), [0.55, 1.55]) == [5, 15]


@pytest.mark.parametrize(("matrix", "color_range"), [(3, 1), (8, 1), (10, 2), (14, 0), (17, 1), (99, 77)])
def test_it_is_converted_as_if_it_named_none(matrix: int, color_range: int) -> None:
    rgb = av.VideoFrame.from_ndarray(picture(9, width=64, height=48), format="rgb24")
    odd, plain = rgb.reformat(format="yuv420p"), rgb.reformat(format="yuv420p")
    odd.colorspace, odd.color_range = matrix, color_range
    plain.colorspace, plain.color_range = 2, color_range if color_range < 3 else 0
    file = io.BytesIO()
    encode(file, num=1, container_format="mp4")
    with OpenVideo(file.getvalue()) as opened:
        found = opened.rgb(odd, None).copy()
        assert index_of(found) == 9
        np.testing.assert_array_equal(found, opened.rgb(plain, None))


@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_exif_is_read_and_turns_the_picture(orientation: int | None, tmp_path: Path) -> None:
    folder = tmp_path / "fps2"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    if orientation is not None:
        exif[0x0112] = orientation
    for k in range(1, 4):
        Image.fromarray(picture(k, width=64, height=48)).save(folder / f"{k}.jpg", quality=95, exif=exif)
    frames = decode_at(str(folder), [0.0, 0.6, 1.1])
    for k, rgb_HWC in enumerate(frames.rgb_THWC, 1):
        upright = np.asarray(ImageOps.exif_transpose(Image.open(folder / f"{k}.jpg")))
        assert rgb_HWC.shape == upright.shape
        assert np.abs(rgb_HWC.astype(int) - upright).mean() < 3


def test_frames_of_an_absurd_size_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    encode(path, num=2)
    message = r"v\.mp4: its frames claim 64 x 48 pixels; expected at most 1,000"
    with pytest.raises(VideoError, match=message), limited(seconds=60, max_pixels=1000, max_bytes=10**9):
        sample_frames(path, 2)
    assert len(sample_frames(path, 2)) == 2


def test_frames_that_take_more_memory_than_allowed_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    encode(path, num=9)
    with limited(seconds=60, max_pixels=10_000, max_bytes=3 * 64 * 48 * 3):
        assert len(sample_frames(path, 3)) == 3
        with pytest.raises(
            VideoError, match="4 frames of 64 x 48 pixels take 36,864 bytes; expected at most 27,648"
        ):
            sample_frames(path, 4)


def test_a_picture_of_16000_x_16000_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "v.gif"
    screen = b"GIF89a" + struct.pack("<HHBBB", 16_000, 16_000, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    dot = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    path.write_bytes(screen + b"\x21\xf9\x04\x04\x0a\x00\x00\x00" + dot + b";")
    with (
        pytest.raises(VideoError, match="more than 35,389,440 pixels"),
        limited(seconds=60, max_pixels=8192 * 4320, max_bytes=10**9),
    ):
        sample_frames(path, 2)


@pytest.mark.parametrize("container_format", ["mp4", "avi", "mpegts", "matroska"])
def test_limits_that_are_not_met_change_nothing(tmp_path: Path, container_format: str) -> None:
    path = tmp_path / "v"
    encode(path, num=9, container_format=container_format)
    with limited(seconds=60, max_pixels=64 * 48, max_bytes=10**9):
        frames = sample_frames(path, 3)
    np.testing.assert_array_equal(frames.rgb_THWC, sample_frames(path, 3).rgb_THWC)


@pytest.mark.parametrize("container_format", ["mp4", "avi", "mpegts"])
def test_reading_ends_when_its_time_is_over(tmp_path: Path, container_format: str) -> None:
    path = tmp_path / "v"
    encode(path, num=9, container_format=container_format)
    with (
        pytest.raises(VideoError, match="more than 0 s"),
        limited(seconds=0, max_pixels=10_000, max_bytes=10**9),
    ):
        sample_frames(path, 2)


def test_everything_that_is_read_is_read_in_rising_order() -> None:
    for kind in ("ts", "mkv"):
        half = list(range(25))
        pts_s = read_all(video(kind, places=half) + video(kind, places=half, first=25)).pts_s_T
        assert len(pts_s) == 50
        np.testing.assert_allclose(np.diff(pts_s), 1 / FPS, atol=0.002)
