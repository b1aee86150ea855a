"""Models that answer together: weights fitted on one split, log-probabilities added, errors kept."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from conftest import Tideo as Command
from tideo.evaluate.fit_fusion import fit_weights, fuse
from tideo.evaluate.run import evaluate
from tideo.models.fusion import Fusion, FusionSettings, option_logprobs
from tideo.models.interface import AS_TRAINED, Controls, ModelSettings, VideoModel
from tideo.models.load import load_model
from tideo.scoring import decide
from tideo.store.files import key_of
from tideo.types import Answer, Frames, Sample, TextFrame, Tideo, UserError, Video
from tiny import videos_in
from tiny_vlms import saved

VIDEO = Video(id="v", path="v.mp4")
FRAMES = Frames(rgb_THWC=np.zeros((1, 2, 2, 3), np.uint8), pts_s_T=np.zeros(1), video_id="v")
SAMPLE = Sample(id="q", video=VIDEO, question="what", options=("tea", "cup"), answer=0)


class Known(VideoModel):
    """Answers with the log-likelihoods that it was made with."""

    controls = frozenset({"blind", "form"})
    settings = FusionSettings(models=("a", "b"), weights=(1.0, 1.0), reduction="mean")
    warning: str | None = None

    def __init__(self, *sums: float, error: str | None = None, text: str = "") -> None:
        self.name = self.key = str(sums)
        self.reply = Answer(
            sample_id="q",
            loglikelihoods=sums,
            num_tokens=(2,) * len(sums),
            error=error,
            text=text,
            seconds=1.0,
        )

    def look(self, video: Video, *, controls: Controls = AS_TRAINED) -> Frames | None:
        return None if controls.blind else FRAMES

    def out_of_distribution(self, frames: Frames) -> str | None:
        return self.warning

    def answer(self, *args: object, seen: Frames | Tideo | None, **kwargs: object) -> list[Answer]:
        self.frames = seen
        return [self.reply]


def fused(*models: Known, weights: tuple[float, ...]) -> Answer:
    settings = FusionSettings(models=("a",) * len(models), weights=weights)
    fusion = Fusion(models, settings=settings, name="f")
    return fusion.answer(VIDEO, [SAMPLE], seen=fusion.look(VIDEO))[0]


def test_log_probabilities_are_weighted_and_added() -> None:
    # Mean scores (ln 3, ln 1) and (ln 1, ln 4): shares 3/4, 1/4 and 1/5, 4/5.
    first, second = Known(2 * math.log(3), 0.0), Known(0.0, 2 * math.log(4))
    answer = fused(first, second, weights=(1.0, 2.0))
    expected = [math.log(3 / 4) + 2 * math.log(1 / 5), math.log(1 / 4) + 2 * math.log(4 / 5)]
    assert answer.loglikelihoods == pytest.approx(expected)
    assert answer.num_tokens == (1, 1)
    assert answer.seconds == 2.0
    assert decide(answer, reduction="sum").choice == 1
    assert decide(fused(first, second, weights=(2.0, 1.0)), reduction="sum").choice == 0


def test_an_error_of_one_model_is_the_answers() -> None:
    assert fused(Known(0.0, 1.0), Known(error="it broke"), weights=(1.0, 1.0)).error == "it broke"


def test_an_open_question_goes_to_the_heaviest() -> None:
    assert fused(Known(text="a"), Known(text="b"), weights=(0.5, 1.5)).text == "b"


def test_each_model_looks_itself_and_all_are_shown_a_tideo() -> None:
    models = Known(0.0, 1.0), Known(1.0, 0.0)
    settings = FusionSettings(models=("a", "b"), weights=(1.0, 1.0))
    fusion = Fusion(models, settings=settings, name="f")
    text = Tideo(id="t", frames=(TextFrame(main="a man pours tea"),), summary="")
    for controls, seen, expected in (
        (AS_TRAINED, fusion.look(VIDEO), FRAMES),
        (Controls(blind=True), fusion.look(VIDEO, controls=Controls(blind=True)), None),
        (Controls(source="text"), text, text),
    ):
        fusion.answer(VIDEO, [SAMPLE], seen=seen, controls=controls)
        assert [m.frames for m in models] == [expected, expected]


def test_the_warnings_of_all_models_are_one_line() -> None:
    models = Known(0.0, 1.0), Known(1.0, 0.0), Known(1.0, 1.0)
    models[0].warning, models[2].warning = "too dark", "too loud"
    fusion = Fusion(models, settings=FusionSettings(models=("a",) * 3, weights=(1.0,) * 3), name="f")
    frames = fusion.look(VIDEO)
    assert frames is not None
    assert (len(frames), frames.video_id) == (1, "v")
    assert fusion.out_of_distribution(frames) == "too dark; too loud"
    models[0].warning = models[2].warning = None
    assert fusion.out_of_distribution(frames) is None


def test_only_controls_that_all_heed_are_left() -> None:
    settings = FusionSettings(models=("a", "b"), weights=(1.0, 1.0))
    assert Fusion([Known(0.0), Known(1.0)], settings=settings, name="f").controls == {"blind"}


def test_stored_answers_depend_on_the_encoder_that_chooses_frames() -> None:
    class Choosing(Known):
        settings = ModelSettings(sampler="bolt", selector="clip")
        chooser = SimpleNamespace(pools=SimpleNamespace(encoder=SimpleNamespace(id="one")))

    settings = FusionSettings(models=("a", "b"), weights=(1.0, 1.0))
    model = Choosing(0.0)
    first = key_of(Fusion([model, Known(1.0)], settings=settings, name="f").keyed_settings)
    model.chooser = SimpleNamespace(pools=SimpleNamespace(encoder=SimpleNamespace(id="other")))
    assert key_of(Fusion([model, Known(1.0)], settings=settings, name="f").keyed_settings) != first
    assert Fusion([Known(0.0), Known(1.0)], settings=settings, name="f").keyed_settings == settings


def test_weights_go_to_the_model_that_knows() -> None:
    rng = np.random.default_rng(0)
    right = rng.integers(0, 5, 300)

    def option_rows(sharp: float, num: int) -> list[np.ndarray]:
        rows = rng.normal(size=(300, num))
        rows[np.arange(300), right] += sharp
        return [
            option_logprobs(
                Answer(sample_id="", loglikelihoods=tuple(r), num_tokens=(1,) * num), reduction="sum"
            )
            for r in rows
        ]

    knows, guesses = fit_weights([option_rows(2.0, 5), option_rows(0.0, 5)], right.tolist())
    assert 1.5 < knows < 2.6  # Gaussian scores a distance of 2 apart: the true weight is 2
    assert abs(guesses) < 0.3


def test_questions_may_have_unlike_numbers_of_options() -> None:
    two, three = np.log([0.9, 0.1]), np.log([0.2, 0.2, 0.6])
    (weight,) = fit_weights([[two, three]], [0, 2])
    assert weight > 1  # always right: more certain than it says


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 2.0, 3.0)])
def test_a_weight_for_each_of_two_models(weights: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="a weight for each"):
        FusionSettings(models=("a", "b"), weights=weights)


@pytest.mark.slow
def test_two_runs_become_a_model(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, tideo: Command
) -> None:
    data = videos_in(tmp_path_factory.getbasetemp())
    models = [str(saved("llava", tmp_path / "one")), str(saved("llava_next", tmp_path / "two"))]
    runs = [tmp_path / "run1", tmp_path / "run2"]
    for model, run in zip(models, runs, strict=True):
        evaluate(benchmark="dollhouse", data=data, videos=data / "videos", model=model, out=run, controls=[])
    done = tideo(
        "fuse", *map(str, runs), "--model", models[0], "--model", models[1], "--out", str(tmp_path / "f")
    )
    assert done.returncode == 0, done.stderr
    swapped = tideo(
        "fuse", *map(str, runs), "--model", models[1], "--model", models[0], "--out", str(tmp_path / "g")
    )
    assert swapped.returncode == 2
    assert "name the models in the runs' order" in swapped.stderr
    assert not (tmp_path / "g").exists()
    fusion = json.loads((tmp_path / "f" / "fusion.json").read_text())
    assert fusion["models"] == ["../one", "../two"]
    model = load_model(str(tmp_path / "f"))
    report = evaluate(
        benchmark="dollhouse", data=data, videos=data / "videos", model=model, out=tmp_path / "run3"
    )
    assert report.n_failed == 0
    assert "shuffled_frames" in report.controls


def test_runs_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a fusion needs two at least, and --model for each run"):
        fuse([tmp_path], models=["a"], out=tmp_path)
    with pytest.raises(UserError, match="no run directory"):
        fuse([tmp_path, tmp_path], models=["a", "b"], out=tmp_path)


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fusion.json").write_text('{"models": 3}')
    with pytest.raises(UserError, match="does not describe a fusion"):
        load_model(str(tmp_path))


def test_a_model_that_replies_in_words_is_not_fused(tmp_path: Path) -> None:
    server = "openai:m@http://127.0.0.1:9/v1"
    FusionSettings(models=("dollhouse-topa", server), weights=(1.0, 1.0)).save(tmp_path)
    with pytest.raises(UserError, match=rf"{server} replies in words, and a fusion adds likelihoods"):
        load_model(str(tmp_path))
