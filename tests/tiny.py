"""A whole random model directory, in the sizes of a test: CLIP, Llama, PrefixLM, memory, settings."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from filelock import FileLock
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tideo.dollhouse.captions import episode_tideo
from tideo.dollhouse.export import make
from tideo.dollhouse.script import sample_episode
from tideo.encoders.dual import load_encoder
from tideo.encoders.familiarity import calibrated
from tideo.encoders.features import caption_memory, tideo_features
from tideo.models.topa.checkpoint import PrefixLMConfig, load_llm
from tideo.models.topa.prefix_lm import PrefixLM
from tideo.models.topa.settings import Settings

DIM = 16
SHORT_SEED = 61  # test episodes 0 and 1 of 125 and 249 frames


def byte_tokenizer(*, closed: bool) -> PreTrainedTokenizerFast:
    """A token a byte; `closed` puts the end token behind a text, as CLIP needs it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate(["<pad>", "<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if closed else "<s> $A", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=1024,
    )


def save_clip(directory: Path) -> Path:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    # An end token other than 2: with 2, an old configuration's, CLIPModel looks for the largest id instead.
    text = {**sizes, "vocab_size": 260, "max_position_embeddings": 128, "bos_token_id": 1, "pad_token_id": 0}
    config = CLIPConfig(
        text_config={**text, "eos_token_id": 259},
        vision_config={**sizes, "image_size": 32, "patch_size": 16},
        projection_dim=DIM,
    )
    CLIPModel(config).save_pretrained(directory)
    tokenizer = byte_tokenizer(closed=True)
    tokenizer.add_special_tokens({"eos_token": "<end>"})
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A <end>", special_tokens=[("<s>", 1), ("<end>", 259)]
    )
    tokenizer.save_pretrained(directory)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        directory
    )
    return directory


def save_llm(directory: Path, *, max_tokens: int = 1024) -> Path:
    torch.manual_seed(1)
    config = LlamaConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        vocab_size=260,
        max_position_embeddings=max_tokens,
        initializer_range=0.3,  # so that answers differ
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    byte_tokenizer(closed=False).save_pretrained(directory)
    return directory


def save_model(folder: Path, *, max_tokens: int = 1024, percentile: float = 0.0) -> Path:
    """`folder`/topa, beside clip and llm. Untrained: it answers by chance, but always alike."""
    save_clip(folder / "clip")
    save_llm(folder / "llm", max_tokens=max_tokens)
    encoder = load_encoder(str(folder / "clip"))
    tideos = [episode_tideo(sample_episode("train", i), random.Random(i)) for i in range(4)]
    memory = calibrated(
        caption_memory(tideos, encoder, dtype="float32"),
        list(tideo_features(tideos, encoder)),
        percentile=percentile,
    )
    config = PrefixLMConfig(
        llm="../llm",
        encoder=encoder.id,
        feature_dim=DIM,
        adapter="none",
        prompt_style="plain",
        pad_frames="spread",
    )
    llm, tokenizer = load_llm(str(folder / "llm"))
    torch.manual_seed(2)
    directory = folder / "topa"
    PrefixLM(config, llm=llm, tokenizer=tokenizer).save_pretrained(directory)
    memory.save(directory / "memory.safetensors")
    Settings(encoder="../clip").save(directory)
    return directory


@cache
def model_in(folder: Path) -> Path:
    """`save_model` once for all tests of a session; `folder` is its temporary one. Tests read it only."""
    return _once(folder, "tiny", save_model) / "topa"


@cache
def videos_in(folder: Path) -> Path:
    """Two exported and rendered test episodes, of a seed that makes them short; for all tests, which read them only."""
    return _once(folder, "exported", lambda out: make(split="test", num=2, seed=SHORT_SEED, out=out))


def _once(folder: Path, name: str, write: Callable[[Path], object]) -> Path:
    """FOLDER/NAME, written by the first of the processes of pytest-xdist that needs it."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # the base folder of a process lies in that of the session
    with FileLock(folder / f"{name}.lock"):
        if not (folder / f"{name}.done").exists():
            write(folder / name)
            (folder / f"{name}.done").touch()
    return folder / name
