"""`tideo search`: the moments of a library that look as a text says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tideo.commands.options import EncoderArgs, loading_of, new_file, print_json, results_alone


def search(
    features: Annotated[
        Path, typer.Argument(metavar="FEATURES", help="The folder that tideo encode wrote.", file_okay=False)
    ],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to look for, as a caption would say it.")],
    num: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many moments.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, callback=new_file, help="Write a page with pictures."),
    ] = None,
    index: Annotated[
        bool, typer.Option("--index", help="Search through an index, built once and kept in FEATURES.")
    ] = False,
    encoder: Annotated[
        str | None, typer.Option(metavar="E", help="Where the encoder of the features lies now.")
    ] = None,
    encoder_args: EncoderArgs = "",
) -> None:
    """Find the moments of a library that look as a text says."""
    loading = loading_of(encoder_args, option="--encoder-args")
    from tideo.search.find import find
    from tideo.search.page import span, write_page

    with results_alone():
        moments = find(features, text, num=num, index=index, encoder=encoder, loading=loading)
        if html is not None:
            write_page(moments, text=text, folder=features, out=html)
    if as_json:
        print_json(
            [{"video": m.item.id, "start_s": m.start_s, "end_s": m.end_s, "score": m.score} for m in moments]
        )
        return
    for moment in moments:
        print(f"{moment.score:.3f}  {span(moment)}  {moment.item.id}")
