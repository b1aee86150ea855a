"""Features of a training: encoded once, of a folder that `tideo encode` filled, read when they are asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tideo.dollhouse.export import ask_split, tideo_of
from tideo.encoders.dual import DualEncoder, load_encoder
from tideo.encoders.encode import encode_tideos
from tideo.encoders.features import tideo_features
from tideo.train.topa.features import encoded_tideos, features_in
from tideo.types import TextFrame, Tideo, UserError


@pytest.fixture(scope="module")
def encoder() -> DualEncoder:
    return load_encoder("dollhouse-clip")


@pytest.fixture(scope="module")
def tideos() -> list[Tideo]:
    return [tideo_of(a, seed=0) for a in ask_split("train", num=8, seed=2)]


def test_a_training_takes_those_of_a_folder_and_no_others(
    encoder: DualEncoder, tideos: list[Tideo], tmp_path: Path
) -> None:
    encode_tideos(tideos[1:], encoder=encoder, out=tmp_path)
    found = features_in(tmp_path, tideos[1:3], encoder=encoder, num_frames=10)
    expected = list(tideo_features(tideos[1:3], encoder))
    for ours, computed in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.values_TD, computed.values_TD, atol=2e-3)
    assert len(found[1:]) == 1
    assert found.num_rows() == [len(features) for features in expected]
    with pytest.raises(UserError, match=f"does not hold Tideo {tideos[0].id} with up to 10 frames"):
        features_in(tmp_path, tideos, encoder=encoder, num_frames=10)
    with pytest.raises(UserError, match="with up to 5 frames"):
        features_in(tmp_path, tideos[1:2], encoder=encoder, num_frames=5)


def test_what_one_process_encoded_another_reads(
    encoder: DualEncoder, tideos: list[Tideo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encoded_tideos(tideos[:3], encoder, num_frames=10, folder=tmp_path)
    same = [tideos[0], replace(tideos[1], id="copy")]  # equal captions have one row
    monkeypatch.setattr(type(encoder), "encode_text", None)  # would fail if anything were encoded
    again = encoded_tideos(same, encoder, num_frames=10, folder=tmp_path)
    np.testing.assert_array_equal(again[1].values_TD, first[1].values_TD)
    with pytest.raises(UserError, match="every Tideo needs a frame, and every frame a caption"):
        encoded_tideos(
            [Tideo(id="t", frames=(TextFrame(main=""),), summary="")], encoder, num_frames=10, folder=tmp_path
        )
