"""The page about runs: complete, self-contained, escaped, with the frames that were looked at; the demo."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from tideo import demo as demo_module
from tideo.demo import demo
from tideo.evaluate.html import write_report
from tideo.evaluate.run import evaluate
from tideo.evaluate.summary import Report
from tideo.models.load import load_model
from tideo.models.topa.model import ZeroShot
from tideo.types import UserError
from tiny import model_in, videos_in
from tiny_vlms import saved

VOID = {"meta", "br", "img", "link", "input", "hr"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return videos_in(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ZeroShot:
    return ZeroShot.load(model_in(tmp_path_factory.getbasetemp()), name="tiny")


@pytest.fixture(scope="module")
def run_dir(exported: Path, model: ZeroShot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    run(exported, model, out)
    return out


def run(exported: Path, model: ZeroShot, out: Path) -> Report:
    return evaluate(
        benchmark="dollhouse",
        data=exported,
        videos=exported / "videos",
        model=model,
        out=out,
        controls=["blind", "single_frame"],
    )


class Page(HTMLParser):
    """Fails on a tag that is closed without being open; keeps what a browser would load, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        loading = [value or "" for name, value in attrs if name in ("src", "href", "data", "action")]
        self.loaded += [value for value in loading if not value.startswith("#")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_a_page_needs_nothing_but_itself(run_dir: Path) -> None:
    html = (run_dir / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert page.loaded, "no frames are shown"
    assert all(uri.startswith("data:image/jpeg;base64,") for uri in page.loaded)
    assert not re.search(r"https?://|url\(|@import|<script src|import\(|fetch\(", html)


def test_a_page_shows_the_figures(run_dir: Path) -> None:
    report = json.loads((run_dir / "report.json").read_text())
    page = page_of(run_dir / "report.html")
    assert f"{100 * report['accuracy']:.1f}%" in page.text
    assert f"{100 * report['ci95'][0]:.1f} to {100 * report['ci95'][1]:.1f}" in page.text
    for name, control in report["controls"].items():
        assert name.replace("_", " ") in page.text
        assert f"{100 * control['difference']['difference']:+.1f}" in page.text
    for kind in report["by_kind"]:
        assert kind in page.text
    assert "CW why" in page.text


def test_the_gallery_shows_right_and_wrong_answers_with_their_frames(run_dir: Path) -> None:
    html = (run_dir / "report.html").read_text(encoding="utf-8")
    report = json.loads((run_dir / "report.json").read_text())
    num_right = min(6, round(report["accuracy"] * report["n"]))
    gallery = html.split("All questions</h2>")[0]
    assert gallery.count('<div class="card right">') == num_right > 0
    assert gallery.count('<div class="card ">') == 6
    uris = page_of(run_dir / "report.html").loaded
    assert len(uris) == 10 * (num_right + 6)
    first = Image.open(io.BytesIO(base64.b64decode(uris[0].partition(",")[2])))
    assert first.format == "JPEG"
    assert max(first.size) == 144
    assert 0 < html.count('class="evidence"') <= len(uris)
    card = html.split('<div class="card ">')[1]
    assert card.count("✓") == 1
    assert card.count("✗") == 1
    assert card.count("width:100.0%") == 1, "the best option has the longest bar"


@pytest.mark.slow
def test_several_runs_are_compared_question_by_question(
    exported: Path, model: ZeroShot, run_dir: Path, tmp_path: Path
) -> None:
    again = Path(shutil.copytree(run_dir, tmp_path / "again"))
    text = page_of(write_report([run_dir, again], out=tmp_path / "both.html")).text
    assert "first minus this" in text
    assert "+0.0" in text
    assert text.count("tiny on dollhouse, test") == 2


@pytest.mark.slow
def test_runs_of_one_name_are_told_apart(run_dir: Path, tmp_path: Path) -> None:
    again = Path(shutil.copytree(run_dir, tmp_path / "other" / run_dir.name))
    html = write_report([run_dir, again], out=tmp_path / "both.html").read_text(encoding="utf-8")
    assert f">{run_dir}: the result</option>" in html
    assert f">{again}: blind</option>" in html


def test_without_the_data_the_figures_remain(run_dir: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run_dir, tmp_path / "copy"))
    report = json.loads((copy / "report.json").read_text())
    report["run"]["recipe"]["data"] = str(tmp_path / "gone")
    (copy / "report.json").write_text(json.dumps(report))
    page = page_of(write_report([copy], out=tmp_path / "page.html"))
    assert "No questions: " in page.text
    assert f"{100 * report['accuracy']:.1f}%" in page.text
    assert page.loaded == []


def test_without_a_video_its_examples_say_so(exported: Path, run_dir: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run_dir, tmp_path / "copy"))
    report = json.loads((copy / "report.json").read_text())
    report["run"]["recipe"]["videos"] = str(tmp_path / "gone")
    (copy / "report.json").write_text(json.dumps(report))
    page = page_of(write_report([copy], out=tmp_path / "page.html", examples=1))
    assert "No frames: " in page.text
    assert "there is no such file" in page.text


@pytest.mark.parametrize("text", [None, "{", "{}"])
def test_a_folder_without_a_finished_run_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "report.json").write_text(text)
    with pytest.raises(
        UserError, match=r"holds no finished run \(report\.json is missing or damaged\): run tideo"
    ):
        write_report([tmp_path], out=tmp_path / "page.html")


@pytest.mark.slow
def test_the_demo(
    exported: Path,
    model: ZeroShot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With episodes that are rendered already, at their places."""
    shutil.copytree(exported, tmp_path / "dollhouse")
    monkeypatch.setattr(demo_module, "make", lambda **_: None)
    other = load_model(str(saved("llava", tmp_path / "vlm")), args=["rows=2", "cols=2", "image_size=28"])
    other.name = "grid"
    report = demo(out=tmp_path, model=model, others=[other])
    printed = capsys.readouterr().out
    assert f"{100 * report.accuracy:.1f}" in printed
    assert "shuffled frames" in printed
    assert "│ grid " in printed
    assert " right" in printed
    page = (tmp_path / "report.html").read_text()
    assert page.count('<img class="grid"') > 6  # the gallery of the grid model
    assert str(tmp_path / "example.png") in printed
    with Image.open(tmp_path / "example.png") as picture:
        assert picture.width > 2 * picture.height
    for name in ("report.json", "report.html"):
        assert (tmp_path / name).is_file()
