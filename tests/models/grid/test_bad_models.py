"""Image-text models whose parts are missing or do not belong together: one line that says what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grid_training import GRID, SIDE, nextqa_in
from tideo.config import override
from tideo.models.grid.loading import check_context
from tideo.models.grid.settings import GridSettings
from tideo.models.grid.template import ChatTemplate
from tideo.models.load import load_model
from tideo.train.grid.config import FinetuneConfig, GridTraining
from tideo.train.grid.finetune import finetune
from tideo.train.grid.memory_plan import plan
from tideo.types import Answer, Sample, Stopped, UserError, Video
from tiny_vlms import made, saved
from videos import encode

OPTIONS = ("tea", "a book")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved("llava", tmp_path_factory.mktemp("whole") / "llava")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nextqa_in(tmp_path_factory.mktemp("data"), num=2)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    path = tmp_path_factory.mktemp("video") / "v.mp4"
    encode(path, num=30)
    return Video(id="v", path=str(path))


def changed(folder: Path, to: Path, name: str, change: Callable[[dict[str, Any]], object]) -> Path:
    shutil.copytree(folder, to)
    fields = json.loads((to / name).read_text())
    change(fields)
    (to / name).write_text(json.dumps(fields))
    return to


def asked(model: Path, video: Video, *args: str, options: tuple[str, ...] = OPTIONS) -> Answer:
    vlm = load_model(str(model), args=args)
    sample = Sample(id="q", video=video, question="what is it?", options=options)
    (answer,) = vlm.answer(video, [sample], seen=vlm.look(video))
    return answer


def trained(model: Path, data: Path, out: Path, **changes: Any) -> Path:
    return finetune(of(model, path=str(data), videos=str(data.parent / "videos"), **changes), out=out)


def of(model: Path, **changes: Any) -> FinetuneConfig:
    given = {"grid": GRID, "path": "train.csv", "videos": "videos", **changes}
    return FinetuneConfig(
        model=str(model), data="nextqa", train=GridTraining(steps=1, batch=2, bf16=False), **given
    )


OTHER_NUMBER = (
    r"makes another number of tokens of an image than its vision tower has features .*get both anew"
)


def other_patches(folder: Path, to: Path) -> Path:
    return changed(folder, to, "processor_config.json", lambda f: f.update(patch_size=14))


@pytest.mark.parametrize("options", [OPTIONS, ()])
def test_tokens_that_are_not_as_many_as_the_features_end_the_run(
    options: tuple[str, ...], folder: Path, video: Video, tmp_path: Path
) -> None:
    with pytest.raises(Stopped, match=OTHER_NUMBER):
        asked(other_patches(folder, tmp_path / "m"), video, "rows=2", "cols=2", options=options)


@pytest.mark.slow
@pytest.mark.parametrize("keep_features", [True, False])
def test_tokens_that_are_not_as_many_as_the_features_end_a_training(
    keep_features: bool, folder: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=OTHER_NUMBER):
        trained(other_patches(folder, tmp_path / "m"), data, tmp_path / "out", keep_features=keep_features)


def test_idefics_says_it_in_other_words(video: Video, tmp_path: Path) -> None:
    model = saved("idefics3", tmp_path / "whole")
    other = changed(model, tmp_path / "m", "processor_config.json", lambda f: f.update(image_seq_len=5))
    with pytest.raises(Stopped, match="another number of tokens of an image"):
        asked(other, video)


def test_without_an_image_processor(folder: Path, tmp_path: Path) -> None:
    other = changed(folder, tmp_path / "m", "processor_config.json", lambda f: f.pop("image_processor"))
    with pytest.raises(UserError, match=r"it has no image processor, .* preprocessor_config\.json"):
        load_model(str(other))


def test_a_plan_without_an_image_processor(folder: Path, tmp_path: Path) -> None:
    other = changed(folder, tmp_path / "m", "processor_config.json", lambda f: f.pop("image_processor"))
    with pytest.raises(UserError, match=r"it has no image processor, .* preprocessor_config\.json"):
        plan(of(other), gpus=1)


def test_a_plan_of_cells_that_would_vanish(folder: Path) -> None:
    grid = GridSettings(rows=5, cols=5, image_size=SIDE)
    with pytest.raises(UserError, match="so 9 frames would vanish: set fewer rows and cols"):
        plan(of(folder, grid=grid), gpus=1)


def test_without_a_video_processor(tmp_path: Path) -> None:
    model = saved("qwen3_vl", tmp_path / "whole")
    other = changed(model, tmp_path / "m", "processor_config.json", lambda f: f.pop("video_processor"))
    with pytest.raises(UserError, match=r"it has no video processor, .* get its folder anew"):
        load_model(str(other))


@pytest.mark.slow
def test_without_a_pad_token_nothing_is_missing(
    folder: Path, data: Path, video: Video, tmp_path: Path
) -> None:
    other = changed(folder, tmp_path / "m", "tokenizer_config.json", lambda f: f.pop("pad_token"))
    assert made("llava")[1].tokenizer.pad_token is not None
    assert asked(other, video).loglikelihoods == asked(folder, video).loglikelihoods
    assert (trained(other, data, tmp_path / "out") / "model.safetensors").is_file()


def shortened(folder: Path, place: Path, *, to: int = 60) -> Path:
    return changed(
        folder, place, "config.json", lambda f: f["text_config"].update(max_position_embeddings=to)
    )


def test_a_prompt_beyond_the_context_says_how_much_of_it_is_images(
    folder: Path, video: Video, tmp_path: Path
) -> None:
    answer = asked(
        shortened(folder, tmp_path / "m", to=150),
        video,
        "look=frames",
        "frames=3",
        options=("tea " * 30, "a book"),
    )
    line = "tokens exceed the model's context of 150: shorten the text, or show less: 48 of them"
    assert line in str(answer.error)


def test_frames_of_a_small_video_are_not_taken_for_large_ones() -> None:
    _, processor = made("qwen2_vl")
    processor.image_processor.size = {"shortest_edge": 28 * 28, "longest_edge": 4096 * 28 * 28}
    template = ChatTemplate(processor, name="m")
    settings = GridSettings(look="frames", frames=16, image_size=896)
    check_context(template, settings, limit=2048)  # of 160 x 90 pixels they fit, of 896 x 504 they do not
    with pytest.raises(UserError, match=r"about 16 frames has \d+ tokens, .* context of 300: show less"):
        check_context(template, settings, limit=300)


@pytest.mark.parametrize(
    ("look", "line"),
    [
        (
            ["look=frames", "frames=6"],
            r"about 6 frames has \d+ tokens, .* context of 60: show less \(frames, image_size",
        ),
        (
            ["look=panels", "panels=4"],
            r"about \d+ frames has \d+ tokens, .* context of 60: show less \(panels, image_size",
        ),
    ],
)
def test_what_leaves_no_room_in_the_context_is_refused_before_the_weights(
    look: list[str], line: str, folder: Path, data: Path, tmp_path: Path
) -> None:
    model = shortened(folder, tmp_path / "m")
    (model / "model.safetensors").unlink()
    with pytest.raises(UserError, match=line):
        load_model(str(model), args=look)
    grid = override(GRID, look)
    with pytest.raises(UserError, match=line):
        trained(model, data, tmp_path / "out", grid=grid)


@pytest.mark.slow
def test_an_example_beyond_the_context_is_not_trained(folder: Path, data: Path, tmp_path: Path) -> None:
    line = r"conversation \d_0: \d+ tokens exceed the model's context of 60: set a smaller packed"
    with pytest.raises(UserError, match=line):
        trained(shortened(folder, tmp_path / "m"), data, tmp_path / "out")


def test_frames_that_would_vanish(folder: Path, data: Path, tmp_path: Path) -> None:
    line = r"5 x 5 cells in 28 pixels has 16 tokens .* so 9 frames would vanish: set fewer rows and cols"
    with pytest.raises(UserError, match=line):
        load_model(str(folder), args=["rows=5", "cols=5"])
    with pytest.raises(UserError, match=line):
        trained(folder, data, tmp_path / "out", grid=GridSettings(rows=5, cols=5, image_size=SIDE))


def test_a_processor_that_shrinks_without_cropping(folder: Path, tmp_path: Path) -> None:
    def shrink(fields: dict[str, Any]) -> None:
        size = {"shortest_edge": 14}
        fields["image_processor"] |= {"do_center_crop": False, "crop_size": None, "size": size}

    other = changed(folder, tmp_path / "m", "processor_config.json", shrink)
    with pytest.raises(UserError, match=r"larger than the 14 that .* sees: set image_size=14"):
        load_model(str(other), args=["image_size=28"])
