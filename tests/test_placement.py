"""Models, encoder and memory compute where they are told to, and the answers are those of the CPU."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import accelerator
from placement import SAMPLES, all_on, answers, assert_same, lies_on, tolerance
from tideo.encoders.dual import load_encoder
from tideo.encoders.familiarity import video_familiarity
from tideo.encoders.memory import Memory, project
from tideo.loading import Loading
from tideo.models.load import load_model
from tideo.textvid.reader import Reader
from tideo.types import Answer, Features, Frames, Question, UserError, Video
from videos import encode, picture


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    path = tmp_path_factory.mktemp("videos") / "a.mp4"
    encode(path, num=20)
    return Video(id="a", path=str(path))


def frames(num: int = 4) -> Frames:
    rgb_THWC = np.stack([picture(i, width=64, height=64) for i in range(num)])
    return Frames(rgb_THWC=rgb_THWC, pts_s_T=np.arange(num, dtype=np.float64), video_id="a")


def modules_of(model: Any) -> list[torch.nn.Module]:
    parts = [model, *getattr(model, "models", ())]
    return [m for part in parts for m in vars(part).values() if isinstance(m, torch.nn.Module)]


@cache
def on_cpu(name: str, video: Video) -> tuple[list[Answer], str | None]:
    model = load_model(name, args=["device=cpu"])
    return answers(model, video), model.out_of_distribution(model.look(video))


@pytest.mark.parametrize(
    "name",
    [
        "dollhouse-topa",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("dollhouse-grid", "dollhouse-fusion")),
    ],
)
def test_a_bundled_model_answers_on_the_gpu_as_on_the_cpu(name: str, gpu: str, video: Video) -> None:
    expected, warning = on_cpu(name, video)
    model = load_model(name, args=[f"device={gpu}"])
    assert lies_on(gpu, *modules_of(model))
    with all_on(gpu):
        assert_same(answers(model, video), expected, atol=tolerance(gpu))
    with all_on(gpu):
        ours = model.out_of_distribution(model.look(video))
    assert ours == warning or (ours is not None and warning is not None and gpu.startswith("cuda"))


@pytest.mark.parametrize("name", ["dollhouse-topa", pytest.param("dollhouse-grid", marks=pytest.mark.slow)])
def test_a_gpu_without_float64_suffices(name: str, video: Video) -> None:
    """As that of a Mac."""
    with accelerator.devices(float64=False):
        model = load_model(name, args=["device=standin:0"])
        assert_same(answers(model, video), on_cpu(name, video)[0], atol=1e-3)
        model.out_of_distribution(model.look(video))


@pytest.mark.slow
def test_auto_takes_the_gpu_and_cpu_keeps_off_it(gpu: str, video: Video) -> None:
    assert lies_on(f"{torch.device(gpu).type}:0", *modules_of(load_model("dollhouse-grid")))
    model = load_model("dollhouse-grid", args=["device=cpu"])
    assert lies_on("cpu", *modules_of(model))
    with all_on("cpu"):
        answers(model, video)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [["dtype=bf16"], ["dtype=fp16"], ["attn=eager"], ["attn=sdpa"]])
@pytest.mark.parametrize("name", ["dollhouse-topa", "dollhouse-grid"])
def test_other_precisions_and_attentions(name: str, settings: list[str], gpu: str, video: Video) -> None:
    model = load_model(name, args=[f"device={gpu}", *settings])
    with all_on(gpu):
        ours = answers(model, video)
    half = settings[0].startswith("dtype")
    assert_same(ours, on_cpu(name, video)[0], atol=0.5 if half else tolerance(gpu))


@pytest.mark.gpu
@pytest.mark.parametrize("bits", ["load_4bit=true", "load_8bit=true"])
@pytest.mark.parametrize("name", ["dollhouse-topa", "dollhouse-grid"])
def test_quantised_weights(name: str, bits: str, video: Video) -> None:
    pytest.importorskip("bitsandbytes")
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    model = load_model(name, args=["device=cuda:0", bits])
    for answer in answers(model, video):
        assert answer.error is None
        assert np.isfinite(answer.loglikelihoods).all()
    assert any(
        type(m).__module__.startswith("bitsandbytes") for part in modules_of(model) for m in part.modules()
    )


@pytest.mark.slow
def test_a_video_that_does_not_fit_fails_alone(video: Video) -> None:
    with accelerator.devices() as devices:
        model = load_model("dollhouse-grid", args=["device=standin:1"])
        expected = answers(model, video)
        with (
            accelerator.devices(limit=devices.live[1] + 50_000),
            pytest.raises(UserError, match="GPU's memory"),
        ):
            answers(model, video)
        assert_same(answers(model, video), expected, atol=0.0)


@pytest.mark.gpu
def test_a_gpu_that_is_too_small_says_what_would_fit(video: Video) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info(0)[1]
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(0) + 4e6) / total, 0)
    try:
        with pytest.raises(UserError, match=r"does not fit on cuda:0: its weights take .* are free; set "):
            load_model("dollhouse-grid", args=["device=cuda:0"])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, 0)
    assert not any(a.error for a in answers(load_model("dollhouse-grid", args=["device=cuda:0"]), video))


def test_an_encoder_computes_on_the_gpu(gpu: str) -> None:
    plain, ours = (load_encoder("dollhouse-clip", loading=Loading(device=d)) for d in ("cpu", gpu))
    assert ours.id == plain.id
    with all_on(gpu):
        text_ND, images_TD = (
            ours.encode_text(["a cat", "he pours tea"]),
            ours.encode_images(frames().rgb_THWC),
        )
    np.testing.assert_allclose(
        text_ND, plain.encode_text(["a cat", "he pours tea"]), atol=tolerance(gpu) / 50
    )
    np.testing.assert_allclose(images_TD, plain.encode_images(frames().rgb_THWC), atol=tolerance(gpu) / 50)


@pytest.mark.parametrize("top_k", [None, 5])
def test_a_memory_lies_on_the_gpu_in_half_precision(gpu: str, tmp_path: Path, top_k: int | None) -> None:
    rng = np.random.default_rng(0)
    rows_MD = rng.standard_normal((3000, 32)).astype(np.float32) + 0.7
    rows_MD /= np.linalg.norm(rows_MD, axis=1, keepdims=True)
    plain = Memory(values_MD=torch.from_numpy(rows_MD), encoder="clip")
    plain.save(tmp_path / "memory.safetensors")
    ours = Memory.load(tmp_path / "memory.safetensors", device=gpu)
    assert (str(ours.values_MD.device), ours.values_MD.dtype) == (gpu, torch.float16)
    queries = Features(values_TD=rows_MD[:7], pts_s_T=None, modality="image", encoder="clip")
    with all_on(gpu):
        projected = project(queries, ours, top_k=top_k)
    cosines_T = (projected.values_TD * project(queries, plain, top_k=top_k).values_TD).sum(axis=1)
    assert cosines_T.min() > 1 - 1e-5
    assert video_familiarity(queries, ours) == pytest.approx(video_familiarity(queries, plain), abs=1e-3)


def test_a_reader_reads_on_the_gpu(gpu: str) -> None:
    questions = [
        Question(kind="", question=q, options=options, answer=0, open_answer=options[0])
        for q, options in SAMPLES
        if options
    ]
    plain, ours = (Reader.load("dollhouse-lm", loading=Loading(device=d)) for d in ("cpu", gpu))
    with all_on(gpu):
        scores = ours.scores(["a man pours tea", "he reads"], questions)
    for row, expected in zip(scores, plain.scores(["a man pours tea", "he reads"], questions), strict=True):
        np.testing.assert_allclose(row, expected, atol=tolerance(gpu))
