"""A run's choices as the benchmarks' own scripts read them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import Tideo
from tideo.evaluate.answers import ANSWERS_FILE
from tideo.evaluate.export import export
from tideo.evaluate.run import evaluate
from tideo.evaluate.summary import Unscored
from tideo.models.topa.blind import Blind
from tideo.types import UserError
from tiny import model_in

NEXTQA = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n" + "".join(
    f"24,300,640,480,why is he here,{q},{q},{kind},rest,work,play,eat,hide\n"
    for q, kind in enumerate(("CW", "TP"))
)
EGOSCHEMA = [
    {"q_uid": f"uid{q}", "question": "why", **{f"option {i}": f"option number {i}" for i in range(5)}}
    for q in range(2)
]


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Blind:
    return Blind.load(model_in(tmp_path_factory.getbasetemp()))


def run(benchmark: str, data: Path, blind: Blind) -> Path:
    out = data.parent / "run"
    evaluate(benchmark=benchmark, data=data, videos=data.parent, model=blind, out=out, controls=[])
    return out


def chosen(out: Path) -> dict[str, int]:
    """The best mean log-likelihood of each answer in the file."""
    records = [json.loads(line) for line in (out / ANSWERS_FILE).read_text().splitlines()]
    means = {
        r["sample_id"]: [x / n for x, n in zip(r["loglikelihoods"], r["num_tokens"], strict=True)]
        for r in records
    }
    return {i: of.index(max(of)) for i, of in means.items()}


def test_nextqas_own_script_reads_it(blind: Blind, tmp_path: Path, tideo: Tideo) -> None:
    (tmp_path / "val.csv").write_text(NEXTQA)
    out = run("nextqa", tmp_path / "val.csv", blind)
    done = tideo("export", str(out), "--out", str(tmp_path / "result.json"))
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result == {i: {"prediction": c, "answer": int(i[-1])} for i, c in chosen(out).items()}
    assert set(result) == {"24_0", "24_1"}


def test_egoschemas_server_reads_it(blind: Blind, tmp_path: Path) -> None:
    (tmp_path / "questions.json").write_text(json.dumps(EGOSCHEMA))
    (tmp_path / "subset_answers.json").write_text('{"uid0": 1}')
    out = run("egoschema", tmp_path / "questions.json", blind)
    assert export(out, out=tmp_path / "out.json") == (0, 2)
    assert json.loads((tmp_path / "out.json").read_text()) == chosen(out)


def test_stars_server_reads_it(blind: Blind, tmp_path: Path) -> None:
    rows = [
        {"question_id": f"{kind}_T1_{n}", "question": "why?", "video_id": "v", "start": 0, "end": 1}
        | {"choices": [{"choice_id": i, "choice": word} for i, word in enumerate(("a", "b", "c", "d"))]}
        for n, kind in enumerate(("Sequence", "Interaction", "Feasibility", "Sequence"))
    ]  # as in STAR_test.json, without answers
    (tmp_path / "STAR_test.json").write_text(json.dumps(rows))
    with pytest.raises(Unscored):
        run("star", tmp_path / "STAR_test.json", blind)
    out = tmp_path / "run"
    assert export(out, out=tmp_path / "out.json") == (0, 4)
    choice = chosen(out)
    exported = json.loads((tmp_path / "out.json").read_text())
    assert exported == {
        "Interaction": [{"question_id": "Interaction_T1_1", "answer": choice["Interaction_T1_1"]}],
        "Sequence": [
            {"question_id": f"Sequence_T1_{n}", "answer": choice[f"Sequence_T1_{n}"]} for n in (0, 3)
        ],
        "Prediction": [],
        "Feasibility": [{"question_id": "Feasibility_T1_2", "answer": choice["Feasibility_T1_2"]}],
    }


def test_a_test_split_is_answered_and_not_scored(tmp_path: Path, tideo: Tideo) -> None:
    (tmp_path / "questions.json").write_text(json.dumps(EGOSCHEMA))
    out = tmp_path / "run"
    done = tideo(
        "eval", "egoschema", "--data", str(tmp_path / "questions.json"), "--videos", str(tmp_path), "--model",
        "blind", "--out", str(out),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"egoschema: 2 questions asked, no right answer known: tideo export {out} --out FILE writes the choices\n"
    )


def test_a_failed_question_has_no_choice_and_a_missing_answer_is_refused(
    blind: Blind, tmp_path: Path
) -> None:
    (tmp_path / "own.csv").write_text(
        "video_name,question_id,question,a0,a1,answer\nv,1,why,x,y,0\nv,2,how,x,y,1\n"
    )
    out = run("csv", tmp_path / "own.csv", blind)
    lines = [json.loads(line) for line in (out / ANSWERS_FILE).read_text().splitlines()]
    whole = chosen(out)
    lines[1] |= {"error": "the video is broken", "choice": None, "loglikelihoods": [], "num_tokens": []}
    (out / ANSWERS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert export(out, out=tmp_path / "out.csv") == (1, 2)
    assert (tmp_path / "out.csv").read_text() == f"id,choice\n1,{whole['1']}\n2,-1\n"
    (out / ANSWERS_FILE).write_text(json.dumps(lines[0]) + "\n")
    with pytest.raises(UserError, match="1 of 2 questions have no answer yet"):
        export(out, out=tmp_path / "no.csv")
    assert not (tmp_path / "no.csv").exists()


SKIPPED = {  # benchmark → its file with one question of two about a missing video, and the choices of the export
    "csv": (
        "video_name,question_id,question,a0,a1,a2,answer\nv,1,why,x,,y,0\ngone,2,how,x,,y,0\n",
        lambda choice: f"id,choice\n1,{(0, 2)[choice]}\n",  # numbers of columns
    ),
    "nextqa": (
        NEXTQA.replace("\n24", "\nv", 1),
        lambda choice: (
            json.dumps(
                {"v_0": {"prediction": choice, "answer": 0}, "24_1": {"prediction": -1, "answer": 1}},
                indent=1,
            )
            + "\n"
        ),
    ),
}


@pytest.mark.parametrize("benchmark", SKIPPED)
def test_what_was_answered_is_exported_and_what_was_skipped_is_counted(
    benchmark: str, blind: Blind, tmp_path: Path, tideo: Tideo
) -> None:
    text, expected = SKIPPED[benchmark]
    (tmp_path / "val.csv").write_text(text)
    (tmp_path / "v.mkv").write_bytes(b"\0")
    out = tmp_path / "run"
    evaluate(
        benchmark=benchmark, data=tmp_path / "val.csv", videos=tmp_path, model=blind, out=out, controls=[],
        missing="skip",
    )  # fmt: skip
    done = tideo("export", str(out), "--out", str(tmp_path / "result"))
    assert done.returncode == 0, done.stderr
    assert "1 of 2 questions were not asked, as their videos were missing" in done.stderr
    (choice,) = chosen(out).values()
    assert (tmp_path / "result").read_text() == expected(choice)
    (tmp_path / ("gone.mp4" if benchmark == "csv" else "24.mp4")).write_bytes(b"\0")
    with pytest.raises(UserError, match="1 of 2 questions have no answer yet: run tideo eval again"):
        export(out, out=tmp_path / "again")
