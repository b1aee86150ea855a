"""A finetuned folder keeps what the starting model's folder says of chats and of their ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chat_templates import FAMILIES
from grid_training import config_for
from tideo.config import override
from tideo.models.load import load_model
from tideo.train.grid.finetune import finetune


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{}, pytest.param({"lora_rank": 4}, marks=pytest.mark.slow)], ids=["full", "lora"]
)
def test_template_end_tokens_and_tokenizer_are_kept(changes: dict[str, Any], tmp_path: Path) -> None:
    config = config_for(tmp_path, **changes)
    start = tmp_path / "model"
    template = FAMILIES["qwen 3, with a switch"].template
    (start / "chat_template.jinja").write_text(template)
    # A temperature without sampling, as Vicuna's file has it, is no reason to lose a training.
    generation = {"eos_token_id": [2, 5], "temperature": 0.9, "do_sample": False}
    (start / "generation_config.json").write_text(json.dumps(generation))
    out = finetune(override(config, ["train.steps=1"]), out=tmp_path / "a")
    assert (out / "chat_template.jinja").read_text() == template
    assert json.loads((out / "generation_config.json").read_text()).items() >= generation.items()
    before, after = (load_model(str(folder)) for folder in (start, out))
    assert after.model.generation_config.eos_token_id == [2, 5]  # type: ignore[attr-defined]
    one, other = (model.chat.template for model in (before, after))  # type: ignore[attr-defined]
    assert one.opening("why?", num_images=1) == other.opening("why?", num_images=1)
    assert (one.end_ids, one.begin_ids) == (other.end_ids, other.begin_ids)
    vocabularies = [model.chat.processor.tokenizer.get_vocab() for model in (before, after)]  # type: ignore[attr-defined]
    assert vocabularies[0] == vocabularies[1]
