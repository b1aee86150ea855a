"""Looks at a video: single frames and a model's own video input, beside grids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tideo.models.grid.settings import GridSettings
from tideo.models.grid.vlm import GridVLM
from tideo.models.interface import Asked, Controls
from tideo.models.load import load_model
from tideo.types import Answer, Frames, Sample, UserError, Video
from tiny_vlms import FAMILIES, SEEN, made, saved
from videos import encode

NATIVE = ("llava_onevision", "qwen2_5_vl", "qwen3_vl", "smolvlm")  # which take videos
OPTIONS = ("washing dishes", "reading a book", "tea")


def frames_of(num: int = 4, *, step_s: float = 2.0) -> Frames:
    rgb_THWC = np.random.default_rng(0).integers(0, 255, (num, 28, 56, 3), dtype=np.uint8)
    return Frames(rgb_THWC=rgb_THWC, pts_s_T=1.0 + step_s * np.arange(num), video_id="v")


def looking(family: str, **settings: Any) -> GridVLM:
    model, processor = made(family)
    settings = {"image_size": SEEN[family]} | settings
    return GridVLM(model, processor=processor, settings=GridSettings(**settings), name=family, key="key")


def answer(vlm: GridVLM, seen: Frames | None, **controls: Any) -> Answer:
    video = Video(id="v", path="v.mp4")
    sample = Sample(id="q", video=video, question="what is the man doing?", options=OPTIONS)
    asked = Asked(video=video, samples=[sample], seen=seen, controls=Controls(**controls))
    ((found,),) = vlm.answer_many([asked], at_once=1)
    return found


def processed(vlm: GridVLM, frames: Frames, text: str) -> Any:
    """The processor's inputs for a chat about the video, put together without Tideo's template."""
    indices = [round(30 * t) for t in frames.pts_s_T]
    meta = {"fps": 30.0, "total_num_frames": 240, "frames_indices": indices, "duration": 8.0}
    return vlm.processor(
        text=text, videos=[frames.rgb_THWC], video_metadata=[meta], do_sample_frames=False, return_tensors="pt",
        add_special_tokens=False,
    )  # fmt: skip


@pytest.mark.parametrize("family", NATIVE)
def test_a_video_scores_as_in_one_plain_forward(family: str) -> None:
    vlm, frames = looking(family, look="video", frames=4), frames_of()
    chat = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "why?"}]}]
    opening = vlm.processor.apply_chat_template(chat, add_generation_prompt=True)
    start = processed(vlm, frames, opening)["input_ids"].shape[1]
    (scores,) = vlm.chat.loglikelihoods([([frames], [("why?", OPTIONS)])])[0]
    between = " " if family == "smolvlm" else ""  # its template puts one before a reply
    for option, found in zip(OPTIONS, scores.sums, strict=True):
        inputs = processed(vlm, frames, opening + between + option)
        inputs.pop("video_metadata", None)
        with torch.no_grad():
            logprobs_LV = vlm.model(**inputs).logits[0].log_softmax(-1)
        ids = inputs["input_ids"][0].tolist()
        expected = sum(logprobs_LV[i - 1, ids[i]].item() for i in range(start, len(ids)))
        assert found == pytest.approx(expected, abs=1e-3)


def test_the_times_of_a_video_are_in_the_prompt() -> None:
    vlm = looking("qwen3_vl", look="video", frames=4)
    opening = vlm.chat.template.opening("why?", num_images=1)
    near, far = (vlm.chat.template.encode(opening, [frames_of(step_s=s)]) for s in (2.0, 20.0))
    texts = [vlm.processor.tokenizer.decode(e["input_ids"][0]) for e in (near, far)]
    assert texts[0] != texts[1]
    assert near["pixel_values_videos"].equal(far["pixel_values_videos"])


@pytest.mark.parametrize("family", NATIVE)
def test_a_video_is_asked_with_controls_too(family: str) -> None:
    vlm, frames = looking(family, look="video", frames=4), frames_of()
    found = answer(vlm, frames)
    assert (found.error, found.pts_s) == (None, (1.0, 3.0, 5.0, 7.0))
    shuffled, blind = answer(vlm, frames, shuffled=1), answer(vlm, None, blind=True)
    assert len({found.loglikelihoods, shuffled.loglikelihoods, blind.loglikelihoods}) == 3
    assert answer(vlm, frames.at(slice(0, 1)), num_frames=1).error is None
    assert "videos are not stacked" in str(vlm.chat.alone)


@pytest.mark.parametrize("family", FAMILIES)
def test_single_frames_are_images_whose_times_the_model_reads(family: str) -> None:
    vlm, frames = looking(family, look="frames", frames=3), frames_of(3)
    images = vlm.images(frames, Video(id="v", path="v.mp4"), controls=Controls(), square=vlm._crops)
    assert len(images) == 3
    assert (images[0].width == images[0].height) == (family == "llava")  # CLIP's crop would cut the sides off
    turn = vlm.settings.turn("why?", num_images=3, pts_s=frames.pts_s_T.tolist())
    assert turn == "The 3 images are frames of one video in the order of time, at 0:01, 0:03, 0:05.\nwhy?"
    (scores,) = vlm.chat.loglikelihoods([(images, [(turn, OPTIONS)])])[0]
    assert answer(vlm, frames).loglikelihoods != answer(vlm, frames_of(3, step_s=20.0)).loglikelihoods
    assert all(np.isfinite(scores.sums))


def test_a_model_without_video_input_says_so(tmp_path: Path) -> None:
    folder = str(saved("llava", tmp_path / "llava"))
    with pytest.raises(UserError, match="has no video input of its own: set look=frames, panels or grid"):
        load_model(folder, args=["look=video"])
    encode(tmp_path / "v.mp4", num=30)
    video = Video(id="v", path=str(tmp_path / "v.mp4"))
    vlm = load_model(folder, args=["look=frames", "frames=5"])
    seen = vlm.look(video)
    sample = Sample(id="q", video=video, question="why?", options=OPTIONS)
    (found,) = vlm.answer(video, [sample], seen=seen)
    assert (found.error, len(found.pts_s)) == (None, 5)


def test_grids_keep_the_keys_of_earlier_versions() -> None:
    assert not {"look", "frames"} & GridSettings().keyed.keys()
    assert GridSettings(look="frames").keyed["look"] == "frames"
