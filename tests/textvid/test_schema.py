"""TextVid's JSON is read and written without loss, and errors name the entry and field of a bad record."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideo.dollhouse.captions import episode_tideo
from tideo.dollhouse.distractors import Balance
from tideo.dollhouse.questions import ask
from tideo.dollhouse.script import sample_episode
from tideo.textvid.schema import dump, from_tideo, load, to_tideo
from tideo.types import Question, TextFrame, Tideo, UserError

RECORD: dict[str, Any] = {
    "idx": 7,
    "frames": [{"main": "a man pours tea", "object": "a cup"}, {"main": "a man drinks"}],
    "global_video_caption": "tea time",
    "QAs": [
        {
            "question": "what does he pour?",
            "options": ["tea", "milk", "sand", "oil", "paint"],
            "answer": "A",
            "answer_open_ended": "tea, into a cup",
            "comment": None,
        }
    ],
    "source": {"title": "how to make tea", "ids": [1, 2]},
}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
def test_reading_and_writing_keeps_every_key(tmp_path: Path, name: str) -> None:
    separator = {"\u2028": "a line separator inside a text"}
    records = [RECORD, {**RECORD, "idx": "b", "QAs": [], "note": separator}]
    text = "\n".join(map(json.dumps, records)) if name.endswith("l") else json.dumps(records)
    found = load(write(tmp_path / name, text))
    dump(found, tmp_path / f"again_{name}")
    again = (tmp_path / f"again_{name}").read_text(encoding="utf-8")
    assert load(tmp_path / f"again_{name}") == found
    plain = (
        [json.loads(x) for x in again.rstrip("\n").split("\n")] if name.endswith("l") else json.loads(again)
    )
    assert plain == records


def test_a_record_means_a_tideo() -> None:
    record = from_tideo(
        Tideo(
            id="a",
            frames=(TextFrame(main="x", background="y"), TextFrame(main="z")),
            summary="s",
            questions=(
                Question(question="q?", options=("1", "2"), answer=1, kind="TN", evidence_s=(0.5, 2.0)),
            ),
            provenance={"writer": "me"},
        )
    )
    assert record.frames == [{"main": "x", "background": "y"}, {"main": "z"}]
    assert (record.QAs[0].answer, record.QAs[0].type) == ("B", "TN")


@pytest.mark.parametrize("index", range(5))
def test_a_dollhouse_tideo_comes_back_as_it_went(index: int) -> None:
    episode, rng = sample_episode("train", index), random.Random(index)
    there = episode_tideo(episode, rng, ask(episode, rng, Balance()))
    assert to_tideo(from_tideo(there)) == there


texts = st.text(min_size=1, max_size=20)
questions = st.builds(
    lambda q, options, index, open_answer, kind, evidence_s: Question(
        question=q,
        options=tuple(options),
        answer=index if index is not None and index < len(options) else None,
        open_answer=open_answer,
        kind=kind,
        evidence_s=evidence_s,
    ),
    texts,
    st.lists(texts, max_size=5),
    st.none() | st.integers(0, 4),
    st.none() | texts,
    texts,
    st.none() | st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)),
)
frames = st.builds(
    lambda m, f, b: TextFrame(main=m, foreground=f, background=b), texts, st.none() | texts, st.none() | texts
)


@given(
    frames=st.lists(frames, min_size=1, max_size=3), summary=st.text(), asked=st.lists(questions, max_size=2)
)
def test_any_tideo_comes_back_as_it_went(
    frames: list[TextFrame], summary: str, asked: list[Question], tmp_path_factory: pytest.TempPathFactory
) -> None:
    there = Tideo(id="x", frames=tuple(frames), summary=summary, questions=tuple(asked), provenance={"n": 1})
    path = tmp_path_factory.mktemp("textvid") / "t.jsonl"
    dump([from_tideo(there)], path)
    assert [to_tideo(record) for record in load(path)] == [there]


QA = RECORD["QAs"][0]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({**RECORD, "frames": []}, r"entry 2, frames: List should have at least 1 item"),
        (
            {**RECORD, "frames": [{"main": ""}]},
            r"entry 2, frames\.0\.main: String should have at least 1 char",
        ),
        ({**RECORD, "frames": [{"main": 3}]}, r"entry 2, frames\.0\.main: Input should be a valid string"),
        ({**RECORD, "QAs": [{**QA, "answer": "F"}]}, r"entry 2, QAs\.0\.answer: String should match"),
        (
            {**RECORD, "QAs": [{**QA, "options": ["a"], "answer": "B"}]},
            r"entry 2, QAs\.0: answer B names none of the 1 options",
        ),
        ({k: v for k, v in RECORD.items() if k != "idx"}, r"entry 2, idx.*: Field required"),
        ("text", r"entry 2, the record: Input should be a valid dictionary"),
    ],
)
def test_a_bad_record_is_named_by_entry_and_field(tmp_path: Path, record: Any, message: str) -> None:
    path = write(tmp_path / "t.json", json.dumps([RECORD, record]))
    with pytest.raises(UserError, match=rf"t\.json {message}"):
        load(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.json", "{}", r"t\.json holds a JSON dict; expected a list of TextVid records"),
        ("t.json", "[{", r"t\.json is not JSON \(.*\): repair or remove it"),
        ("t.jsonl", json.dumps(RECORD) + "\n{\n", r"t\.jsonl line 2 is not JSON"),
        ("t.jsonl", json.dumps(RECORD) + "\n{}\n", r"t\.jsonl line 2, idx"),
    ],
)
def test_a_bad_file_is_an_error(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(write(tmp_path / name, text))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json cannot be read: No such file"):
        load(tmp_path / "none.json")


def test_a_frame_with_other_captions_is_no_text_frame(tmp_path: Path) -> None:
    (record,) = load(write(tmp_path / "t.json", json.dumps([RECORD])))
    with pytest.raises(UserError, match="record 7 frame 1 has the captions main, object; expected main, and"):
        to_tideo(record)
