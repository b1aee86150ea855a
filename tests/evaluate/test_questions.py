"""All questions of a report: as data, in its page without and with the script, whatever their text is."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tideo.benchmarks.csv import csv
from tideo.evaluate.answers import MAIN
from tideo.evaluate.html import write_report
from tideo.evaluate.summary import summarise_run
from tideo.types import Answer

HOSTILE = (
    "</script><script>document.title='x'</script>",
    "<img src=x onerror=\"document.title='x'\">",
    "\"double\" 'single' `back` & &amp; \\ {{ 7 * 7 }} {% raw %} <!-- ${1}",
    "\u202eright to left\u202c שאלה \u2028 \x00",
    "",
)


def run_of(
    directory: Path, texts: Sequence[str], *, replies: Sequence[int | None], blind: Sequence[int] = ()
) -> Path:
    """A finished run on questions of these texts, with two options each, the first right; None is a failure."""
    directory.mkdir(parents=True)
    data = directory / "own.jsonl"
    rows = [
        {
            "video_name": f"v{i}",
            "question": text or "?",
            "question_id": str(i),
            "question_type": ["why", "how"][i % 2],
        }
        | {"a0": f"yes {text}", "a1": "no", "answer": f"yes {text}"}
        for i, text in enumerate(texts)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    samples = csv(data, videos=directory)
    assert len(samples) == len(texts)
    answers = {
        MAIN: {
            s.id: Answer(sample_id=s.id, choice=c, error=f"lost {i}" if c is None else None, text=f"said {i}")
            for i, (s, c) in enumerate(zip(samples, replies, strict=True))
        }
    }
    if blind:
        answers["blind"] = {
            s.id: Answer(sample_id=s.id, choice=c) for s, c in zip(samples, blind, strict=True)
        }
    recipe = {"benchmark": "csv", "data": str(data), "videos": str(directory), "limit": None}
    run = {"recipe": recipe | {"model": "m", "reduction": "mean"}}
    controls = [name for name in answers if name != MAIN]
    report = summarise_run(
        samples, answers, reduction="mean", controls=controls, benchmark="csv", model="m", run=run
    )
    report.save(directory)
    (directory / "answers.jsonl").write_text(
        "".join(
            json.dumps({"key": f"{name} {i}", "control": name, "strange": False, **dataclasses.asdict(a)})
            + "\n"
            for name, of in answers.items()
            for i, a in of.items()
        )
    )
    return directory


def data_of(page: Path) -> dict[str, Any]:
    html = page.read_text(encoding="utf-8")
    found = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, flags=re.DOTALL)
    assert len(found) == 1
    return json.loads(found[0])


def test_every_question_is_there_with_each_reply(tmp_path: Path) -> None:
    run = run_of(
        tmp_path / "run", [f"q{i}" for i in range(100)], replies=[0, 1, None, 1] * 25, blind=[0, 0] * 50
    )
    data = data_of(write_report([run], out=tmp_path / "page.html"))
    assert data["conditions"] == ["the result", "blind"]
    assert [q["question"] for q in data["questions"]] == [f"q{i}" for i in range(100)]
    assert [q["replies"][0]["outcome"] for q in data["questions"]] == [
        "right",
        "wrong",
        "failed",
        "wrong",
    ] * 25
    assert {q["replies"][1]["outcome"] for q in data["questions"]} == {"right"}
    third = data["questions"][2]
    assert (third["replies"][0]["error"], third["replies"][0]["text"], third["kind"]) == (
        "lost 2",
        "said 2",
        "why",
    )


def test_a_question_that_one_run_alone_has_keeps_its_place(tmp_path: Path) -> None:
    runs = [
        run_of(tmp_path / "a", ["both", "first"], replies=[0, 1]),
        run_of(tmp_path / "b", ["both", "second"], replies=[1, 0]),
    ]
    data = data_of(write_report(runs, out=tmp_path / "page.html"))
    assert data["conditions"] == ["a: the result", "b: the result"]
    outcomes = {q["question"]: [r and r["outcome"] for r in q["replies"]] for q in data["questions"]}
    assert outcomes == {"both": ["right", "wrong"], "first": ["wrong", None], "second": [None, "right"]}


def test_a_long_reply_is_cut_and_scores_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", ["a", "b"], replies=[0, 0])
    lines = [json.loads(line) for line in (run / "answers.jsonl").read_text().splitlines()]
    lines[0] |= {"text": "thought " * 10_000, "loglikelihoods": [-1.0, -2.0], "num_tokens": [1, 1]}
    lines[1] |= {"loglikelihoods": [-1.0, -float("inf")], "num_tokens": [1, 1]}
    (run / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = write_report([run], out=tmp_path / "page.html")
    first, second = (q["replies"][0] for q in data_of(page)["questions"])
    assert (first["scores"], first["bars"]) == ([-1.0, -2.0], [1.0, 0.368])
    assert first["text"].endswith(" …")
    assert len(first["text"]) < 600
    assert "scores" not in second
    assert page.stat().st_size < 40_000


def test_more_orders_than_letters_are_shown(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", ["a", "b"], replies=[0, 1])
    report = json.loads((run / "report.json").read_text())
    place = {"chosen": 0.5, "accuracy": 0.5}
    report["orders"] = {"num_orders": 28, "accuracy": 0.5, "ci95": [0.1, 0.9], "by_place": [place] * 28}
    (run / "report.json").write_text(json.dumps(report))
    html = write_report([run], out=tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<th>Y</th><th>Z</th><th>27</th><th>28</th></tr>" in html


def test_half_of_a_character_in_a_reply_does_not_stop_the_page(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", ["a", "b"], replies=[0, 0])
    text = (run / "answers.jsonl").read_text().replace("said 0", "cut \\ud83d")
    (run / "answers.jsonl").write_text(text)
    assert "cut ?</div>" in write_report([run], out=tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_page_of_five_thousand_questions_stays_small(tmp_path: Path) -> None:
    texts = [
        f"what does the man in the red shirt do after he has put the ball number {i} down"
        for i in range(5000)
    ]
    run = run_of(tmp_path / "run", texts, replies=[0, 1] * 2500, blind=[1, 1] * 2500)
    assert write_report([run], out=tmp_path / "page.html").stat().st_size < 4_000_000


def test_without_its_script_a_page_shows_the_first_questions(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", [f"number {i}." for i in range(50)], replies=[1] * 50)
    html = write_report([run], out=tmp_path / "page.html").read_text(encoding="utf-8")
    shown = html.partition('id="list"')[2].partition("<script")[0]
    assert re.findall(r"<strong[^>]*>number (\d+)\.", shown) == [str(i) for i in range(20)]
    assert "The first 20 of 50" in html


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_markup(text: str, tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", ["plain", text], replies=[0, 1])
    plain = run_of(tmp_path / "plain" / "run", ["plain", "plain too"], replies=[0, 1])
    pages = [
        write_report([each], out=tmp_path / f"{i}.html").read_text(encoding="utf-8")
        for i, each in enumerate((run, plain))
    ]
    tags, as_plain = (re.findall(r"<[a-z!/][a-z]*", page) for page in pages)
    assert tags == as_plain
    assert text in unescape(pages[0])
    assert data_of(tmp_path / "0.html")["questions"][1]["options"][0] == f"yes {text}".strip()


# --- in a browser ----------------------------------------------------------------------------------


def opened(page: Path, profile: Path, wanted: Mapping[str, str]) -> str:
    """The page as a browser has it after its script has run, from disk and with this filter."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium")
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--dump-dom")
    quiet = ("--virtual-time-budget=2000", "--disable-background-networking", "--disable-sync")
    command = [browser, *flags, *quiet, f"--user-data-dir={profile}", f"{page.as_uri()}#{urlencode(wanted)}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def questions_in(dom: str) -> list[str]:
    return [
        unescape(text) for text in re.findall(r"<strong[^>]*>(.*?)</strong>", dom.partition('id="list"')[2])
    ]


@pytest.mark.slow
def test_a_browser_filters_and_pages(tmp_path: Path) -> None:
    texts = [f"number {i}" for i in range(100)]
    texts[1] = HOSTILE[0] + HOSTILE[1] + HOSTILE[2]
    run = run_of(tmp_path / "run", texts, replies=[0, 1, None, 1] * 25, blind=[1] * 100)
    page = write_report([run], out=tmp_path / "page.html", examples=0)
    ask: dict[str, dict[str, str]] = {
        "all": {},
        "last": {"page": "5"},
        "beyond": {"page": "99"},
        "right": {"result": "right", "page": "2"},
        "blind": {"of": "1", "result": "right"},
        "unlike": {"unlike": "1", "kind": "why", "words": "NUMBER 9"},
        "error": {"words": "lost 42"},
        "nonsense": {"of": "7", "kind": "x", "page": "-3"},
    }
    doms = {name: opened(page, tmp_path / "profile", wanted) for name, wanted in ask.items()}
    found = {name: questions_in(dom) for name, dom in doms.items()}
    assert found["all"] == texts[:20]
    assert found["last"] == found["beyond"] == texts[80:]
    assert found["right"] == texts[80::4]
    assert found["blind"] == []
    assert found["unlike"] == [f"number {i}" for i in (90, 92, 94, 96, 98)]
    assert found["error"] == ["number 42"]
    assert found["nonsense"] == texts[:20]
    assert '<output name="count">100 of 100 questions</output>' in doms["all"]
    for dom in doms.values():
        assert "<title>Tideo: m</title>" in dom, "a text of a question was run"
        assert "hidden" not in re.findall(r'<form id="filter"[^>]*>', dom)[0]


@pytest.mark.slow
def test_a_browser_follows_what_is_typed_and_clicked(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", [f"number {i}" for i in range(100)], replies=[0, 1, None, 1] * 25)
    page = write_report([run], out=tmp_path / "page.html", examples=0)
    by_hand = """<script>
      const form = document.getElementById("filter");
      form.elements.result.value = "wrong";
      form.elements.words.value = "number";
      form.elements.words.dispatchEvent(new Event("input", { bubbles: true }));
      setTimeout(() => form.querySelector("button[value='1']").click(), 500);
    </script></body>"""
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", by_hand), encoding="utf-8")
    dom = opened(page, tmp_path / "profile", {})
    assert questions_in(dom) == [f"number {i}" for i in range(41, 81, 2)]
    assert '<output name="count">50 of 100 questions</output>' in dom
    assert '<output name="pages">3</output>' in dom
