"""Standard out is the result: what `$(tideo …)` holds, and nothing else."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tomllib
import warnings
from pathlib import Path

import pytest
from PIL import Image
from typer import rich_utils

from conftest import REPOSITORY, Tideo
from tideo import registry
from tideo.commands.app import COMMANDS
from tideo.encoders.familiarity import below
from tideo.video.grid import time_stamps
from videos import encode


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    encode(tmp_path / "videos" / "v.mp4", num=10)
    return tmp_path


def test_encode_prints_the_folder(tideo: Tideo, place: Path) -> None:
    done = tideo("encode", "videos", "--encoder", "dollhouse-clip", "--out", "features", cwd=place)
    assert (done.returncode, done.stdout) == (0, "features\n")
    assert done.stderr.endswith("1 items in features, 1 of them encoded now\n")


@pytest.mark.slow
def test_make_prints_the_folder(tideo: Tideo, place: Path) -> None:
    done = tideo(*["dollhouse", "make", "--split", "test", "--num", "1", "--out", "made"], cwd=place)
    assert (done.returncode, done.stdout, done.stderr) == (0, "made\n", "")


TRAININGS = {
    "prealign": "dollhouse_topa --set num_tideos=4 --set train.steps=1 --set train.batch=2 --set calibration=none",
    "finetune": "dollhouse_grid --set model=dollhouse-grid --set num=2 --set train.steps=1 --set train.epochs=none "
    "--set train.batch=1 --set captions=0 --set captions_path=none",
}


@pytest.mark.slow
@pytest.mark.parametrize("command", TRAININGS)
def test_a_training_prints_the_folder(command: str, tideo_process: Tideo, place: Path) -> None:
    args = [command, *TRAININGS[command].split(), "--set", "train.log_steps=1", "--out", "made"]
    done = tideo_process(*args, cwd=place)
    assert (done.returncode, done.stdout) == (0, "made\n")
    assert "loss" in done.stderr


def test_frames_says_how_many_there_are(tideo: Tideo, place: Path) -> None:
    done = tideo("frames", "videos/v.mp4", "--num", "50", "--out", "out", cwd=place)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [str(p.relative_to(place)) for p in sorted((place / "out").iterdir())]
    assert done.stderr == "videos/v.mp4: 10 distinct frames for the 50 asked for\n"


@pytest.mark.parametrize(
    ("name", "stored_as"), [("g.png", "PNG"), ("g.JPG", "JPEG"), ("g.webp", "WEBP"), ("a.b/g.bmp", "BMP")]
)
def test_a_picture_is_what_its_ending_says(name: str, stored_as: str, tideo: Tideo, place: Path) -> None:
    done = tideo("grid", "videos/v.mp4", "--rows", "2", "--cols", "2", "--out", name, cwd=place)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{name}\n", "")
    with Image.open(place / name) as picture:
        assert picture.format == stored_as


@pytest.mark.parametrize(
    ("pts_s", "stamps"),
    [
        ([0.0, 61.9, 3600.5], ["0:00", "1:01", "60:00"]),
        ([0.05, 0.15, 0.95], ["0:00.0", "0:00.1", "0:00.9"]),
        ([59.99, 60.01], ["0:59", "1:00"]),
        ([0.041, 0.042, 61.3], ["0:00.041", "0:00.042", "1:01.300"]),
        ([0.3, 0.6], ["0:00.3", "0:00.6"]),
        ([], []),
    ],
)
def test_stamps_tell_frames_apart(pts_s: list[float], stamps: list[str]) -> None:
    assert time_stamps(pts_s) == stamps


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.3, "0.30, expected 0.52 or more"),
        (0.5197, "0.5197, expected 0.5200 or more"),
        (0.519, "0.519, expected"),
    ],
)
def test_the_familiarity_is_seen_to_be_below(value: float, text: str) -> None:
    assert below(value, 0.52).startswith(text)


SLOW = pytest.mark.slow


@pytest.mark.parametrize("columns", [40, 80, *(pytest.param(n, marks=SLOW) for n in (20, 60, 100))])
def test_help_is_not_cut(columns: int, tideo: Tideo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_, **__: os.terminal_size((columns, 24)))
    monkeypatch.setattr(rich_utils, "MAX_WIDTH", columns)
    names = [name for group in COMMANDS.values() for name in group]
    for args in (
        [],
        *([name] for name in names),
        ["textvid", "generate"],
        ["textvid", "check"],
        ["import", "topa"],
    ):
        done = tideo(*args, "--help")
        assert done.returncode == 0
        assert "…" not in re.sub(r"sum,\s*(│\s*│\s*)?…", "", done.stdout)
        assert max(map(len, done.stdout.splitlines())) <= max(columns, 50)


def test_the_lists_of_commands_are_whole(tideo: Tideo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_, **__: os.terminal_size((40, 24)))
    shown = "".join(tideo("--help").stdout.split())
    assert "Answerabenchmark'squestions,ordescribeitsvideos;continueswhereitstopped." in shown
    assert "Textualvideos:writethemwithalanguagemodel,checkthem." in shown
    of_group = "".join(tideo("textvid", "--help").stdout.split())
    assert "CheckTideos:faults,detail,diversity,balance,leakage,overlap." in of_group


def test_other_libraries_are_silent_unless_verbose(tideo: Tideo, monkeypatch: pytest.MonkeyPatch) -> None:
    def describe(kind: str) -> dict[str, str]:
        for name in ("tideo.video", "httpx", "some_library", "root"):
            logging.getLogger(name).warning("a line of %s", name)
        for module in ("tideo.video", "some_library"):
            warnings.warn_explicit(f"of {module}", UserWarning, "f.py", 1, module=module)
        return {}

    monkeypatch.setattr(registry, "describe", describe)
    assert tideo("list", "samplers").stderr.splitlines() == ["a line of tideo.video", "tideo: of tideo.video"]
    loud = tideo("--verbose", "list", "samplers").stderr
    assert "httpx: a line of httpx" in loud
    assert "some_library: a line of some_library" in loud
    assert "UserWarning: of some_library" in loud


def test_an_extra_installs_what_its_feature_imports() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: r for name, r in project["optional-dependencies"].items() if name not in ("dev", "docs")}
    packages = {
        "faiss": "faiss-cpu",
        "flash_attn": "flash-attn",
        "open_clip": "open_clip_torch",
        "prometheus_client": "prometheus-client",
        "starlette": "fastapi",  # which brings it
    }  # module → package, where the names differ
    for module, extra in registry.EXTRAS.items():
        names = [requirement.partition(">")[0] for requirement in extras[extra]]
        assert packages.get(module, module) in names
    assert set(registry.EXTRAS.values()) == set(extras)
    source = "".join(p.read_text(encoding="utf-8") for p in (REPOSITORY / "src").rglob("*.py"))
    used = {module for module in registry.EXTRAS if f'require("{module}' in source}
    of_server = {
        m for m, extra in registry.EXTRAS.items() if extra == "serve"
    }  # imported by the server itself
    assert used >= set(registry.EXTRAS) - of_server


@pytest.mark.slow
def test_json_is_valid_where_standard_out_has_ascii_alone(tideo_process: Tideo, place: Path) -> None:
    options = ("thé", "lait 🥛")
    args = ("videos/v.mp4", "où?", "--option", options[0], "--option", options[1])
    done = tideo_process("ask", *args, "--json", cwd=place, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert json.loads(done.stdout)["options"] == list(options)


def test_results_are_json(tideo: Tideo, place: Path) -> None:
    done = tideo("ask", "videos/v.mp4", "why?", "--option", "a", "--option", "b", "--json", cwd=place)
    assert done.returncode == 0
    assert json.loads(done.stdout)["options"] == ["a", "b"]
    assert done.stdout.count("\n") == 1
