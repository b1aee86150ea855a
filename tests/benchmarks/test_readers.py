"""Official annotation files: every question once, right counts by type, malformed rows named."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tideo.benchmarks.csv import csv
from tideo.benchmarks.egoschema import ANSWERS, egoschema
from tideo.benchmarks.intentqa import intentqa
from tideo.benchmarks.nextqa import MAP_FILE, nextqa
from tideo.benchmarks.star import star
from tideo.types import UserError

HEADER = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
LINE = "24,300,640,480,why is he here,1,6,CW,rest,work,play,eat,hide\n"
STAR = {
    "question_id": "Sequence_T1_13",
    "question": "What happened?",
    "video_id": "6H78U",
    "start": 11.1,
    "end": 19.6,
    "answer": "Two.",
    "question_program": [],
    "choices": [{"choice_id": 0, "choice": "One."}, {"choice_id": 1, "choice": "Two."}],
}


def csv_in(folder: Path, text: str) -> Path:
    path = folder / "val.csv"
    path.write_text(text)
    return path


def test_a_row_of_nextqa(tmp_path: Path) -> None:
    (sample,) = nextqa(csv_in(tmp_path, HEADER + LINE), videos=tmp_path / "v")
    assert (sample.id, sample.kind, sample.answer) == ("24_6", "CW", 1)
    assert sample.options == ("rest", "work", "play", "eat", "hide")
    assert (sample.video.id, sample.video.path) == ("24", str(tmp_path / "v" / "24.mp4"))
    assert nextqa(tmp_path, videos=tmp_path / "v") == [sample]


def test_a_row_of_intentqa(tmp_path: Path) -> None:
    text = HEADER.replace("video,", "video_id,").replace("a4\n", "a4,action,lemma,lemma_id\n")
    path = csv_in(tmp_path, text + LINE.replace("hide\n", "hide,lies,lie,98\n"))
    (sample,) = intentqa(path, videos=tmp_path / "v")
    assert (sample.id, sample.kind, sample.answer, sample.video.id) == ("24_6", "CW", 1, "24")
    assert sample.options == ("rest", "work", "play", "eat", "hide")
    with pytest.raises(UserError, match=r"val\.csv: the column 'video' is missing"):
        nextqa(path, videos=tmp_path)
    path.write_text(text + LINE.replace(",1,6,", ",5,6,").replace("hide\n", "hide,lies,lie,98\n"))
    with pytest.raises(UserError, match=r"val\.csv line 2, answer: "):
        intentqa(path, videos=tmp_path)


def test_videos_lie_flat_or_as_vidor_nests_them(tmp_path: Path) -> None:
    csv_in(tmp_path, HEADER + LINE + LINE.replace("24,", "25,"))
    (tmp_path / MAP_FILE).write_text('{"24": "1164/24"}')
    nested = tmp_path / "v" / "1164" / "24.mp4"
    nested.parent.mkdir(parents=True)
    nested.touch()
    first, second = nextqa(tmp_path, videos=tmp_path / "v")
    assert first.video.path == str(nested)
    assert second.video.path == str(tmp_path / "v" / "25.mp4")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,question\n1,2\n", r"val\.csv: the column 'answer' is missing"),
        (HEADER + LINE.replace(",1,6,", ",5,6,"), r"val\.csv line 2, answer: .*less than 5"),
        (HEADER + LINE.replace(",1,6,", ",one,6,"), r"val\.csv line 2, answer: .*integer"),
        (HEADER + LINE + "24,300\n", r"val\.csv line 3: expected 13 fields"),
        (HEADER + LINE.strip() + ",more\n", r"val\.csv line 2: expected 13 fields"),
        (HEADER + LINE + LINE, r"val\.csv line 3: id '24_6' occurs in .* line 2 already"),
        (HEADER, "holds no question"),
    ],
)
def test_a_malformed_row_of_nextqa_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        nextqa(csv_in(tmp_path, text), videos=tmp_path)


def test_text_that_is_not_utf8_and_a_bad_map_are_refused(tmp_path: Path) -> None:
    (tmp_path / "val.csv").write_bytes(HEADER.encode() + b"\xff\n")
    with pytest.raises(UserError, match=r"val\.csv is not UTF-8"):
        nextqa(tmp_path, videos=tmp_path)
    csv_in(tmp_path, HEADER + LINE)
    for text in ("[", "[1]", '{"24": "../../etc/passwd"}', '{"24": "/etc/passwd"}'):
        (tmp_path / MAP_FILE).write_text(text)
        with pytest.raises(UserError, match=MAP_FILE.replace(".", r"\.")):
            nextqa(tmp_path, videos=tmp_path)


def star_in(folder: Path, *rows: object) -> Path:
    path = folder / "STAR_val.json"
    path.write_text(json.dumps(list(rows)))
    return path


def test_a_question_of_star_is_about_its_segment(tmp_path: Path) -> None:
    (sample,) = star(star_in(tmp_path, STAR), videos=tmp_path)
    assert (sample.id, sample.kind, sample.answer) == ("Sequence_T1_13", "Sequence", 1)
    assert (sample.video.start_s, sample.video.end_s) == (11.1, 19.6)
    assert sample.options == ("One.", "Two.")
    (blind,) = star(star_in(tmp_path, {k: v for k, v in STAR.items() if k != "answer"}), videos=tmp_path)
    assert blind.answer is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "Three."}, r"element 1, the row: answer 'Three\.' is none of the choices"),
        ({"end": 3}, "element 1, the row: the segment ends"),
        ({"choices": [{"choice": "One."}]}, "element 1, choices: .*at least 2"),
        ({"question_id": "13"}, "element 1, question_id"),
        ({"start": "soon"}, "element 1, start"),
    ],
)
def test_a_malformed_question_of_star_is_named(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        star(star_in(tmp_path, {**STAR, **change}), videos=tmp_path)


def test_star_is_a_list(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(UserError, match="expected a list of questions, not dict"):
        star(tmp_path, videos=tmp_path)


EGO = {"q_uid": "u1", "question": "what?", **{f"option {i}": f"C does {i}." for i in range(5)}}


def test_public_questions_of_egoschema_have_answers(tmp_path: Path) -> None:
    (tmp_path / "questions.json").write_text(json.dumps([EGO, EGO | {"q_uid": "u2"}]))
    (tmp_path / ANSWERS).write_text('{"u2": 3}')
    hidden, public = egoschema(tmp_path, videos=tmp_path / "v")
    assert (hidden.answer, public.answer) == (None, 3)
    assert public.options[3] == "C does 3."
    assert public.video.path == str(tmp_path / "v" / "u2.mp4")
    (tmp_path / ANSWERS).write_text('{"u2": 5}')
    with pytest.raises(UserError, match="an option from 0 to 4"):
        egoschema(tmp_path, videos=tmp_path)
    (tmp_path / "questions.json").write_text(json.dumps([{k: v for k, v in EGO.items() if k != "option 4"}]))
    (tmp_path / ANSWERS).unlink()
    with pytest.raises(UserError, match="element 1, option 4"):
        egoschema(tmp_path, videos=tmp_path)


OWN = "video_name,question_id,question,a0,a1,a2,answer,question_type\n"


def test_own_questions_as_csv_and_as_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text(
        OWN + "kitchen,1,what,tea,cup,,cup,next\ncam/yard.mkv,2,how many,2,0,1,1,\nyard,3,who,a,b,c,,\n"
    )
    first, second, third = csv(path, videos=tmp_path)
    assert (first.options, first.answer, first.kind) == (("tea", "cup"), 1, "next")
    assert first.video.path == str(tmp_path / "kitchen.mp4")
    assert (second.answer, second.kind) == (2, "all")  # the option that reads 1, not option number 1
    assert second.video.path == str(tmp_path / "cam" / "yard.mkv")
    assert third.answer is None
    lines = tmp_path / "q.jsonl"
    row = {
        "video_name": "kitchen",
        "question_id": 1,
        "question": "what",
        "a0": "tea",
        "a1": "cup",
        "answer": 1,
    }
    lines.write_text(json.dumps(row) + "\n")
    (same,) = csv(lines, videos=tmp_path)
    assert (same.options, same.answer) == (first.options, first.answer)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("v,1,what,tea,,,tea,", "line 2, a1: it is empty"),
        ("v,1,what,tea,cup,,jug,", "line 2, answer: 'jug' is none of the 2 options"),
        ("v,1,what,tea,cup,,2,", "line 2, answer: '2' is none"),
        ("../v,1,what,tea,cup,,0,", "line 2, video_name"),
        ("v,1,what,tea", "line 2: expected 8 fields"),
    ],
)
def test_a_malformed_own_question_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text(OWN + line + "\n")
    with pytest.raises(UserError, match=message):
        csv(path, videos=tmp_path)
    with pytest.raises(UserError, match=r"ends with \.csv or \.jsonl"):
        csv(tmp_path, videos=tmp_path)


def test_egoschemas_sample_loads(shared: Path) -> None:
    folder = shared / "data" / "egoschema"
    samples = egoschema(folder, videos="videos")
    assert len(samples) == 250
    assert all(len(s.options) == 5 and s.answer is not None for s in samples)


def test_all_of_nextqas_validation_loads(shared: Path) -> None:
    samples = nextqa(shared / "data" / "nextqa" / "val.csv", videos="videos")
    kinds = {"CW": 1924, "TN": 895, "CH": 683, "TC": 663, "DO": 305, "DL": 295, "DC": 177, "TP": 54}
    assert Counter(s.kind for s in samples) == kinds
    assert len({s.id for s in samples}) == 4996


def test_stars_sample_loads(shared: Path) -> None:
    samples = star(shared / "data" / "star" / "STAR_val_sample.json", videos="videos")
    assert Counter(s.kind for s in samples) == {"Interaction": 2000}
    assert all(len(s.options) == 4 and s.answer is not None for s in samples)
