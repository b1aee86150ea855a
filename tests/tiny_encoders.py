"""Tiny random CLIP and SigLIP models, built and saved for tests of encoders."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast, SiglipConfig, SiglipModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

WORDS = ["a", "man", "woman", "dog", "cat", "kettle", "cup", "fills", "pours", "opens", "holds", "the", "in"]
WORDS += ["on", "kitchen", "garden", "red", "blue", "and"]
START, END, PAD, UNKNOWN = 0, 1, 2, 3
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**TEXT, "image_size": 32, "patch_size": 8}
CAPTIONS = ["a dog", "the woman pours a cup in the red kitchen", "a cat and a dog", "a man opens the kettle"]


def tiny_tokenizer(max_tokens: int, *, end_last: bool = False) -> PreTrainedTokenizerFast:
    vocabulary = {word: row for row, word in enumerate(["<s>", "</s>", "<pad>", "<unk>", *WORDS])}
    if end_last:
        vocabulary |= {"</s>": len(vocabulary) - 1, WORDS[-1]: END}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", START), ("</s>", vocabulary["</s>"])]
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_tokens, **special)


def save_tiny_clip(directory: Path, *, seed: int = 0, end_token: int = END) -> Path:
    """A random CLIP of 40,000 parameters, width 24, that reads 12 tokens and 32 × 32 pixels."""
    torch.manual_seed(seed)
    text = {**TEXT, "vocab_size": 4 + len(WORDS), "max_position_embeddings": 12, "bos_token_id": START}
    text |= {"eos_token_id": end_token, "pad_token_id": PAD}
    CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=24)).save_pretrained(
        directory
    )
    tiny_tokenizer(12).save_pretrained(directory)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessorPil(**size).save_pretrained(directory)
    return directory


def save_tiny_siglip(directory: Path) -> Path:
    torch.manual_seed(0)
    text = {**TEXT, "vocab_size": 4 + len(WORDS), "max_position_embeddings": 12, "projection_size": 32}
    SiglipModel(SiglipConfig(text_config=text, vision_config=VISION)).save_pretrained(directory)
    tiny_tokenizer(12).save_pretrained(directory)
    SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(directory)
    return directory
