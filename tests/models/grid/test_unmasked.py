"""Image-text models whose attention takes no mask, or slides over few tokens, score as with plain attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AttentionInterface, AttentionMaskInterface, MistralConfig, MistralForCausalLM
from transformers.masking_utils import flash_attention_mask

from tideo.models.grid.chat import ImageChat
from tideo.models.packed import prefilled
from tideo.models.shared_prefix import cached_loglikelihoods
from tiny_vlms import made

QUESTIONS = [
    ("what is the man doing?", ("washing dishes", "reading", "a")),
    ("why does he pour tea?", ("to read a book", "tea")),
]


def flash(module: Any, q: Any, k: Any, v: Any, attention_mask: Any, scaling: float, **_: Any) -> Any:
    """As flash attention: no mask, and the queries are the last of the keys."""
    assert attention_mask is None
    groups = q.shape[1] // k.shape[1]
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2])
    keys, values = (x.repeat_interleave(groups, dim=1) for x in (k, v))
    out = torch.nn.functional.scaled_dot_product_attention(q, keys, values, attn_mask=mask, scale=scaling)
    return out.transpose(1, 2).contiguous(), None


@pytest.mark.parametrize("family", ["llava", "idefics3", "qwen2_vl"])
def test_flash_attention_scores_as_plain_attention(family: str) -> None:
    AttentionInterface.register("flash_of_a_test", flash)
    AttentionMaskInterface.register("flash_of_a_test", flash_attention_mask)
    model, processor = made(family)
    chat = ImageChat(model, processor=processor, name=family)
    rgb_HWC = np.random.default_rng(0).integers(0, 255, (56, 56, 3), dtype=np.uint8)
    asked = [([Image.fromarray(rgb_HWC)], QUESTIONS), ([], QUESTIONS[:1])]
    expected = chat.loglikelihoods(asked)
    model.set_attn_implementation({"text_config": "flash_of_a_test"})
    try:
        assert chat.alone == "flash_of_a_test takes no mask"
        found = chat.loglikelihoods(asked, at_once=2)
    finally:
        model.set_attn_implementation("sdpa")
    for ours, plain in zip(found, expected, strict=True):
        for one, other in zip(ours, plain, strict=True):
            assert one.counts == other.counts
            assert one.sums == pytest.approx(other.sums, abs=1e-4)


def test_a_cache_that_is_longer_than_a_sliding_window() -> None:
    config = MistralConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, vocab_size=96,
        intermediate_size=64, initializer_range=0.3, sliding_window=6,
    )  # fmt: skip
    torch.manual_seed(0)
    model = MistralForCausalLM(config).eval()
    prefixes = [torch.randint(96, (length,)) for length in (20, 9)]
    stem, options = torch.tensor([3, 4]), [[5, 6, 7], [8], [9, 5]]
    with torch.inference_mode():
        embeds = [model.get_input_embeddings()(prefix) for prefix in prefixes]
        found = cached_loglikelihoods(
            model,
            cache=prefilled(model, embeds, {}),
            num_cached=[20, 9],
            asked=[[(stem, options)]] * 2,
            at_once=2,
        )
        for prefix, (scores,) in zip(prefixes, found, strict=True):
            for ids, score in zip(options, scores.sums, strict=True):
                whole = torch.tensor([[*prefix.tolist(), *stem.tolist(), *ids]])
                logprobs_LV = model(whole, use_cache=False).logits[0].log_softmax(-1)
                start = len(prefix) + len(stem) - 1
                expected = sum(logprobs_LV[start + i, token].item() for i, token in enumerate(ids))
                assert score == pytest.approx(expected, abs=1e-4)
