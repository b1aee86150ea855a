"""Every field of every settings class: changing it changes what is shown, scored, asked or kept, or is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from tideo.config import override
from tideo.llms.interface import Calls, LanguageModel, Reply
from tideo.llms.load import load_language_model
from tideo.models.fusion import FusionSettings
from tideo.models.grid.server import Remote, ServerSettings
from tideo.models.grid.settings import GridSettings
from tideo.models.interface import ModelSettings, VideoInput, VideoModel
from tideo.models.load import load_model
from tideo.models.topa.blind import Blind
from tideo.models.topa.settings import Settings
from tideo.recipes.dollhouse_distill import dollhouse_distill
from tideo.recipes.dollhouse_grid import dollhouse_grid
from tideo.recipes.dollhouse_looks_start import dollhouse_looks_start
from tideo.recipes.dollhouse_topa import dollhouse_topa
from tideo.recipes.llama2_7b import llama2_7b
from tideo.recipes.llava_1_5_13b_nextqa import llava_1_5_13b_nextqa
from tideo.scoring import decide, scores
from tideo.textvid.packs import load_pack
from tideo.textvid.writer import Rejected, Usage, Writer, WriterSettings
from tideo.types import Answer, Sample, UserError, Video
from tiny import model_in
from tiny_vlms import saved
from videos import encode

OPTIONS = ("making tea in the kitchen", "a nap", "washing")
SERVER = "openai:m@http://127.0.0.1:9/v1"
REFUSED = "changes nothing"  # a part of the message
# What only a sampler that chooses for the question uses: tests/models/test_selecting.py
SELECTING = {
    "pool": ("keyframes", REFUSED), "pool_fps": ("2", REFUSED), "pool_max": ("50", REFUSED),
    "selector": ("any", REFUSED), "subtitles": ("true", REFUSED), "even": ("0.5", REFUSED),
}  # fmt: skip
GRID: dict[str, str | tuple[str, str]] = {
    "rows": "3", "cols": "3", "panels": "2", "image_size": "14", "sampler": "uniform", "fit": "letterbox",
    "stamps": "true", "intro": "Frames.", "prompt_style": "plain", "look": "frames",
    "frames": ("3", f"{REFUSED} \\(only look=frames and look=video use it\\)"),
    **SELECTING,
}  # fmt: skip
TOPA = {
    **SELECTING,
    "num_frames": "3", "sampler": "uniform", "temperature": "2", "project": "false", "form": "letter",
    "reduction": "sum",
}  # fmt: skip
# model → field → another value, and for a field that this model has no use for, a part of the message
CASES: dict[str, tuple[Any, dict[str, str | tuple[str, str]]]] = {
    "topa": (Settings, {**TOPA, "encoder": ("dollhouse-clip", "was made with encoder")}),
    "grid": (
        GridSettings,
        {
            **GRID, "form": "text", "reduction": "sum", "max_new_tokens": "1",
            "encoder": ("any", f"{REFUSED} \\(only a sampler that chooses"),
        },
    ),
    "server": (
        ServerSettings,
        {
            "temperature": "0.5",
            **GRID, "max_new_tokens": "7", "encoder": ("any", REFUSED), "form": ("text", "this model replies in words"),
            "reduction": ("sum", "this model replies in words"),
            "max_video_mb": ("3", REFUSED), "video_as": ("path", REFUSED),
        },
    ),
    "fusion": (
        FusionSettings,
        {
            "models": ("one,two", "unknown model 'one'"), "weights": "9,0.1", "num_frames": ("4", "to its models"),
            "form": ("text", "to its models"), "reduction": ("mean", "log-probabilities are added"),
        },
    ),
    "blind": (
        Settings,
        {
            **SELECTING, "form": "letter", "reduction": "sum",
            **dict.fromkeys(("encoder",), ("x", "looks at no frame")),
            **dict.fromkeys(("num_frames", "temperature"), ("3", "looks at no frame")),
            "project": ("false", "looks at no frame"),
            "sampler": ("uniform", "looks at no frame"),
        },
    ),
    "plug-in": (
        ModelSettings,
        {
            **SELECTING,
            "num_frames": "3", "sampler": "uniform", "form": ("letter", "heeds no form"), "reduction": "sum",
        },
    ),
    "plug-in without frames": (
        ModelSettings,
        {
            **SELECTING, "num_frames": ("3", "looks at no frame"), "sampler": ("uniform", "looks at no frame"),
            "form": ("letter", "heeds no form"), "reduction": "sum",
        },
    ),
}  # fmt: skip


class Longest(VideoModel):
    """A model of another package: options by length, and by the frames that it is shown."""

    name = "longest"

    def answer(self, video: Video, samples: Sequence[Sample], *, seen: VideoInput, **_: Any) -> list[Answer]:
        shown = 0.0 if seen is None else float(seen.pts_s_T.sum())  # type: ignore[union-attr]
        lengths = [len(option) for option in samples[0].options]
        return [
            Answer(
                sample_id=s.id, loglikelihoods=tuple(-n - shown for n in lengths), num_tokens=tuple(lengths)
            )
            for s in samples
        ]


class Unseeing(Longest):
    settings = ModelSettings(num_frames=0)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    path = tmp_path_factory.mktemp("video") / "v.mp4"
    encode(path, num=40)
    return Video(id="v", path=str(path))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    here = tmp_path_factory.mktemp("models")
    topa, grid = model_in(tmp_path_factory.getbasetemp()), saved("llava", here / "grid")
    GridSettings(image_size=28, max_new_tokens=3).save(grid)
    (here / "fusion").mkdir()
    FusionSettings(models=(str(topa), str(grid)), weights=(1.0, 1.0)).save(here / "fusion")
    return {"topa": str(topa), "grid": str(grid), "fusion": str(here / "fusion"), "server": SERVER}


def model_of(kind: str, args: Sequence[str], folders: Mapping[str, str], monkeypatch: Any) -> VideoModel:
    makers = {
        "blind": lambda: Blind.load(folders["topa"]),
        "plug-in": Longest,
        "plug-in without frames": Unseeing,
    }
    if kind not in makers:
        return load_model(folders[kind], args=args)
    named = SimpleNamespace(targets=lambda kind: {"mine": ""}, load=lambda *_: makers[kind])
    monkeypatch.setattr("tideo.models.load.registry", named)
    return load_model("mine", args=args)


PLAIN: dict[str, str] = {}  # the behaviour of each model without --model-args


def behaviour(model: VideoModel, video: Video) -> Any:
    """What the model says of a question with and of one without options, and of a server, what it is sent."""
    sent: list[Any] = []
    if isinstance(model, Remote):

        def ask(messages: Any, **options: Any) -> Reply:
            sent.append((messages, options))
            return Reply(text="B", truncated=False, tokens_in=0, tokens_out=0)

        model.server.ask = ask  # type: ignore[method-assign, assignment]
        model.server.owner = lambda: None  # type: ignore[method-assign]
    closed = Sample(id="a", video=video, question="what is he doing?", options=OPTIONS)
    open_ended = Sample(id="b", video=video, question="what is he doing?")
    asked = [closed] if isinstance(model, Longest) else [closed, open_ended]
    seen = model.look(video)
    answers = model.answer(video, asked, seen=seen)
    reduction = model.settings.reduction
    first = decide(answers[0], reduction=reduction)
    scored = scores(first.loglikelihoods, first.num_tokens, reduction=reduction)
    return json.dumps(
        [first.choice, scored, [(a.text, a.error, a.pts_s) for a in answers], sent], default=str
    )


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind in CASES for field in CASES[kind][1]])
def test_a_setting_of_a_model_has_an_effect_or_is_refused(
    kind: str, field: str, video: Video, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    value = CASES[kind][1][field]
    if isinstance(value, tuple):
        with pytest.raises(UserError, match=value[1]):
            model_of(kind, [f"{field}={value[0]}"], folders, monkeypatch)
        return
    if kind not in PLAIN:
        PLAIN[kind] = behaviour(model_of(kind, [], folders, monkeypatch), video)
        assert behaviour(model_of(kind, [], folders, monkeypatch), video) == PLAIN[kind]
    assert behaviour(model_of(kind, [f"{field}={value}"], folders, monkeypatch), video) != PLAIN[kind]


@pytest.mark.parametrize("kind", CASES)
def test_no_field_of_a_model_is_forgotten(kind: str) -> None:
    settings, cases = CASES[kind]
    assert {f.name for f in dataclasses.fields(settings)} == set(cases)


@pytest.mark.parametrize("kind", ["topa", "grid"])
def test_loading_is_part_of_the_key_or_refused(kind: str, folders: dict[str, str]) -> None:
    folder, plain = folders[kind], load_model(folders[kind]).key
    assert load_model(folder, args=["dtype=bfloat16"]).key != plain
    assert load_model(folder, args=["dtype=bf16"]).key == load_model(folder, args=["dtype=bfloat16"]).key
    assert load_model(folder, args=["device=cpu"]).key == plain  # where it runs is not what it answers
    with pytest.raises(UserError, match="4-bit weights need a GPU"):
        load_model(folder, args=["load_4bit=true"])
    with pytest.raises(UserError, match="8-bit weights need a GPU"):
        load_model(folder, args=["load_8bit=true"])


@pytest.mark.parametrize(
    ("kind", "setting", "message"),
    [
        ("topa", "sampler=late", "sampler 'late': expected one of"),
        ("topa", "form=word", "form 'word': expected one of letter, text"),
        ("topa", "reduction=median", "reduction 'median': expected one of mean, sum"),
        ("topa", "num_frames=0", "expected at least 1"),
        ("topa", "temperature=0", "more than 0"),
        ("plug-in", "reduction=median", "reduction 'median'"),
        ("plug-in", "num_frames=-1", "expected at least 0"),
        ("grid", "form=word", "form 'word'"),
    ],
)
def test_a_value_that_would_fail_later_is_refused_at_once(
    kind: str, setting: str, message: str, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=message):
        model_of(kind, [setting], folders, monkeypatch)


# --- language models -------------------------------------------------------------------------------


def test_calls_reach_the_client() -> None:
    args = [
        "concurrency=3", "timeout_s=7", "retries=2", "price_in=1", "price_out=2", "cap=5", "cap_tokens=9",
        "requests_per_minute=60", "tokens_per_minute=600", "max_tokens_field=max_tokens",
    ]  # fmt: skip
    server = load_language_model(SERVER, args)
    assert {f.partition("=")[0] for f in args} == {f.name for f in dataclasses.fields(Calls)}
    assert (server._client.timeout, server.calls.retries) == (7, 2)  # type: ignore[attr-defined]
    assert server.cost(1_000_000, 1_000_000) == 3
    assert load_model(SERVER, args=["concurrency=3"]).concurrency == 3
    for spent in ({"spent": 5.0}, {"tokens": 9}):
        capped = load_language_model(SERVER, args)
        vars(capped).update(spent)
        with pytest.raises(UserError, match="the cap of"):
            capped.ask([], max_tokens=1)


@pytest.mark.parametrize("setting", ["price_in=1", "price_out=1", "cap=3"])
def test_half_a_price_is_none(setting: str) -> None:
    with pytest.raises(UserError, match="price_in and price_out"):
        load_language_model(SERVER, [setting])


def test_an_engine_in_this_process_has_no_retries() -> None:
    with pytest.raises(UserError, match="retries or a protocol: leave out retries"):
        load_language_model("vllm:any", ["retries=2"])


class Scribe(LanguageModel):
    """Writes a video, and nothing of use afterwards; keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__("scribe", Calls())
        self.asked: list[Any] = []

    def ask(self, messages: Any, **options: Any) -> Reply:
        self.asked.append((messages, options))
        frames = [{"main": "a cat sleeps"}] * 2
        text = json.dumps({"frames": frames, "summary": "a nap"}) if len(self.asked) == 1 else "no"
        return Reply(text=text, truncated=False, tokens_in=0, tokens_out=0)


def asked_for(settings: WriterSettings) -> Any:
    scribe, pack = Scribe(), load_pack("everyday")
    pack = pack.model_copy(update={"min_frames": 2, "max_frames": 2})
    with pytest.raises(Rejected):
        Writer(llm=scribe, pack=pack, settings=settings).write("a nap", seed=0, idx="0", usage=Usage())
    return scribe.asked


WRITER = {"num_questions": "2", "tries": "1", "temperature": "0.5", "max_tokens": "99"}
WRITER |= dict.fromkeys(("use_schema", "use_seed", "use_system"), "false")


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(WriterSettings)])
def test_a_setting_of_the_writer_changes_its_requests(field: str) -> None:
    changed = override(WriterSettings(), [f"{field}={WRITER[field]}"], option="--llm-args")
    assert asked_for(changed) != asked_for(WriterSettings()) == asked_for(WriterSettings())


# --- recipes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "setting", "reason"),
    [
        (dollhouse_topa, "adapter_len=9", "adapter=lora has no length"),
        (llama2_7b, "lora_rank=4", "adapter=llama-adapter is no LoRA"),
        (llama2_7b, "lora_targets=q_proj,", "adapter=llama-adapter is no LoRA"),
        (dollhouse_grid, "grid.encoder=mine", "only a sampler that chooses for the question uses it"),
        (dollhouse_grid, "grid.pool_fps=2", "only a sampler that chooses for the question uses it"),
        (dollhouse_grid, "lora_alpha=8", "lora_rank=0 is no LoRA"),
        (dollhouse_grid, "path=train.csv", "data=dollhouse is a source that needs no file"),
        (dollhouse_grid, "videos=videos", "data=dollhouse is a source that needs no file"),
        (dollhouse_grid, "captions_images=here", "there is no captions_path"),
        (dollhouse_grid, "num_captions=3", "there is no captions_path"),
        (dollhouse_grid, "paste_captions=true", "there is no captions_path"),
        (llava_1_5_13b_nextqa, "train.tower_lr=1e-6", "tower is not among the modules that learn"),
        (dollhouse_distill, "llm=mine", "the teacher brings its language model"),
        (dollhouse_distill, "train.projector_lr=1", "all that learns has one rate"),
        (dollhouse_looks_start, "train.eval_steps=9", "a distillation has no validation set"),
        (dollhouse_looks_start, "train.workers=1", "the teacher's vectors are computed in this process"),
    ],
)
def test_a_setting_of_a_recipe_that_changes_nothing_is_refused(
    recipe: Any, setting: str, reason: str
) -> None:
    with pytest.raises(UserError, match=f"^--set {setting}: it changes nothing \\({reason}.*; leave it out$"):
        override(recipe(), [setting])


def test_together_with_what_makes_it_count_it_is_taken() -> None:
    assert override(dollhouse_grid(), ["lora_rank=4", "lora_alpha=8"]).lora_alpha == 8
    assert (
        override(dollhouse_topa(), ["adapter_len=9", "adapter=llama-adapter", "attn=auto"]).adapter_len == 9
    )
    asked = override(dollhouse_grid(), ["grid.sampler=question", "grid.encoder=mine"])
    assert asked.grid.encoder == "mine"
    assert override(dollhouse_distill(), ["teacher=none", "train=none", "llm=mine"]).llm == "mine"
