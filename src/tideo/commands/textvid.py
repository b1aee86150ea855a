"""`tideo textvid generate`, `textvid check`, `encode`: textual videos are written, judged and made features of."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from tideo.commands.options import Out, finish
from tideo.llms.load import _language_model, _parted
from tideo.registry import load, targets
from tideo.types import Sample, UserError

ENCODER, READER = "dollhouse-clip", "dollhouse-lm"


def generate(
    llm: Annotated[str, typer.Option(metavar="openai:NAME@URL|vllm:MODEL", help="Who writes.", show_default=False)],
    num: Annotated[int, typer.Option(min=1, help="How many Tideos.", show_default=False)],
    out: Out,
    conditions: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="A title, caption or scene a line; without, the pack's.",
            show_default=False,
        ),
    ] = None,
    pack: Annotated[str, typer.Option(metavar="NAME|FILE", help="The prompts of a domain.")] = "everyday",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    llm_args: Annotated[
        str,
        typer.Option(
            metavar="KEY=VALUE,...",
            help="concurrency=32,cap=5,price_in=0.1,price_out=0.4,temperature=1,use_schema=false, …",
            show_default=False,
        ),
    ] = "",
    retry_rejected: Annotated[
        bool, typer.Option("--retry-rejected", help="Ask again for what came to nothing before.")
    ] = False,
) -> None:  # fmt: skip
    """Write Tideos with a language model; continues where it stopped."""
    from tideo.config import override
    from tideo.textvid.generate import Asking
    from tideo.textvid.generate import generate as write

    given = [pair for pair in llm_args.split(",") if pair.strip()]
    of_asking, rest = _parted(given, Asking)
    asking = override(Asking(), of_asking, option="--llm-args")
    done = write(
        _language_model(llm, rest), num=num, out=out, conditions=conditions, pack=pack, seed=seed, asking=asking,
        retry_rejected=retry_rejected,
    )  # fmt: skip
    if done.accepted == 0:
        raise UserError(f"no Tideo came of {done.num}; {out / 'rejected.jsonl'} has the reasons")
    print(f"{done.accepted} Tideos in {out}: {done.requests} requests, {done.tokens} tokens")
    if done.cost:
        print(f"{done.cost:.4f} spent, {1000 * done.cost / done.accepted:.4f} for a thousand Tideos")
    finish(done.rejected, done.num, "Tideos")


def check(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A folder or file of Tideos, or BENCHMARK=FILE: its questions.", show_default=False
        ),
    ],
    out: Out,
    encoder: Annotated[str, typer.Option(metavar="E", help="A dual encoder for the captions.")] = ENCODER,
    reader: Annotated[
        str, typer.Option(metavar="LM", help="A language model that answers from the frames, or none.")
    ] = READER,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="BENCHMARK=FILE", help="Look for its questions; repeat it.", show_default=False),
    ] = None,
    keep: Annotated[bool, typer.Option("--filter", help="Write the Tideos without fault to OUT/kept.")] = False,
) -> None:  # fmt: skip
    """Tell what Tideos are worth: faults, detail, diversity, balance, leaks, overlap."""
    from tideo.textvid.page import rows
    from tideo.textvid.reader import Reader
    from tideo.textvid.vocabulary import check_vocabulary

    reads = None if reader == "none" else Reader.load(reader)
    others = {name: [t.question for t in samples] for name, samples in map(_benchmark, against or ())}
    name, equals, _ = source.partition("=")
    if equals and name in targets("benchmarks"):
        from tideo.textvid.check import check_questions, write
        from tideo.types import Question, Tideo

        _, samples = _benchmark(source)
        asked = [
            Tideo(
                id=s.id, frames=(), summary="",
                questions=(Question(question=s.question, options=s.options, answer=s.answer),),
            )
            for s in samples
        ]  # fmt: skip
        check_vocabulary(reader, [q.question for t in asked for q in t.questions])
        checked = check_questions(asked, source=source, reader=reads, against=others)
        write(checked, out)
    else:
        from tideo.encoders.dual import load_encoder
        from tideo.textvid.check import check as look

        for model in (encoder, reader):
            check_vocabulary(model, _some_captions(source))
        checked = look(
            source, out=out, encoder=load_encoder(encoder), reader=reads, against=others,
            keep=keep,
        )  # fmt: skip
    section = ""
    for of, name, value in rows(checked):
        print(f"{of if of != section else '':10} {name:32} {value}")
        section = of
    print(out / "check.html")


def encode(
    source: Annotated[
        Path, typer.Argument(exists=True, help="Tideos, a file or folder; or a folder of videos.", show_default=False)
    ],
    encoder: Annotated[
        str, typer.Option(metavar="E", help="A folder, a Hugging Face id, or open_clip:ARCH/PRETRAINED.")
    ],
    out: Out,
    num_frames: Annotated[int, typer.Option(min=1, metavar="N", help="Of each item.")] = 10,
    sampler: Annotated[str, typer.Option(metavar="NAME", help="Of videos; see tideo list samplers.")] = "middle",
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Spread over a Ray cluster; `local` starts one here.", show_default=False),
    ] = None,
) -> None:  # fmt: skip
    """Turn Tideos or videos into features; continues where it stopped."""
    from tideo.encoders.encode import encode_tideos, encode_videos, videos_in
    from tideo.textvid.schema import SHARDS, load, to_tideo

    if source.is_file() or any(source.glob(SHARDS)):
        tideos = [to_tideo(record) for record in load(source)]
        done = encode_tideos(tideos, encoder=encoder, out=out, num_frames=num_frames, ray=ray)
    else:
        found = videos_in(source)
        done = encode_videos(found, encoder=encoder, out=out, num_frames=num_frames, sampler=sampler, ray=ray)
    for name, reason in done.failed.items():
        print(f"{name}: {reason}", file=sys.stderr)
    print(f"{done.num - len(done.failed)} items in {out}, {done.encoded} of them encoded now")
    finish(len(done.failed), done.num, "items")


def _some_captions(source: str) -> list[str]:
    """The captions of up to a hundred Tideos that can be read."""
    from tideo.textvid.schema import Record, load_each

    whole = (read for _, read in load_each(source) if isinstance(read, Record))
    return [text for record in islice(whole, 100) for frame in record.frames for text in frame.values()]


def _benchmark(told: str) -> tuple[str, list[Sample]]:
    """The name, and the samples, of NAME=FILE."""
    name, equals, path = told.partition("=")
    if not equals:
        raise UserError(f"{told}: expected BENCHMARK=FILE, as in nextqa=val.csv")
    return name, load("benchmarks", name)(path, videos=Path(path).parent)
