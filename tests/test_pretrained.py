"""Folders of weights that are incomplete, damaged or of another kind: one line each, never a random number."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tideo.encoders.dual import load_encoder
from tideo.loading import Loading
from tideo.models.grid.loading import load_vlm
from tideo.models.topa.checkpoint import load_llm
from tideo.types import UserError
from tiny import save_clip, save_llm
from tiny_vlms import saved

WEIGHTS = "model.safetensors"
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 134\n"
LOAD: dict[str, Callable[[str], object]] = {
    "llm": load_llm,
    "clip": load_encoder,
    "vlm": lambda source: load_vlm(source, loading=Loading()),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    save_clip(folder / "clip")
    save_llm(folder / "llm")
    return {"llm": folder / "llm", "clip": folder / "clip", "vlm": saved("llava", folder / "vlm")}


def without_one(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    del weights[max(name for name in weights if name.endswith("layer_norm1.weight") or "mlp.up" in name)]
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def one_smaller(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    name = max(name for name in weights if name.endswith("fc1.weight") or "mlp.up" in name)
    save_file(weights | {name: weights[name][:-2].clone()}, folder / WEIGHTS, metadata={"format": "pt"})


def cut(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def with_own_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    own = dict.fromkeys(("AutoConfig", "AutoModelForCausalLM", "AutoModel"), "modeling_own.Own")
    text = json.dumps(
        config | {"model_type": "of_nobody", "auto_map": own | {"AutoModelForImageTextToText": "x.Y"}}
    )
    (folder / "config.json").write_text(text)
    (folder / "modeling_own.py").write_text("raise SystemExit('code of the repository has run')\n")


@pytest.mark.parametrize("kind", LOAD)
@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (without_one, "lacks 1 of its weights, the first .*: get it anew"),
        (one_smaller, r"is \[\d+, \d+\], expected \[\d+, \d+\]: its weights and config.json do not belong"),
        (cut, r"a file of its weights is damaged or incomplete \(.*\): get it anew"),
        (
            lambda folder: (folder / WEIGHTS).write_text(POINTER),
            "is a pointer of Git LFS .*: run `git lfs pull`",
        ),
        (pickled, "no file named model.safetensors"),
        (with_own_code, "needs code of its own, which is not run|of_nobody"),
        (
            lambda folder: (folder / "tokenizer.json").write_text("{}"),
            "is missing|cannot be loaded|cannot load",
        ),
    ],
)
def test_damaged_weights_are_told(
    kind: str,
    damage: Callable[[Path], object],
    told: str,
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks at the terminal"))
    copy = Path(shutil.copytree(folders[kind], tmp_path / "copy"))
    damage(copy)
    with pytest.raises(UserError, match=told) as caught:
        LOAD[kind](str(copy))
    assert "\n" not in str(caught.value)
