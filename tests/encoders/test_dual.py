"""Dual encoders, on tiny CLIP and SigLIP models that are built, saved and loaded."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CLIPModel, SiglipModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from tideo.encoders.dual import DualEncoder, load_encoder
from tideo.loading import Loading
from tideo.types import UserError
from tiny_encoders import (
    CAPTIONS,
    WORDS,
    save_tiny_clip,
    save_tiny_siglip,
    tiny_tokenizer,
)


@pytest.fixture(scope="module")
def clip_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def siglip_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_siglip(tmp_path_factory.mktemp("siglip"))


@pytest.fixture(scope="module")
def clip(clip_dir: Path) -> DualEncoder:
    return load_encoder(str(clip_dir))


@pytest.fixture(scope="module")
def siglip(siglip_dir: Path) -> DualEncoder:
    return load_encoder(str(siglip_dir))


def images(num: int, *, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num, height, width, 3), dtype=np.uint8)


def unit(vectors: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(vectors, dim=-1).detach().numpy()


def assert_unit_rows(values: np.ndarray, shape: tuple[int, int]) -> None:
    assert values.dtype == np.float32
    assert values.shape == shape
    np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, atol=1e-6)


def test_clip_gives_what_the_model_gives_one_text_at_a_time(clip_dir: Path, clip: DualEncoder) -> None:
    model, tokenizer = CLIPModel.from_pretrained(clip_dir).eval(), tiny_tokenizer(12)
    values = clip.encode_text(CAPTIONS, tokens_per_batch=24)
    assert_unit_rows(values, (4, 24))
    for caption, row in zip(CAPTIONS, values, strict=True):
        output = model.get_text_features(**tokenizer(caption, return_tensors="pt"))
        np.testing.assert_allclose(row, unit(output.pooler_output)[0], atol=1e-6)
    assert np.abs(values[0] - values[1]).max() > 1e-3, "different texts, different vectors"


def test_siglip_reads_texts_padded_to_the_full_length(siglip_dir: Path, siglip: DualEncoder) -> None:
    model, tokenizer = SiglipModel.from_pretrained(siglip_dir).eval(), tiny_tokenizer(12)
    values = siglip.encode_text(CAPTIONS)
    assert_unit_rows(values, (4, 32))
    ids = tokenizer(CAPTIONS, padding="max_length", max_length=12, return_tensors="pt")["input_ids"]
    np.testing.assert_allclose(values, unit(model.get_text_features(input_ids=ids).pooler_output), atol=1e-6)


def test_images_are_prepared_as_by_the_model_s_own_processor(clip_dir: Path, clip: DualEncoder) -> None:
    rgb_THWC = images(5)
    processor = CLIPImageProcessorPil.from_pretrained(clip_dir)
    from PIL import Image

    pixels = processor([Image.fromarray(image) for image in rgb_THWC], return_tensors="pt")["pixel_values"]
    expected = unit(CLIPModel.from_pretrained(clip_dir).eval().get_image_features(pixels).pooler_output)
    values = clip.encode_images(rgb_THWC, images_per_batch=2)
    assert_unit_rows(values, (5, 24))
    np.testing.assert_allclose(values, expected, atol=1e-6)


def test_siglip_images(siglip_dir: Path, siglip: DualEncoder) -> None:
    rgb_THWC = images(2)
    processor = SiglipImageProcessorPil.from_pretrained(siglip_dir)
    pixels = processor(list(rgb_THWC), return_tensors="pt")["pixel_values"]
    expected = unit(SiglipModel.from_pretrained(siglip_dir).eval().get_image_features(pixels).pooler_output)
    np.testing.assert_allclose(siglip.encode_images(rgb_THWC), expected, atol=1e-6)


def test_images_of_several_sizes_and_an_image_3_pixels_high(clip: DualEncoder) -> None:
    flat, wide = images(1, height=3, width=40)[0], images(1, height=20, width=90)[0]
    values = clip.encode_images([flat, wide])
    assert_unit_rows(values, (2, 24))
    np.testing.assert_allclose(values[1], clip.encode_images(wide[None])[0], atol=1e-6)
    turned = clip.encode_images(flat.transpose(1, 0, 2)[None])
    assert np.abs(values[0] - turned[0]).max() > 1e-3, "3 rows were taken for 3 colours"


def test_nothing_gives_no_rows(clip: DualEncoder) -> None:
    assert clip.encode_text([]).shape == (0, 24)
    assert clip.encode_images(images(0)).shape == (0, 24)


@pytest.mark.parametrize("tokens_per_batch", [1, 20, 10_000])
def test_batches_change_nothing(clip: DualEncoder, tokens_per_batch: int) -> None:
    texts = [" ".join(WORDS[:n]) for n in (7, 1, 10, 3, 3, 9, 2)]
    one_by_one = np.concatenate([clip.encode_text([text]) for text in texts])
    np.testing.assert_allclose(
        clip.encode_text(texts, tokens_per_batch=tokens_per_batch), one_by_one, atol=1e-6
    )


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_long_texts_are_cut_counted_and_reported(kind: str, request: pytest.FixtureRequest) -> None:
    encoder: DualEncoder = load_encoder(str(request.getfixturevalue(f"{kind}_dir")))
    long = ["the dog " * 9, "a cat " * 20]
    with pytest.warns(UserWarning, match=r"2 of 3 texts are longer than the 12 tokens .*the longest has 42"):
        values = encoder.encode_text([*long, "a dog"])
    assert encoder.num_truncated == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cut = encoder.encode_text(["the dog " * 5, "a cat " * 5, "a dog"])  # 10 words, start and end
    np.testing.assert_allclose(values, cut, atol=1e-6)
    assert encoder.num_truncated == 2


def test_bfloat16_is_near_float32(clip_dir: Path, clip: DualEncoder) -> None:
    half = load_encoder(str(clip_dir), loading=Loading(dtype="bf16"))
    assert half.id == clip.id
    assert_unit_rows(half.encode_text(CAPTIONS), (4, 24))
    assert (half.encode_text(CAPTIONS) * clip.encode_text(CAPTIONS)).sum(axis=1).min() > 0.999
    assert (half.encode_images(images(2)) * clip.encode_images(images(2))).sum(axis=1).min() > 0.999


def test_the_id_follows_the_content_not_the_place(clip_dir: Path, clip: DualEncoder, tmp_path: Path) -> None:
    copy = shutil.copytree(clip_dir, tmp_path / "copy")
    assert load_encoder(str(copy)).id == clip.id
    assert clip.id.startswith("clip-24-")
    preprocessing = json.loads((copy / "preprocessor_config.json").read_text())
    preprocessing["image_mean"] = [0.5, 0.5, 0.5]
    (copy / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    assert load_encoder(str(copy)).id != clip.id
    assert load_encoder(str(save_tiny_clip(tmp_path / "other", seed=1))).id != clip.id


def test_an_end_token_that_the_model_does_not_look_for_is_an_error(tmp_path: Path) -> None:
    wrong = save_tiny_clip(tmp_path, end_token=9)
    with pytest.raises(UserError, match=r"ends a text with token 1, the text model looks for token 9"):
        load_encoder(str(wrong))


def test_an_old_configuration_s_end_token_2_needs_the_largest_id(tmp_path: Path) -> None:
    wrong = save_tiny_clip(tmp_path, end_token=2)
    with pytest.raises(UserError, match=r"ends a text with token 1, the text model looks for token 4"):
        load_encoder(str(wrong))


def test_an_old_configuration_s_end_token_2_finds_the_largest_id(tmp_path: Path) -> None:
    """As in openai/clip-vit-large-patch14, whose end token is the last of the vocabulary."""
    save_tiny_clip(tmp_path, end_token=2)
    tiny_tokenizer(12, end_last=True).save_pretrained(tmp_path)
    encoder, model = load_encoder(str(tmp_path)), CLIPModel.from_pretrained(tmp_path).eval()
    ids = tiny_tokenizer(12, end_last=True)(CAPTIONS[1], return_tensors="pt")["input_ids"]
    expected = unit(model.get_text_features(ids).pooler_output)
    np.testing.assert_allclose(encoder.encode_text(CAPTIONS)[1:2], expected, atol=1e-6)


def test_missing_weights_are_an_error(clip_dir: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(clip_dir, tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 of its weights, the first text_projection.weight"):
        load_encoder(str(copy))


def test_siglip_without_a_padding_token_is_an_error(siglip_dir: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(siglip_dir, tmp_path / "copy")
    tokenizer = tiny_tokenizer(12)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(copy)
    with pytest.raises(UserError, match="the tokenizer has no padding token"):
        load_encoder(str(copy))


def test_a_model_that_is_no_dual_encoder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UserError, match=r"is a gpt2 model, not a dual encoder: clip, siglip"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize("name", ["no/such-model", "no such directory", "./nothing/here"])
def test_a_name_that_cannot_be_loaded_is_an_error_in_one_line(name: str) -> None:
    with pytest.raises(UserError, match=f"cannot load the dual encoder {name}: ") as caught:
        load_encoder(name)
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_refused(clip_dir: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(clip_dir, tmp_path / "copy")
    torch.save(CLIPModel.from_pretrained(copy).state_dict(), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"cannot load the dual encoder .*safetensors"):
        load_encoder(str(copy))


@pytest.mark.parametrize("setting", [{"load_4bit": True}, {"attn": "sdpa"}, {"device_map": "auto"}])
def test_an_encoder_takes_device_and_dtype_alone(setting: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="it takes device and dtype alone; leave the other settings out"):
        load_encoder("anything", loading=Loading(**setting))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), r"not float32 \[4, 4, 3\]"),
        (np.zeros((4, 4), np.uint8), r"not uint8 \[4, 4\]"),
        (np.zeros((4, 4, 4), np.uint8), r"not uint8 \[4, 4, 4\]"),
        (np.zeros((0, 4, 3), np.uint8), r"not uint8 \[0, 4, 3\]"),
    ],
)
def test_what_is_no_image_is_an_error(clip: DualEncoder, image: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        clip.encode_images([image])


def test_open_clip_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"pip install 'tideo\[open_clip\]'"):
        load_encoder("open_clip:ViT-B-32/openai")


TINY_OPEN_CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def test_open_clip(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip")
    from PIL import Image
    from safetensors.torch import save_file

    (tmp_path / "tiny-test.json").write_text(json.dumps(TINY_OPEN_CLIP))
    open_clip.add_model_config(tmp_path / "tiny-test.json")
    torch.manual_seed(0)
    model, _, transform = open_clip.create_model_and_transforms("tiny-test")
    model.eval()
    save_file(model.state_dict(), tmp_path / "tiny.safetensors")

    encoder = load_encoder(f"open_clip:tiny-test/{tmp_path / 'tiny.safetensors'}")
    tokens = open_clip.get_tokenizer("tiny-test")(CAPTIONS)
    np.testing.assert_allclose(encoder.encode_text(CAPTIONS), unit(model.encode_text(tokens)), atol=1e-6)
    pixels = torch.stack([transform(Image.fromarray(image)) for image in images(3)])
    np.testing.assert_allclose(encoder.encode_images(images(3)), unit(model.encode_image(pixels)), atol=1e-6)
    with pytest.warns(UserWarning, match="1 of 2 texts are longer than the 12 tokens .*the longest has 42"):
        encoder.encode_text(["dog " * 40, "dog " * 10])
    with pytest.raises(UserError, match="names no weights"):
        load_encoder("open_clip:tiny-test")
    with pytest.raises(UserError, match="cannot load the dual encoder open_clip:no-such-arch"):
        load_encoder("open_clip:no-such-arch/openai")
