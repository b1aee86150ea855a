"""Pictures that cost more than they weigh, and files that are none."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tideo.serve.frames import frames_of
from tideo.types import UserError


def picture(folder: Path, *, size: tuple[int, int] = (8, 6), kind: str = "PNG") -> Path:
    path = folder / f"{size[0]}.{kind.lower()}"
    Image.new("1", size).convert("L" if kind in ("WEBP", "JPEG") else "1").save(path, format=kind)
    return path


def read(*pictures: Path):
    return frames_of(pictures, times_s=None, video_id="v")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_kinds_of_pictures(tmp_path, kind):
    assert read(picture(tmp_path, kind=kind)).rgb_THWC.shape == (1, 6, 8, 3)


def test_a_program_is_no_picture(tmp_path):
    """Pillow hands PostScript to Ghostscript."""
    path = tmp_path / "x.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(UserError, match="image 1: it cannot be read as a picture; expected one of PNG, JPEG"):
        read(path)


def test_small_pictures_that_would_be_scaled_to_a_large_first_one(tmp_path):
    pictures = [picture(tmp_path, size=(5000, 5000)), *[picture(tmp_path)] * 9]
    with pytest.raises(UserError, match="10 images of 5000 x 5000 pixels, the size of the first one"):
        read(*pictures)


@pytest.mark.parametrize(
    ("size", "message"), [((9000, 4000), "9000 x 4000 pixels"), ((16_000, 16_000), "far more")]
)
def test_too_many_pixels(tmp_path, size, message):
    with pytest.raises(UserError, match=f"image 2: .*{message}"):
        read(picture(tmp_path), picture(tmp_path, size=size))


def test_room_is_asked_for_before_a_picture_is_decoded(tmp_path):
    asked = []
    frames_of([picture(tmp_path)] * 3, times_s=None, video_id="v", hold=asked.append)
    assert asked == [3 * 8 * 6 * 3]


SOUND = {kind: io.BytesIO() for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP")}
for _kind, _file in SOUND.items():
    Image.effect_noise((24, 16), 50).save(_file, format=_kind)


@given(kind=st.sampled_from(sorted(SOUND)), data=st.data())
def test_a_damaged_picture_is_read_or_refused(tmp_path_factory, kind, data):
    content = bytearray(SOUND[kind].getvalue())
    places = st.integers(0, len(content) - 1)
    for place, byte in data.draw(st.dictionaries(places, st.integers(0, 255), max_size=8)).items():
        content[place] = byte
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(UserError):  # and no other error
        assert read(path).rgb_THWC.shape[0] == 1
