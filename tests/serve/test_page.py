"""The page in a real browser, from a video to an answer."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import Running, Slow, started
from tideo.dollhouse.export import make
from tideo.models.load import load_model

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
OPTIONS = ("making tea", "doing the laundry")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dollhouse")
    make(split="test", num=1, seed=0, out=out)
    return next((out / "videos").glob("*.mp4"))


@pytest.fixture(scope="module")
def dollhouse() -> Iterator[Running]:
    running = started(model=load_model("dollhouse-grid"), key="secret")
    yield running
    running.stop()


@pytest.fixture
def page(dollhouse: Running, tmp_path: Path):
    yield from opened(dollhouse, tmp_path)


def opened(running: Running, tmp_path: Path):
    """The server's page, without words in the console nor requests to other hosts."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch_persistent_context(tmp_path, executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        requests: list[str] = []
        errors: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(running.url)
        yield page
        browser.close()
    assert [url for url in requests if not url.startswith((running.url, "blob:", "data:"))] == []
    assert errors == []


def test_from_a_video_to_an_answer(page, video: Path) -> None:
    page.get_by_label("Key", exact=True).fill("secret")
    page.keyboard.press("Tab")
    page.get_by_label("dollhouse-grid").wait_for()
    page.get_by_label("Choose a video").set_input_files(video)
    page.get_by_label("What would you like to know?").fill("what is the overall purpose of the video?")
    for option in OPTIONS:
        page.get_by_role("button", name="Add an option").click()
        page.keyboard.type(option)
    page.keyboard.press("Enter")  # no mouse is needed to ask
    page.locator(".bars").wait_for(timeout=60_000)
    assert page.locator(".answer .text").inner_text() in OPTIONS
    assert page.locator(".bars th").all_inner_texts() == list(OPTIONS)
    shares = [int(text.rstrip("%")) for text in page.locator(".bars td:last-child").all_inner_texts()]
    assert sum(shares) in (99, 100, 101)
    assert page.locator(".frames img").count() == 16
    page.get_by_text("The picture that the model sees").click()
    assert page.locator(".grid img").evaluate("image => image.naturalWidth") > 100
    last = page.locator(".frames button").last
    last.click()
    at_s = float(last.inner_text().removesuffix(" s"))
    assert page.locator("#player").evaluate("player => player.currentTime") == pytest.approx(at_s, abs=0.1)


def test_an_answer_in_words_appears_as_it_is_written(serve, tmp_path: Path, video: Path) -> None:
    running = serve(model=Slow())
    for page in opened(running, tmp_path):
        page.get_by_label("longest").wait_for()
        page.get_by_label("Choose a video").set_input_files(video)
        page.get_by_label("What would you like to know?").fill("what happens?")
        page.get_by_role("button", name="Ask").click()
        page.get_by_text("word0 word1 word2").wait_for()
        assert len(running.model.written) < 900


def test_an_answer_in_words_comes_with_its_frames(page, video: Path) -> None:
    page.get_by_label("Key", exact=True).fill("secret")
    page.keyboard.press("Tab")
    page.get_by_label("dollhouse-grid").wait_for()
    page.get_by_label("Choose a video").set_input_files(video)
    page.get_by_label("What would you like to know?").fill("what is the overall purpose of the video?")
    page.keyboard.press("Enter")
    page.locator(".frames img").first.wait_for(timeout=60_000)
    assert page.locator(".frames img").count() == 16
    assert len(page.locator(".answer .text").inner_text()) > 1


def test_a_wrong_key_and_a_file_that_is_no_video_are_told_in_words(page, tmp_path: Path) -> None:
    file = tmp_path / "notes.mp4"
    file.write_text("not a video")
    page.get_by_text("expected the header Authorization").wait_for()
    page.get_by_label("Key", exact=True).fill("secret")
    page.keyboard.press("Tab")
    page.get_by_label("dollhouse-grid").wait_for()
    page.get_by_label("Choose a video").set_input_files(file)
    page.get_by_label("What would you like to know?").fill("what?")
    page.get_by_role("button", name="Ask").click()
    page.get_by_text("cannot be read as a video").wait_for()


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_a_narrow_screen_needs_no_scrolling_sideways(page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    background = page.locator("body").evaluate("body => getComputedStyle(body).color")
    assert background == ("rgb(255, 255, 255)" if scheme == "dark" else "rgb(0, 0, 0)")
