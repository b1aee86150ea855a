"""`tideo encode`: textual videos or videos become features."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tideo import registry
from tideo.bundled import located
from tideo.commands.options import EncodeGpus, EncoderArgs, Out, Ray, cluster_of, finish, loading_of
from tideo.store.remote import check_url, is_url
from tideo.types import UserError

if TYPE_CHECKING:
    from tideo.video.pool import PoolSettings


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
    num_frames: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="At most so many frames of each; without, 10.")
    ] = None,
    pool: Annotated[
        Literal["exact", "keyframes"] | None,
        typer.Option(help="Instead: the frames of each video that samplers such as bolt choose from."),
    ] = None,
    pool_fps: Annotated[
        float | None, typer.Option(metavar="F", help="With --pool: frames a second; without, 1.")
    ] = None,
    pool_max: Annotated[
        int | None, typer.Option(metavar="N", help="With --pool: the most of a video; without, 1000.")
    ] = None,
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
    of_pool = _pool(pool, pool_fps, pool_max, others={"--num-frames": num_frames, "--sampler": sampler})
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
        "encoder": encoder, "loading": loading, "out": out, "num_frames": num_frames or 10, "cluster": cluster,
        "retry_failed": retry_failed,
    }  # fmt: skip
    if of_benchmark or is_url(source) or is_list(source):
        of_tideos = False
    else:
        of_tideos = is_text(path) if path.is_file() else any(path.glob(SHARDS))
    if of_tideos:
        for option, value in (("--sampler", sampler), ("--pool", pool), ("--decode-cpus", decode_cpus)):
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
        result = encode_videos(chosen, sampler=sampler or "middle", pool=of_pool, **how)
    for item_id, reason in result.failed.items():
        print(f"{item_id}: {reason}", file=sys.stderr)
    num = result.num - len(result.failed)
    print(f"{num} items in {out}, {result.encoded} of them encoded now", file=sys.stderr)
    if result.failed:
        print(f"{out / LETTERS_FILE} lists the others; --retry-failed tries them again", file=sys.stderr)
    print(out)
    finish(len(result.failed), result.num, "items")


def _pool(
    pool: str | None, fps: float | None, most: int | None, *, others: Mapping[str, object]
) -> PoolSettings | None:
    """The settings of --pool. Raises UserError for options that do not go together."""
    from tideo.video.pool import PoolSettings
    from tideo.video.selectors import is_selector

    given = {"pool": pool, "pool_fps": fps, "pool_max": most}
    settings = {name: value for name, value in given.items() if value is not None}
    if pool is None and settings:
        raise UserError(
            f"--{next(iter(settings)).replace('_', '-')} is of a pool: give --pool exact, or leave it out"
        )
    for option, value in others.items():
        if pool is not None and value is not None:
            raise UserError(f"{option} and --pool both say which frames are encoded: leave one out")
    sampler = others["--sampler"]
    if sampler is not None and is_selector(str(sampler)):
        raise UserError(
            f"--sampler {sampler} chooses for a question: give --pool exact, what it chooses from"
        )
    return PoolSettings(**settings) if settings else None  # type: ignore[arg-type]
