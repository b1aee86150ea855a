"""The command line. Each command parses and calls one function, imported on use so that help is quick.

Exit codes: 0 done; 1 a fault of ours, with its traceback; 2 the user's input, told in one line; 3 done
with failures, their number told; 130 interrupted. Results go to standard out, the rest to standard error.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from safetensors import SafetensorError
from typer.core import TyperGroup
from typer.exceptions import TyperException

from tideo import __version__, textvid_commands
from tideo.options import (
    End,
    Model,
    ModelArgs,
    Out,
    OutOrRuns,
    Recipe,
    Resume,
    Settings,
    Start,
    VideoFile,
    finish,
)
from tideo.types import UserError

DONE, USER_INPUT, INTERRUPTED = 0, 2, 130


class _Group(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        # Typer answers a closed pipe with 1, which here would mean a fault of ours. A reader that has
        # left, as `head` does, has what it wanted.
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
            raise typer.Exit(DONE) from None


PURPOSE = "Questions about long videos, answered by language models that were never trained on video."
app = typer.Typer(cls=_Group, pretty_exceptions_enable=False, help=PURPOSE)
dollhouse_app = typer.Typer(help="The dollhouse, a procedural household world.")
import_app = typer.Typer(help="Published checkpoints as models of tideo.")
app.add_typer(dollhouse_app, name="dollhouse")
app.add_typer(import_app, name="import")
app.add_typer(textvid_commands.app, name="textvid")


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:] if args is None else args))


def run(args: Sequence[str]) -> int:
    """Run one command, tell errors as the contract says, and return the exit code."""
    _quiet_libraries()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for client in ("httpx", "httpx2"):  # of the hub's library, by its version: a line for every request
        logging.getLogger(client).setLevel(logging.WARNING)
    try:
        code = app(args=list(args), prog_name="tideo", standalone_mode=False)
    except TyperException as error:
        told = error.format_message().replace("Value error, ", "")  # Pydantic's words, not ours
        return _tell(f"{told} {_where_help_is(error)}")
    except UserError as error:
        return _tell(str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _tell(f"{error.filename or 'output'}: {error.strerror}; free some space and run this again")
    except SafetensorError as error:
        if not any(f"os error {number}" in str(error) for number in (errno.ENOSPC, errno.EDQUOT)):
            raise
        return _tell("the disk is full in the middle of writing weights; free some space and run this again")
    return _tell("interrupted", code=INTERRUPTED) if code == INTERRUPTED else code or DONE


def _tell(message: str, *, code: int = USER_INPUT) -> int:
    print("tideo:", " ".join(message.split()), file=sys.stderr)  # one line, whatever a file's name holds
    return code


def _where_help_is(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"(see {context.command_path} --help)" if context else ""


def _quiet_libraries() -> None:
    # Read by the libraries when they are imported, which happens later, inside the commands.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "warning")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else it warns at every fork
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # a bar in a log is a line per step
    # What one library thinks of another's calls is for their authors.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")


def _version(asked: bool) -> None:
    if asked:
        print(f"tideo {__version__}")
        raise typer.Exit(DONE)


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


# --- what several commands do ------------------------------------------------------------------------


def _model(name: str, args: str) -> Any:
    from tideo.models.bundled import load_model

    return load_model(name, args=[pair for pair in args.split(",") if pair])


def _recipe(name: str, settings: Sequence[str] | None, *, kind: str = "recipes") -> Any:
    from tideo.config import override
    from tideo.registry import load

    return override(load(kind, name)(), settings or ())


# --- commands ---------------------------------------------------------------------------------------


@app.command()
def demo(out: Out = Path("out/demo")) -> None:
    """Answer held-out dollhouse questions and write a report, in minutes on a laptop."""
    from tideo.demo import demo as make_demo

    report = make_demo(out=out)
    print(f"{report.accuracy:.1%} of {report.n} questions; report in {out / 'report.html'}")
    finish(report.n_failed, report.n, "questions")


@app.command()
def ask(
    video: VideoFile,
    question: Annotated[str, typer.Argument(metavar="QUESTION", show_default=False)],
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="One possible answer; repeat it.", show_default=False),
    ] = None,
    model: Model = "dollhouse-topa",
    model_args: ModelArgs = "",
    start: Start = None,
    end: End = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Answer one question about a video."""
    from tideo.evaluate.ask import ask as answer_question

    told = answer_question(
        video,
        question=question,
        options=tuple(option or ()),
        model=_model(model, model_args),
        start_s=start,
        end_s=end,
    )
    print(json.dumps(told, ensure_ascii=False) if as_json else told["answer"])


@app.command()
def frames(
    video: VideoFile,
    num: Annotated[int, typer.Option(metavar="N", min=1, help="How many frames.", show_default=False)],
    out: Out,
    sampler: Annotated[str, typer.Option(metavar="NAME", help="See tideo list samplers.")] = "middle",
) -> None:
    """Write frames of a video as PNG files, named by their place and time."""
    from PIL import Image

    from tideo.types import Video
    from tideo.video.samplers import sample_frames

    found = sample_frames(Video(id=Path(video).stem, path=video), num, sampler=sampler)
    out.mkdir(parents=True, exist_ok=True)
    for place, (rgb_HWC, pts_s) in enumerate(zip(found.rgb_THWC, found.pts_s_T, strict=True)):
        path = out / f"{place:04d}_{pts_s:.3f}s.png"
        Image.fromarray(rgb_HWC).save(path)
        print(path)
    finish(len(found.missing_s), num, "frames")


@app.command()
def grid(
    video: VideoFile,
    out: Annotated[Path, typer.Option(metavar="FILE.png", dir_okay=False, show_default=False)],
    rows: Annotated[int, typer.Option(min=1)] = 4,
    cols: Annotated[int, typer.Option(min=1)] = 4,
    image_size: Annotated[int, typer.Option(min=1, metavar="PX", help="Side of the square image.")] = 336,
    sampler: Annotated[str, typer.Option(metavar="NAME", help="See tideo list samplers.")] = "middle",
    fit: Annotated[
        Literal["squash", "letterbox", "crop"], typer.Option(help="How a frame fills its cell.")
    ] = "squash",
    stamps: Annotated[bool, typer.Option("--stamps", help="Write each frame's time into its cell.")] = False,
    question: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Choose the frames that bear on it.", show_default=False),
    ] = None,
    encoder: Annotated[
        str, typer.Option(metavar="E", help="What chooses them: a dual encoder.")
    ] = "dollhouse-clip",
    start: Start = None,
    end: End = None,
) -> None:
    """Write a video as one picture: its frames pasted row by row (top-down grid)."""
    from PIL import Image

    from tideo.types import Video
    from tideo.video.grid import video_grid

    seen = Video(id=Path(video).stem, path=video, start_s=start, end_s=end)
    if question is None:
        made = video_grid(
            seen, rows=rows, cols=cols, image_size=image_size, sampler=sampler, fit=fit, stamps=stamps
        )
    else:
        from tideo.models.relevance import question_grid

        made = question_grid(
            seen, question=question, encoder=encoder, rows=rows, cols=cols, image_size=image_size, fit=fit,
            stamps=stamps,
        )  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(made.rgb_HWC).save(out, format="PNG")
    print(out)


@dollhouse_app.command()
def make(
    split: Annotated[Literal["train", "val", "test"], typer.Option(show_default=False)],
    num: Annotated[int, typer.Option(metavar="N", min=1, help="How many episodes.", show_default=False)],
    out: Out,
    seed: Annotated[int, typer.Option(metavar="K", min=0)] = 0,
) -> None:
    """Write videos, questions and Tideos of a split; the same seed gives the same annotations."""
    from tideo.dollhouse.export import make as make_split

    make_split(split=split, num=num, seed=seed, out=out)
    print(out)


@import_app.callback()
def _import() -> None:
    pass  # keeps `topa` a command of its own while it is the only one


@import_app.command()
def topa(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT.pth", show_default=False)],
    llm: Annotated[
        str,
        typer.Option(
            metavar="DIR_OR_ID",
            help="The Llama it was trained on.",
            show_default=False,
        ),
    ],
    memory: Annotated[
        Path, typer.Option(metavar="FILE", help="Its memory.pkl of caption features.", show_default=False)
    ],
    out: Out,
    encoder: Annotated[
        str, typer.Option(metavar="E", help="The dual encoder it was trained on.")
    ] = "openai/clip-vit-large-patch14",
) -> None:
    """Turn a released TOPA checkpoint into a model directory; nothing is unpickled."""
    from tideo.models.topa_import import import_topa

    print(import_topa(checkpoint, llm=llm, memory=memory, encoder=encoder, out=out))


@app.command()
def prealign(
    recipe: Recipe, settings: Settings = None, out: OutOrRuns = None, resume: Resume = False
) -> None:
    """Pre-align a frozen language model on text alone (TOPA)."""
    config = _recipe(recipe, settings)  # first: a wrong name is told before the slow imports
    from tideo.train.prealign import prealign as train_prefix

    print(train_prefix(config, out=out or Path("runs", recipe), resume=resume))


@app.command()
def train(recipe: Recipe, settings: Settings = None, out: OutOrRuns = None, resume: Resume = False) -> None:
    """Train one of the dollhouse's tiny models."""
    config = _recipe(recipe, settings)
    from tideo.train.pretrain import pretrain

    print(pretrain(config, out=out or Path("runs", recipe), resume=resume))


@app.command()
def finetune(
    recipe: Recipe,
    settings: Settings = None,
    out: OutOrRuns = None,
    resume: Resume = False,
    plan: Annotated[bool, typer.Option("--plan", help="Only tell parameters and memory.")] = False,
    gpus: Annotated[int, typer.Option(min=1, metavar="N", help="Of --plan: how many GPUs.")] = 1,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            file_okay=False,
            help="Only write the training set in LLaVA's format.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Finetune an image-text model on grids of frames (top-down grid)."""
    config = _recipe(recipe, settings, kind="finetunes")
    if plan:
        from tideo.train.plan import plan as tell

        print(tell(config, gpus=gpus))
        return
    if export is not None:
        from tideo.train.finetune import export_llava

        print(export_llava(config, out=export))
        return
    from tideo.train.finetune import finetune as train_grids

    print(train_grids(config, out=out or Path("runs", f"{recipe}-grid"), resume=resume))


@app.command("eval")
def evaluate(
    benchmark: Annotated[str, typer.Argument(help="See tideo list benchmarks.", show_default=False)],
    data: Annotated[Path, typer.Option(exists=True, help="Its annotations.", show_default=False)],
    videos: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Its videos.", show_default=False)
    ],
    model: Annotated[str, typer.Option(metavar="M", help="As for tideo ask.", show_default=False)],
    out: Out,
    model_args: ModelArgs = "",
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, show_default=False)] = None,
    control: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Only this control; repeat it, or `none`. [default: all]", show_default=False
        ),
    ] = None,
    permute: Annotated[
        bool, typer.Option("--permute", help="Also ask with the options in every cyclic order.")
    ] = False,
    missing: Annotated[
        Literal["wrong", "skip"], typer.Option(help="What a question about a missing video counts as.")
    ] = "wrong",
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask again what failed before.")
    ] = False,
) -> None:
    """Answer a benchmark's questions, or describe its videos; continues where it stopped."""
    from tideo.evaluate.results import Unscored
    from tideo.evaluate.run import evaluate as run_benchmark
    from tideo.evaluate.run import evaluate_captions
    from tideo.evaluate.team import team
    from tideo.registry import targets

    asked: dict[str, Any] = {
        "benchmark": benchmark,
        "data": data,
        "videos": videos,
        "out": out,
        "limit": limit,
        "controls": [name for name in control if name != "none"] if control else None,
        "missing": missing,
        "retry_failed": retry_failed,
    }
    if benchmark in targets("captions"):
        if permute:
            raise UserError(f"--permute: {benchmark} has no options")
        told = evaluate_captions(model=_model(model, model_args), **asked)
        if team().first:
            print(f"{benchmark}: CIDEr {100 * told.cider['mean']:.1f} of {told.n} videos")
            print(f"{benchmark}: ROUGE-L {100 * told.rouge_l['mean']:.1f}")
            finish(told.n_failed, told.n, "videos")
        return
    try:
        report = run_benchmark(model=_model(model, model_args), permute=permute, **asked)
    except Unscored as told:
        if team().first:
            print(f"{benchmark}: {told}")
            finish(told.n_failed, told.n, "questions")
        return
    if not team().first:  # one of several processes tells
        return
    print(f"{benchmark}: {report.accuracy:.1%} of {report.n} questions")
    if len(report.by_kind) > 1:
        print(f"{benchmark}: {report.mean_of_kinds['accuracy']:.1%}, the mean of {len(report.by_kind)} kinds")
    if permute:
        print(
            f"{report.orders['accuracy']:.1%} right in all {report.orders['num_orders']} orders of the options"
        )
    finish(report.n_failed, report.n, "questions")


@app.command()
def fuse(
    run_dirs: Annotated[
        list[Path], typer.Argument(metavar="RUN_DIR...", exists=True, file_okay=False, show_default=False)
    ],
    model: Annotated[
        list[str], typer.Option(metavar="M", help="The model of each run, in order.", show_default=False)
    ],
    out: Out,
) -> None:
    """Fit weights of several models on their validation runs; --out is a model that answers with all."""
    from tideo.evaluate.fusion import fuse as fit

    settings = fit(run_dirs, models=model, out=out)
    for name, weight in zip(settings.models, settings.weights, strict=True):
        print(f"{weight:8.3f}  {name}")


@app.command()
def report(
    run_dirs: Annotated[
        list[Path], typer.Argument(metavar="RUN_DIR...", exists=True, file_okay=False, show_default=False)
    ],
    out: Annotated[Path | None, typer.Option(metavar="FILE.html", dir_okay=False, show_default=False)] = None,
    reduction: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Choose anew by it: mean, sum, …", show_default=False),
    ] = None,
) -> None:
    """Write one page about one or several runs."""
    from tideo.evaluate.report import write_report

    print(write_report(run_dirs, out=out or run_dirs[0] / "report.html", reduction=reduction))


@app.command("export")
def export_choices(
    run_dir: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", exists=True, file_okay=False, show_default=False)
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", dir_okay=False, show_default=False)],
) -> None:
    """Write a run's choices as the benchmark's own scripts read them."""
    from tideo.evaluate.export import export

    failed, of = export(run_dir, out=out)
    print(out)
    finish(failed, of, "questions")


@app.command()
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
    from tideo.models.bundled import ASSETS
    from tideo.textvid.encode import encode_tideos, encode_videos, videos_in
    from tideo.textvid.schema import SHARDS, load, to_tideo

    name = str(ASSETS / encoder) if (ASSETS / encoder).is_dir() else encoder
    if source.is_file() or any(source.glob(SHARDS)):
        tideos = [to_tideo(record) for record in load(source)]
        done = encode_tideos(tideos, encoder=name, out=out, num_frames=num_frames, ray=ray)
    else:
        found = videos_in(source)
        done = encode_videos(found, encoder=name, out=out, num_frames=num_frames, sampler=sampler, ray=ray)
    for name, reason in done.failed.items():
        print(f"{name}: {reason}", file=sys.stderr)
    print(f"{done.num - len(done.failed)} items in {out}, {done.encoded} of them encoded now")
    finish(len(done.failed), done.num, "items")


@app.command()
def push(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="What training wrote.", show_default=False)
    ],
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", show_default=False)],
    private: Annotated[bool, typer.Option("--private", help="If it is made: for you alone.")] = False,
) -> None:
    """Upload a model to the Hugging Face Hub, with a card."""
    from tideo.models.hub import push as upload

    print(upload(folder, repo, private=private))


@app.command("list")
def list_names(
    kind: Annotated[
        Literal["models", "benchmarks", "samplers", "recipes"], typer.Argument(show_default=False)
    ],
) -> None:
    """List what a name can be."""
    from tideo.registry import describe

    for name, doc in describe(kind).items():
        print(f"{name:20} {doc}".rstrip())
    for other in {"recipes": ("finetunes",), "benchmarks": ("captions",)}.get(kind, ()):
        for name, doc in describe(other).items():
            print(f"{name:20} {doc}".rstrip())


@app.command()
def doctor() -> None:
    """Tell what works on this machine."""
    from tideo.doctor import doctor as look

    checks = look()
    for check in checks:
        sign = {True: "ok", False: "NO", None: "--"}[check.ok]
        print(f"{sign}  {check.area:8} {check.name:14} {check.told}")
    judged = [check.ok for check in checks if check.ok is not None]
    finish(judged.count(False), len(judged), "checks")
