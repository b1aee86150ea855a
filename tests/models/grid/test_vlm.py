"""Image-text models of several families asked about grids: exact scores, one image for all questions, plain errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from conftest import Tideo
from tideo.benchmarks.dollhouse import dollhouse
from tideo.evaluate.run import evaluate
from tideo.models.batching import Batching
from tideo.models.grid.settings import GRID_FILE, GridSettings
from tideo.models.grid.vlm import GridVLM
from tideo.models.interface import Controls
from tideo.models.load import load_model
from tideo.types import Sample, UserError, Video
from tiny import save_llm, videos_in
from tiny_vlms import FAMILIES, RELATED, SEEN, made, saved

SIDE = 28  # of what the tiny LLaVA sees
QUESTIONS = [
    ("what is the man doing?\nA. washing dishes\nB. reading", ("A", "B")),
    ("why does he pour tea?", ("to wash dishes", "to read a book", "a tea")),
    ("what is the man doing after that?", ("washing dishes", "reading")),
]


def picture(seed: int = 0, side: int = 56) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8))


def tiny(family: str, **settings: object) -> GridVLM:
    model, processor = made(family)
    settings = {"image_size": SEEN.get(family, 56)} | settings
    return GridVLM(model, processor=processor, settings=GridSettings(**settings), name=family, key="key")  # type: ignore[arg-type]


def asked(vlm: GridVLM, images: list[Image.Image], turn: str, reply: str | None = None) -> Any:
    """The processor's inputs for the chat up to the end of the reply, or up to where it is waited for."""
    content = [*({"type": "image"} for _ in images), {"type": "text", "text": turn}]
    chat: list[dict[str, Any]] = [{"role": "user", "content": content}]
    processor = vlm.chat.processor
    text = waiting = processor.apply_chat_template(chat, add_generation_prompt=True)
    if reply is not None:
        chat.append({"role": "assistant", "content": [{"type": "text", "text": reply}]})
        text = processor.apply_chat_template(chat)
        text = text[: text.rindex(reply) + len(reply)]
        text = (
            text if text.startswith(waiting) else waiting + reply
        )  # LLaVA-OneVision's has other white space
    shown = [images] if images else None
    return processor(images=shown, text=text, add_special_tokens=False, return_tensors="pt")


def reference(vlm: GridVLM, images: list[Image.Image], turn: str, option: str) -> float:
    """The whole chat with the option written out, in one plain forward."""
    start = asked(vlm, images, turn)["input_ids"].shape[1]
    inputs = asked(vlm, images, turn, option)
    with torch.no_grad():
        logprobs_LV = vlm.model(**inputs).logits[0].log_softmax(-1)
    ids = inputs["input_ids"][0].tolist()
    return sum(logprobs_LV[i - 1, ids[i]].item() for i in range(start, len(ids)))


@pytest.mark.parametrize("num_images", [0, 1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_the_whole_chat(family: str, num_images: int) -> None:
    vlm, images = tiny(family), [picture(i) for i in range(num_images)]
    scored = vlm.chat.loglikelihoods([(images, QUESTIONS)])[0]
    for (turn, options), scores in zip(QUESTIONS, scored, strict=True):
        expected = [reference(vlm, images, turn, option) for option in options]
        assert scores.sums == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_questions_asked_together_score_as_alone(family: str) -> None:
    vlm, images = tiny(family), [picture()]
    (together,) = vlm.chat.loglikelihoods([(images, QUESTIONS)])
    alone = [vlm.chat.loglikelihoods([(images, [q])])[0][0] for q in QUESTIONS]
    for one, other in zip(together, alone, strict=True):
        assert one.counts == other.counts
        assert one.sums == pytest.approx(other.sums, abs=1e-3)


# Videos of unlike sizes, with and without pictures, with one question and with several of unlike lengths.
VIDEOS: list[tuple[list[Image.Image], list[tuple[str, tuple[str, ...]]]]] = [
    ([picture(0)], QUESTIONS),
    ([], QUESTIONS[:1]),
    ([picture(1, 84), picture(2, 28)], QUESTIONS[1:]),
    ([Image.new("RGB", (84, 28), "red")], QUESTIONS[:1]),
    ([], [("why, and what comes after it, and who is there?", ("tea", "a book or a man"))]),
]


@pytest.mark.parametrize("family", [*FAMILIES, *RELATED])
def test_questions_about_several_videos_score_as_alone(family: str) -> None:
    vlm = tiny(family)
    alone = [vlm.chat.loglikelihoods([of_video])[0] for of_video in VIDEOS]
    together = vlm.chat.loglikelihoods(VIDEOS, at_once=3)
    for one, other in zip(alone, together, strict=True):
        for expected, scores in zip(one, other, strict=True):
            assert scores.counts == expected.counts
            assert scores.sums == pytest.approx(expected.sums, abs=1e-4)


def test_the_pictures_of_all_videos_are_encoded_together_and_each_once() -> None:
    vlm, passes = tiny("llava"), []
    vlm.model.model.vision_tower.register_forward_hook(lambda *of: passes.append(len(of[2][0])))
    vlm.chat.loglikelihoods(VIDEOS, at_once=4)
    assert passes == [4]


def test_a_family_whose_inputs_are_not_known_to_stack_is_answered_one_by_one() -> None:
    vlm = tiny("llava")
    vlm.model.config.model_type = "other"
    alone = [vlm.chat.loglikelihoods([of_video])[0] for of_video in VIDEOS]
    assert vlm.chat.loglikelihoods(VIDEOS, at_once=100) == alone  # to the last digit
    assert vlm.batch_size().now == 1
    vlm.batching = Batching(batch=8)
    with pytest.raises(
        UserError, match="batch=8: inputs of model type other are not stacked, so questions are answered"
    ):
        vlm.batch_size()


def test_the_picture_counts() -> None:
    vlm = tiny("llava")
    one, other = (vlm.chat.loglikelihoods([([picture(seed)], QUESTIONS[:1])])[0][0] for seed in (0, 1))
    assert one.sums != pytest.approx(other.sums, abs=1e-3)


def test_the_image_is_encoded_once_for_all_questions() -> None:
    vlm, seen = tiny("llava"), []
    vlm.model.model.vision_tower.register_forward_hook(lambda *_: seen.append(1))
    vlm.chat.loglikelihoods([([picture()], QUESTIONS)])
    assert len(seen) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reply_is_the_greedy_one(family: str) -> None:
    vlm = tiny(family)
    images = [picture()]
    inputs = asked(vlm, images, "what happens?")
    ids = []
    for _ in range(3):
        with torch.no_grad():
            token = vlm.model(**inputs).logits[0, -1].argmax().item()
        ids.append(token)
        for name, value in (("input_ids", token), ("attention_mask", 1), ("mm_token_type_ids", 0)):
            if name in inputs:
                inputs[name] = torch.cat([inputs[name], torch.tensor([[value]])], dim=1)
    expected = vlm.chat.processor.tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert vlm.chat.generate(images, turn="what happens?", max_new_tokens=3) == expected


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return videos_in(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved("llava", tmp_path_factory.mktemp("vlm") / "tiny_llava")


def samples_of(data: Path) -> list[Sample]:
    samples = dollhouse(data, videos=data / "videos")
    return [s for s in samples if s.video == samples[0].video]


def test_controls_change_what_is_shown(data: Path, folder: Path) -> None:
    vlm = load_model(str(folder), args=["rows=2", "cols=2", "form=text"])
    samples = samples_of(data)[:3]

    def scores(**controls: object) -> list[float]:
        changed = Controls(**controls)  # type: ignore[arg-type]
        seen = vlm.look(samples[0].video, controls=changed)
        answers = vlm.answer(samples[0].video, samples, seen=seen, controls=changed)
        assert all(a.error is None for a in answers)
        return [score for a in answers for score in a.loglikelihoods]

    plain = scores()
    assert scores() == plain
    for changed in ({"blind": True}, {"shuffled": 0}, {"num_frames": 1}, {"form": "letter"}):
        assert scores(**changed) != pytest.approx(plain, abs=1e-4), changed


def test_a_question_chooses_its_frames(data: Path, folder: Path) -> None:
    vlm = load_model(str(folder), args=["rows=2", "cols=2", "sampler=question", "selector=dollhouse-clip"])
    samples = samples_of(data)[:4]
    answers = [vlm.answer(s.video, [s], seen=vlm.look_for(s))[0] for s in samples]
    shown = [a.pts_s for a in answers]
    assert all(len(s) == 4 and list(s) == sorted(s) for s in shown)
    assert len(set(shown)) > 1
    with pytest.raises(UserError, match="chooses frames for a question: give one"):
        vlm.look(samples[0].video)


def test_a_folder_answers_as_the_model_in_memory(data: Path, folder: Path) -> None:
    samples = samples_of(data)[:2]
    loaded = load_model(str(folder), args=["rows=2", "cols=3"])
    assert loaded.settings == GridSettings(rows=2, cols=3, image_size=SIDE)
    seen = loaded.look(samples[0].video)
    answers = loaded.answer(samples[0].video, samples, seen=seen)
    kept = tiny("llava", rows=2, cols=3).answer(samples[0].video, samples, seen=seen)
    assert [a.loglikelihoods for a in answers] == [a.loglikelihoods for a in kept]
    assert all(len(a.pts_s) == 6 for a in answers)


def test_an_unaskable_question_fails_alone(data: Path) -> None:
    vlm = tiny("llava", rows=1, cols=2, max_new_tokens=2)
    good = samples_of(data)[0]
    bad = Sample(id="long", video=good.video, question="why " * 3000, options=("a", "b"))
    open_ended = Sample(id="open", video=good.video, question="what happens?", options=())
    answers = vlm.answer(good.video, [good, bad, open_ended], seen=vlm.look(good.video))
    assert [a.error is None for a in answers] == [True, False, True]
    assert "exceed the model's context" in (answers[1].error or "")
    assert isinstance(answers[2].text, str)


def test_it_is_evaluated_with_its_controls(data: Path, folder: Path, tmp_path: Path) -> None:
    model = load_model(str(folder), args=["rows=1", "cols=2"])
    report = evaluate(
        benchmark="dollhouse", data=data, videos=data / "videos", model=model, out=tmp_path, limit=3,
        controls=None,
    )  # fmt: skip
    assert (report.n, report.n_failed) == (3, 0)
    assert {"blind", "single_frame", "shuffled_frames", "text_scoring"} <= set(report.controls)
    settings = json.loads((tmp_path / "run.json").read_text())["recipe"]["settings"]
    assert (settings["rows"], settings["cols"]) == (1, 2)


def test_the_command_asks_a_grid(tideo: Tideo, data: Path, folder: Path) -> None:
    video = sorted((data / "videos").iterdir())[0]
    asked = tideo(
        "ask", str(video), "what is he doing?", "--option", "reading", "--option", "cooking", "--json",
        "--model", str(folder), "--model-args", "rows=2,cols=2,dtype=bfloat16",
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr
    told = json.loads(asked.stdout)
    assert (len(told["pts_s"]), told["model"]) == (4, str(folder))
    wrong = tideo("ask", str(video), "why?", "--model", str(folder), "--model-args", "row=2")
    assert wrong.returncode == 2
    assert "--model-args row=2: unknown key 'row'; did you mean rows" in wrong.stderr


def test_settings_are_kept_beside_the_model(folder: Path, tmp_path: Path) -> None:
    assert GridSettings.load(folder) == GridSettings(image_size=SIDE)
    assert GridSettings.load(tmp_path) == GridSettings()
    GridSettings(rows=3, cols=3, stamps=True).save(tmp_path)
    assert GridSettings.load(tmp_path) == GridSettings(rows=3, cols=3, stamps=True)
    (tmp_path / GRID_FILE).write_text('{"rows": "many"}')
    with pytest.raises(UserError, match="does not describe a grid"):
        GridSettings.load(tmp_path)


def test_what_cannot_be_a_grid_model_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no model: tideo\.json is missing"):
        load_model(str(save_llm(tmp_path / "llm")))
    for args, told in {
        "rows=0": "expected at least one row",
        "panels=0": "panels=0, frames=16: expected at least 1 of each",
        "fit=stretch": "expected one of squash",
        "image_size=56": "a grid of 56 pixels a side is larger than the 28 that .* sees: set image_size=28",
        "dtype=half_a_float": "expected auto, bf16",
        "form=poem": "expected one of letter, text",
        "intro={what}": "expected the fields {frames}",
        "reduction=max": "expected one of mean, sum",
        "rows=500,cols=500": "an image of 28 x 28 pixels has no room for 500 x 500 cells",
    }.items():
        with pytest.raises(UserError, match=told):
            load_model(str(folder), args=args.split(","))
    with pytest.raises(UserError, match="need a GPU"):
        load_model(str(folder), args=["load_4bit=true"])
    model, processor = made("llava")
    processor.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        GridVLM(model, processor=processor, settings=GridSettings(), name="bare", key="key")
    (folder / "model.safetensors").rename(tmp_path / "aside")
    try:
        with pytest.raises(UserError, match="cannot be loaded"):
            load_model(str(folder))
    finally:
        (tmp_path / "aside").rename(folder / "model.safetensors")


def test_weights_that_are_not_the_models_are_told(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    projector = next(n for n in weights if "multi_modal_projector" in n and n.endswith("weight"))
    broken = {
        "lacks 1 of its weights, the first .*multi_modal_projector": {
            n: w for n, w in weights.items() if n != projector
        },
        r"multi_modal_projector.* is \[\d+, 3\], expected": weights
        | {projector: weights[projector][:, :3].contiguous()},
    }
    for number, (told, kept) in enumerate(broken.items()):
        copy = tmp_path / str(number)
        shutil.copytree(folder, copy)
        save_file(kept, copy / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(UserError, match=told):
            load_model(str(copy))
    cut = (folder / "model.safetensors").read_bytes()[:-100]
    (tmp_path / "0" / "model.safetensors").write_bytes(cut)
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(str(tmp_path / "0"))


@pytest.mark.parametrize(
    ("question", "option", "error"),
    [
        ("what is <image>?", "a", "the text contains <image>, which stands for an image: rephrase it"),
        ("is this </s> it?", "a", "the text contains </s>, a special token of the model: rephrase it"),
        ("what is it?", "a </s> b", "the text contains </s>, a special token of the model: rephrase it"),
    ],
)
def test_a_token_of_the_models_own_in_a_question_is_an_error(
    question: str, option: str, error: str, data: Path
) -> None:
    vlm, good = tiny("llava", rows=1, cols=2), samples_of(data)[0]
    bad = Sample(id="marker", video=good.video, question=question, options=(option, "b"))
    fine, marked = vlm.answer(good.video, [good, bad], seen=vlm.look(good.video))
    assert fine.error is None
    assert marked.error == error


def test_the_words_before_the_question_fit_the_panels() -> None:
    one, four, even = GridSettings(), GridSettings(rows=2, cols=2, panels=4), range(16)
    assert one.turn("why?", num_images=1, pts_s=even).startswith("The image shows 16 frames of one video")
    turn = four.turn("why?", num_images=4, pts_s=even)
    assert turn.startswith("The 4 images show 16 frames of one video one after another, each")
    assert GridSettings(intro="").turn("why?", num_images=1, pts_s=even) == "why?"


@pytest.mark.parametrize("panels", [1, 2])
def test_the_intro_to_grids_may_state_the_times(panels: int) -> None:
    settings = GridSettings(
        rows=1, cols=2, panels=panels, intro="{frames} frames, {cols} a row, at {times}.\n"
    )
    turn = settings.turn("why?", num_images=panels, pts_s=(1.0, 2.5, 62.0))
    assert turn == "3 frames, 2 a row, at 0:01, 0:02, 1:02.\nwhy?"
    assert settings.turn("why?", num_images=1, pts_s=(1.0,)) == "why?"
    assert settings.turn("why?", num_images=0, pts_s=()) == "why?"


def test_a_video_without_frames_is_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"no video")
    vlm = load_model(str(folder))
    with pytest.raises(UserError, match=r"x\.mp4"):
        vlm.look(Video(id="x", path=str(tmp_path / "x.mp4")))
