"""A checker of Tideos against planted faults of each kind, measures worked out by hand, a whole run."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import Tideo as Cli
from tideo.cluster import Cluster
from tideo.dollhouse.export import ask_split, tideo_of
from tideo.encoders.dual import load_encoder
from tideo.encoders.features import text_vectors
from tideo.lab.planted_faults import planted, precision_recall
from tideo.textvid.check import check, check_questions
from tideo.textvid.faults import clauses, copies, disorder, doubtful, lines_of, strangers, unread
from tideo.textvid.page import page, rows
from tideo.textvid.reader import Reader
from tideo.textvid.schema import dump, from_tideo, load
from tideo.textvid.statistics import balance, detail, diversity, overlap
from tideo.types import Question, TextFrame, Tideo, UserError


@pytest.fixture(scope="module")
def clean() -> list[Tideo]:
    return [tideo_of(a, seed=0) for a in ask_split("train", num=80, seed=11) if not a.is_cut]


# --- faults -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "precision", "recall"),
    [
        ("order", 0.9, 0.85),
        ("stranger", 0.8, 0.6),
        pytest.param("answer", 0.85, 0.8, marks=pytest.mark.slow),
        ("copy", 1.0, 0.9),
        pytest.param("captions", 0.8, 0.7, marks=pytest.mark.slow),
    ],
)
def test_planted_faults_are_found(kind: str, precision: float, recall: float, clean: list[Tideo]) -> None:
    num = {"answer": 16, "captions": 24}.get(kind, 60)  # a language model reads these two
    found = precision_recall(kind, clean[:num], share=0.25)
    assert found[0] >= precision
    assert found[1] >= recall


def test_an_unknown_fault_is_an_error(clean: list[Tideo]) -> None:
    with pytest.raises(UserError, match=r"a share 0\.1 of the fault 'typo': expected"):
        planted(clean, "typo", share=0.1)


@pytest.mark.slow
def test_what_a_language_model_reads_and_guesses(clean: list[Tideo]) -> None:
    mixed, _ = planted(clean[:10], "answer", share=0.5)
    _, measures = doubtful(mixed, Reader.load("dollhouse-lm"))
    assert measures["questions"] == sum(len(t.questions) for t in mixed)
    assert 0.35 < measures["reading"] < 0.65  # half of the answers are wrong
    assert measures["blind"] < 0.4


def test_several_doubted_answers_are_a_fault_of_the_frames() -> None:
    def asking(num: int) -> Tideo:
        one = Question(kind="", question="what?", options=("a", "b"), answer=0, open_answer="a")
        without = replace(one, options=(), answer=None)
        return Tideo(id="a", frames=(TextFrame(main="a"),), summary="s", questions=(*[one] * num, without))

    tideos = [asking(1), asking(4), asking(8), asking(9), asking(9)]
    doubts = [(0, 0), (1, 2), (2, 0), (2, 7), (3, 0), (3, 1), (4, 0), (4, 1), (4, 2)]
    assert unread(tideos, doubts) == {
        2: "the frames do not show 2 of 8 answers",
        4: "the frames do not show 3 of 9 answers",
    }


def test_copies_are_found_and_their_originals_are_not(clean: list[Tideo]) -> None:
    first = clean[0].frames[0]
    nearly = replace(
        clean[0], id="n", frames=(replace(first, main=first.main + " now"), *clean[0].frames[1:])
    )
    found = copies([*clean, clean[0], nearly])
    assert sorted(found) == [len(clean), len(clean) + 1]
    assert found[len(clean)] == f"the same frames as {clean[0].id}"
    assert found[len(clean) + 1] == f"nearly the same frames as {clean[0].id}"


def test_what_cannot_be_judged_is_no_fault() -> None:
    short = Tideo(id="a", frames=(TextFrame(main="a cat"), TextFrame(main="a dog")), summary="a cat")
    vector_of = text_vectors(["a cat", "a dog"], load_encoder("dollhouse-clip"))
    found, p_N = disorder([short], vector_of)
    assert found == {}
    assert np.isnan(p_N[0])
    assert strangers([short, short], vector_of)[0] == {}


def test_a_summary_comes_apart_in_order() -> None:
    assert clauses("a man makes tea: filling a kettle, pouring tea. He sits, then he reads; done") == [
        "a man makes tea", "filling a kettle", "pouring tea", "He sits", "then he reads",
    ]  # fmt: skip


# --- measures -----------------------------------------------------------------------------------------


def question(text: str, *options: str, answer: int = 0) -> Question:
    return Question(question=text, options=options, answer=answer)


def test_what_the_options_give_away() -> None:
    measures = balance(
        [
            question("why does he pour tea", "to pour tea for a guest", "no", "yes", answer=0),
            question("what is it", "aa", "bb", "c", answer=0),
            question("who", "a cat", "the dog", answer=1),
            Question(question="open"),
        ]
    )
    assert measures["questions"] == 3
    assert measures["letters"] == pytest.approx({"A": 2 / 3, "B": 1 / 3})
    assert measures["chance"] == pytest.approx((1 / 3 + 1 / 3 + 1 / 2) / 3)
    assert measures["longest_option"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert measures["shortest_option"] == pytest.approx(0)
    assert measures["in_question"] == pytest.approx((1 + 1 / 3 + 1 / 2) / 3)
    assert balance([]) == {}


def test_overlap_by_word_and_by_run() -> None:
    long = "why did the boy in the red shirt run to the tree"
    asked = [
        question("What is it?", "a", "b"),
        question(long + " again", "a", "b"),
        question("new", "a", "b"),
    ]
    assert overlap(asked, {"nextqa": ["what is it", long]}) == {
        "nextqa": {"questions": 2, "same": 1, "shared_run": 1}
    }


def test_more_of_the_same_is_not_more() -> None:
    some = [tideo_of(a, seed=0) for a in ask_split("train", num=20, seed=4) if not a.is_cut]
    texts = [c for t in some for f in t.frames for c in f.captions]
    vector_of = text_vectors(texts, load_encoder("dollhouse-clip"))
    once, thrice = diversity(some, vector_of), diversity(some * 3, vector_of)
    assert thrice["effective_tideos"] == pytest.approx(once["effective_tideos"], rel=1e-3)
    assert once["effective_tideos"] < len(some)
    assert thrice["distinct_1"] < once["distinct_1"]
    alike = [replace(t, provenance={"condition": "x" if i else "y"}) for i, t in enumerate(some)]
    assert diversity(alike, vector_of)["conditions"] == 2
    assert diversity(alike, vector_of)["condition_evenness"] < 0.5


def test_detail_of_a_frame() -> None:
    frames = (TextFrame(main="a man in a red shirt is pouring tea", background="two cups on the table"),)
    measures = detail([Tideo(id="a", frames=frames, summary="s")])
    assert (measures["frames"], measures["captions"], measures["words"], measures["actions"]) == (1, 2, 14, 1)
    assert measures["objects"] >= 3
    assert measures["attributes"] == 2  # red, two


# --- a run --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_folder_is_checked_and_the_good_are_kept(clean: list[Tideo], tmp_path: Path, tideo: Cli) -> None:
    folder = tmp_path / "tideos"
    mixed, places = planted(clean[:16], "order", share=0.25)
    bad = {n: f"shuffled {n}" for n in places}
    doubted = replace(planted(clean[16:18], "answer", share=0.5)[0][1], id="doubted")
    tideos = [*(replace(t, id=bad.get(n, t.id)) for n, t in enumerate(mixed)), doubted]
    dump([from_tideo(t) for t in tideos], folder / "tideos-00000.jsonl")
    with (folder / "tideos-00000.jsonl").open("a") as file:
        file.write('{"idx": "x"}\n{"idx": "y", "fra')
    (tmp_path / "val.jsonl").write_text(
        json.dumps(
            {"video_name": "v", "question": tideos[0].questions[0].question, "question_id": "1"}
            | {"a0": "x", "a1": "y", "answer": "x"}
        )
    )
    done = tideo(
        "textvid", "check", str(folder), "--out", str(tmp_path / "out"), "--filter", "--against",
        f"csv={tmp_path / 'val.jsonl'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "frames out of order" in done.stdout
    checked = json.loads((tmp_path / "out" / "check.json").read_text())
    assert checked["num"] == len(tideos) + 2
    assert checked["counts"]["schema"] == 2
    assert set(bad.values()) & {i for i, f in checked["faults"].items() if "order" in f}
    assert {"answer", "unread"} <= set(checked["faults"]["doubted"])
    assert checked["measures"]["overlap"]["csv"]["same"] >= 1
    kept = load(tmp_path / "out" / "kept")
    dropped = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").open()]
    assert len(kept) + len(dropped) == checked["num"]
    assert all(row["reasons"] for row in dropped)
    assert not {r.idx for r in kept} & {row["idx"] for row in dropped}
    html = (tmp_path / "out" / "check.html").read_text()
    assert "<svg" in html
    assert not re.search(r"(?:src|href)=.?http|url\(http", html)
    assert "<metadata" not in html


def test_the_dollhouse_does_not_judge_what_it_cannot_read(tmp_path: Path, tideo: Cli) -> None:
    frames = [{"main": f"a surgeon ligates vessel {k} beneath the peritoneum"} for k in range(5)]
    record = {"idx": 1, "frames": frames, "global_video_caption": "an appendectomy", "QAs": []}
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n")
    done = tideo("textvid", "check", str(tmp_path / "a.jsonl"), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "of the words here: give --encoder and --reader" in done.stderr
    assert not (tmp_path / "out").exists()


def test_questions_alone(tmp_path: Path, tideo: Cli) -> None:
    lines = ["video_name,question,question_id,a0,a1,a2,answer"]
    lines += [f"v,what is it {i},{i},a short one,a much longer answer than that,no,1" for i in range(4)]
    (tmp_path / "own.csv").write_text("\n".join(lines) + "\n")
    done = tideo("textvid", "check", f"csv={tmp_path / 'own.csv'}", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    checked = json.loads((tmp_path / "out" / "check.json").read_text())
    assert checked["measures"]["balance"]["longest_option"] == 1.0
    assert checked["measures"]["leakage"]["questions"] == 4


def test_nothing_to_check_is_an_error(tmp_path: Path) -> None:
    encoder = load_encoder("dollhouse-clip")
    (tmp_path / "a.jsonl").write_text('{"idx": 1}\n')
    with pytest.raises(
        UserError, match=r"none of 1 records is a Tideo: .*a.jsonl line 1, frames: Field required"
    ):
        check(tmp_path / "a.jsonl", out=tmp_path / "o", encoder=encoder)
    with pytest.raises(UserError, match="holds no tideos-"):
        check(tmp_path, out=tmp_path / "o", encoder=encoder)


def test_what_is_written_by_strangers_is_only_text() -> None:
    nasty = "<script>alert(1)</script>"
    checked = check_questions([Tideo(id=nasty, frames=(), summary="")], source=nasty, reader=None)
    text = page(replace(checked, faults={nasty: {"order": nasty}}))
    assert "<script" not in text
    assert list(rows(checked))


@pytest.mark.slow
def test_a_reader_reads(clean: list[Tideo]) -> None:
    reader = Reader.load("dollhouse-lm")
    right = total = 0
    for tideo in clean[:10]:
        for q, scores in zip(tideo.questions, reader.scores(lines_of(tideo), tideo.questions), strict=True):
            right += scores.index(max(scores)) == q.answer
            total += 1
    assert right / total > 0.8
    assert reader.scores([], []) == []


@pytest.mark.slow
def test_a_cluster_finds_the_same_faults(clean: list[Tideo], tmp_path: Path) -> None:
    pytest.importorskip("ray.data", reason="the extra `ray` is not installed")
    dump([from_tideo(t) for t in clean[:30]], tmp_path / "tideos.jsonl")
    encoder = load_encoder("dollhouse-clip")
    here = check(tmp_path / "tideos.jsonl", out=tmp_path / "here", encoder=encoder)
    cluster = Cluster(address="local")
    there = check(tmp_path / "tideos.jsonl", out=tmp_path / "there", encoder=encoder, cluster=cluster)
    assert there.faults.keys() == here.faults.keys()
    assert there.measures["detail"] == here.measures["detail"]
    assert there.measures["diversity"] == pytest.approx(here.measures["diversity"], abs=2e-3)
