"""Own questions as people, spreadsheets and pandas write them: the right options and answers, or one line."""

from __future__ import annotations

import csv as csv_module
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tideo.benchmarks.annotations import COLUMNS, csv_rows
from tideo.benchmarks.csv import csv
from tideo.benchmarks.nextqa import nextqa
from tideo.types import Sample, UserError

HEADER = "video_name,question_id,question,a0,a1,a2,a3,answer,question_type\n"
ROW = "v,1,what,tea,cup,jug,pot,cup,next\n"


def read(folder: Path, text: str | bytes, *, name: str = "q.csv") -> list[Sample]:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return csv(path, videos=folder)


def fields(samples: Sequence[Sample]) -> list[tuple[str, str, tuple[str, ...], int | None, str]]:
    return [(s.id, s.question, s.options, s.answer, s.kind) for s in samples]


EXPECTED = [("1", "what", ("tea", "cup", "jug", "pot"), 1, "next")]


# --- tables --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        HEADER + ROW,
        "," + HEADER + "0," + ROW,  # pandas' to_csv
        HEADER.replace("\n", ",\n") + ROW.replace("\n", ",\n"),
        HEADER.replace("\n", ",,\n") + ROW,  # of unnamed columns at the end a row may lack some
        "," + HEADER.replace("\n", ",\n") + "7," + ROW.replace("\n", ",\n"),
        (HEADER + ROW).replace(",", ";"),
        (HEADER + ROW).replace(",", "\t"),
        "sep=;\n" + (HEADER + ROW).replace(",", ";"),
        "sep=,\r\n" + (HEADER + ROW).replace("\n", "\r\n"),
        (HEADER + ROW).replace("\n", "\r\n"),
        (HEADER + ROW).replace("\n", "\r"),
        HEADER + "\n" + ROW + ",,,,,,,,\n\n",  # empty rows
        HEADER.replace(",", " , ") + ROW.replace(",", " , "),
        HEADER + ROW.rstrip("\n"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_table_as_programs_write_it(text: str, encoding: str, tmp_path: Path) -> None:
    assert fields(read(tmp_path, text.encode(encoding))) == EXPECTED


@pytest.mark.parametrize("name", ["q.CSV", "q.tsv", "q.txt"])
def test_a_table_by_another_name(name: str, tmp_path: Path) -> None:
    assert fields(read(tmp_path, (HEADER + ROW).replace(",", "\t"), name=name)) == EXPECTED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEADER.replace("a1", "b1") + ROW,
            r"q\.csv: the column 'a1' is missing; .*found video_name,question_id",
        ),
        ("question\nwhat\n", r"the column 'video_name' is missing; expected .*, found question$"),
        (
            '"' + HEADER.strip() + '"\n"' + ROW.strip() + '"\n',
            r"'video_name' is missing; .*found video_name,",
        ),
        ("", r"the column 'video_name' is missing; .*found nothing"),
        (HEADER.replace("a3", "a2") + ROW, r"the column 'a2' occurs twice"),
        ("sep=,\n\n" + HEADER + "v,1,what\n", r"line 4: expected 9 fields"),
        (HEADER + ROW.replace("\n", ",\n"), r"line 2: expected 9 fields as in the header, found 10"),
        (HEADER + "v,1,what\n", r"line 2: expected 9 fields as in the header, found 3"),
        (
            HEADER.replace("\n", ",\n") + ROW.replace("\n", ",x\n"),
            r"line 2: 'x' stands behind the last column",
        ),
        (
            HEADER + "v,1,what, then,tea,cup,jug,pot,cup,next\n",
            r"line 2: expected 9 fields .*found 10; quote a",
        ),
        (HEADER + ROW + 'v,2,"what,tea,cup,,,tea,\n' + ROW, r"line 4: it is not csv .*look for a quote"),
        (HEADER + 'v,1,"what"x,tea,cup,jug,pot,cup,next\n', r"line 2: it is not csv"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as raised:
        read(tmp_path, text)
    assert "\n" not in str(raised.value)


NAMES = ("first", "second", "third")


@given(
    rows=st.lists(st.lists(st.text(), min_size=2, max_size=2), min_size=1, max_size=4),
    separator=st.sampled_from(",;\t"),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv_module.QUOTE_MINIMAL, csv_module.QUOTE_ALL, csv_module.QUOTE_NONNUMERIC]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    index=st.booleans(),
)
@example(rows=[["a\u2028b\x85c\x0cd\x1ce", 'x\0"y"\r\n;z,\t']], separator=";", end="\n", quoting=1, encoding="utf-8",
         index=True)  # fmt: skip
def test_any_text_in_a_field_is_read_back_exactly(
    rows: list[list[str]], separator: str, end: str, quoting: Any, encoding: str, index: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    if end == "\n" and quoting == csv_module.QUOTE_MINIMAL:
        # Python before 3.13 does not quote a lone \r then: the file itself has lost where the row ends.
        rows = [[text.replace("\r", "") for text in row] for row in rows]
    path = tmp_path_factory.getbasetemp() / "any.csv"
    written = [[f"row {n}", *row] for n, row in enumerate(rows)]
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv_module.writer(file, delimiter=separator, lineterminator=end, quoting=quoting)
        for number, row in enumerate([list(NAMES), *written]):
            writer.writerow([str(number) if number else "", *row] if index else row)
    found = [list(row.values()) for _, row in csv_rows(path, columns=NAMES)]
    assert found == written


# --- options and answers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "answer", "expected", "right"),
    [
        (("x", "y", "", "z"), "x", "x y z", 0),
        (("x", "y", "", "z"), "z", "x y z", 2),
        (("x", "y", "", "z"), "3", "x y z", 2),  # the number of its column
        (("x", "y", "", "z"), "", "x y z", None),
        (("", "x", "", "y"), "1", "x y", 0),
        (("", "x", " ", "y"), "y", "x y", 1),
        (("x", "y", "", ""), "1", "x y", 1),
        (("2", "0", "1", ""), "1", "2 0 1", 2),  # the option that reads 1, not option number 1
        (("2.0", "0.0", "1.0", ""), "1", "2.0 0.0 1.0", 2),  # as pandas writes numbers of a column with holes
        (("x", "y", "z", ""), "1.0", "x y z", 1),
        (("5", "10", "15", ""), "2", "5 10 15", 2),
        (("None", "nan", "NaN", ""), "nan", "None nan NaN", 1),  # words like others in a table
    ],
)
def test_empty_options_are_left_out_and_the_answer_stays(
    options: tuple[str, ...], answer: str, expected: str, right: int | None, tmp_path: Path
) -> None:
    (sample,) = read(tmp_path, HEADER + ",".join(("v", "1", "what", *options, answer, "")) + "\n")
    assert (sample.options, sample.answer) == (tuple(expected.split()), right)
    columns = [k for k, option in enumerate(options) if option.strip()]
    assert sample.meta.get(COLUMNS, list(range(len(sample.options)))) == columns


@pytest.mark.parametrize(
    ("change", "options", "right"),
    [
        ({"a2": None, "a3": "z", "answer": "z"}, ("x", "y", "z"), 2),
        ({"a2": float("nan"), "a3": "z", "answer": 3}, ("x", "y", "z"), 2),
        ({"a3": "z", "answer": 3.0}, ("x", "y", "z"), 2),
        ({"a10": "z", "answer": "z"}, ("x", "y", "z"), 2),
        ({"a0": 2, "a1": 1, "answer": 1}, ("2", "1"), 1),
        ({"a0": 2.5, "a1": True, "answer": True}, ("2.5", "True"), 1),
        ({"answer": None}, ("x", "y"), None),
        ({"answer": float("nan")}, ("x", "y"), None),
        ({"a9": ["of", "another", "kind"], "a9b": [], "answer": "x"}, None, None),
        ({"start_s": 1.5, "end_s": "4", "answer": "x"}, ("x", "y"), 0),
    ],
)
def test_json_lines_are_read_alike(
    change: dict[str, Any], options: tuple[str, ...] | None, right: int | None, tmp_path: Path
) -> None:
    row = {"video_name": "v", "question_id": 3, "question": "q", "a0": "x", "a1": "y", **change}
    if options is None:
        with pytest.raises(UserError, match=r"q\.jsonl line 1, a9: expected a text or a number, not list"):
            read(tmp_path, json.dumps(row), name="q.jsonl")
        return
    (sample,) = read(tmp_path, "\ufeff" + json.dumps(row) + "\r\n\r\n", name="q.jsonl")
    assert (sample.id, sample.options, sample.answer) == ("3", options, right)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("v,1,what,tea,cup,tea,,cup,", "line 2: a0 and a2 both read 'tea': give each option its own text"),
        ("v,1,what,,,tea,,tea,", "line 2, a0: it is empty or missing; expected at least two options"),
        ("v,1,what,tea,,,,0,", "line 2, a1: it is empty"),
        ("v,1,what,tea,cup,,pot,2,", "answer: '2' is none of the 3 options, .*: a0, a1, a3"),
        ("v,1,what,tea,cup,,,-1,", "answer: '-1' is none"),
        ("v,1,what,tea,cup,,,0.5,", "answer: '0.5' is none"),
        ("v,1,what,1,1.0,,,1.00,", "answer: '1.00' is none"),
        ("v,1,,tea,cup,,,0,", "line 2, question: it is empty"),
        ("/etc/v.mp4,1,what,tea,cup,,,0,", "line 2, video_name: expected a place below the folder"),
    ],
)
def test_a_row_without_sense_is_one_line(row: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, HEADER + row + "\n")


@pytest.mark.parametrize(
    ("span", "message"),
    [
        ("-1,4", r"line 2: video v: the segment starts at -1\.0 s"),
        ("nan,4", "line 2: video v: the segment starts at nan s"),
        ("4,2", r"line 2: video v: the segment ends at 2\.0 s, not after"),
        ("soon,4", "line 2, start_s: expected seconds, not 'soon'"),
    ],
)
def test_a_segment_that_is_none_names_its_row(span: str, message: str, tmp_path: Path) -> None:
    header = "video_name,question_id,question,a0,a1,start_s,end_s\n"
    (sample,) = read(tmp_path, header + "v,1,what,tea,cup,0.5,2\n")
    assert (sample.video.start_s, sample.video.end_s) == (0.5, 2.0)
    with pytest.raises(UserError, match=message):
        read(tmp_path, header + f"v,1,what,tea,cup,{span}\n")


def test_a_name_of_two_videos_names_its_row(tmp_path: Path) -> None:
    for name in ("v.mp4", "v.mov"):
        (tmp_path / name).write_bytes(b"\0")
    with pytest.raises(UserError, match=r"q\.csv line 2, video_name: 'v' may be v\.mov or v\.mp4 in "):
        read(tmp_path, HEADER + ROW)


def test_a_published_file_may_hold_equal_and_empty_options(tmp_path: Path) -> None:
    """Three of NExT-QA's validation questions have two equal options; both stay, and the file's number counts."""
    header = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
    path = tmp_path / "val.csv"
    path.write_text(header + "24,3,6,4,why,4,6,CW,red,tea,,red,cup\n")
    (sample,) = nextqa(path, videos=tmp_path)
    assert (sample.options, sample.answer, sample.meta[COLUMNS]) == (
        ("red", "tea", "red", "cup"),
        3,
        [0, 1, 3, 4],
    )
    path.write_text(header + "24,3,6,4,why,2,6,CW,red,tea,,red,cup\n")
    with pytest.raises(UserError, match=r"val\.csv line 2: the answer is option number 2, which is empty"):
        nextqa(path, videos=tmp_path)
