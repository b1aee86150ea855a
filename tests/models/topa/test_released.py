"""A released TOPA checkpoint becomes a model directory with the published scores; nothing hostile is run."""

from __future__ import annotations

import argparse
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from conftest import Tideo
from meta_llama import llama_tensors
from tideo.bundled import ASSETS
from tideo.encoders.dual import load_encoder
from tideo.models.likelihood import embed, token_loglikelihoods
from tideo.models.load import load_model
from tideo.models.topa.released import import_topa
from tideo.types import UserError
from tiny import save_clip

LAYERS, WIDTH, HEADS, LENGTH = 2, 16, 2, 3


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("hacked"),)


def llama(folder: Path, *, theta: float = 500_000.0, **sizes: Any) -> LlamaForCausalLM:
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "dollhouse-lm")
    config: dict[str, Any] = {
        "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": 24,
        "vocab_size": len(tokenizer), "rope_parameters": {"rope_type": "default", "rope_theta": theta},
    }  # fmt: skip
    llm = LlamaForCausalLM(LlamaConfig(**(config | sizes)))
    llm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return llm


def checkpoint(
    dim: int, *, layers: int = LAYERS, width: int = WIDTH, heads: int = HEADS
) -> dict[str, torch.Tensor]:
    """What TOPA's util/misc.py saves under "model"."""
    gates = {
        f"layers.{i}.attention.gate{g}": torch.randn(1, heads, 1, 1) for i in range(layers) for g in (1, 2)
    }
    return {
        "adapter_query.weight": torch.randn(LENGTH * layers, width),
        "visual_proj.weight": torch.randn(width, dim),
        "temporal_emb.weight": torch.randn(10, width),
        **gates,
    }


def saved(path: Path, model: Any) -> Path:
    args = argparse.Namespace(model="llama7B_adapter", lr=None, bias=3.5)
    named = {k: torch.nn.Parameter(v) for k, v in model.items()} if isinstance(model, dict) else model
    torch.save(
        {"model": named, "optimizer": {"state": {}}, "epoch": 3, "scaler": {"scale": 1.0}, "args": args}, path
    )
    return path


def pickled(path: Path, value: Any) -> Path:
    path.write_bytes(pickle.dumps(value))
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def dim(clip: Path) -> int:
    return load_encoder(str(clip)).dim


@pytest.fixture
def parts(tmp_path: Path, clip: Path, dim: int) -> dict[str, Any]:
    llama(tmp_path / "llama")
    return {
        "checkpoint": saved(tmp_path / "topa.pth", checkpoint(dim)),
        "llm": str(tmp_path / "llama"),
        "memory": pickled(tmp_path / "memory.pkl", torch.randn(40, dim).half()),
        "encoder": str(clip),
        "out": tmp_path / "out",
    }


def test_an_imported_checkpoint_answers_as_any_model(parts: dict[str, Any], tideo: Tideo) -> None:
    flags = [word for name in ("llm", "memory", "encoder", "out") for word in (f"--{name}", str(parts[name]))]
    done = tideo("import", "topa", str(parts["checkpoint"]), *flags)
    assert done.returncode == 0, done.stderr
    model: Any = load_model(str(parts["out"]))
    assert (model.settings.form, model.settings.num_frames, len(model.memory)) == ("letter", 10, 40)
    np.testing.assert_allclose(model.memory.values_MD.float().norm(dim=1), 1.0, atol=1e-3)
    assert model.lm.llm.config.rope_parameters["rope_theta"] == 10_000.0
    written = checkpoint_of(parts["checkpoint"])
    torch.testing.assert_close(model.lm.visual_proj.weight, written["visual_proj.weight"])


def checkpoint_of(path: Path) -> dict[str, torch.Tensor]:
    with torch.serialization.safe_globals([argparse.Namespace]):
        named: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["model"]
    return {k: v.detach() for k, v in named.items()}


@pytest.mark.parametrize("name", ["llama2", "llama3"])
@pytest.mark.parametrize("projection", ["with", "without"])
def test_the_published_scores(name: str, projection: str, shared: Path, tmp_path: Path, clip: Path) -> None:
    """From files as released: their Llama has the base of its own family, which TOPA's training replaced."""
    stem = shared / "golden" / f"topa_{name}_tiny"
    sizes, tensors = (
        json.loads(stem.with_suffix(".json").read_text()),
        load_file(stem.with_suffix(".safetensors")),
    )
    part = {
        p: {k.removeprefix(p): t for k, t in tensors.items() if k.startswith(p)} for p in ("llm/", "adapter/")
    }
    llm = llama(
        tmp_path / "llama", theta=500_000.0 if name == "llama3" else 10_000.0, hidden_size=sizes["dim"],
        num_hidden_layers=sizes["n_layers"], num_attention_heads=sizes["n_heads"],
        num_key_value_heads=sizes["n_kv_heads"], intermediate_size=sizes["hidden_dim"],
        vocab_size=sizes["vocab_size"], rms_norm_eps=sizes["norm_eps"],
    )  # fmt: skip
    llm.load_state_dict(llama_tensors(part["llm/"], head_dim=sizes["dim"] // sizes["n_heads"]))
    llm.save_pretrained(tmp_path / "llama")
    encoder = clip_of(tmp_path / "clip", clip, dim=sizes["clip_dim"])
    out = import_topa(
        saved(tmp_path / "topa.pth", part["adapter/"]), llm=str(tmp_path / "llama"), encoder=str(encoder),
        memory=pickled(tmp_path / "memory.pkl", tensors["input/memory"]), out=tmp_path / "out",
    )  # fmt: skip
    model: Any = load_model(str(out))
    options = [[int(i) for i in row if i] for row in tensors["input/label"][0]]
    start, num_prefix = sizes["video_start"], int(tensors["input/label"][0, 0].nonzero()[0])
    video = tensors["expect/projected_video" if projection == "with" else "input/video"]
    with torch.no_grad():
        vectors, num = model.lm.video_vectors(video, torch.tensor([sizes["max_feats"]]))
        embeds = embed(model.lm.llm, tensors["input/text_id"][0, 0, :num_prefix]).clone()
        embeds[start : start + int(num)] = vectors[0]
        place = torch.tensor([start])
        gated = model.lm.adapter(video_start_B=place, video_end_B=place + num)
    got = token_loglikelihoods(
        model.lm.llm, prefix=embeds, options_ids=options, model_kwargs={"gated_video": gated}
    )
    nll = tensors[f"expect/nll_{projection}_projection"][0]
    for tokens, row, option in zip(got, nll, options, strict=True):
        torch.testing.assert_close(tokens, -row[num_prefix - 1 :][: len(option)], atol=1e-4, rtol=0)


def clip_of(folder: Path, clip: Path, *, dim: int) -> Path:
    """A tiny CLIP of that width."""
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig.from_pretrained(clip)
    config.projection_dim = dim
    CLIPModel(config).save_pretrained(folder)
    for path in clip.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


# --- what is refused ---------------------------------------------------------------------------------


def test_nothing_hostile_is_run(
    parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    pickled(parts["memory"], Hostile())
    with pytest.raises(UserError, match=r"memory\.pkl cannot be read as a tensor \(it names pathlib"):
        import_topa(**parts)
    saved(parts["checkpoint"], Hostile())
    with pytest.raises(UserError, match=r"topa\.pth cannot be read as weights"):
        import_topa(**parts)
    assert not Path("hacked").exists()
    assert not parts["out"].exists()


def test_what_is_no_checkpoint_or_memory_is_told(parts: dict[str, Any], dim: int, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pth"
    cut.write_bytes(parts["checkpoint"].read_bytes()[:400])
    torch.save({"weights": 1}, tmp_path / "other.pth")
    for change, told in [
        ({"checkpoint": tmp_path / "no.pth"}, r"no\.pth: there is no such file"),
        ({"checkpoint": cut}, r"cut\.pth cannot be read as weights"),
        ({"checkpoint": tmp_path / "other.pth"}, "holds no tensors under 'model'"),
        ({"checkpoint": saved(tmp_path / "a.pth", {"x": torch.zeros(1)})}, "not a TOPA checkpoint: adapter"),
        ({"checkpoint": saved(tmp_path / "b.pth", checkpoint(dim, layers=3))}, "adapter.query_LAD is .* takes"),
        ({"checkpoint": saved(tmp_path / "d.pth", checkpoint(dim) | {"adapter_query.weight": torch.zeros(7, WIDTH)})},
         "7 adapter vectors do not fit 2 layers"),
        ({"checkpoint": saved(tmp_path / "c.pth", checkpoint(dim + 1))}, f"the projection takes {dim + 1} features"),
        ({"memory": tmp_path / "no.pkl"}, r"no\.pkl: there is no such file"),
        ({"memory": pickled(tmp_path / "d.pkl", torch.zeros(3))}, r"found torch.float32 \[3\]"),
        ({"memory": pickled(tmp_path / "e.pkl", [1, 2])}, "found list"),
        ({"memory": pickled(tmp_path / "f.pkl", torch.randn(4, dim + 2))}, f"the memory takes {dim + 2} features"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=told):
            import_topa(**(parts | change))
    assert not parts["out"].exists()
