"""The protocol of a model that answers: what a plug-in gets by default, and keys that must never change."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from conftest import REPOSITORY
from tideo.evaluate.answers import plan
from tideo.evaluate.benchmark import Benchmark, load_benchmark
from tideo.evaluate.controls import CONTROLS
from tideo.models.grid.settings import GridSettings
from tideo.models.interface import AS_TRAINED, Controls, ModelSettings, VideoModel
from tideo.models.topa.settings import Settings
from tideo.types import Answer, Frames, Sample, TextFrame, Tideo, Video
from tiny import videos_in

# Of an answer under each control. Another key is another answer: runs that users have would be answered again.
KEYS = {
    "main": "35c46a3e5a0ab2839b477d5eecaa15696fcfb51f6b1406048d81f3f428faaae1",
    "blind": "58aa42e6e93387eb26c6e5b23f81b4c3aa523d80f373dc7b24a555163e6ba5e9",
    "single_frame": "53f03da096a721860cfbcb246b6e6a48166756cc4bb109756b131e9e5fb0547c",
    "two_frames": "8e57468de9016159c6c287edaea2157e75fb86aa6ad515b50685ee6cc84a1248",
    "five_frames": "6e304936a960a2276c4a39410137fa8f838386e60383551d98533da9cfea0d7a",
    "shuffled_frames": "078fe8e5b3a01ec298a337c5e894553abdcead8c1084cf28e848beb19d751767",
    "projection_off": "8cb20d632b0bff2ffec062308b2a5055e3719d77ffa65269f76858c419fb08eb",
    "text_features": "4085015efb6b273ffeee30ec11c7b9fe8718946166859a44c75526f7e9ef043a",
    "letter_scoring": "0ef4b262754d5d663b6041cb2acdf8b57981b75c0aefeddbe4b0807d764ad157",
    "text_scoring": "ea1c784c669ec629be135fea80ba51a146d6a60a41a92497fea8b4672a238f0b",
    "order_1": "3671a954fd58e0b2d3d397d147381c3bb35f1075fbfaff5fd3acb7ead17f0114",
}


class First(VideoModel):
    """Takes the first option: what a plug-in has to write at least."""

    name = "first"

    def answer(
        self,
        video: Video,
        samples: Sequence[Sample],
        *,
        seen: Frames | Tideo | None,
        controls: Controls = AS_TRAINED,
    ) -> list[Answer]:
        return [Answer(sample_id=s.id, choice=0) for s in samples]


def test_the_keys_of_answers_stay_as_they_are() -> None:
    model = First()
    model.name, model.key, model.settings = "m", "key", Settings(encoder="e")
    video = Video(id="v", path="none.mp4", start_s=0.5, end_s=2.0)
    sample = Sample(
        id="q", video=video, question="why?", options=("a", "b"), answer=1,
        meta={"episode": {"split": "test", "index": 0, "seed": 0}},
    )  # fmt: skip
    named = {"main": AS_TRAINED, **CONTROLS, "order_1": Controls(rotated=1)}
    items = plan([sample], named, model=model, benchmark=load_benchmark("dollhouse"))
    assert {item.control: item.key for item in items} == KEYS


def test_the_keys_of_an_image_text_model_stay_as_they_are() -> None:
    model = First()
    model.name, model.key = "m", "key"
    model.settings = GridSettings().as_begun(
        {"encoder": "dollhouse-clip"}
    )  # as run.json of an earlier version says
    video = Video(id="v", path="none.mp4", start_s=0.5, end_s=2.0)
    sample = Sample(
        id="q", video=video, question="why?", options=("a", "b"), answer=1, meta={"split": "test"}
    )
    named = {"main": AS_TRAINED, "blind": CONTROLS["blind"]}
    items = plan([sample], named, model=model, benchmark=load_benchmark("nextqa"))
    assert {item.control: item.key for item in items} == {
        "main": "bacb8cd09b1e1242be5af3e841a3eb283a7d98d43a832a5e73ae3372e0bc8cb0",
        "blind": "22675f676751e9be959f484160decc41250ef689deb815b4c33acfad5a6c89c1",
    }


def test_an_encoder_that_is_used_is_not_taken_from_an_earlier_run() -> None:
    asked = GridSettings(sampler="question", encoder="mine")
    assert asked.as_begun({"encoder": "other"}) == asked


def test_other_captions_are_another_answer() -> None:
    model = First()
    video = Video(id="v", path="none.mp4")
    sample = Sample(id="q", video=video, question="why?", options=("a", "b"))
    named = {"text_features": CONTROLS["text_features"]}

    def key(caption: str) -> str:
        def captions(samples: Sequence[Sample], *, num: int) -> Tideo:
            return Tideo(id="v", frames=(TextFrame(main=caption),) * num, summary="")

        benchmark = Benchmark(name="b", read=lambda data, *, videos: [sample], tideo=captions)
        return plan([sample], named, model=model, benchmark=benchmark)[0].key

    assert key("a cat") == key("a cat") != key("a dog")


def test_a_model_that_only_answers_has_the_rest(tmp_path_factory: pytest.TempPathFactory) -> None:
    model = First()
    assert (model.settings, model.controls, model.concurrency) == (ModelSettings(), frozenset(), 0)
    video = Video(id="v", path=str(min((videos_in(tmp_path_factory.getbasetemp()) / "videos").iterdir())))
    frames = model.look(video)
    assert frames is not None
    assert len(frames) == model.num_frames() == 10
    assert model.out_of_distribution(frames) is None
    one = model.look(video, controls=Controls(num_frames=1))
    assert one is not None
    assert len(one) == 1
    assert model.look(video, controls=Controls(blind=True)) is None
    assert model.look(video, controls=Controls(source="text")) is None
    model.settings = ModelSettings(num_frames=0)
    assert model.look(video) is None


def test_the_key_is_of_the_name_and_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = First()
    other.name = "other"
    assert First().key == First().key != other.key
    before = First().key
    (tmp_path / "edited.py").write_text("changed")
    monkeypatch.setattr("tideo.models.interface.inspect.getfile", lambda kind: tmp_path / "edited.py")
    assert First().key != before


def test_a_model_without_answer_is_none() -> None:
    with pytest.raises(TypeError, match="answer"):
        VideoModel()  # type: ignore[abstract]


def test_the_protocol_needs_no_torch() -> None:
    code = "import sys, tideo.models.interface; assert 'torch' not in sys.modules"
    path = {"PYTHONPATH": str(REPOSITORY / "src")}
    subprocess.run([sys.executable, "-c", code], env=path, check=True)
