"""An evaluation in batches: the answers of one by one, nothing lost when memory ends, frames ahead in bounds."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tideo.device import OUT_OF_MEMORY
from tideo.evaluate import ahead
from tideo.evaluate.ahead import decoded_ahead, default_workers
from tideo.evaluate.answers import Item
from tideo.evaluate.run import evaluate
from tideo.models.batching import BatchSize
from tideo.models.interface import AS_TRAINED, Controls, VideoModel
from tideo.models.load import load_model
from tideo.types import Answer, Frames, Sample, UserError, Video, VideoError
from tiny import model_in, videos_in

CHOSEN = ["blind", "single_frame", "letter_scoring"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return videos_in(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_in(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module", autouse=True)
def no_page() -> Iterator[None]:
    """The page decodes videos anew for its pictures, which takes longer than the answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tideo.evaluate.run.write_report", lambda *_, **__: None)
        yield


def run(exported: Path, model: Any, out: Path, **options: Any) -> dict[str, Any]:
    """The records of a run, by their keys."""
    evaluate(
        benchmark="dollhouse", data=exported, videos=exported / "videos", model=model, out=out, controls=CHOSEN,
        **options,
    )  # fmt: skip
    return {r["key"]: r for r in map(json.loads, (out / "answers.jsonl").read_text().splitlines())}


def assert_same(records: dict[str, Any], others: dict[str, Any]) -> None:
    assert records.keys() == others.keys()
    for key, r in records.items():
        names = ("choice", "num_tokens", "pts_s", "error", "strange")
        assert [r[name] for name in names] == [others[key][name] for name in names]
        np.testing.assert_allclose(r["loglikelihoods"], others[key]["loglikelihoods"], atol=1e-4)


@pytest.fixture(scope="module")
def one_by_one(exported: Path, model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    model = load_model(str(model_dir), args=["batch=1"])
    return run(exported, model, tmp_path_factory.mktemp("one_by_one"))


@pytest.mark.parametrize("batch", ["auto", "5"])
def test_a_batch_changes_neither_answers_nor_their_keys(
    batch: str, exported: Path, model_dir: Path, one_by_one: dict[str, Any], tmp_path: Path
) -> None:
    model = load_model(str(model_dir), args=[f"batch={batch}"])
    assert_same(run(exported, model, tmp_path, workers=3), one_by_one)


def test_a_batch_of_several_videos_is_one_forward_pass(
    exported: Path, model_dir: Path, one_by_one: dict[str, Any], tmp_path: Path
) -> None:
    model, rows = load_model(str(model_dir), args=["batch=1000"]), list[int]()
    model.lm.llm.register_forward_pre_hook(  # type: ignore[attr-defined]
        lambda _, args, kwargs: rows.append(len(kwargs["inputs_embeds"])), with_kwargs=True
    )
    records = run(exported, model, tmp_path)
    assert_same(records, one_by_one)
    assert len(rows) == 2  # the prompts' starts of all videos and controls, and all questions about them
    assert rows[1] == len(records) > rows[0] > 2


def test_too_little_memory_for_a_batch_loses_nothing(
    exported: Path,
    model_dir: Path,
    one_by_one: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = load_model(str(model_dir), args=["batch=16"])

    def full(_: Any, args: Any, kwargs: Any) -> None:
        if len(kwargs["inputs_embeds"]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    model.lm.llm.register_forward_pre_hook(full, with_kwargs=True)  # type: ignore[attr-defined]
    with caplog.at_level(logging.WARNING):
        assert_same(run(exported, model, tmp_path), one_by_one)
    told = [r.getMessage() for r in caplog.records if "memory" in r.getMessage()]
    assert told == ["the memory is not enough for 16 questions a batch: 2 from here on"]


def test_a_video_that_does_not_fit_by_itself_is_an_error_and_the_others_are_answered(
    exported: Path, model_dir: Path, one_by_one: dict[str, Any], tmp_path: Path
) -> None:
    model = load_model(str(model_dir), args=["batch=16"])
    features = model.features  # type: ignore[attr-defined]

    def full(seen: Any, *, video: Video, controls: Controls) -> Any:
        if isinstance(seen, Frames) and len(seen) > 1 and video.id == large:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return features(seen, video=video, controls=controls)

    large = json.loads((exported / "test.jsonl").read_text().splitlines()[0])["video"]
    model.features = full  # type: ignore[attr-defined]
    records = run(exported, model, tmp_path)
    assert records.keys() == one_by_one.keys()
    failed = {key for key, r in records.items() if r["error"]}
    assert 0 < len(failed) < len(records)
    assert {records[key]["control"] for key in failed} == {"main", "letter_scoring"}
    assert {records[key]["error"] for key in failed} == {OUT_OF_MEMORY}
    assert_same(
        {k: r for k, r in records.items() if k not in failed},
        {k: r for k, r in one_by_one.items() if k not in failed},
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0", "batch=0: expected auto, or how many"),
        ("much", "batch=much: expected a whole number, not 'much'; expected one of auto"),
    ],
)
def test_a_batch_is_a_number_or_auto(model_dir: Path, value: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_model(str(model_dir), args=[f"batch={value}"])


# --- frames ahead ----------------------------------------------------------------------------------


class Camera(VideoModel):
    """A model that looks: frames of `side` pixels, and how many threads are at it and how many frames are begun."""

    def __init__(self, *, side: int = 8, seconds: float = 0.0) -> None:
        self.side, self.seconds, self.begun, self.at_work, self.most = side, seconds, 0, 0, 0
        self.lock = threading.Lock()

    def answer(self, video: Video, samples: Sequence[Sample], **_: Any) -> list[Answer]:
        raise AssertionError("only its frames are wanted")

    def look(self, video: Video, *, controls: Controls = AS_TRAINED, sample: Sample | None = None) -> Frames:
        with self.lock:
            self.begun, self.at_work = self.begun + 1, self.at_work + 1
            self.most = max(self.most, self.at_work)
        time.sleep(self.seconds)
        with self.lock:
            self.at_work -= 1
        if video.id == "3":
            raise VideoError("no frame")
        rgb_THWC = np.zeros((1, self.side, self.side, 3), np.uint8)
        return Frames(rgb_THWC=rgb_THWC, pts_s_T=np.zeros(1), video_id=video.id)


def frames_of(camera: Camera, *, num: int, size: int, workers: int) -> Any:
    videos = [Video(id=str(i), path=f"{i}.mp4") for i in range(num)]
    segments = [
        (v, {"main": [Item(control="main", key=v.id, sample=Sample(id=v.id, video=v, question="what"))]})
        for v in videos
    ]
    return decoded_ahead(segments, {"main": Controls()}, model=camera, size=BatchSize(size), workers=workers)


def test_frames_come_in_order_from_several_threads() -> None:
    camera = Camera(seconds=0.01)
    seen = list(frames_of(camera, num=20, size=4, workers=3))
    assert [video.id for video, _, _ in seen] == [str(i) for i in range(20)]
    assert [isinstance(looked[None], VideoError) for _, _, looked in seen] == [i == 3 for i in range(20)]
    assert 1 < camera.most <= 3


def test_as_many_are_begun_as_two_batches_take() -> None:
    camera = Camera()
    ahead_of_model = frames_of(camera, num=100, size=8, workers=2)
    for taken in range(1, 10):
        next(ahead_of_model)
        assert camera.begun <= taken + 16
    ahead_of_model.close()


def test_large_frames_are_not_decoded_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Camera(side=100)
    monkeypatch.setattr(ahead, "MOST_BYTES", 3 * 100 * 100 * 3)
    ahead_of_model = frames_of(camera, num=100, size=50, workers=2)
    for taken in range(1, 10):
        next(ahead_of_model)
        assert camera.begun <= taken + 3
    ahead_of_model.close()


def test_processes_of_one_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "os", SimpleNamespace(cpu_count=lambda: 12, environ={"LOCAL_WORLD_SIZE": "4"}))
    assert default_workers() == 3
