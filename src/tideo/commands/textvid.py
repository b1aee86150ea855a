"""`tideo textvid generate`, `textvid check`, `encode`: textual videos are written, checked and encoded."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from tideo import registry
from tideo.bundled import located
from tideo.commands.options import (
    EncodeGpus,
    EncoderArgs,
    Out,
    Ray,
    cluster_of,
    finish,
    loading_of,
    pairs,
    results_alone,
)
from tideo.store.remote import check_url, is_url
from tideo.types import Sample, UserError

ENCODER, READER = "dollhouse-clip", "dollhouse-lm"


def generate(
    llm: Annotated[
        str, typer.Option(metavar="openai:NAME@URL|vllm:MODEL", help="The language model that writes.")
    ],
    num: Annotated[int, typer.Option(min=1, help="How many Tideos.")],
    out: Out,
    conditions: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="A file with a title, caption or scene a line. By default the pack's own.",
        ),
    ] = None,
    pack: Annotated[str, typer.Option(metavar="NAME|FILE", help="The prompts of a domain.")] = "everyday",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    llm_args: Annotated[
        str,
        typer.Option(
            metavar="KEY=VALUE,...",
            help="Such as concurrency=32,cap=5 or price_in=0.1 and temperature=1 or use_schema=false.",
        ),
    ] = "",
    retry_rejected: Annotated[
        bool, typer.Option("--retry-rejected", help="Try again what was rejected before.")
    ] = False,
) -> None:
    """Write Tideos with a language model. Continues where it stopped."""
    from tideo.config import override, split_settings
    from tideo.llms.load import load_language_model
    from tideo.textvid.generate import generate as write
    from tideo.textvid.packs import load_pack, read_conditions
    from tideo.textvid.writer import WriterSettings

    of_writer, of_model = split_settings(pairs(llm_args), WriterSettings)
    settings = override(WriterSettings(), of_writer, option="--llm-args")
    read_conditions(conditions, load_pack(pack))  # before a model, which may take minutes to load
    with results_alone():
        result = write(
            load_language_model(llm, of_model), num=num, out=out, conditions=conditions, pack=pack, seed=seed,
            settings=settings, retry_rejected=retry_rejected,
        )  # fmt: skip
    if result.accepted == 0:
        raise UserError(f"none of {result.num} Tideos was accepted; {out / 'rejected.jsonl'} has the reasons")
    usage = f"{result.accepted} Tideos in {out}: {result.requests} requests, {result.tokens} tokens"
    print(usage, file=sys.stderr)
    if result.cost:
        thousand = 1000 * result.cost / result.accepted
        cost = f"{result.cost:.4f} spent at these prices, {thousand:.4f} for a thousand Tideos"
        print(cost, file=sys.stderr)
    print(out)
    finish(result.rejected, result.num, "Tideos")


def check(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A folder or file of Tideos, or the questions of a BENCHMARK=FILE."
        ),
    ],
    out: Out,
    encoder: Annotated[str, typer.Option(metavar="E", help="The dual encoder of the captions.")] = ENCODER,
    reader: Annotated[
        str, typer.Option(metavar="LM", help="The language model that answers from the frames, or none.")
    ] = READER,
    encoder_args: EncoderArgs = "",
    reader_args: Annotated[
        str, typer.Option(metavar="KEY=VALUE,...", help="How the language model is loaded, as in dtype=bf16.")
    ] = "",
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BENCHMARK=FILE", help="A benchmark whose questions to look for; may be repeated."
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--filter", help="Write the Tideos without fault to OUT/kept.")
    ] = False,
    ray: Ray = None,
    encode_gpus: EncodeGpus = None,
) -> None:
    """Check Tideos: faults, detail, diversity, balance, leakage, overlap."""
    of_encoder = loading_of(encoder_args, option="--encoder-args")
    of_reader = loading_of(reader_args, option="--reader-args")
    if reader == "none" and reader_args:
        raise UserError("--reader-args is of the language model, and --reader none has none: leave it out")
    cluster = cluster_of(ray, encode_gpus=encode_gpus)
    others = {name: [t.question for t in samples] for name, samples in map(_benchmark, against or ())}
    name, equals, data = source.partition("=")
    of_questions = bool(equals) and name in registry.targets("benchmarks")
    if of_questions and encoder_args:
        raise UserError("--encoder-args is for captions, and a BENCHMARK=FILE has none: leave it out")
    if of_questions and keep:
        raise UserError("--filter writes Tideos, and a BENCHMARK=FILE has none: leave it out")
    if of_questions and cluster:
        raise UserError("--ray encodes captions, and a BENCHMARK=FILE has none: leave it out")
    if not Path(data if of_questions else source).exists():
        raise UserError(f"{source}: there is no such file or folder of Tideos; or give BENCHMARK=FILE")
    for model in (encoder, *(() if reader == "none" else (reader,))):
        located(model)
    from tideo.textvid.page import rows
    from tideo.textvid.reader import Reader
    from tideo.textvid.vocabulary import check_vocabulary

    scorer = None if reader == "none" else Reader.load(reader, loading=of_reader)
    if of_questions:
        from tideo.textvid.check import check_questions, write
        from tideo.types import Question, Tideo

        _, samples = _benchmark(source)
        tideos = [
            Tideo(
                id=s.id, frames=(), summary="",
                questions=(Question(question=s.question, options=s.options, answer=s.answer),),
            )
            for s in samples
        ]  # fmt: skip
        check_vocabulary(reader, [s.question for s in samples])
        checked = check_questions(tideos, source=source, reader=scorer, against=others)
        write(checked, out)
    else:
        from tideo.encoders.dual import load_encoder
        from tideo.textvid.check import check as check_tideos

        for model in (encoder, reader):
            check_vocabulary(model, _some_captions(source))
        checked = check_tideos(
            source, out=out, encoder=load_encoder(encoder, loading=of_encoder), reader=scorer, against=others,
            keep=keep, loading=of_encoder, cluster=cluster,
        )  # fmt: skip
    section = ""
    for group, name, value in rows(checked):
        print(f"{group if group != section else '':10} {name:32} {value}")
        section = group
    print(out / "check.html")


def encode(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A file or folder of Tideos; videos: a folder, a list, a Parquet table, a URL, or those of a "
            "BENCHMARK=FILE.",
        ),
    ],
    encoder: Annotated[
        str, typer.Option(metavar="E", help="A folder, a Hugging Face id, or open_clip:ARCH/PRETRAINED.")
    ],
    out: Out,
    num_frames: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many frames of each.")] = 10,
    sampler: Annotated[
        str | None, typer.Option(metavar="NAME", help="For videos; see tideo list samplers; without, middle.")
    ] = None,
    videos: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="With BENCHMARK=FILE: the folder of its videos."),
    ] = None,
    encoder_args: EncoderArgs = "",
    ray: Ray = None,
    decode_cpus: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="With --ray: the most CPUs that decode videos.")
    ] = None,
    encode_gpus: EncodeGpus = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what lies in OUT/dead-letters.jsonl.")
    ] = False,
) -> None:
    """Turn Tideos or videos into features. Continues where it stopped."""
    loading = loading_of(encoder_args, option="--encoder-args")
    registry.check("samplers", sampler or "middle")
    cluster = cluster_of(ray, decode_cpus, encode_gpus)
    located(encoder)
    path, (name, equals, data) = Path(source), source.partition("=")
    of_benchmark = bool(equals) and name in registry.targets("benchmarks")
    if of_benchmark != (videos is not None):
        raise UserError(
            "--videos goes with the videos of a benchmark: give both, as in nextqa=val.csv --videos DIR"
        )
    if is_url(source):
        check_url(source)
    elif not Path(data if of_benchmark else source).exists():
        raise UserError(f"{source}: there is no such file or folder, or no BENCHMARK of that name")
    from tideo.encoders.commits import LETTERS_FILE
    from tideo.encoders.encode import encode_tideos, encode_videos
    from tideo.encoders.lists import is_list, videos_at
    from tideo.encoders.sources import segments_of
    from tideo.store.video_files import is_text
    from tideo.textvid.schema import SHARDS, load, to_tideo

    how: dict[str, Any] = {
        "encoder": encoder, "loading": loading, "out": out, "num_frames": num_frames, "cluster": cluster,
        "retry_failed": retry_failed,
    }  # fmt: skip
    if of_benchmark or is_url(source) or is_list(source):
        of_tideos = False
    else:
        of_tideos = is_text(path) if path.is_file() else any(path.glob(SHARDS))
    if of_tideos:
        for option, value in (("--sampler", sampler), ("--decode-cpus", decode_cpus)):
            if value is not None:
                raise UserError(f"{option} is for the frames of videos, and a Tideo has none: leave it out")
        tideos = [to_tideo(record) for record in load(path)]
        result = encode_tideos(tideos, **how)
    else:
        chosen = (
            segments_of(registry.load("benchmarks", name)(data, videos=videos))
            if of_benchmark
            else videos_at(source)
        )
        result = encode_videos(chosen, sampler=sampler or "middle", **how)
    for item_id, reason in result.failed.items():
        print(f"{item_id}: {reason}", file=sys.stderr)
    num = result.num - len(result.failed)
    print(f"{num} items in {out}, {result.encoded} of them encoded now", file=sys.stderr)
    if result.failed:
        print(f"{out / LETTERS_FILE} lists the others; --retry-failed tries them again", file=sys.stderr)
    print(out)
    finish(len(result.failed), result.num, "items")


def _some_captions(source: str) -> list[str]:
    """The captions of up to a hundred Tideos that can be read."""
    from tideo.textvid.schema import Record, load_each

    records = (record for _, record in load_each(source) if isinstance(record, Record))
    return [text for record in islice(records, 100) for frame in record.frames for text in frame.values()]


def _benchmark(argument: str) -> tuple[str, list[Sample]]:
    """The name and the samples of NAME=FILE."""
    name, equals, path = argument.partition("=")
    if not equals:
        raise UserError(f"{argument}: expected BENCHMARK=FILE, as in nextqa=val.csv")
    samples = registry.load("benchmarks", name)(path, videos=Path(path).parent)
    if not any(sample.question for sample in samples):
        raise UserError(f"{name} has videos to be described, no questions: give a benchmark of questions")
    return name, samples
