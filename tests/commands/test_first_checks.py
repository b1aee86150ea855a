"""What is cheap is checked first: a typing error is refused in one line before torch or a model is loaded."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import REPOSITORY, Tideo
from videos import encode

# args of a command → what its one line says
WRONG = [
    ("ask v.mp4 why? --model runs/none", r"runs/none is missing: a recipe writes it"),
    ("ask v.mp4 why? --model ./none", r"there is no folder \./none"),
    ("ask v.mp4 why? --model ../none", r"there is no folder \.\./none"),
    ("ask v.mp4 why? --model ~/none", r"there is no folder ~/none"),
    ("ask v.mp4 why? --model /none", r"there is no folder /none"),
    ("ask v.mp4 why? --model a/b/c", r"there is no folder a/b/c"),
    ("ask v.mp4 why? --model videos/none", r"there is no folder videos/none"),
    ("ask v.mp4 why? --model ./v.mp4", r"\./v\.mp4 is a file: give the folder"),
    ("ask v.mp4 why? --model dollhouse-tpoa", r"unknown model 'dollhouse-tpoa'; did you mean dollhouse-topa"),
    ("ask v.mp4 why? --model some/model", r"some/model was not downloaded and HF_HUB_OFFLINE is set"),
    ("ask v.mp4 why? --model-args num_frame=3", r"unknown key 'num_frame'; did you mean num_frames"),
    ("ask v.mp4 why? --model dollhouse-grid --model-args sampler=even", r"sampler 'even': expected one of aks"),
    ("ask v.mp4 why? --model dollhouse-grid --model-args form=poem", r"form 'poem': expected one of"),
    ("ask v.mp4 why? --model dollhouse-grid --model-args reduction=max", r"reduction 'max': expected one of"),
    ("ask v.mp4 why? --model dollhouse-grid --model-args dtype=half", r"dtype=half: expected auto, bf16"),
    ("ask none.mp4 why?", r"none\.mp4: there is no such file"),
    ("ask text.mp4 why?", r"text\.mp4"),
    ("ask v.mp4 why? --start 900", r"outside the segment"),
    ("frames none.mp4 --num 3 --out out", r"none\.mp4: there is no such file"),
    ("frames v.mp4 --num 3 --out v.mp4/out", r"v\.mp4/out cannot be a folder: .*/v\.mp4 is a file"),
    ("grid v.mp4 --out v.mp4/g.png", r"v\.mp4 cannot be a folder"),
    ("grid v.mp4 --out g.xyz", r"g\.xyz: the ending says how a picture is stored; expected one of \.bmp"),
    ("eval cvs --data q.csv --videos videos --model blind --out out", r"unknown benchmark 'cvs'; did you mean csv"),
    ("eval csv --data none.csv --videos videos --model blind --out out", r"'--data'.*none\.csv"),
    ("eval csv --data q.csv --videos none --model blind --out out", r"'--videos'.*none"),
    ("eval csv --data text.mp4 --videos videos --model blind --out out", r"text\.mp4"),
    ("eval csv --data q.csv --videos videos --model runs/none --out out", r"runs/none is missing"),
    ("eval csv --data q.csv --videos videos --model dollhouse-topa --control blnd --out out",
     r"unknown control 'blnd'; did you mean blind"),
    ("eval csv --data q.csv --videos videos --model dollhouse-topa --out /proc/no/out", r"/proc/no/out cannot be wr"),
    ("eval csv --data q.csv --videos videos --model dollhouse-topa --out LONG", r"cannot be written \(File name too"),
    ("ask v.mp4 why? --model dollhouse-grid --model-args sampler=question,encoder=./no",
     r"cannot load the dual encoder \./no: there is no folder"),
    ("ask v.mp4 why? --model openai:m@http://127.0.0.1:9 --model-args sampler=bolt",
     r"sampler 'bolt' needs an encoder"),
    ("ask v.mp4 why? --model dollhouse-topa --model-args sampler=bolt,selector=./no",
     r"cannot load the dual encoder \./no: there is no folder"),
    ("ask v.mp4 why? --model-args sampler=bolt,pool_max=4", r"pool_max=4: expected at least the 10 frames"),
    ("ask v.mp4 why? --model-args sampler=bolt,pool_fps=0", r"pool_fps=0: expected more than 0"),
    ("ask v.mp4 why? --model-args pool_fps=2", r"pool_fps=2: it changes nothing"),
    ("ask v.mp4 why? --model-args sampler=bolt --features v.mp4/pools", r"v\.mp4/pools cannot be a folder"),
    ("grid v.mp4 --out g.png --sampler aks", r"--sampler aks chooses by a question: give --question"),
    ("grid v.mp4 --out g.png --features pools", r"--features chooses frames for a question"),
    ("fuse videos videos --model a --model b --out out", r"videos is no run directory"),
    ("report videos --out v.mp4/r.html", r"v\.mp4 cannot be a folder"),
    ("export videos --out out.csv", r"videos is no run directory"),
    ("prealign none", r"unknown recipe 'none'"),
    ("prealign dollhouse_topa --out v.mp4/out", r"v\.mp4/out cannot be a folder"),
    ("textvid generate --llm openai:a@http://127.0.0.1:9 --num 1 --pack none --out out", r"unknown pack 'none'"),
    ("textvid generate --llm vllm:none --num 1 --llm-args concurrency=0 --out out", r"concurrency=0"),
    ("finetune dollhouse_grid --gpus 2", r"--gpus and --card are for --plan"),
    ("finetune dollhouse_grid --plan --resume", r"--plan and --export train nothing"),
    ("finetune dollhouse_grid --export out --out out2", r"--plan and --export train nothing"),
    ("finetune dollhouse_grid --export out --plan", r"--plan and --export train nothing"),
    ("textvid check csv=q.csv --filter --out out", r"--filter writes Tideos, and a BENCHMARK=FILE has none"),
    ("textvid check csv=none.csv --out out", r"none\.csv: there is no such file"),
    ("encode csv=none.csv --videos videos --encoder dollhouse-clip --out out", r"csv=none\.csv: there is no such file"),
    ("textvid check none --out out", r"none: there is no such file or folder of Tideos"),
    ("textvid check text.mp4 --reader ./none --out out", r"there is no folder \./none"),
    ("textvid check text.mp4 --against none=q.csv --out out", r"unknown benchmark 'none'"),
    ("encode videos --encoder ./none --out out", r"there is no folder \./none"),
    ("encode videos --encoder dollhouse-clip --sampler even --out out", r"unknown sampler 'even'"),
    ("encode videos --encoder dollhouse-clip --sampler bolt --out out", r"--sampler bolt chooses for a question"),
    ("encode videos --encoder dollhouse-clip --pool exact --num-frames 4 --out out", r"--num-frames and --pool both"),
    ("encode videos --encoder dollhouse-clip --pool-fps 2 --out out", r"--pool-fps is of a pool: give --pool exact"),
    ("encode videos --encoder dollhouse-clip --pool exact --pool-max 0 --out out", r"pool_max=0: expected 1 to 10000"),
    ("encode videos --encoder dollhouse-clip --out out --decode-cpus 2", r"--decode-cpus is for a cluster: give --ray"),
    ("encode videos --encoder dollhouse-clip --out out --encode-gpus 0", r"--encode-gpus is for a cluster: give --ray"),
    ("encode nowhere://v --encoder dollhouse-clip --out out", r"nowhere://v cannot be read"),
    ("encode v.parquet --encoder dollhouse-clip --out out", r"v\.parquet: there is no such file"),
    ("textvid check tideos.jsonl --out out --encode-gpus 1", r"--encode-gpus is for a cluster: give --ray ADDRESS"),
    ("encode none --encoder dollhouse-clip --out out", r"none: there is no such file or folder, or no BENCHMARK"),
    ("import topa none.pth --llm a/b --memory q.csv --out out", r"none\.pth"),
    ("import topa text.mp4 --llm ./none --memory q.csv --out out", r"there is no folder \./none"),
    ("push none us/model", r"none"),
    ("push videos us/model", r"videos is not a model of tideo"),
]  # fmt: skip
PROGRAM = """
import contextlib, io, json, sys
from tideo.cli import run
done = []
for args in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(args)
    done.append([code, out.getvalue(), err.getvalue(), sorted({"torch", "transformers"} & set(sys.modules))])
print(json.dumps(done))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    encode(tmp_path / "v.mp4", num=10)
    encode(tmp_path / "videos" / "v.mp4", num=10)
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "q.csv").write_text("video_name,question,question_id,a0,a1,answer\nv,why?,0,a,b,0\n")
    return tmp_path


@pytest.mark.slow
def test_a_typing_error_costs_nothing(place: Path) -> None:
    before = sorted(place.rglob("*"))
    commands = [args.replace("LONG", "a" * 300).split() for args, _ in WRONG]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(commands), cwd=place, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "HF_HUB_CACHE": str(place / "hub")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for (args, message), (code, out, err, loaded) in zip(WRONG, json.loads(done.stdout), strict=True):
        assert (code, out, loaded) == (2, "", []), (args, err)
        assert re.fullmatch(rf"tideo: .*({message}).*\n", err), (args, err)
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("prealign dollhouse_topa --set tideo=a.json", r"unknown key 'tideo'; did you mean tideos"),
        (
            "prealign dollhouse_topa --set tideos=none.json",
            r"tideos=none\.json: there is no such file or folder",
        ),
        ("prealign dollhouse_topa --set features=nothing", r"features=nothing: there is no such"),
        ("prealign dollhouse_topa --set calibration=nothing", r"calibration=nothing: there is no such"),
        (
            "prealign dollhouse_topa --set llm=./none",
            r"the language model '\./none' cannot be loaded: there is no",
        ),
        (
            "prealign dollhouse_topa --set encoder=runs/none",
            r"cannot load the dual encoder runs/none: runs/none is",
        ),
        (
            "finetune llava_1_5_13b_nextqa --set path=none.csv --set model=dollhouse-grid",
            r"path=none\.csv: there is",
        ),
    ],
)
def test_a_training_checks_what_it_reads(tideo: Tideo, args: str, message: str, place: Path) -> None:
    before = sorted(place.rglob("*"))
    done = tideo(*args.split(), cwd=place)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"tideo: .*{message}.*\n", done.stderr), done.stderr
    assert sorted(place.rglob("*")) == before
