"""Option log-likelihoods with a shared prefix against the plainest scoring: one sequence at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from tideo.models.likelihood import (
    LONG_PREFIX,
    METHODS,
    context_of,
    option_loglikelihoods,
    token_loglikelihoods,
)
from tideo.models.shared_prefix import question_loglikelihoods
from tideo.types import UserError

VOCABULARY = 96
WIDTH = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": VOCABULARY}
GROUPED = {**WIDTH, "num_key_value_heads": 2, "intermediate_size": 64, "initializer_range": 0.3}
FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**GROUPED, max_position_embeddings=1024)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**GROUPED)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(
            n_embd=32, n_layer=2, n_head=4, vocab_size=VOCABULARY, n_positions=64, initializer_range=0.3
        )
    ),
    "mistral, window 12": lambda: MistralForCausalLM(MistralConfig(**GROUPED, sliding_window=12)),
}
OPTIONS = [
    [5, 6, 7],
    [5],
    [8, 9],
    [5, 6, 7, 7, 8],
    [5, 6],
]  # one token, common starts, one a prefix of another


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(0)
    return FAMILIES[request.param]().eval()


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    torch.manual_seed(0)
    return FAMILIES["llama"]().eval()


@torch.no_grad()
def naive(
    model: PreTrainedModel, prefix: torch.Tensor, options: Sequence[Sequence[int]]
) -> list[torch.Tensor]:
    """Every option alone, no padding, no cache, no mask of ours."""
    results = []
    for ids in options:
        logprobs = model(torch.tensor([[*prefix.tolist(), *ids]]), use_cache=False).logits[0].log_softmax(-1)
        results.append(logprobs[len(prefix) - 1 : -1][torch.arange(len(ids)), torch.tensor(ids)])
    return results


def ids(num: int, *, seed: int = 0) -> torch.Tensor:
    return torch.randint(VOCABULARY, (num,), generator=torch.Generator().manual_seed(seed))


def assert_close(got: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> None:
    assert [len(t) for t in got] == [len(t) for t in expected]
    torch.testing.assert_close(torch.cat(list(got)), torch.cat(list(expected)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("method", [None, *METHODS])
@pytest.mark.parametrize("num_prefix", [1, 7])
def test_every_method_and_family_agrees_with_one_sequence_at_a_time(
    model: PreTrainedModel, method: str | None, num_prefix: int
) -> None:
    prefix = ids(num_prefix)
    got = token_loglikelihoods(model, prefix=prefix, options_ids=OPTIONS, method=method)
    assert_close(got, naive(model, prefix, OPTIONS))


def test_sums_and_counts(llama: PreTrainedModel) -> None:
    tokens = token_loglikelihoods(llama, prefix=ids(7), options_ids=OPTIONS)
    scores = option_loglikelihoods(llama, prefix=ids(7), options_ids=OPTIONS)
    assert scores.counts == (3, 1, 2, 5, 2)
    assert scores.sums == pytest.approx([t.sum().item() for t in tokens], abs=1e-5)
    assert all(
        value < -1 for value in scores.sums
    )  # the random model has opinions, so agreement means something
    assert max(scores.sums) - min(scores.sums) > 1


def test_eager_attention_agrees(llama: PreTrainedModel) -> None:
    expected = naive(llama, ids(9), OPTIONS)
    llama.set_attn_implementation("eager")
    try:
        assert_close(token_loglikelihoods(llama, prefix=ids(9), options_ids=OPTIONS), expected)
    finally:
        llama.set_attn_implementation("sdpa")


@settings(max_examples=25)
@given(
    num_prefix=st.integers(1, 20),
    options=st.lists(
        st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=6), min_size=1, max_size=6
    ),
    method=st.sampled_from(["packed", "cached", "expanded"]),
)
def test_any_lengths(llama: PreTrainedModel, num_prefix: int, options: list[list[int]], method: str) -> None:
    got = token_loglikelihoods(llama, prefix=ids(num_prefix), options_ids=options, method=method)
    assert_close(got, naive(llama, ids(num_prefix), options))


def test_a_long_prefix(llama: PreTrainedModel) -> None:
    prefix = ids(LONG_PREFIX)
    assert_close(
        token_loglikelihoods(llama, prefix=prefix, options_ids=OPTIONS), naive(llama, prefix, OPTIONS)
    )


def test_embeddings_score_as_their_ids(llama: PreTrainedModel) -> None:
    embeds = llama.get_input_embeddings()(ids(7)).detach()
    assert option_loglikelihoods(llama, prefix=embeds, options_ids=OPTIONS) == option_loglikelihoods(
        llama, prefix=ids(7), options_ids=OPTIONS
    )


def test_several_questions_share_one_prefix(model: PreTrainedModel) -> None:
    video = ids(6)
    stems = [ids(n, seed=n) for n in (3, 1, 5)]
    questions = [(stem, OPTIONS[: 2 + i]) for i, stem in enumerate(stems)]
    got = question_loglikelihoods(model, prefix=video, questions=[*questions, *questions])
    for scores, (stem, options) in zip(got, [*questions, *questions], strict=True):
        expected = [t.sum().item() for t in naive(model, torch.cat([video, stem]), options)]
        assert scores.sums == pytest.approx(expected, abs=1e-4)
    assert got[:3] == got[3:]  # the cache is cropped back to the video: nothing of a question stays


def test_a_sliding_window_that_does_not_reach() -> None:
    model = FAMILIES["mistral, window 12"]().eval()
    prefix = ids(20)
    assert_close(
        token_loglikelihoods(model, prefix=prefix, options_ids=OPTIONS), naive(model, prefix, OPTIONS)
    )
    [scores] = question_loglikelihoods(model, prefix=prefix[:8], questions=[(prefix[8:], OPTIONS)])
    assert scores.sums == pytest.approx([t.sum().item() for t in naive(model, prefix, OPTIONS)], abs=1e-4)
    with pytest.raises(UserError, match="25 tokens exceed the sliding window of 12: use method 'full'"):
        option_loglikelihoods(model, prefix=prefix, options_ids=OPTIONS, method="packed")


def test_what_cannot_be_scored(llama: PreTrainedModel) -> None:
    with pytest.raises(UserError, match="option 2 of 2 has no tokens"):
        option_loglikelihoods(llama, prefix=ids(3), options_ids=[[1], []])
    with pytest.raises(UserError, match="nothing to score: 0 prefix tokens, 1 options"):
        option_loglikelihoods(llama, prefix=ids(0), options_ids=[[1]])
    with pytest.raises(UserError, match="nothing to score: 3 prefix tokens, 0 options"):
        option_loglikelihoods(llama, prefix=ids(3), options_ids=[])
    with pytest.raises(UserError, match="1025 tokens exceed the model's context of 1024"):
        option_loglikelihoods(llama, prefix=ids(1023), options_ids=[[1, 2]])
    with pytest.raises(UserError, match="method 'packt' is unknown; expected one of packed, cached"):
        option_loglikelihoods(llama, prefix=ids(3), options_ids=[[1]], method="packt")


@pytest.mark.parametrize(
    ("rope", "expected"),
    [
        (None, 4096),
        ({"rope_type": "linear", "factor": 4.0}, 16_384),  # as Vicuna 16k
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}, 16_384),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}, 4096),
        (
            {
                "rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 512,
                "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            },
            4096,
        ),
    ],
)  # fmt: skip
def test_scaled_positions_reach_further(rope: dict[str, Any] | None, expected: int) -> None:
    assert context_of(LlamaConfig(max_position_embeddings=4096, rope_scaling=rope)) == expected


def test_a_context_that_the_config_does_not_scale_or_say() -> None:
    assert context_of(Gemma3TextConfig(max_position_embeddings=8192)) == 8192
    assert context_of(MambaConfig()) == math.inf
