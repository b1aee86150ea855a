"""A pre-alignment in two processes over gloo: the losses of one, killed, interrupted, sharded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from conftest import REPOSITORY
from tideo.dollhouse.export import ask_split, tideo_of
from tideo.models.topa.model import ZeroShot
from tideo.textvid.schema import dump, from_tideo
from tideo.train.topa.config import PrealignConfig, PrealignTraining, TaskWeights
from tiny import save_clip, save_llm

pytestmark = pytest.mark.slow
SCRIPT = """
import json, sys
from pathlib import Path
from tideo.cli import run
from tideo.config import from_plain
from tideo.train.topa.config import PrealignConfig
import tideo.registry
config = from_plain(PrealignConfig, json.loads(Path(sys.argv[1]).read_text()))
load = tideo.registry.load
tideo.registry.load = lambda kind, name: (lambda: config) if kind == "recipes" else load(kind, name)
sys.exit(run(sys.argv[2:]))
"""
# Accelerate takes notice of FSDP on GPUs only; torch's own shards over gloo as well.
SHARDED = """
import accelerate.state as state
from accelerate.utils import DistributedType
from tideo.train.topa import prealign
prealign.check_parallel = lambda parallel: None
begin = state.AcceleratorState.__init__
def begin_sharded(self, *args, fsdp_plugin=None, **kwargs):
    begin(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP
state.AcceleratorState.__init__ = begin_sharded
"""


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    save_clip(folder / "clip")
    save_llm(folder / "llm", max_tokens=2048)
    dump([from_tideo(tideo_of(a, seed=0)) for a in ask_split("train", num=8)], folder / "textvid.json")
    return folder


def config(parts: Path, *, adapter: str, **train: Any) -> PrealignConfig:
    fields: dict[str, Any] = {"steps": 6, "batch": 2, "lr": 1e-2, "save_steps": 3, "log_steps": 1}
    return PrealignConfig(
        llm=str(parts / "llm"),
        encoder=str(parts / "clip"),
        tideos=str(parts / "textvid.json"),
        prompt_style="plain",
        adapter=adapter,  # type: ignore[arg-type]
        adapter_len=4,
        lora_rank=2,
        tasks=TaskWeights(choose=0.4, answer=0.3, summarise=0.3),
        form="text",
        from_llm=True,
        noise_std=0.05,
        memory="frames",
        projected=0.5,
        train=PrealignTraining(**fields | {"bf16": False} | train),
    )


def run(config: PrealignConfig, out: Path, *args: str, processes: int = 1) -> subprocess.Popen[str]:
    """The command in processes of its own, with a recipe that no package has."""
    out.parent.mkdir(exist_ok=True)
    (out.parent / "config.json").write_text(json.dumps(asdict(config)))
    (out.parent / "train.py").write_text((SHARDED if config.train.parallel else "") + SCRIPT)
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = ["prealign", "own", "--out", str(out), *args]
    return subprocess.Popen(
        [
            sys.executable, *(launch if processes > 1 else []), str(out.parent / "train.py"),
            str(out.parent / "config.json"), *command,
        ],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"
        },
    )  # fmt: skip


def finished(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err.partition("ChildFailedError")[0][
        -6000:
    ]  # the launcher's own words follow
    assert len(out.splitlines()) == 1, "the result is printed once"
    return err


def losses(err: str) -> list[tuple[str, float]]:
    lines = [line.split() for line in err.splitlines() if line.startswith("step ")]
    return [(words[1], float(words[3])) for words in lines]


def near(one: list[tuple[str, float]], two: list[tuple[str, float]]) -> bool:
    return [s for s, _ in one] == [s for s, _ in two] and all(
        a == pytest.approx(b, rel=2e-3) for (_, a), (_, b) in zip(one, two, strict=True)
    )


def begun(out: Path, process: subprocess.Popen[str]) -> None:
    """Wait for the first checkpoint."""
    while not list((out / "steps").glob("checkpoint-*/trainer_state.json")):
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.02)


def killed(launcher: subprocess.Popen[str]) -> None:
    """Kill the launcher and what it started, which would go on without it."""
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(launcher.pid)], capture_output=True, text=True, check=True
    )
    for pid in (launcher.pid, *map(int, children.stdout.split())):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("adapter", ["llama-adapter", "lora"])
def test_two_processes_have_the_losses_of_one(adapter: str, parts: Path, tmp_path: Path) -> None:
    whole = finished(run(config(parts, adapter=adapter, batch=4), tmp_path / "one" / "run"))
    both = finished(run(config(parts, adapter=adapter), tmp_path / "two" / "run", processes=2))
    assert len(losses(whole)) == 6
    assert near(losses(whole), losses(both)), (whole, both)
    assert both.count("examples of a step: 2 x 1 x 2 processes = 4 · learning rate 0.01 (train.lr)") == 1
    one, two = (ZeroShot.load(tmp_path / name / "run") for name in ("one", "two"))
    torch.testing.assert_close(two.memory.values_MD, one.memory.values_MD)
    weights = [load_file(tmp_path / name / "run" / "model.safetensors") for name in ("one", "two")]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=1e-4, rtol=0)
    assert not (tmp_path / "two" / "run" / "steps").exists()


@pytest.mark.parametrize(
    ("adapter", "ended_by"),
    [("lora", signal.SIGKILL), ("llama-adapter", signal.SIGKILL), ("lora", signal.SIGINT)],
)
def test_two_killed_processes_go_on_with_the_same_losses(
    adapter: str, ended_by: signal.Signals, parts: Path, tmp_path: Path
) -> None:
    recipe = config(parts, adapter=adapter, steps=60, save_steps=20)
    whole = losses(finished(run(recipe, tmp_path / "whole" / "run", processes=2)))
    cut = run(recipe, tmp_path / "cut" / "run", processes=2)
    begun(tmp_path / "cut" / "run", cut)
    if ended_by == signal.SIGKILL:
        killed(cut)
    else:
        cut.send_signal(ended_by)  # the launcher, which a terminal sends Ctrl-C, ends the others
    err = cut.communicate(timeout=60)[1]
    assert cut.returncode != 0, err
    assert not (tmp_path / "cut" / "run" / "tideo.json").exists()
    rest = losses(finished(run(recipe, tmp_path / "cut" / "run", "--resume", processes=2)))
    assert 0 < len(rest) < 60
    assert rest == whole[-len(rest) :]
    weights = [load_file(tmp_path / name / "run" / "model.safetensors") for name in ("whole", "cut")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("adapter", ["llama-adapter", "lora"])
def test_a_sharded_language_model_has_the_losses_of_one_process(
    adapter: str, parts: Path, tmp_path: Path
) -> None:
    """With FSDP over gloo, and with layers that are computed twice."""
    whole = losses(finished(run(config(parts, adapter=adapter, batch=4), tmp_path / "one" / "run")))
    recipe = config(parts, adapter=adapter, parallel="fsdp", gradient_checkpointing=True)
    parted = losses(finished(run(recipe, tmp_path / "two" / "run", processes=2)))
    assert near(whole, parted), (whole, parted)
    assert len(ZeroShot.load(tmp_path / "two" / "run").memory) > 8
    weights = [load_file(tmp_path / name / "run" / "model.safetensors") for name in ("one", "two")]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=5e-3, rtol=0)
    long = replace(recipe, train=replace(recipe.train, steps=40, save_steps=10))
    told = losses(finished(run(long, tmp_path / "whole" / "run", processes=2)))
    cut = run(long, tmp_path / "cut" / "run", processes=2)
    begun(tmp_path / "cut" / "run", cut)
    size = sum(p.stat().st_size for p in (tmp_path / "cut" / "run" / "steps").rglob("*") if p.is_file())
    killed(cut)
    cut.communicate(timeout=60)
    assert size < 500_000, "a checkpoint holds the frozen language model"
    rest = losses(finished(run(long, tmp_path / "cut" / "run", "--resume", processes=2)))
    assert 0 < len(rest) < 40
    assert rest == told[-len(rest) :]


def test_a_loss_that_is_no_number_ends_both_processes(parts: Path, tmp_path: Path) -> None:
    process = run(config(parts, adapter="lora", lr=1e30), tmp_path / "run", processes=2)
    err = process.communicate(timeout=200)[1]
    assert process.returncode != 0
    assert "tideo: step 2: the loss is nan at the batch of Tideo " in err
