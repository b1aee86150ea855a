"""The recipes of pre-alignment, on tiny models of the classes that they name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from conftest import Tideo
from tideo.config import override
from tideo.dollhouse.export import ask_split, tideo_of
from tideo.registry import load
from tideo.textvid.schema import dump, from_tideo
from tideo.train.topa.config import PrealignConfig
from tideo.train.topa.prealign import prealign
from tiny import byte_tokenizer
from tiny_encoders import save_tiny_clip, save_tiny_siglip
from videos import encode

SIZES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "intermediate_size": 32, "vocab_size": 260, "max_position_embeddings": 4096, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LLMS: dict[str, Callable[[], PreTrainedModel]] = {
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=16)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
}
ENCODERS = {"siglip": save_tiny_siglip, "clip": save_tiny_clip}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    for name, make in LLMS.items():
        torch.manual_seed(0)
        make().save_pretrained(folder / name)
        byte_tokenizer(closed=False).save_pretrained(folder / name)
    for name, save in ENCODERS.items():
        save(folder / name)
    dump([from_tideo(tideo_of(a, seed=0)) for a in ask_split("train", num=6)], folder / "textvid.json")
    encode(folder / "v.mp4", num=30)
    return folder


def test_they_name_siglip_2_and_the_classes_of_today() -> None:
    for name, llm in {
        "qwen3_0_6b": "Qwen/Qwen3-0.6B", "qwen3_8b": "Qwen/Qwen3-8B", "llama3_1_8b": "meta-llama/Llama-3.1-8B",
    }.items():  # fmt: skip
        recipe = load("recipes", name)()
        assert isinstance(recipe, PrealignConfig)
        assert (recipe.llm, recipe.encoder) == (llm, "google/siglip2-so400m-patch14-384")


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(
    ("recipe", "llm"), [("qwen3_0_6b", "qwen3"), ("qwen3_8b", "qwen3"), ("llama3_1_8b", "llama")]
)
def test_ten_steps_give_a_folder_that_answers(
    recipe: str, llm: str, encoder: str, folder: Path, tmp_path: Path, tideo: Tideo
) -> None:
    changes = [
        f"llm={folder / llm}", f"encoder={folder / encoder}", f"tideos={folder / 'textvid.json'}", "memory_rows=100",
        "train.steps=10", "train.epochs=none", "train.batch=2", "train.accumulate=1", "train.bf16=false",
        "train.log_steps=5",
    ]  # fmt: skip
    config = override(load("recipes", recipe)(), changes)
    out = prealign(config, out=tmp_path / "out")
    asked = tideo(
        "ask", str(folder / "v.mp4"), "what is it", "--option", "tea", "--option", "book", "--json",
        "--model", str(out),
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr
    sets = [word for change in changes for word in ("--set", change)]
    planned = tideo("prealign", recipe, "--plan", *sets)
    assert planned.returncode == 0, planned.stderr
    assert "10 steps" in planned.stdout
