"""The shapes of published checkpoints, so that a plan of their training needs no download.

No config.json could be read; these are what agrees with it:
- the numbers of parameters that others count in the weights (tests/train/test_shapes.py), but for LLaVA-1.6 and
  LLaVA-OneVision, which follow transformers' conversions (convert_llava_next_weights_to_hf.py and
  convert_llava_onevision_weights_to_hf.py): two more tokens, the vocabulary filled up to a multiple of 64, and of
  OneVision's SigLIP all layers but the last;
- the papers: CLIP (arXiv 2103.00020), SigLIP 2 (2502.14786), Llama 2 (2307.09288), Llama 3 and 3.1 (2407.21783), Yi
  under LLaVA-1.6-34B (2403.04652), Qwen2 under OneVision (2407.10671), Qwen3 (2505.09388), SmolVLM2 (2504.05299);
- config.json as public repositories repeat it: SmolVLM2-500M, Qwen3-8B (40,960 positions) and Qwen3-VL-4B (262,144
  positions; of the tower of 8B, transformers' Qwen3VLVisionConfig has the defaults).
"""

from __future__ import annotations

from typing import Any

_CLIP_L_336 = {
    "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "image_size": 336, "patch_size": 14, "projection_dim": 768, "vocab_size": 32000,
}  # fmt: skip
_LLAMA_7B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096,
}  # fmt: skip
_LLAMA_13B = {
    "model_type": "llama", "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40,
    "num_attention_heads": 40, "num_key_value_heads": 40, "vocab_size": 32000, "max_position_embeddings": 4096,
}  # fmt: skip
_LLAMA_3_8B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
}  # fmt: skip
_QWEN3_8B = {
    "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 151936,
}  # fmt: skip
_SIGLIP = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16, "image_size": 384, "patch_size": 14,
}  # fmt: skip
# What a plan needs of their config.json.
SHAPES: dict[str, dict[str, Any]] = {
    "openai/clip-vit-large-patch14": {
        "model_type": "clip", "projection_dim": 768, "vision_config": _CLIP_L_336 | {"image_size": 224},
        "text_config": {
            "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        },
    },
    "meta-llama/Llama-2-7b-hf": _LLAMA_7B,
    "meta-llama/Llama-2-13b-hf": _LLAMA_13B,
    "meta-llama/Meta-Llama-3-8B": {**_LLAMA_3_8B, "max_position_embeddings": 8192},
    "llava-hf/llava-1.5-7b-hf": {
        "model_type": "llava", "vision_config": _CLIP_L_336, "image_token_index": 32000, "vision_feature_layer": -2,
        "text_config": _LLAMA_7B | {"vocab_size": 32064},
    },
    "llava-hf/llava-1.5-13b-hf": {
        "model_type": "llava", "vision_config": _CLIP_L_336, "image_token_index": 32000, "vision_feature_layer": -2,
        "text_config": _LLAMA_13B | {"vocab_size": 32064},
    },
    "llava-hf/llava-v1.6-34b-hf": {
        "model_type": "llava_next", "vision_config": _CLIP_L_336, "image_token_index": 64000,
        "vision_feature_layer": -2,
        "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
        "text_config": {
            "model_type": "llama", "hidden_size": 7168, "intermediate_size": 20480, "num_hidden_layers": 60,
            "num_attention_heads": 56, "num_key_value_heads": 8, "vocab_size": 64064, "max_position_embeddings": 4096,
        },
    },
    "meta-llama/Llama-3.1-8B": {**_LLAMA_3_8B, "max_position_embeddings": 131072},
    "Qwen/Qwen3-0.6B": {
        "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
        "tie_word_embeddings": True, "max_position_embeddings": 40960,
    },
    "Qwen/Qwen3-8B": {"model_type": "qwen3", "head_dim": 128, "max_position_embeddings": 40960, **_QWEN3_8B},
    "google/siglip2-so400m-patch14-384": {
        "model_type": "siglip", "vision_config": _SIGLIP | {"num_hidden_layers": 27},
        "text_config": {
            "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
            "vocab_size": 256000, "projection_size": 1152,
        },
    },
    "HuggingFaceTB/SmolVLM2-500M-Video-Instruct": {
        "model_type": "smolvlm", "image_token_id": 49190, "scale_factor": 4,
        "vision_config": {
            "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
            "image_size": 512, "patch_size": 16,
        },
        "text_config": {
            "model_type": "llama", "hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32,
            "num_attention_heads": 15, "num_key_value_heads": 5, "vocab_size": 49280, "max_position_embeddings": 8192,
        },
    },
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": {
        "model_type": "llava_onevision",
        "vision_config": _SIGLIP | {
            "model_type": "siglip_vision_model", "num_hidden_layers": 26, "vision_use_head": False,
        },
        "text_config": {
            "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
            "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152128,
            "max_position_embeddings": 32768,
        },
    },
    "Qwen/Qwen3-VL-8B-Instruct": {
        "model_type": "qwen3_vl",
        "vision_config": {
            "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "patch_size": 16,
            "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 4096,
            "num_position_embeddings": 2304, "deepstack_visual_indexes": [8, 16, 24],
        },
        "text_config": {"head_dim": 128, "max_position_embeddings": 262144, **_QWEN3_8B},
    },
}  # fmt: skip
