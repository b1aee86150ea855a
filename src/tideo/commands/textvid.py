"""`tideo textvid generate`, `textvid check`: textual videos are written and checked."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Annotated

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
