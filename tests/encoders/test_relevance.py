"""Frames for a question: the most relevant first, unlike ones next, in time order."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conftest import Tideo
from tideo.encoders.dual import load_encoder
from tideo.encoders.relevance import choose, relevant_frames
from tideo.types import Frames, UserError
from tiny import videos_in

RELEVANCE = np.array([0.9, 0.8, 0.5, 0.1])
# 0 and 1 are alike, 2 and 3 unlike all others
SIMILARITY = np.array(
    [[1.0, 0.95, 0.2, 0.1], [0.95, 1.0, 0.2, 0.1], [0.2, 0.2, 1.0, 0.0], [0.1, 0.1, 0.0, 1.0]]
)


def test_without_diversity_the_most_relevant_are_kept() -> None:
    assert choose(RELEVANCE, SIMILARITY, num=3, diversity=0.0) == [0, 1, 2]


def test_with_diversity_a_double_is_passed_over() -> None:
    assert choose(RELEVANCE, SIMILARITY, num=2, diversity=0.5) == [0, 2]
    assert choose(RELEVANCE, SIMILARITY, num=3, diversity=1.0) == [0, 3, 2]


@given(st.integers(1, 12), st.integers(1, 15), st.floats(0, 1), st.integers(0, 1000))
def test_each_is_chosen_once(of: int, num: int, diversity: float, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(of, 4))
    chosen = choose(values[:, 0], values @ values.T, num=num, diversity=diversity)
    assert len(chosen) == len(set(chosen)) == min(num, of)
    assert chosen[0] == values[:, 0].argmax()


def test_the_command_draws_what_the_question_is_about(
    tideo: Tideo, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    video = sorted((videos_in(tmp_path_factory.getbasetemp()) / "videos").iterdir())[0]
    pictures, encoder = [], ("--encoder", "dollhouse-clip")
    for name, extra in (
        ("plain", ()),
        ("chosen", ("--question", "who is pouring tea?", *encoder)),
    ):
        out = tmp_path / f"{name}.png"
        done = tideo("grid", str(video), "--rows", "2", "--cols", "2", *extra, "--out", str(out))
        assert done.returncode == 0, done.stderr
        pictures.append(np.asarray(Image.open(out)))
    assert pictures[0].shape == pictures[1].shape == (336, 336, 3)
    assert (pictures[0] != pictures[1]).any()
    without = tideo("grid", str(video), "--question", "who?", "--out", str(tmp_path / "x.png"))
    assert (without.returncode, "give --encoder" in without.stderr) == (2, True)
    wrong = tideo("grid", str(video), "--question", " ", *encoder, "--out", str(tmp_path / "x.png"))
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)


def test_frames_come_in_time_order() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3), dtype=np.uint8)
    frames = Frames(rgb_THWC=rgb, pts_s_T=np.arange(6.0), video_id="x")
    encoder = load_encoder("dollhouse-clip")
    kept = relevant_frames(frames, 3, question="who pours tea?", encoder=encoder)
    assert len(kept) == 3
    assert list(kept.pts_s_T) == sorted(kept.pts_s_T)
    assert all((kept.rgb_THWC[i] == rgb[int(t)]).all() for i, t in enumerate(kept.pts_s_T))
    with pytest.raises(UserError, match="diversity"):
        relevant_frames(frames, 3, question="who?", encoder=encoder, diversity=2)
