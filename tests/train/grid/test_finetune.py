"""Finetuning image-text models on grids: what is trained on, which parts learn, exact losses, resuming, plans."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from conftest import REPOSITORY, Tideo
from tideo.config import override
from tideo.models.grid.settings import GridSettings
from tideo.models.load import load_model
from tideo.registry import load
from tideo.tiny.grid_episodes import captioned, grid_conversations
from tideo.tiny.llava import resized_places
from tideo.train.grid.config import FinetuneConfig, GridTraining
from tideo.train.grid.conversations import Conversation, Pictures, Turn, annotated, pasted
from tideo.train.grid.examples import Chat, ChatExamples, collate_chats
from tideo.train.grid.finetune import finetune, mix
from tideo.train.grid.llava_json import read_llava, write_llava
from tideo.train.grid.memory_plan import image_tokens, memory_of, parameters, plan, shape
from tideo.train.grid.modules import part_of, train_only, with_lora
from tideo.train.grid.patch_features import keep_tower, patch_features, put_back
from tideo.train.grid.stage import GridWork
from tideo.train.grid.trainer import GridTrainer
from tideo.train.packing import IGNORE
from tideo.train.trainer import last_checkpoint
from tideo.types import Sample, UserError, Video
from tiny_vlms import FAMILIES, made, saved
from videos import encode

SIDE = 28
GRID = GridSettings(rows=2, cols=2, image_size=SIDE)
TURNS = (
    Turn(user="what is the man doing?", reply="washing dishes"),
    Turn(user="why does he pour tea?", reply="to read"),
    Turn(user="A. tea B. a book", reply="B"),
)
SCRIPT = """
import json, sys
from pathlib import Path
from tideo.config import from_plain, override
from tideo.train.grid.finetune import finetune
from tideo.train.grid.config import FinetuneConfig
config = from_plain(FinetuneConfig, json.loads(Path(sys.argv[1]).read_text()))
finetune(override(config, sys.argv[4:]), out=sys.argv[2], resume=sys.argv[3] == "resume")
"""
# Accelerate takes notice of FSDP on GPUs only; torch's own shards over gloo as well.
SHARDED = """
import accelerate.state as state
from accelerate.utils import DistributedType
from tideo.train import grid_work
grid_work.SHARDS_ON_CPU = True
begin = state.AcceleratorState.__init__
def begin_sharded(self, *args, fsdp_plugin=None, **kwargs):
    begin(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP
state.AcceleratorState.__init__ = begin_sharded
"""
HEADER = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8))


def conversation(seed: int = 0, turns: tuple[Turn, ...] = TURNS, num: int = 1) -> Conversation:
    pictures = Pictures(key=f"k{seed}", num=num, open=lambda: [picture(seed + i) for i in range(num)])
    return Conversation(id=f"c{seed}", pictures=pictures, turns=turns)


def batch_of(
    processor: Any, conversations: list[Conversation], *, packed: int = 1, features: Any = None
) -> Any:
    examples = ChatExamples(
        conversations, processor=processor, image_size=SIDE, num=64, packed=packed, features=features
    )
    return collate_chats([examples[i] for i in range(len(examples.parts))], pad_id=0)


def nextqa_in(folder: Path, *, num: int = 4) -> Path:
    """Videos and a training file of two questions about each."""
    (folder / "videos").mkdir(parents=True)
    rows = []
    for k in range(num):
        encode(folder / "videos" / f"{k}.mp4", num=20 + k)
        rows += [
            f"{k},20,64,48,what is it number {q},{(k + q) % 5},{q},CW,tea,book,dish,man,cup\n" for q in (0, 1)
        ]
    path = folder / "train.csv"
    path.write_text(HEADER + "".join(rows))
    return path


def config_for(folder: Path, **changes: Any) -> FinetuneConfig:
    saved("llava", folder / "model")
    path = nextqa_in(folder)
    training = GridTraining(steps=6, batch=2, lr=1e-2, bf16=False, save_steps=2, log_steps=1)
    config = FinetuneConfig(
        model=str(folder / "model"), data="nextqa", path=str(path), videos=str(folder / "videos"), grid=GRID,
        train=training,
    )  # fmt: skip
    return replace(config, **changes)


def losses(out: str) -> list[str]:
    """The losses that a run told, by step."""
    return [
        line.split(" · ")[0].split(" learning_rate")[0]
        for line in out.splitlines()
        if line.startswith("step ")
    ]


# --- conversations -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("num", [1, 2])
def test_an_example_is_what_the_processor_makes(family: str, num: int) -> None:
    _, processor = made(family)
    chat = Chat(processor, image_size=SIDE)
    asked = conversation(num=num)
    for turn in TURNS:
        example = chat.encode(asked.pictures, [turn])
        text = chat._chat(turn, num)[1]
        special = not text.startswith("<s>")
        whole = processor(
            images=asked.pictures.open(), text=text, add_special_tokens=special, return_tensors="pt"
        )
        assert example["input_ids"] == whole["input_ids"][0].tolist()
        scored = [n for n in example["labels"] if n != IGNORE]
        told = processor.tokenizer.decode(scored)
        end = {
            "llava": "</s>",
            "llava_next": "</s>",
            "idefics3": "<end_of_utterance>",
            "qwen2_vl": "<|im_end|>",
        }
        assert told.strip() == turn.reply + end[family]


@pytest.mark.parametrize("family", ["llava", "llava_next"])
def test_packed_questions_have_the_losses_of_separate_ones(family: str) -> None:
    model, processor = made(family)
    asked = [conversation(0), conversation(1)]
    together, apart = batch_of(processor, asked, packed=3), batch_of(processor, asked)
    assert len(together["input_ids"]) == 2
    assert len(apart["input_ids"]) == 6
    assert together["attention_mask"].ndim == 4
    assert apart["attention_mask"].ndim == 2
    with torch.no_grad():
        assert model(**together).loss.item() == pytest.approx(model(**apart).loss.item(), abs=1e-5)


def test_every_pass_asks_every_question_once_in_another_order() -> None:
    _, processor = made("llava")
    examples = ChatExamples([conversation(0), conversation(1)], processor=processor, image_size=SIDE, num=12)
    first, second = [[str(examples[i]["labels"]) for i in range(k, k + 6)] for k in (0, 6)]
    assert sorted(first) == sorted(second)
    assert first != second
    assert examples[4]["input_ids"] == examples[4]["input_ids"]


@pytest.mark.parametrize("family", ["llava", "llava_next"])
def test_kept_features_have_the_loss_of_pixels(family: str, tmp_path: Path) -> None:
    model, processor = made(family)
    asked = [conversation(0), conversation(1)]
    chat = Chat(processor, image_size=SIDE)
    runs = []
    hook = model.model.vision_tower.register_forward_hook(lambda *_: runs.append(1))
    features = patch_features(model, asked, pixels=chat.pixels, tower_key="t", cache_dir=tmp_path)
    num = len(runs)
    again = patch_features(model, asked, pixels=chat.pixels, tower_key="t", cache_dir=tmp_path)
    assert len(runs) == num + 1  # the one that asks for the shape
    hook.remove()
    with torch.no_grad():
        expected = model(**batch_of(processor, asked)).loss.item()
        tower = keep_tower(model)
        kept = model(**batch_of(processor, asked, features=again)).loss.item()
        put_back(model, tower)
        assert kept == pytest.approx(expected, abs=2e-3)
        assert model(**batch_of(processor, asked)).loss.item() == expected
    assert features.shape == again.shape


def test_only_llava_keeps_features(tmp_path: Path) -> None:
    model, processor = made("qwen2_vl")
    chat = Chat(processor, image_size=SIDE)
    with pytest.raises(UserError, match="keep_features=false"):
        patch_features(model, [conversation()], pixels=chat.pixels, tower_key="t", cache_dir=tmp_path)


def test_a_training_file_with_its_videos(tmp_path: Path) -> None:
    path = nextqa_in(tmp_path, num=2)
    first, second = annotated("nextqa", data=str(path), videos=str(tmp_path / "videos"), settings=GRID)
    assert (first.id, len(first.turns), first.pictures.num) == ("0_0", 2, 1)
    assert first.turns[0].reply == "A"
    assert "2 rows of 2" in first.turns[0].user
    assert "what is it number 0\nA. tea" in first.turns[0].user
    assert first.pictures.key != second.pictures.key
    assert first.pictures.open()[0].size == (SIDE, SIDE)


def test_a_missing_video_is_told_before_training(tmp_path: Path) -> None:
    path = nextqa_in(tmp_path)
    (tmp_path / "videos" / "2.mp4").unlink()
    with pytest.raises(UserError, match=r"1 of 4 videos are missing, the first .*2\.mp4"):
        annotated("nextqa", data=str(path), videos=str(tmp_path / "videos"), settings=GRID)


def test_llavas_format_goes_out_and_comes_back(tmp_path: Path) -> None:
    asked = [conversation(0), conversation(3)]
    path = write_llava(asked, tmp_path / "out")
    row = json.loads(path.read_text())[0]
    assert row["conversations"][0] == {"from": "human", "value": "<image>\nwhat is the man doing?"}
    assert row["conversations"][1] == {"from": "gpt", "value": "washing dishes"}
    back = read_llava(path, images=tmp_path / "out" / "images", image_size=SIDE)
    assert [c.turns for c in back] == [(turn,) for c in asked for turn in c.turns]
    assert np.array_equal(back[3].pictures.open()[0], picture(3))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image": "gone.png"}, r"element 1: expected an image below"),
        ({"image": "../x.png"}, r"element 1: expected an image below"),
        (
            {"conversations": [{"from": "gpt", "value": "a"}, {"from": "human", "value": "b"}]},
            "one after the other",
        ),
        ({"conversations": [{"from": "human", "value": "a"}]}, "conversations"),
        ({"conversations": [{"from": "bot", "value": "a"}] * 2}, r"conversations\.0\.from"),
    ],
)
def test_a_malformed_row_of_llavas_format_is_named(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    path = write_llava([conversation(turns=TURNS[:1])], tmp_path)
    (row,) = json.loads(path.read_text())
    path.write_text(json.dumps([row | change]))
    with pytest.raises(UserError, match=told):
        read_llava(path, images=tmp_path / "images", image_size=SIDE)


def test_the_dollhouse_draws_grids_questions_and_captions() -> None:
    settings = GridSettings(rows=3, cols=3, image_size=96, prompt_style="plain", form="text", intro="")
    first, *_ = grid_conversations(num=2, settings=settings)
    assert first.pictures.open()[0].size == (96, 96)
    assert first.turns[0].user.startswith("Video:\nQuestion: ")
    assert first.turns[-1].user == "Video:\nSummary: "
    assert all(turn.reply.endswith(".") for turn in first.turns)
    caption, other = captioned(num=2, image_size=96)
    assert caption.pictures.key != other.pictures.key
    assert np.array_equal(caption.pictures.open()[0], caption.pictures.open()[0])
    with pytest.raises(UserError, match="tideo dollhouse make"):
        grid_conversations(num=1, settings=replace(settings, sampler="uniform"))


def test_lessons_ask_about_what_the_cells_show() -> None:
    settings = GridSettings(rows=3, cols=3, image_size=96, prompt_style="plain", form="text", intro="")
    plain, *_ = grid_conversations(num=1, settings=settings)
    taught, *_ = grid_conversations(num=1, settings=settings, lookups=2)
    assert taught.turns[: len(plain.turns)] == plain.turns
    more = taught.turns[len(plain.turns) :]
    assert {"Video:\nFacts: shirt: ", "Video:\nFacts: shelf: "} <= {turn.user for turn in more}
    assert sum(turn.user.startswith("Video:\nQuestion: ") for turn in more) == 2
    (again,) = [turn for turn in more if turn.user.startswith("Video:\nAgain: ")]
    (back,) = [turn for turn in more if turn.user.startswith("Video:\nBackwards: ")]
    assert len(again.reply.split(", ")) == len(back.reply.split(", ")) > 1
    assert all(turn.reply.endswith(".") and turn.user.endswith(" ") for turn in more)


def test_captioned_pictures_are_pasted_and_asked_for_by_their_cell() -> None:
    colours = [(40 * i, 0, 0) for i in range(6)]
    captioned = [
        Conversation(
            id=f"p{i}",
            pictures=Pictures(key=f"k{i}", num=1, open=lambda c=c: [Image.new("RGB", (14, 14), c)]),  # type: ignore[misc]
            turns=(Turn(user="What happens?", reply=f"red {i}."),),
        )
        for i, c in enumerate(colours)
    ]
    (whole,) = pasted(captioned, settings=GRID)
    assert [(t.user, t.reply) for t in whole.turns] == [
        (f"Picture {i + 1}: What happens?", f"red {i}.") for i in range(4)
    ]
    (image,) = whole.pictures.open()
    assert image.size == (SIDE, SIDE)
    assert [image.getpixel((x, y)) for y in (3, 17) for x in (3, 17)] == colours[:4]
    (other,) = pasted(captioned[::-1], settings=GRID)
    assert other.pictures.key != whole.pictures.key


def test_captions_are_mixed_in_by_share() -> None:
    asked, captions = [conversation(i) for i in range(6)], [conversation(10 + i) for i in range(9)]
    mixed = mix(asked, captions, share=0.4, seed=0)
    assert mixed[:6] == asked
    assert len(mixed) == 10
    assert mix(asked, captions, share=0.0, seed=0) == asked


# --- parts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_frozen_parts_do_not_learn(family: str) -> None:
    model, _ = made(family)
    train_only(model, ["projector", "llm"])
    learning = {part_of(n) for n, p in model.named_parameters() if p.requires_grad}
    frozen = {part_of(n) for n, p in model.named_parameters() if not p.requires_grad}
    assert learning == {"projector", "llm"}
    assert frozen == {"tower"}


def test_lora_learns_in_the_language_model_and_the_whole_projector() -> None:
    model, _ = made("llava")
    train_only(model, ["projector", "llm"])
    lora = with_lora(model, rank=4, alpha=0, parts=["projector", "llm"])
    learning = [n for n, p in lora.named_parameters() if p.requires_grad]
    assert all("lora_" in n or "multi_modal_projector" in n for n in learning)
    assert any("multi_modal_projector.modules_to_save" in n for n in learning)
    assert not any("vision_tower" in n for n in learning)


def test_places_of_a_larger_picture_are_interpolated() -> None:
    places = torch.randn(17, 5)
    assert torch.allclose(resized_places(places, side=4), places, atol=1e-6)
    larger = resized_places(places, side=6)
    assert larger.shape == (37, 5)
    assert torch.equal(larger[0], places[0])


def test_places_start_again_in_each_cell() -> None:
    places = torch.randn(17, 5)
    tiled = resized_places(places, side=8, cells=(2, 2))[1:].reshape(8, 8, 5)
    for rows in (slice(0, 4), slice(4, 8)):
        for cols in (slice(0, 4), slice(4, 8)):
            assert torch.allclose(tiled[rows, cols].flatten(0, 1), places[1:], atol=1e-6)


# --- training -----------------------------------------------------------------------------------------


def test_a_finetuned_folder_answers(tmp_path: Path) -> None:
    out = finetune(config_for(tmp_path, packed=2), out=tmp_path / "runs" / "a")
    model = load_model(str(out))
    assert model.settings == GRID
    video = Video(id="0", path=str(tmp_path / "videos" / "0.mp4"))
    sample = Sample(id="q", video=video, question="what is it", options=("tea", "book"), answer=0)
    (answer,) = model.answer(video, [sample])
    assert len(answer.loglikelihoods or ()) == 2
    assert not (out / "steps").exists()
    before, after = load_model(str(tmp_path / "model")).model.state_dict(), model.model.state_dict()  # type: ignore[attr-defined]
    changed = {part_of(name) for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"projector", "llm"}


def test_it_learns_the_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_for(tmp_path)
    finetune(override(config, ["train.steps=60", "train.batch=8", "train.log_steps=20"]), out=tmp_path / "a")
    told = [float(line.split("loss ")[1].split()[0]) for line in losses(capsys.readouterr().err)]
    assert told[-1] < 0.6 * told[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"parts": ("tower", "projector", "llm")},
        {"parts": ("tower", "projector", "llm"), "lora_rank": 4},
        {"lora_rank": 4},
        {"keep_features": False},
        {"distill": 0.5},
        {"lora_rank": 4, "distill": 0.5},
    ],
)
def test_the_options_train_and_load(changes: dict[str, Any], tmp_path: Path) -> None:
    config = config_for(tmp_path, **changes)
    out = finetune(override(config, ["train.steps=2"]), out=tmp_path / "a")
    model = load_model(str(out))
    assert model.settings == GRID
    before, after = load_model(str(tmp_path / "model")).model.state_dict(), model.model.state_dict()  # type: ignore[attr-defined]
    changed = {part_of(name) for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(config.parts)


def test_captions_are_aligned_on_mixed_and_measured(tmp_path: Path) -> None:
    captions = [conversation(i, turns=(Turn(user="Describe.", reply=f"a man {i}"),)) for i in range(210)]
    write_llava(captions, tmp_path / "captions")
    config = config_for(
        tmp_path, captions=0.2, captions_path=str(tmp_path / "captions" / "train.json"),
        captions_images=str(tmp_path / "captions" / "images"), align=GridTraining(steps=2, batch=2, bf16=False),
    )  # fmt: skip
    out = finetune(config, out=tmp_path / "a")
    told = json.loads((out / "forgetting.json").read_text())
    assert told["num_captions"] == 200
    assert told["caption_loss_after"] != told["caption_loss_before"]
    assert not (out / "align").exists()


def test_captions_are_aligned_on_in_grids(tmp_path: Path) -> None:
    captions = [conversation(i, turns=(Turn(user="Describe.", reply=f"a man {i}"),)) for i in range(210)]
    write_llava(captions, tmp_path / "captions")
    config = config_for(
        tmp_path, captions=0.2, captions_path=str(tmp_path / "captions" / "train.json"), paste_captions=True,
        captions_images=str(tmp_path / "captions" / "images"), align=GridTraining(steps=2, batch=2, bf16=False),
    )  # fmt: skip
    out = finetune(config, out=tmp_path / "a")
    assert json.loads((out / "forgetting.json").read_text())["num_captions"] == 50
    start = load_model(str(tmp_path / "model")).model.state_dict()  # type: ignore[attr-defined]
    end = load_model(str(out)).model.state_dict()  # type: ignore[attr-defined]
    changed = {part_of(name) for name in start if not torch.equal(start[name], end[name])}
    assert changed == {"projector", "llm"}


def test_a_penalty_holds_the_predictions_back(tmp_path: Path) -> None:
    model, processor = made("llava")
    start = {name: value.clone() for name, value in model.state_dict().items()}
    batch = batch_of(processor, [conversation(i) for i in range(3)])

    def moved(distill: float) -> float:
        model.load_state_dict(start)
        from transformers import TrainingArguments

        arguments = TrainingArguments(
            output_dir=str(tmp_path), use_cpu=True, max_steps=8, learning_rate=3e-3, report_to=[], save_strategy="no",
            per_device_train_batch_size=1, remove_unused_columns=False, disable_tqdm=True,
        )  # fmt: skip
        trainer = GridTrainer(
            model=model,
            args=arguments,
            train_dataset=[0] * 8,
            data_collator=lambda _: dict(batch),
            distill=distill,
        )  # type: ignore[arg-type]
        with torch.no_grad():
            first = model(**batch).logits.log_softmax(-1)
        trainer.train()
        with torch.no_grad():
            now = model(**batch).logits.log_softmax(-1)
        scored = batch["labels"][:, 1:] != IGNORE
        return float((first.exp() * (first - now)).sum(-1)[:, :-1][scored].mean())

    assert moved(10.0) < 0.5 * moved(0.0)


def run(
    config: FinetuneConfig, out: Path, *settings: str, resume: bool = False, processes: int = 1
) -> subprocess.Popen[str]:
    """The training in processes of its own."""
    (out.parent / "config.json").write_text(json.dumps(asdict(config)))
    (out.parent / "train.py").write_text(SHARDED + SCRIPT)
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    args = [str(out.parent / "config.json"), str(out), "resume" if resume else "new", *settings]
    return subprocess.Popen(
        [sys.executable, *(launch if processes > 1 else []), str(out.parent / "train.py"), *args],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"},
    )


def test_a_disk_that_fills_up_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = override(config_for(tmp_path), ["train.steps=4", "train.save_steps=1", "train.log_steps=1"])
    finetune(config, out=tmp_path / "whole")
    whole = losses(capsys.readouterr().err)
    written = 0

    def save(state: Any, path: Any) -> None:
        nonlocal written
        written += str(path).endswith("optimizer.pt")
        if written == 3:
            Path(path).write_bytes(b"half of it")
            raise RuntimeError("unexpected pos 3202752 vs 3202640")  # torch's words for a full disk
        real(state, path)

    real = torch.save
    with monkeypatch.context() as full:
        full.setattr(torch, "save", save)
        full.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
        with pytest.raises(OSError, match="the disk is full in the middle of a checkpoint"):
            finetune(config, out=tmp_path / "full")
    assert [p.name for p in (tmp_path / "full" / "steps").iterdir()] == ["checkpoint-2"]
    capsys.readouterr()
    finetune(config, out=tmp_path / "full", resume=True)
    assert losses(capsys.readouterr().err) == whole[2:]


def test_a_run_is_not_mixed_with_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_for(tmp_path)

    def stop(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("tideo.train.grid.finetune._save", stop)
        with pytest.raises(KeyboardInterrupt):
            finetune(config, out=tmp_path / "a")
    with pytest.raises(UserError, match="give --resume to go on, or another --out"):
        finetune(config, out=tmp_path / "a")
    other = override(config, ["train.lr=0.1", "grid.rows=1"])
    with pytest.raises(
        UserError, match=r"another recipe \(grid.rows is 2 there and 1 here, train.lr is 0.01 there"
    ):
        finetune(other, out=tmp_path / "a", resume=True)
    assert json.loads((tmp_path / "a" / "run.json").read_text())["recipe"]["train"]["lr"] == 0.01
    out = finetune(config, out=tmp_path / "a", resume=True)
    made_at = (out / "model.safetensors").stat().st_mtime_ns
    assert finetune(config, out=out, resume=True) == out
    assert (out / "model.safetensors").stat().st_mtime_ns == made_at  # done: left as it is
    with pytest.raises(UserError, match="another recipe"):
        finetune(other, out=out, resume=True)
    with (
        monkeypatch.context() as patched
    ):  # anew over a run that is done, and killed before its first checkpoint
        patched.setattr("tideo.train.grid.finetune.starting_model", stop)
        with pytest.raises(KeyboardInterrupt):
            finetune(other, out=out)
    finetune(other, out=out, resume=True)
    assert (out / "model.safetensors").stat().st_mtime_ns != made_at
    assert load_model(str(out)).settings == other.grid


def test_what_learns_beside_lora_is_in_float32(tmp_path: Path) -> None:
    config = config_for(tmp_path, lora_rank=4)
    model, processor = made("llava")
    work = GridWork(config, model=model.bfloat16(), processor=processor, shared=tmp_path)
    learned = work.prepared(parts=config.parts)
    kinds = {(p.requires_grad, p.dtype) for p in learned.parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}


def test_frames_are_counted_as_the_sampler_takes_them(tmp_path: Path) -> None:
    path = nextqa_in(tmp_path, num=1)
    settings = replace(GRID, rows=1, cols=2, panels=4, sampler="keyframes")
    (only,) = annotated("nextqa", data=str(path), videos=str(tmp_path / "videos"), settings=settings)
    assert only.pictures.num == len(only.pictures.open()) == 1
    assert "shows 2 frames" in only.turns[0].user  # the video has two key frames


def test_a_half_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for step, state in ((2, "{}"), (10, '{"global_step"'), (9, "{}"), (11, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-9")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-9"]
    assert last_checkpoint(tmp_path / "none") is None


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"lora_rank": 4}], ids=["full", "lora"])
def test_a_killed_run_goes_on_with_the_same_losses(changes: dict[str, Any], tmp_path: Path) -> None:
    config = config_for(tmp_path, **changes)
    long = ("train.steps=300", "train.batch=16", "train.save_steps=50")
    whole = losses(run(config, tmp_path / "whole", *long).communicate()[1])
    assert len(whole) == 300
    process = run(config, tmp_path / "part", *long)
    while not list((tmp_path / "part" / "steps").glob("checkpoint-*/trainer_state.json")):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    rest = losses(run(config, tmp_path / "part", *long, resume=True).communicate()[1])
    assert 0 < len(rest) < 300
    assert rest == whole[-len(rest) :]


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"distill": 20.0}], ids=["plain", "distilled"])
def test_two_processes_have_the_losses_of_one(changes: dict[str, Any], tmp_path: Path) -> None:
    config = config_for(tmp_path, **changes)
    one = [line.split() for line in losses(run(config, tmp_path / "one", "train.batch=4").communicate()[1])]
    both = run(config, tmp_path / "two", "train.batch=2", processes=2)
    err = both.communicate()[1]
    assert both.returncode == 0, err[-2000:]
    two = [line.split() for line in losses(err)]
    assert len(one) == len(two) == 6
    for a, b in zip(one, two, strict=True):
        assert a[:2] == b[:2]
        assert float(a[3]) == pytest.approx(float(b[3]), rel=2e-3)  # told with four digits
    assert load_model(str(tmp_path / "two")).settings == GRID


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"lora_rank": 4, "lora_alpha": 8}], ids=["full", "lora"])
def test_a_model_parted_over_two_processes_has_the_losses_of_one(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    config = config_for(tmp_path, **changes)
    one = [line.split() for line in losses(run(config, tmp_path / "one", "train.batch=4").communicate()[1])]
    parted = ("train.batch=2", "train.parallel=fsdp")
    both = run(config, tmp_path / "two", *parted, processes=2)
    err = both.communicate()[1]
    assert both.returncode == 0, err[-2000:]
    two = losses(err)
    assert len(one) == len(two) == 6
    for a, b in zip(one, map(str.split, two), strict=True):
        assert a[:2] == b[:2]
        assert float(a[3]) == pytest.approx(float(b[3]), rel=2e-3)
    assert load_model(str(tmp_path / "two")).settings == GRID
    whole, merged = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert whole.keys() == merged.keys()
    assert all(torch.allclose(whole[k], merged[k], atol=5e-3) for k in whole)
    long = (*parted, "train.steps=60", "train.save_steps=10")
    told = losses(run(config, tmp_path / "whole", *long, processes=2).communicate()[1])
    process = run(config, tmp_path / "part", *long, processes=2)
    while not list((tmp_path / "part" / "steps").glob("checkpoint-*/trainer_state.json")):
        assert process.poll() is None, "it ended before it could be stopped"
        time.sleep(0.02)
    process.terminate()
    process.communicate()
    rest = losses(run(config, tmp_path / "part", *long, resume=True, processes=2).communicate()[1])
    assert 0 < len(rest) < len(told) == 60
    assert rest == told[-len(rest) :]


# --- plan ---------------------------------------------------------------------------------------------


def test_the_plan_of_the_13b() -> None:
    config = load("finetunes", "llava_1_5_13b_nextqa")()
    model, _ = shape(config)
    total, learning = parameters(model)
    assert sum(total.values()) == 13_351_494_656  # of the published checkpoint
    assert learning["tower"] == 0
    assert learning["llm"] == total["llm"] == 13_016_519_680
    four, eight = (memory_of(config, model, gpus=n) for n in (4, 8))
    assert four.weights == 2 * 13_351_494_656 / 4
    assert eight.weights == four.weights / 2
    assert four.host == 12 * sum(learning.values())
    assert four.gpu < 40 * 2**30
    on_gpu = memory_of(replace(config, train=replace(config.train, parallel=None)), model, gpus=4)
    assert on_gpu.gpu > 40 * 2**30  # why the recipe keeps the optimiser in host memory
    assert "LlavaForConditionalGeneration" in plan(config, gpus=4)


@pytest.mark.parametrize(
    ("recipe", "tokens"), [("llava_1_5_13b_nextqa", 576), ("llava_1_6_34b_nextqa", 1176)]
)
def test_an_image_has_as_many_tokens_as_the_processor_makes(recipe: str, tokens: int) -> None:
    config = load("finetunes", recipe)()
    assert image_tokens(shape(config)[0].config, config.grid.image_size) == tokens


def test_a_plan_parts_only_what_the_recipe_parts() -> None:
    config = load("finetunes", "llava_1_5_13b_nextqa")()
    alone = plan(override(config, ["train.parallel=none"]), gpus=4)
    assert "the whole model on each of 4 GPUs, bf16; on each GPU, GiB:" in alone
    model, _ = shape(
        alone_config := override(config, ["train.parallel=none", "lora_rank=8", "load_4bit=true"])
    )
    total, learning = (sum(counts.values()) for counts in parameters(model))
    assert memory_of(alone_config, model, gpus=4).weights == 0.5 * (total - learning) + 2 * learning


def test_lora_learns_little_of_the_34b() -> None:
    config = replace(load("finetunes", "llava_1_6_34b_nextqa")(), lora_rank=128)
    total, learning = parameters(shape(config)[0])
    assert 34e9 < sum(total.values()) < 37e9
    assert 0 < sum(learning.values()) < 0.04 * sum(total.values())


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["nosuch"], "unknown finetune 'nosuch'"),
        (["dollhouse", "--set", "train.rate=1"], "unknown key 'rate'"),
        (["dollhouse", "--set", "parts=head"], "expected one of tower, projector, llm"),
        (
            ["llava_1_5_13b_star", "--set", "path=gone.json", "--set", "train.parallel=none"],
            "gone.json: there is no such file or folder",
        ),
        (
            ["llava_1_5_13b_star", "--set", "train.parallel=gone.json"],
            "expected fsdp, zero3, zero3_offload or a",
        ),
        (["llava_1_5_13b_star", "--set", "captions=0.1"], "set captions_path"),
        (["dollhouse", "--set", "train.batch=0"], "batch=0: expected at least 1"),
        (["dollhouse", "--set", "train.steps=0"], "steps=0: expected at least 1"),
        (["dollhouse", "--set", "num=-1"], "num=-1: expected at least 1"),
        (["dollhouse", "--set", "train.projector_lr=1e-3"], "muon_lr goes with none of projector_lr"),
        (
            ["dollhouse", "--set", "teacher=gone", "--set", "num=2"],
            "gone: expected a folder that training wrote",
        ),
        (["dollhouse", "--set", "lora_rank=4", "--set", "parts=projector"], "LoRA is of the language model"),
        (["dollhouse", "--set", "grid.form=poem"], "form 'poem': expected one of"),
        (["dollhouse", "--set", "grid.intro={what}"], "expected the fields"),
        (["dollhouse", "--set", "imitate=none", "--set", "model=gone"], "'gone' cannot be loaded"),
        (["dollhouse", "--set", "load_4bit=true"], "set lora_rank"),
        (
            ["dollhouse", "--set", "num=2", "--set", "train.muon_lr=none", "--set", "train.parallel=fsdp"],
            "needs GPUs",
        ),
        (["dollhouse", "--set", "train.parallel=fsdp"], "goes with AdamW"),
    ],
)
def test_bad_input_is_told_in_one_line(args: list[str], told: str, tideo: Tideo, tmp_path: Path) -> None:
    done = tideo("finetune", *args, "--out", str(tmp_path / "a"), cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("tideo: ")
