"""Every command of the page for users with a GPU runs, in its order, with tiny models in place of the named ones."""

from __future__ import annotations

import os
import random
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from conftest import REPOSITORY
from tideo.dollhouse.captions import episode_tideo
from tideo.dollhouse.script import sample_episode
from tideo.textvid.schema import dump, from_tideo
from tiny import save_clip, save_llm
from tiny_vlms import saved
from videos import encode

PAGE = REPOSITORY / "docs" / "gpu.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What is named on the page → the family of the tiny model in its place.
MODELS = {
    "llava-hf/llava-1.5-7b-hf": "llava",
    "llava-hf/llava-v1.6-34b-hf": "llava_next",
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct": "idefics3",
    "Qwen/Qwen2.5-VL-7B-Instruct": "idefics3",  # of the same kind: Qwen's own processor needs torchvision
}
HEADER = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
LLAVA = "llava-hf/llava-1.5-7b-hf"
SHORT = ("train.epochs=none", "train.steps=2", "train.batch=2", "train.bf16=false")
ON_A_CPU = ("grid.image_size=28", "train.parallel=none")


def commands() -> list[list[str]]:
    text = "\n".join(BLOCK.findall(PAGE.read_text(encoding="utf-8"))).replace("\\\n", " ")
    return [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]


def test_the_page_has_every_step() -> None:
    ours = [words[words.index("tideo") + 1] for words in commands() if "tideo" in words]
    assert {"doctor", "ask", "eval", "prealign", "finetune"} <= set(ours)
    assert {words[0] for words in commands()} == {"pip", "tideo", "accelerate"}
    named = {
        word for words in commands() for word in words if re.fullmatch(r"[\w.-]+/[\w.-]+-(hf|Instruct)", word)
    }
    assert named == set(MODELS)


def write_files(folder: Path) -> dict[str, str]:
    """What the page's reader has; the result is the path of a tiny model for each name on the page."""
    encode(folder / "my_video.mp4", num=40)
    videos = folder / "nextqa" / "videos"
    videos.mkdir(parents=True)
    for k, name in enumerate("abcdef"):
        encode(videos / f"{name}.mp4", num=20 + k)
    for split, names in (("train", "abcd"), ("val", "ef")):
        rows = [f"{name},20,64,48,why,1,{q},CW,rest,work,play,eat,hide\n" for name in names for q in (1, 2)]
        (folder / "nextqa" / f"{split}.csv").write_text(HEADER + "".join(rows))
    tideos = [episode_tideo(sample_episode("train", i), random.Random(i)) for i in range(8)]
    dump(map(from_tideo, tideos), folder / "textvid.json")
    save_clip(folder / "clip")
    save_llm(folder / "llm")
    return {name: str(saved(family, folder / family)) for name, family in MODELS.items()}


def stand_in(words: Sequence[str], *, models: dict[str, str]) -> list[str]:
    """The command with tiny models, trainings of two steps, and two processes on this machine's CPU."""
    planned, training = "--plan" in words, {"prealign", "finetune"} & set(words)
    launched = words[0] == "accelerate"
    words = [models.get(word, word) for word in words[words.index("tideo") + 1 :]]
    words = [re.sub(r"image_size=\d+", "image_size=56", word) for word in words]  # the most that they see
    if not torch.accelerator.is_available() and "load_4bit=true" in words:  # it needs a GPU
        del words[words.index("load_4bit=true") - 1 : words.index("load_4bit=true") + 1]
    if training and not planned:
        own = ("llm=llm", "encoder=clip") if "prealign" in words else (f"model={models[LLAVA]}", *ON_A_CPU)
        words += [part for setting in (*SHORT, *own) for part in ("--set", setting)]
    # `accelerate launch --cpu` starts one process, whatever its number.
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if launched else []
    return [sys.executable, *launch, "-m", "tideo", *words]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_page_is_followed_from_the_first_line_to_the_last(tmp_path: Path) -> None:
    models = write_files(tmp_path)
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"}
    for words in commands():
        if words[0] != "pip":
            command = stand_in(words, models=models)
            done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
    for written in ("llava", "llava8", "llava34", "nextqa-val"):
        assert (tmp_path / "runs" / written / "report.html").is_file()
