"""`tideo demo`, `ask`, `frames`, `grid`, `dollhouse make`: one video at a time, and the world that has answers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tideo.commands.options import (
    EncoderArgs,
    End,
    Features,
    Model,
    ModelArgs,
    Out,
    Start,
    VideoFile,
    finish,
    loading_of,
    new_file,
    pairs,
    print_json,
    results_alone,
)
from tideo.types import UserError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")  # that hold any picture of three colours


def demo(out: Out = Path("out/demo")) -> None:
    """Answer held-out dollhouse questions and write a report, in minutes on a laptop."""
    from tideo.demo import demo as make_demo

    report = make_demo(out=out)
    print(f"{report.accuracy:.1%} of {report.n} questions; report in {out / 'report.html'}")
    finish(report.n_failed, report.n, "questions")


def ask(
    video: VideoFile,
    question: Annotated[str, typer.Argument(metavar="QUESTION")],
    option: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="One possible answer; repeat it.")
    ] = None,
    model: Model = "dollhouse-topa",
    model_args: ModelArgs = "",
    features: Features = None,
    start: Start = None,
    end: End = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Answer one question about a video."""
    from tideo.evaluate.ask import ask as answer_question
    from tideo.startup import starting

    with results_alone(), starting():
        reply = answer_question(
            video,
            question=question,
            options=tuple(option or ()),
            model=model,
            model_args=pairs(model_args),
            start_s=start,
            end_s=end,
            features=features,
        )
    if as_json:
        print_json(reply)
    else:
        print(reply["answer"])


def frames(
    video: VideoFile,
    num: Annotated[int, typer.Option(metavar="N", min=1, help="How many frames.")],
    out: Out,
    sampler: Annotated[str, typer.Option(metavar="NAME", help="See tideo list samplers.")] = "middle",
) -> None:
    """Write frames of a video as PNG files, named by their place and time."""
    from PIL import Image

    from tideo.types import Video
    from tideo.video.samplers import sample_frames

    found = sample_frames(Video(id=Path(video).stem, path=video), num, sampler=sampler)
    if len(found) + len(found.missing_s) < num:
        print(f"{video}: {len(found)} distinct frames for the {num} asked for", file=sys.stderr)
    out.mkdir(parents=True, exist_ok=True)
    for place, (rgb_HWC, pts_s) in enumerate(zip(found.rgb_THWC, found.pts_s_T, strict=True)):
        path = out / f"{place:04d}_{pts_s:.3f}s.png"
        Image.fromarray(rgb_HWC).save(path)
        print(path)
    finish(len(found.missing_s), num, "frames")


def picture_file(path: Path) -> Path:
    """Raises UserError for a file whose ending names no format of pictures, or that cannot be written."""
    from PIL import Image

    formats = Image.registered_extensions()
    if formats.get(path.suffix.lower()) not in FORMATS:
        known = ", ".join(ending for ending, name in formats.items() if name in FORMATS)
        raise UserError(f"{path}: the ending says how a picture is stored; expected one of {known}")
    return new_file(path) or path


def grid(
    video: VideoFile,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            callback=picture_file,
            help="A picture; its ending says of which format.",
        ),
    ],
    rows: Annotated[int, typer.Option(min=1)] = 4,
    cols: Annotated[int, typer.Option(min=1)] = 4,
    image_size: Annotated[int, typer.Option(min=1, metavar="PX", help="Side of the square image.")] = 336,
    sampler: Annotated[
        str | None, typer.Option(metavar="NAME", help="See tideo list samplers; without, middle.")
    ] = None,
    fit: Annotated[
        Literal["squash", "letterbox", "crop"], typer.Option(help="How a frame fills its cell.")
    ] = "squash",
    stamps: Annotated[bool, typer.Option("--stamps", help="Write each frame's time into its cell.")] = False,
    question: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Choose the frames that bear on it.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(metavar="E", help="What chooses them: a dual encoder.")
    ] = None,
    encoder_args: EncoderArgs = "",
    features: Features = None,
    start: Start = None,
    end: End = None,
) -> None:
    """Write a video as one picture: its frames pasted row by row (top-down grid)."""
    from PIL import Image

    from tideo.types import Video
    from tideo.video.grid import video_grid
    from tideo.video.selectors import is_selector

    chooses = sampler is not None and is_selector(sampler)
    if question is not None and sampler is not None and not chooses:
        raise UserError(f"--question chooses the frames, and so does --sampler {sampler}: leave one out")
    if question is None and chooses:
        raise UserError(f"--sampler {sampler} chooses by a question: give --question TEXT")
    if question is not None and encoder is None:
        raise UserError(
            "--question needs an encoder that compares frames with it: give --encoder, as in "
            "--encoder openai/clip-vit-large-patch14"
        )
    loading = loading_of(encoder_args, option="--encoder-args")
    if encoder is None and encoder_args:
        raise UserError("--encoder-args is of an encoder: give --encoder, or leave it out")
    for option, value in (("--encoder", encoder), ("--features", features)):
        if question is None and value is not None:
            raise UserError(f"{option} chooses frames for a question: give --question TEXT, or leave it out")
    segment = Video(id=Path(video).stem, path=video, start_s=start, end_s=end)
    layout: Any = {"rows": rows, "cols": cols, "image_size": image_size, "fit": fit, "stamps": stamps}
    if question is None or encoder is None:
        made = video_grid(segment, sampler=sampler or "middle", **layout)
    else:
        from tideo.encoders.relevance import question_grid

        made = question_grid(
            segment, question=question, encoder=encoder, loading=loading, sampler=sampler or "question",
            features=features, **layout,
        )  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(made.rgb_HWC).save(out)
    print(out)
    finish(len(made.missing_s), len(made.missing_s) + len(made.pts_s), "frames")


def make(
    split: Annotated[Literal["train", "val", "test"], typer.Option()],
    num: Annotated[int, typer.Option(metavar="N", min=1, help="How many episodes, or days.")],
    out: Out,
    seed: Annotated[int, typer.Option(metavar="K", min=0)] = 0,
    minutes: Annotated[
        int | None,
        typer.Option(
            metavar="M", min=1, max=180, help="Days of a household, each so long, in place of episodes."
        ),
    ] = None,
) -> None:
    """Write videos, questions and Tideos of a split; the same seed gives the same annotations."""
    from tideo.dollhouse.export import make as make_split

    with results_alone():
        make_split(split=split, num=num, seed=seed, seconds=minutes and 60 * minutes, out=out)
    print(out)
