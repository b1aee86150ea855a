"""The plug-in for lmms-eval, on a stand-in for its three base classes (examples/lmms_eval.sh runs the real one)."""

from __future__ import annotations

import importlib
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from conftest import REPOSITORY
from placement import lies_on
from tideo.dollhouse.export import make
from tideo.models.batching import BatchSize
from tideo.models.interface import ModelSettings, VideoModel
from tideo.serve.lettered import lettered
from tideo.types import Answer, Frames, Sample, UserError, Video


class Base:
    def __init__(self) -> None:
        self.task_dict: dict[str, Any] = {}


class LikesLong(VideoModel):
    """A model that likes long options, fails at missing.mp4, and keeps the questions; it looks at no frame."""

    settings = ModelSettings(num_frames=0)

    def __init__(self) -> None:
        self.asked: list[tuple[Video, list[Sample]]] = []

    def answer(self, video: Video, samples: Sequence[Sample], **_: Any) -> list[Answer]:
        self.asked.append((video, list(samples)))
        if video.path == "missing.mp4":
            raise UserError("missing.mp4: no such file")
        return [
            Answer(
                sample_id=s.id, text=f"about {video.path}",
                loglikelihoods=tuple(-10.0 / len(o) for o in s.options), num_tokens=(2,) * len(s.options),
            )
            for s in samples
        ]  # fmt: skip


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    modules = {name: ModuleType(name) for name in (
        "lmms_eval", "lmms_eval.api", "lmms_eval.api.instance", "lmms_eval.api.model", "lmms_eval.models",
        "lmms_eval.models.registry_v2",
    )}  # fmt: skip
    modules["lmms_eval.api"].instance = modules["lmms_eval.api.instance"]  # type: ignore[attr-defined]
    modules["lmms_eval.api.model"].lmms = Base  # type: ignore[attr-defined]
    modules["lmms_eval.models.registry_v2"].ModelManifest = SimpleNamespace  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "tideo.evaluate.lmms_eval", raising=False)
    yield importlib.import_module("tideo.evaluate.lmms_eval")
    sys.modules.pop("tideo.evaluate.lmms_eval", None)


DOCS = [{"path": "a.mp4"}, {"path": "b.mp4#t=1.5,4"}, {"path": "a.mp4"}, {"path": "missing.mp4"}]


def model(plugin: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(plugin, "load_model", lambda name, args: LikesLong())
    made = plugin.Tideo(model="m", batch_size=1, device="cpu")
    made.task_dict = {"task": {"test": DOCS}}
    return made


def request(doc_id: int, question: str, last: object) -> SimpleNamespace:
    return SimpleNamespace(args=(question, last, lambda doc: [doc["path"]], doc_id, "task", "test"))


def test_the_model_must_be_named(plugin: ModuleType) -> None:
    with pytest.raises(UserError, match=r"give --model_args model=NAME"):
        plugin.Tideo(batch_size=1, device="cpu")


@pytest.mark.slow
def test_its_device_is_a_setting_of_the_model(plugin: ModuleType, gpu: str) -> None:
    model = plugin.Tideo(model="dollhouse-topa", device=gpu).tideo
    assert lies_on(gpu, model.lm)
    assert str(model.memory.values_MD.device) == gpu
    with pytest.raises(UserError, match="device=abacus: torch knows no such device"):
        plugin.Tideo(model="dollhouse-topa", device="abacus")


def test_losses_come_back_in_the_order_of_the_requests(
    plugin: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = model(plugin, monkeypatch)
    requests = [
        request(0, "why?", " so"), request(0, "why?", " because"), request(1, "who?", " he"),
        request(1, "who?", " nobody"), request(2, "when?", " now"), request(2, "when?", " then"),
    ]  # fmt: skip
    found = lm.loglikelihood(requests)
    assert [loss for loss, _ in found] == pytest.approx([5 / 2, 5 / 7, 5 / 2, 5 / 6, 5 / 3, 5 / 4])
    assert [lowest for _, lowest in found] == [False, True, False, True, False, True]
    (first, of_first), (second, of_second) = lm.tideo.asked  # a video's questions together
    assert [s.question for s in of_first] == ["why?", "when?"]
    assert of_first[0].options == ("so", "because")
    assert (first.path, first.start_s) == ("a.mp4", None)
    assert (second.path, second.start_s, second.end_s) == ("b.mp4", 1.5, 4.0)
    assert [s.question for s in of_second] == ["who?"]


def test_the_frames_of_a_batch_are_bounded(plugin: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    lm, batches = model(plugin, monkeypatch), []
    rgb_THWC = np.zeros((2, 8, 8, 3), dtype=np.uint8)

    def answer_many(asked: Sequence[Any], *, at_once: int) -> list[list[Answer]]:
        batches.append(len(asked))
        return [[Answer(sample_id=s.id, text="?") for s in a.samples] for a in asked]

    monkeypatch.setattr(lm.tideo, "batch_size", lambda: BatchSize(8))
    monkeypatch.setattr(lm.tideo, "answer_many", answer_many)
    monkeypatch.setattr(
        lm.tideo,
        "look",
        lambda video, **_: Frames(rgb_THWC=rgb_THWC, pts_s_T=np.arange(2.0), video_id=video.id),
    )
    monkeypatch.setattr(plugin, "MOST_BYTES", 2 * rgb_THWC.nbytes)
    lm.task_dict["task"]["test"] = [{"path": f"{i}.mp4"} for i in range(5)]
    lm.generate_until([request(i, "what?", {}) for i in range(5)])
    assert batches == [2, 2, 1]


def test_a_failure_is_wrong_and_told(
    plugin: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = model(plugin, monkeypatch)
    losses = lm.loglikelihood([request(3, "why?", " a"), request(3, "why?", " b")])
    assert [loss for loss, _ in losses] == [math.inf, math.inf]
    assert "missing.mp4: no such file" in capsys.readouterr().out


def test_a_choice_without_likelihoods_has_the_lowest_loss(
    plugin: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = model(plugin, monkeypatch)
    lm.tideo.answer = lambda video, samples, **_: [Answer(sample_id=s.id, choice=1) for s in samples]
    assert lm.loglikelihood([request(0, "?", x) for x in "abc"]) == [(1.0, False), (0.0, True), (1.0, False)]


def test_open_answers_and_what_is_refused(plugin: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = model(plugin, monkeypatch)
    assert lm.generate_until([request(1, "what?", {}), request(0, "why?", {})]) == [
        "about b.mp4",
        "about a.mp4",
    ]
    with pytest.raises(NotImplementedError, match="one round"):
        lm.generate_until_multi_round([])
    lm.task_dict["task"]["test"] = [{"path": None}]
    with pytest.raises(UserError, match="expected the path of one video"):
        lm.generate_until([request(0, "why?", {})])


def test_a_pair_survives_the_wrapper_of_newer_versions(plugin: ModuleType) -> None:
    plugin.instance.GenerationResult = SimpleNamespace  # type: ignore[attr-defined]
    assert plugin._kept((1.0, True)).text == (1.0, True)


def test_the_entry_point_and_the_task_that_is_written(plugin: ModuleType, tmp_path: Path) -> None:
    project = (REPOSITORY / "pyproject.toml").read_text()
    assert '[project.entry-points."lmms_eval.models"]\ntideo = "tideo.evaluate.lmms_eval:manifest"' in project
    assert plugin.manifest().simple_class_path == "tideo.evaluate.lmms_eval.Tideo"

    make(split="val", num=3, out=tmp_path, videos=False)
    text = (tmp_path / "lmms_eval" / "tideo_dollhouse_val.yaml").read_text()
    task = yaml.safe_load(text.replace("!function ", ""))
    rows = [
        json.loads(line)
        for line in Path(task["dataset_kwargs"]["data_files"]["val"]).read_text().splitlines()
    ]
    assert task["test_split"] == "val"
    assert {task["doc_to_text"], task["doc_to_choice"], task["doc_to_target"]} <= set(rows[0])
    place: dict[str, Any] = {"__file__": str(tmp_path / "lmms_eval" / "utils.py")}
    exec((tmp_path / "lmms_eval" / "utils.py").read_text(), place)
    cut = next(row for row in rows if row["end_s"] is not None)
    whole = next(row for row in rows if row["end_s"] is None)
    file = tmp_path.resolve() / "videos" / f"{whole['video']}.mp4"
    assert place["doc_to_visual"](whole) == [str(file)]
    assert place["doc_to_visual"](cut)[0].endswith(f".mp4#t=0,{cut['end_s']}")
    letters = yaml.safe_load(
        (tmp_path / "lmms_eval" / "tideo_dollhouse_val_letters.yaml")
        .read_text()
        .replace("!function utils.", "")
    )
    doc = rows[0]
    asked, letter = place[letters["doc_to_text"]](doc), place[letters["doc_to_target"]](doc)
    assert lettered(asked) == (doc["question"], tuple(doc["options"]))
    assert doc["options"][ord(letter) - ord("A")] == doc["open_answer"]
    right = place[letters["process_results"]]
    assert (right(doc, [f"{letter} "]), right(doc, ["neither"])) == ({"acc": 1.0}, {"acc": 0.0})
