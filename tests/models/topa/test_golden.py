"""The published TOPA model, run in float32 on tiny random weights, against ours on the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from meta_llama import llama_tensors
from tideo.models.likelihood import METHODS, embed, question_loglikelihoods, token_loglikelihoods
from tideo.models.prompts import IGNORE
from tideo.models.topa.checkpoint import PrefixLMConfig
from tideo.models.topa.llama_adapter import attention_layers
from tideo.models.topa.prefix_lm import PrefixLM
from tideo.models.topa.released import prefix_tensors
from tideo.types import UserError


@dataclass(frozen=True, kw_only=True, eq=False)
class Golden:
    sizes: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    model: PrefixLM

    def part(self, name: str) -> dict[str, torch.Tensor]:
        return {key.removeprefix(name): t for key, t in self.tensors.items() if key.startswith(name)}

    @property
    def options(self) -> list[list[int]]:
        return [[int(i) for i in row if i] for row in self.tensors["input/label"][0]]

    @property
    def num_prefix(self) -> int:
        return int(self.tensors["input/label"][0, 0].nonzero()[0])

    def video(self, projection: str) -> torch.Tensor:
        name = "expect/projected_video" if projection == "with" else "input/video"
        return self.tensors[name]

    def prefix(self, projection: str) -> tuple[torch.Tensor, dict[str, Any]]:
        """Embeddings up to the options, and what the attention needs, put together from public parts."""
        start, model = self.sizes["video_start"], self.model
        with torch.no_grad():
            vectors, num = model.video_vectors(
                self.video(projection), torch.tensor([self.sizes["max_feats"]])
            )
            embeds = embed(model.llm, self.tensors["input/text_id"][0, 0, : self.num_prefix]).clone()
            embeds[start : start + int(num)] = vectors[0]
            place = torch.tensor([start])
            return embeds, {"gated_video": model.adapter(video_start_B=place, video_end_B=place + num)}

    def expected(self, projection: str) -> list[torch.Tensor]:
        nll = self.tensors[f"expect/nll_{projection}_projection"][0]
        return [-row[self.num_prefix - 1 :][: len(o)] for row, o in zip(nll, self.options, strict=True)]


@pytest.fixture(scope="module", params=["llama2", "llama3"])
def golden(request: pytest.FixtureRequest) -> Golden:
    stem = Path(__file__).parent / "golden" / f"topa_{request.param}_tiny"
    sizes = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
    tensors = load_file(stem.with_suffix(".safetensors"))
    llm = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=sizes["dim"],
            num_hidden_layers=sizes["n_layers"],
            num_attention_heads=sizes["n_heads"],
            num_key_value_heads=sizes["n_kv_heads"],
            intermediate_size=sizes["hidden_dim"],
            vocab_size=sizes["vocab_size"],
            rms_norm_eps=sizes["norm_eps"],
            rope_parameters={"rope_type": "default", "rope_theta": sizes["rope_theta"]},
        )
    )
    config = PrefixLMConfig(
        llm="topa/golden",
        encoder="clip-vit-large-patch14",
        feature_dim=sizes["clip_dim"],
        max_frames=sizes["max_feats"],
        adapter_len=sizes["adapter_len"],
    )
    model = PrefixLM(config, llm=llm, tokenizer=None).eval()
    result = Golden(sizes=sizes, tensors=tensors, model=model)
    llm.load_state_dict(llama_tensors(result.part("llm/"), head_dim=sizes["dim"] // sizes["n_heads"]))
    trained = prefix_tensors(result.part("adapter/"))
    assert trained.keys() == model.trained_state().keys()
    model.load_state_dict(trained, strict=False)
    return result


def test_projection_formula(golden: Golden) -> None:
    """v' = normalise(softmax(100 v M^T) M), the formula that encoders/memory.py streams."""
    video, memory = golden.tensors["input/video"], golden.tensors["input/memory"]
    weights = (golden.sizes["projection_temperature"] * video @ memory.T).softmax(-1)
    projected = torch.nn.functional.normalize(weights @ memory, dim=-1)
    torch.testing.assert_close(projected, golden.tensors["expect/projected_video"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("projection", ["with", "without"])
@pytest.mark.parametrize("method", METHODS)
def test_token_losses(golden: Golden, method: str, projection: str) -> None:
    prefix, kwargs = golden.prefix(projection)
    got = token_loglikelihoods(
        golden.model.llm, prefix=prefix, options_ids=golden.options, method=method, model_kwargs=kwargs
    )
    for tokens, expected in zip(got, golden.expected(projection), strict=True):
        torch.testing.assert_close(tokens, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("projection", ["with", "without"])
def test_option_scores_from_a_shared_video(golden: Golden, projection: str) -> None:
    """The cache ends with the video, and every question's tokens come after it: gate2 must still apply."""
    prefix, kwargs = golden.prefix(projection)
    end = golden.sizes["video_start"] + golden.sizes["max_feats"]
    questions = [(prefix[end:], golden.options)] * 2
    for scores in question_loglikelihoods(
        golden.model.llm, prefix=prefix[:end], questions=questions, model_kwargs=kwargs
    ):
        mean_nll = [-total / count for total, count in zip(scores.sums, scores.counts, strict=True)]
        expected = golden.tensors[f"expect/option_score_{projection}_projection"][0]
        assert mean_nll == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("projection", ["with", "without"])
def test_training_loss(golden: Golden, projection: str) -> None:
    ids, labels = golden.tensors["input/text_id"][0], golden.tensors["input/label"][0]
    batch = {
        "input_ids_BL": ids,
        "video_BTD": golden.video(projection).expand(len(ids), -1, -1),
        "video_start_B": torch.full((len(ids),), golden.sizes["video_start"]),
    }
    with torch.no_grad():
        loss = golden.model(**batch, labels_BL=labels.masked_fill(labels == 0, IGNORE)).loss
        logits = golden.model(**batch).logits
    assert loss.item() == pytest.approx(-torch.cat(golden.expected(projection)).mean().item(), abs=1e-4)
    assert logits.shape == (*ids.shape, golden.sizes["vocab_size"])


@pytest.mark.parametrize("gate", ["gate1_LH", "gate2_LH"])
def test_each_gate_matters(golden: Golden, gate: str) -> None:
    """Without it the golden losses are missed, so the tests above do watch it."""
    parameter = getattr(golden.model.adapter, gate)
    kept = parameter.detach().clone()
    with torch.no_grad():
        parameter.zero_()
    try:
        prefix, kwargs = golden.prefix("with")
        got = token_loglikelihoods(
            golden.model.llm, prefix=prefix, options_ids=golden.options, model_kwargs=kwargs
        )
    finally:
        with torch.no_grad():
            parameter.copy_(kept)
    assert max((g - e).abs().max() for g, e in zip(got, golden.expected("with"), strict=True)) > 1e-2


def test_layers_are_found_in_order(golden: Golden) -> None:
    assert [layer.layer_idx for layer in attention_layers(golden.model.llm)] == [0, 1, 2]


def test_checkpoints_of_another_kind() -> None:
    with pytest.raises(UserError, match=r"not a TOPA checkpoint: adapter_query.weight is missing"):
        prefix_tensors({"layers.0.attention.gate1": torch.zeros(1, 4, 1, 1)})
    whole = {"adapter_query.weight": torch.zeros(10, 4), "visual_proj.weight": torch.zeros(4, 8)}
    with pytest.raises(UserError, match=r"not a TOPA checkpoint: temporal_emb.weight is missing"):
        prefix_tensors({**whole, "layers.0.attention.gate1": torch.zeros(1, 4, 1, 1)})
