"""Finetuning image-text models on grids: a folder that answers, exact losses, resuming, bad input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from conftest import REPOSITORY, Tideo
from grid_training import (
    GRID,
    config_for,
    conversation,
    damage,
    losses,
    nextqa_in,
)
from tideo.config import override
from tideo.models.load import load_model
from tideo.train.grid.config import FinetuneConfig
from tideo.train.grid.conversations import Turn
from tideo.train.grid.finetune import finetune, mix, training_set
from tideo.train.grid.llava_json import write_llava
from tideo.train.grid.modules import module_of
from tideo.train.history import read_history
from tideo.types import Sample, UserError, Video
from videos import encode

SCRIPT = """
import json, sys
from pathlib import Path
from tideo.config import from_plain, override
from tideo.train.grid.finetune import finetune, training_set
from tideo.train.grid.config import FinetuneConfig
config = from_plain(FinetuneConfig, json.loads(Path(sys.argv[1]).read_text()))
finetune(override(config, sys.argv[4:]), out=sys.argv[2], resume=sys.argv[3] == "resume")
"""
# Accelerate takes notice of FSDP on GPUs only; torch's own shards over gloo as well.
SHARDED = """
import accelerate.state as state
from accelerate.utils import DistributedType
from tideo.train.grid import stage
stage.check_parallel = lambda training: None
begin = state.AcceleratorState.__init__
def begin_sharded(self, *args, fsdp_plugin=None, **kwargs):
    begin(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP
state.AcceleratorState.__init__ = begin_sharded
"""


def test_captions_are_mixed_in_by_share() -> None:
    asked, captions = [conversation(i) for i in range(6)], [conversation(10 + i) for i in range(9)]
    mixed = mix(asked, captions, share=0.4, seed=0)
    assert mixed[:6] == asked
    assert len(mixed) == 10
    assert mix(asked, captions, share=0.0, seed=0) == asked


@pytest.mark.slow
def test_a_finetuned_folder_answers(tmp_path: Path) -> None:
    out = finetune(config_for(tmp_path, packed=2), out=tmp_path / "runs" / "a")
    model = load_model(str(out))
    assert model.settings == GRID
    video = Video(id="0", path=str(tmp_path / "videos" / "0.mp4"))
    sample = Sample(id="q", video=video, question="what is it", options=("tea", "book"), answer=0)
    (answer,) = model.answer(video, [sample], seen=model.look(video))
    assert len(answer.loglikelihoods or ()) == 2
    assert not (out / "steps").exists()
    before, after = load_model(str(tmp_path / "model")).model.state_dict(), model.model.state_dict()  # type: ignore[attr-defined]
    changed = {module_of(name) for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"projector", "llm"}


def test_it_learns_the_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_for(tmp_path)
    finetune(override(config, ["train.steps=60", "train.batch=8", "train.log_steps=20"]), out=tmp_path / "a")
    told = [float(line.split("loss ")[1].split()[0]) for line in losses(capsys.readouterr().err)]
    assert told[-1] < 0.6 * told[0]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"modules": ("tower", "projector", "llm")}, marks=pytest.mark.slow),
        {"modules": ("tower", "projector", "llm"), "lora_rank": 4},
        pytest.param({"lora_rank": 4}, marks=pytest.mark.slow),
        pytest.param({"keep_features": False}, marks=pytest.mark.slow),
        pytest.param({"kl": 0.5}, marks=pytest.mark.slow),
        pytest.param({"lora_rank": 4, "kl": 0.5}, marks=pytest.mark.slow),
    ],
)
def test_the_options_train_and_load(changes: dict[str, Any], tmp_path: Path) -> None:
    config = config_for(tmp_path, **changes)
    out = finetune(override(config, ["train.steps=2"]), out=tmp_path / "a")
    model = load_model(str(out))
    assert model.settings == GRID
    before, after = load_model(str(tmp_path / "model")).model.state_dict(), model.model.state_dict()  # type: ignore[attr-defined]
    changed = {module_of(name) for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(config.modules)


@pytest.mark.slow
def test_captions_are_mixed_in_and_measured(tmp_path: Path) -> None:
    captions = [conversation(i, turns=(Turn(user="Describe.", reply=f"a man {i}"),)) for i in range(210)]
    write_llava(captions, tmp_path / "captions")
    config = config_for(
        tmp_path, captions=0.2, captions_path=str(tmp_path / "captions" / "train.json"),
        captions_images=str(tmp_path / "captions" / "images"),
    )  # fmt: skip
    out = finetune(config, out=tmp_path / "a")
    told = json.loads((out / "forgetting.json").read_text())
    assert told["num_captions"] == 200
    assert told["caption_loss_after"] != told["caption_loss_before"]


def test_forgetting_is_measured_without_captions_in_the_training_set(tmp_path: Path) -> None:
    captions = [conversation(i, turns=(Turn(user="Describe.", reply=f"a man {i}"),)) for i in range(210)]
    write_llava(captions, tmp_path / "captions")
    config = config_for(
        tmp_path, kl=0.5, captions_path=str(tmp_path / "captions" / "train.json"),
        captions_images=str(tmp_path / "captions" / "images"),
    )  # fmt: skip
    conversations, held_out = training_set(config)
    assert (len(conversations), len(held_out)) == (4, 200)


@pytest.mark.slow
def test_captions_are_mixed_in_as_grids(tmp_path: Path) -> None:
    captions = [conversation(i, turns=(Turn(user="Describe.", reply=f"a man {i}"),)) for i in range(210)]
    write_llava(captions, tmp_path / "captions")
    config = config_for(
        tmp_path, captions=0.2, captions_path=str(tmp_path / "captions" / "train.json"), paste_captions=True,
        captions_images=str(tmp_path / "captions" / "images"),
    )  # fmt: skip
    out = finetune(config, out=tmp_path / "a")
    assert json.loads((out / "forgetting.json").read_text())["num_captions"] == 50
    start = load_model(str(tmp_path / "model")).model.state_dict()  # type: ignore[attr-defined]
    end = load_model(str(out)).model.state_dict()  # type: ignore[attr-defined]
    changed = {module_of(name) for name in start if not torch.equal(start[name], end[name])}
    assert changed == {"projector", "llm"}


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


@pytest.mark.slow
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


@pytest.mark.slow
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
@pytest.mark.parametrize("changes", [{}, {"kl": 20.0}], ids=["plain", "kl"])
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
@pytest.mark.parametrize("keep_features", [True, False])
def test_two_processes_leave_out_and_validate_as_one(keep_features: bool, tmp_path: Path) -> None:
    nextqa_in(tmp_path / "val", num=3)
    for k in range(3):
        encode(tmp_path / "val" / "videos" / f"{k}.mp4", num=40 + k)
    config = config_for(
        tmp_path, keep_features=keep_features, max_unreadable=0.5, keep_best=True,
        val_path=str(tmp_path / "val" / "train.csv"), val_videos=str(tmp_path / "val" / "videos"),
    )  # fmt: skip
    damage(tmp_path / "videos" / "2.mp4")
    told = []
    for name, batch, processes in (("one", 4, 1), ("two", 2, 2)):
        process = run(
            config, tmp_path / name, f"train.batch={batch}", "train.eval_steps=3", processes=processes
        )
        err = process.communicate()[1]
        assert process.returncode == 0, err[-2000:]
        lines = read_history(tmp_path / name / "history.jsonl")
        told.append([line.get("loss", line.get("eval_loss")) for line in lines])
        (row,) = (tmp_path / name / "skipped.jsonl").read_text().splitlines()
        assert json.loads(row)["id"] == "2_0"
    assert len(told[0]) == 8
    assert told[1] == pytest.approx(told[0], rel=1e-3)


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


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["tiny_clip", "--plan"], "tiny_clip is a recipe for `tideo train`, not for `tideo finetune`"),
        (["dollhouse_topa", "--export", "x"], "a recipe for `tideo prealign`, not for `tideo finetune`"),
        (["dollhouse_grid", "--set", "parts=projector"], "parts is now modules"),
        (["dollhouse_grid", "--set", "num=2"], "runs/dollhouse_distill is missing: a recipe writes it"),
        (["nosuch"], "unknown recipe 'nosuch'"),
        (["dollhouse_grid", "--set", "train.rate=1"], "unknown key 'rate'"),
        (["dollhouse_grid", "--set", "modules=head"], "expected one of tower, projector, llm"),
        (
            ["llava_1_5_13b_star", "--set", "path=gone.json", "--set", "train.parallel=none"],
            "gone.json: there is no such file or folder",
        ),
        (
            ["llava_1_5_13b_star", "--set", "train.parallel=gone.json"],
            "expected fsdp, zero2, zero3, zero3_offload or the path",
        ),
        (["llava_1_5_13b_star", "--set", "captions=0.1"], "set captions_path"),
        (["dollhouse_grid", "--set", "train.batch=0"], "batch=0: expected at least 1"),
        (["dollhouse_grid", "--set", "train.steps=0"], "steps=0: expected at least 1"),
        (["dollhouse_grid", "--set", "num=-1"], "num=-1: expected at least 1"),
        (["dollhouse_grid", "--set", "train.projector_lr=1e-3"], "muon_lr goes with none of projector_lr"),
        (["dollhouse_grid", "--set", "data=gone"], "data=gone: set path to its training file"),
        (
            ["dollhouse_grid", "--set", "lora_rank=4", "--set", "modules=projector"],
            "LoRA is of the language model",
        ),
        (["dollhouse_grid", "--set", "grid.form=poem"], "form 'poem': expected one of"),
        (["dollhouse_grid", "--set", "grid.intro={what}"], "expected the fields"),
        (["dollhouse_grid", "--set", "num=2", "--set", "model=gone"], "'gone' cannot be loaded"),
        (["dollhouse_grid", "--set", "load_4bit=true"], "set lora_rank"),
        (
            [
                "dollhouse_grid",
                "--set",
                "num=2",
                "--set",
                "train.muon_lr=none",
                "--set",
                "train.parallel=fsdp",
            ],
            "needs GPUs",
        ),
        (["dollhouse_grid", "--set", "train.parallel=fsdp"], "goes with AdamW"),
    ],
)
def test_bad_input_is_one_line(args: list[str], told: str, tideo: Tideo, tmp_path: Path) -> None:
    out = () if {"--plan", "--export"} & {*args} else ("--out", str(tmp_path / "a"))
    done = tideo("finetune", *args, *out, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("tideo: ")
