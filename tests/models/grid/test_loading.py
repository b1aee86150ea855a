"""At what size a model sees a grid, and what a processor needs beside transformers."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
from transformers import Qwen2VLImageProcessorPil

from tideo.loading import Loading
from tideo.models.grid.loading import check_image_size, load_vlm, seen_side
from tideo.models.grid.settings import GridSettings
from tideo.models.load import find_model, load_model
from tideo.types import UserError
from tiny_vlms import FAMILIES, SEEN, made, saved


@pytest.mark.parametrize("family", FAMILIES)
def test_a_grid_that_would_be_shrunk_is_refused(family: str) -> None:
    _, processor = made(family)
    largest = SEEN[family]
    check_image_size(processor, GridSettings(image_size=largest), name="m")
    assert (seen_side(processor, largest // 2), seen_side(processor, 336)) == (largest // 2, largest)
    with pytest.raises(
        UserError, match=f"a grid of 336 .* larger than the {largest} .* set image_size={largest}"
    ):
        check_image_size(processor, GridSettings(image_size=336), name="m")


@pytest.mark.parametrize(
    ("patch", "budget", "side", "seen"),
    [
        (14, (3136, 12845056), 336, 336),  # as published for Qwen2.5-VL
        (14, (3136, 12845056), 350, 336),  # 12.5 steps of 28: to the even number
        (16, (65536, 16777216), 336, 320),  # as published for Qwen3-VL
        (16, (65536, 16777216), 672, 672),
        (16, (65536, 16777216), 100, 100),  # enlarged, which blurs nothing away
    ],
)
def test_qwen_rounds_to_whole_patches(
    patch: int, budget: tuple[int, int], side: int, seen: int, caplog: pytest.LogCaptureFixture
) -> None:
    _, processor = made("qwen2_vl")
    size = dict(zip(("shortest_edge", "longest_edge"), budget, strict=True))
    processor.image_processor = Qwen2VLImageProcessorPil(patch_size=patch, size=size)
    assert seen_side(processor, side) == seen
    with caplog.at_level(logging.WARNING):
        check_image_size(processor, GridSettings(image_size=side), name="m")
    told = f"so a grid of {side} a side at {seen}: it sees image_size={seen} or {seen + 2 * patch} as it is"
    assert (told in caplog.text) == (seen < side)


def test_settings_are_refused_before_the_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved("llava", tmp_path / "vlm")
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        UserError, match=r"grid of 336 pixels a side is larger than the 28 .*: set image_size=28"
    ):
        load_model(str(folder), args=["image_size=336"])
    monkeypatch.setattr("tideo.models.grid.families.FAMILIES", {})
    with pytest.raises(UserError, match="batch=4: inputs of model type llava are not stacked, so questions"):
        load_model(str(folder), args=["batch=4"])
    with pytest.raises(
        UserError, match="batch=4: flash_attention_2 takes no mask, so questions are answered"
    ):
        find_model("dollhouse-topa", args=["batch=4", "attn=flash_attention_2"])


def test_images_are_prepared_by_pil(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    _, processor = load_vlm(str(saved("llava_next", tmp_path)), loading=Loading())
    assert processor.image_processor.backend == "pil"


def test_a_torchvision_of_another_torch_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved("llava", tmp_path / "vlm")
    (folder / "processor_config.json").write_text("{}")
    broken = tmp_path / "site" / "torchvision"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    about = tmp_path / "site" / "torchvision-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.1\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        UserError, match=r"torchvision 0\.1 does not work with torch .*install the two together"
    ):
        load_vlm(str(folder), loading=Loading())
