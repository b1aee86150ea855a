"""The grid: geometry for any shape, blanks that are counted, IG-VLM's published grid, the command, the panels."""

from __future__ import annotations

import logging
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conftest import Tideo
from tideo.types import Frames, Grid, UserError, VideoError
from tideo.video.grid import edges, make_grid, make_panels, video_grid
from videos import encode, index_of


def plain_frames(num: int, *, height: int = 6, width: int = 8) -> Frames:
    """Frame k is filled with k + 1: no frame is black."""
    rgb = np.stack([np.full((height, width, 3), k + 1, np.uint8) for k in range(num)])
    return Frames(rgb_THWC=rgb, pts_s_T=np.arange(num) * 1.5, video_id="v")


def test_edges_by_hand() -> None:
    assert edges(336, 4) == [0, 84, 168, 252, 336]
    assert edges(336, 5) == [0, 67, 134, 202, 269, 336]
    assert edges(3, 3) == [0, 1, 2, 3]


@given(side=st.integers(1, 2000), cells=st.integers(1, 60))
def test_cells_fill_the_side_and_differ_by_a_pixel_at_most(side: int, cells: int) -> None:
    if cells > side:
        return
    cuts = edges(side, cells)
    sizes = {b - a for a, b in pairwise(cuts)}
    assert (cuts[0], cuts[-1]) == (0, side)
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1


@given(
    rows=st.integers(1, 6),
    cols=st.integers(1, 6),
    width=st.integers(6, 90),
    height=st.integers(6, 90),
    missing=st.integers(0, 35),
    fit=st.sampled_from(["squash", "crop"]),
)
def test_every_pixel_is_of_its_frame_in_reading_order(
    rows: int, cols: int, width: int, height: int, missing: int, fit: str
) -> None:
    num = max(1, rows * cols - missing)
    grid = make_grid(plain_frames(num), rows=rows, cols=cols, image_size=(width, height), fit=fit)
    assert grid.rgb_HWC.shape == (height, width, 3)
    across, down = edges(width, cols), edges(height, rows)
    for k in range(rows * cols):
        row, col = divmod(k, cols)
        cell = grid.rgb_HWC[down[row] : down[row + 1], across[col] : across[col + 1]]
        assert set(cell.flat) == {k + 1 if k < num else 0}
    assert grid.num_blank == rows * cols - num
    assert grid.pts_s == tuple(1.5 * k for k in range(num))


def test_fits_differ_as_they_say() -> None:
    """A wide frame, its left half dark and its right half bright, in a square cell."""
    rgb = np.zeros((1, 20, 80, 3), np.uint8)
    rgb[:, :, :40], rgb[:, :, 40:] = 10, 200
    frames = Frames(rgb_THWC=rgb, pts_s_T=np.zeros(1), video_id="v")
    one = {
        fit: make_grid(frames, rows=1, cols=1, image_size=40, fit=fit).rgb_HWC
        for fit in ("squash", "letterbox", "crop")
    }
    assert (one["squash"][0, 0, 0], one["squash"][39, 39, 0]) == (10, 200)
    assert not one["letterbox"][:14].any()
    assert not one["letterbox"][26:].any()
    assert one["letterbox"][20, 5, 0] == 10
    assert (one["crop"][20, 0, 0], one["crop"][20, 39, 0]) == (10, 200)
    assert np.abs(one["crop"][:, :18].astype(int) - 10).max() <= 4  # bicubic rings at the edge


def test_stamps_change_the_corner_only() -> None:
    frames = plain_frames(4, height=60, width=60)
    bare = make_grid(frames, rows=2, cols=2, image_size=240).rgb_HWC
    stamped = make_grid(frames, rows=2, cols=2, image_size=240, stamps=True).rgb_HWC
    changed = np.abs(bare.astype(int) - stamped).max(-1) > 0
    assert changed[:30, :60].any()
    assert not changed[30:120].any()
    assert stamped[:30, :60].max() > 200


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 0}, "at least one row"),
        ({"rows": 1, "cols": 2}, "3 frames do not fit the 2 cells"),
        ({"fit": "stretch"}, "expected one of squash, letterbox, crop"),
        ({"image_size": 3}, "no room for 4 x 4 cells"),
        ({"image_size": 100_000}, "at most 16384"),
    ],
)
def test_a_shape_that_cannot_be_is_an_error(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_grid(plain_frames(3), **changes)  # type: ignore[arg-type]


def test_a_shape_that_cannot_be_is_an_error_before_the_video_is_read() -> None:
    with pytest.raises(UserError, match="no room for 500 x 500 cells"):
        video_grid("/no/such/video.mp4", rows=500, cols=500)


def test_panels_follow_one_another_in_time() -> None:
    panels = make_panels(plain_frames(10), panels=4, rows=2, cols=2, image_size=8)
    assert [p.pts_s for p in panels] == [(0.0, 1.5, 3.0, 4.5), (6.0, 7.5, 9.0, 10.5), (12.0, 13.5)]
    assert [p.num_blank for p in panels] == [0, 0, 2]
    with pytest.raises(UserError, match="do not fit 2 panels"):
        make_panels(plain_frames(10), panels=2)
    with pytest.raises(UserError, match="at least one"):
        make_panels(plain_frames(1), panels=0)


def test_a_grid_counts_its_cells() -> None:
    with pytest.raises(ValueError, match="are not 2 x 2 cells"):
        Grid(rgb_HWC=np.zeros((4, 4, 3), np.uint8), rows=2, cols=2, pts_s=(0.0,), num_blank=1)


def test_the_frames_of_a_file_stand_in_order(tmp_path: Path) -> None:
    encode(tmp_path / "v.mp4", num=40)
    grid = video_grid(tmp_path / "v.mp4", rows=2, cols=3, image_size=None)
    cells = [grid.rgb_HWC[r : r + 48, c : c + 64] for r in (0, 48) for c in (0, 64, 128)]
    assert [index_of(cell) for cell in cells] == [3, 10, 16, 23, 30, 36]


def test_a_short_video_leaves_blanks_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    encode(tmp_path / "v.mp4", num=3)
    with caplog.at_level(logging.WARNING):
        grid = video_grid(tmp_path / "v.mp4", rows=2, cols=2, image_size=64)
    assert (grid.num_blank, len(grid.pts_s)) == (1, 3)
    assert "v: 3 distinct frames for 4 cells, 1 stay blank" in caplog.text
    assert not grid.rgb_HWC[32:, 32:].any()


def test_it_is_igvlms_published_grid(shared: Path) -> None:
    """Frames k · floor(n / 12) in four rows of three; theirs is a JPEG, hence not to the last bit."""
    theirs = np.asarray(Image.open(shared / "golden" / "igvlm_grid_rlQ2kW-FvMk_66_79.jpg").convert("RGB"))
    ours = video_grid(
        shared / "videos" / "rlQ2kW-FvMk_66_79.mp4", rows=4, cols=3, sampler="uniform", image_size=None
    ).rgb_HWC
    assert ours.shape == theirs.shape
    error = np.square(ours.astype(float) - theirs).mean()
    assert 10 * np.log10(255**2 / error) > 37


def test_the_command_writes_a_png(tideo: Tideo, tmp_path: Path) -> None:
    encode(tmp_path / "v.mp4", num=40)
    out = tmp_path / "new" / "grid.png"
    done = tideo(
        "grid", str(tmp_path / "v.mp4"), "--rows", "3", "--cols", "5", "--out", str(out), "--start", "1"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{out}\n", "")
    assert Image.open(out).size == (336, 336)
    missing = tideo("grid", str(tmp_path / "none.mp4"), "--out", str(out))
    assert missing.returncode == 2
    assert missing.stderr.startswith("tideo: ")
    assert missing.stderr.count("\n") == 1


def test_the_command_tells_how_frames_are_chosen(tideo: Tideo, tmp_path: Path) -> None:
    encode(tmp_path / "v.mp4", num=10)
    grid = ("grid", str(tmp_path / "v.mp4"), "--out", str(tmp_path / "g.png"))
    blank = tideo(*grid, "--question", "what is he doing?", "--encoder", "dollhouse-clip")
    assert blank.returncode == 0
    assert "v: 10 distinct frames for 16 cells, 6 stay blank" in blank.stderr
    without = tideo(*grid, "--sampler", "question")
    assert (without.returncode, "give --question TEXT" in without.stderr) == (2, True)
    both = tideo(*grid, "--sampler", "fps", "--question", "what is he doing?")
    assert (both.returncode, "leave one out" in both.stderr) == (2, True)


def test_frames_that_cannot_be_decoded_are_told_apart_from_blanks(tideo: Tideo, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    encode(path, num=40, faststart=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = tideo("grid", str(path), "--out", str(tmp_path / "g.png"))
    assert done.returncode == 3
    lost = re.search(
        r"(\d+) distinct frames for 16 cells, (\d+) stay blank, (\d+) could not be decoded", done.stderr
    )
    assert lost is not None
    shown, blank, missing = map(int, lost.groups())
    assert shown + blank == 16
    assert f"tideo: {missing} of {missing + shown} frames failed" in done.stderr


def test_no_video_no_grid(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError, match=r"v\.mp4"):
        video_grid(tmp_path / "v.mp4")
