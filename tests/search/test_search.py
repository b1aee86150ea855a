"""`tideo search` over folders that `tideo encode` wrote: results, the page, the index, and wrong input."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import Tideo
from tideo.encoders.dual import DualEncoder, load_encoder
from tideo.encoders.encode import EncodedFolder, encode_tideos, encode_videos
from tideo.encoders.sources import videos_in
from tideo.search.find import find
from tideo.search.index import FrameIndex
from tideo.search.library import BLOCK, Library
from tideo.search.moments import best_moments
from tideo.store.features import FeatureStore
from tideo.store.records import write_records
from tideo.types import TextFrame, UserError
from tideo.types import Tideo as TextualVideo
from tideo.video.pool import PoolSettings
from tiny_encoders import save_tiny_clip
from videos import encode

TEXT = "a dog in the red kitchen"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> DualEncoder:
    return load_encoder(str(save_tiny_clip(tmp_path_factory.mktemp("clip"))))


@pytest.fixture(scope="module")
def made(clip: DualEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `videos`, their `pools`, and the encoder's folder."""
    root = tmp_path_factory.mktemp("library")
    (root / "videos").mkdir()
    for name, num in (("a", 120), ("b", 60), ("c <i>", 90)):
        encode(root / "videos" / f"{name}.mp4", num=num)
    encode_videos(videos_in(root / "videos"), encoder=clip.name, out=root / "pools", pool=PoolSettings())
    return root


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    shutil.copytree(made / "pools", tmp_path / "pools")
    return tmp_path / "pools"


def random_library(folder: Path, *, videos: int = 12, frames: int = 200, dim: int = 24) -> Library:
    """Scenes of noise; some frames are lost."""
    rng = np.random.default_rng(0)
    store = FeatureStore(folder, dim=dim, about={"encoder": "random", "modality": "image"})
    for number in range(videos):
        rows = np.repeat(rng.normal(size=(frames // 10, dim)), 10, axis=0) + 0.3 * rng.normal(
            size=(frames, dim)
        )
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        rows[::50] = 0
        store.write({f"key{number}": rows}, pts_s={f"key{number}": np.arange(frames) + 0.5})
    records = [{"id": f"v{n}", "key": f"key{n}", "path": f"/v{n}.mp4"} for n in range(videos)]
    write_records(folder / "items.jsonl", records)
    return Library(folder)


@pytest.fixture
def tideo(tideo: Tideo) -> Tideo:
    """Without the bar that transformers draws for the weights, as it was imported before the command."""

    def run(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        done = tideo(*args, cwd=cwd)
        done.stderr = re.sub(r"\rLoading weights.*\n", "", done.stderr)
        return done

    return run


# --- results ---------------------------------------------------------------------------------------


def test_the_best_frame_of_the_library_is_found(made: Path, clip: DualEncoder, tideo: Tideo) -> None:
    done = tideo("search", str(made / "pools"), TEXT, "--json", "--num", "4")
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    found = json.loads(done.stdout)
    assert all(set(moment) == {"video", "start_s", "end_s", "score"} for moment in found)
    (text_D,) = clip.encode_text([TEXT])
    scores = {name: f.values_TD @ text_D for name, f in EncodedFolder(made / "pools").items()}
    best = max(scores, key=lambda name: scores[name].max())
    first = found[0]
    assert first["video"] == best
    assert first["score"] == pytest.approx(scores[best].max(), abs=1e-3)
    assert first["start_s"] <= scores[best].argmax() + 0.5 <= first["end_s"]
    lines = tideo("search", str(made / "pools"), TEXT, "--num", "4").stdout.splitlines()
    assert len(lines) == len(found)
    assert re.fullmatch(rf"{first['score']:.3f}  \d+:\d\d - \d+:\d\d  {re.escape(best)}", lines[0])


def test_scores_are_the_products_with_all_rows(tmp_path: Path) -> None:
    library = random_library(tmp_path, videos=2, frames=BLOCK + 28)
    texts = np.eye(24, dtype=np.float32)[:2]
    scores_QN = library.scores(texts)
    rows = np.concatenate([values for _, values in library.store.shards()]).astype(np.float32)
    lost = ~rows.any(axis=1)
    assert np.isneginf(scores_QN[:, lost]).all()
    assert lost.sum() > 0
    np.testing.assert_allclose(scores_QN[:, ~lost], (rows @ texts.T).T[:, ~lost], atol=2e-6)


def test_only_the_videos_of_the_last_list_are_searched(place: Path, clip: DualEncoder) -> None:
    records = [json.loads(line) for line in (place / "items.jsonl").read_text().splitlines()]
    write_records(place / "items.jsonl", records[1:2])
    assert {moment.item.id for moment in find(place, TEXT)} == {records[1]["id"]}


# --- page ------------------------------------------------------------------------------------------


def test_the_page_has_pictures_and_needs_nothing_else(made: Path, tmp_path: Path, tideo: Tideo) -> None:
    page = tmp_path / "new" / "found.html"
    done = tideo("search", str(made / "pools"), "a dog <b>", "--html", str(page))
    assert (done.returncode, done.stderr) == (0, "")
    html = page.read_text(encoding="utf-8")
    assert html.count("<li>") == len(done.stdout.splitlines())
    assert html.count('src="data:image/jpeg;base64,') == html.count("<img") >= html.count("<li>")
    assert "a dog &lt;b&gt;" in html
    assert "c &lt;i&gt;" in html
    assert not re.search(r"(src|href)=\"(?!data:)", html)


def test_videos_that_are_gone_or_changed_have_no_picture(
    made: Path, clip: DualEncoder, tmp_path: Path, tideo: Tideo
) -> None:
    shutil.copytree(made / "videos", tmp_path / "videos")
    videos, pools = tmp_path / "videos", tmp_path / "pools"
    encode_videos(videos_in(videos), encoder=clip, out=pools, pool=PoolSettings())
    (videos / "a.mp4").unlink()
    encode(videos / "b.mp4", num=30)
    page = tmp_path / "found.html"
    done = tideo("search", str(pools), TEXT, "--html", str(page), "--num", "20")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert re.match(r"the page lacks the pictures of [ab] \(.*\), and those of 1 more videos\n", done.stderr)
    html = page.read_text(encoding="utf-8")
    assert "there is no such file" in html
    assert "is not the file any more that was encoded" in html
    assert html.count("<img") > 0


# --- index -----------------------------------------------------------------------------------------


def test_an_index_finds_what_the_exact_search_finds(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    library = random_library(tmp_path)
    texts_QD = np.random.default_rng(1).normal(size=(4, 24)).astype(np.float32)
    texts_QD /= np.linalg.norm(texts_QD, axis=1, keepdims=True)
    index = FrameIndex(library, lambda texts: texts_QD)
    assert index.recall(texts_QD) > 0.9
    assert index.about == {"frames": 12 * 196, "recall": pytest.approx(index.recall(texts_QD), abs=1e-4)}
    for text_D, scores_N in zip(texts_QD, library.scores(texts_QD), strict=True):
        exact, found = best_moments(library.items, scores_N, num=1), index.search(text_D, num=1)
        assert [(m.item.id, m.start_s, m.score) for m in found] == [
            (m.item.id, m.start_s, pytest.approx(m.score, abs=2e-6)) for m in exact
        ]


def test_an_index_is_kept_until_the_library_changes(place: Path, made: Path, tideo: Tideo) -> None:
    pytest.importorskip("faiss")
    exact = json.loads(tideo("search", str(place), TEXT, "--json").stdout)
    done = tideo("search", str(place), TEXT, "--json", "--index")
    assert (done.returncode, json.loads(done.stdout)) == (0, exact)
    assert re.search(r"index of 27 frames: it finds 100\.0% of the 10 best moments of an exact", done.stderr)
    (first,) = place.glob("index-*.faiss")
    written = first.stat().st_mtime_ns
    tideo("search", str(place), TEXT, "--index")
    assert first.stat().st_mtime_ns == written
    lines = (place / "items.jsonl").read_text().splitlines()
    (place / "items.jsonl").write_text("\n".join(lines[:2]) + "\n")
    assert "index of 18 frames" in tideo("search", str(place), TEXT, "--index").stderr
    (second,) = place.glob("index-*.faiss")
    assert second != first
    for damaged in ("no JSON", "[]", '{"frames": 18}', '{"frames": 18, "recall": null}'):
        second.with_suffix(".json").write_text(damaged)
        done = tideo("search", str(place), TEXT, "--index")
        line = f"tideo: {second.with_suffix('.json')} is damaged: remove it, and the index is built again\n"
        assert (done.returncode, done.stderr) == (2, line)
    second.with_suffix(".json").unlink()
    assert "index of 18 frames" in tideo("search", str(place), TEXT, "--index").stderr
    second.write_bytes(b"no index")
    done = tideo("search", str(place), TEXT, "--index")
    assert (done.returncode, f"{second} is damaged: remove it" in done.stderr) == (2, True), done.stderr


def test_an_index_of_a_damaged_shard_is_one_line(place: Path, tideo: Tideo) -> None:
    pytest.importorskip("faiss")
    numberless_shard(place)
    done = tideo("search", str(place), TEXT, "--index")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "is damaged (it holds values that are no numbers)" in done.stderr


def test_an_index_without_faiss_names_the_extra(
    place: Path, tideo: Tideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    done = tideo("search", str(place), TEXT, "--index")
    assert (done.returncode, done.stderr) == (
        2,
        "tideo: faiss is not installed: run pip install 'tideo[faiss]' to use it\n",
    )


# --- wrong input -----------------------------------------------------------------------------------


def no_folder(place: Path) -> None:
    shutil.rmtree(place)


def empty(place: Path) -> None:
    shutil.rmtree(place)
    place.mkdir()


def above(place: Path) -> None:
    shutil.copytree(place, place / "clip")
    shutil.copytree(place, place / "siglip", ignore=shutil.ignore_patterns("clip"))
    (place / "store.json").unlink()


def no_list(place: Path) -> None:
    (place / "items.jsonl").unlink()


def empty_list(place: Path) -> None:
    (place / "items.jsonl").write_text("")


def other_list(place: Path) -> None:
    (place / "items.jsonl").write_text('{"name": "a"}\n')


def no_name(place: Path) -> None:
    (place / "encoder.json").unlink()


def short_shard(place: Path) -> None:
    (path,) = place.glob("shard-*.safetensors")
    path.write_bytes(path.read_bytes()[:-40])


def numberless_shard(place: Path) -> None:
    (path,) = place.glob("shard-*.safetensors")
    whole = path.read_bytes()
    at = len(whole) - 24 * 2 * 3
    path.write_bytes(whole[:at] + b"\xff" * 48 + whole[at + 48 :])


def short_index(place: Path) -> None:
    (path,) = place.glob("shard-*.json")
    path.write_text(path.read_text()[:-10])


def short_head(place: Path) -> None:
    (place / "store.json").write_text("{")


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (no_folder, "pools: there is no such folder; give one that tideo encode wrote"),
        (empty, "store.json is missing; make them with tideo encode"),
        (above, r"holds no features itself, but .*pools/clip, .*pools/siglip do: search one of them"),
        (no_list, r"does not say of which videos its features are \(items\.jsonl is missing\)"),
        (empty_list, "holds no frames of any video: encode some"),
        (other_list, r"items\.jsonl is damaged: run tideo encode again"),
        (no_name, r"does not name its encoder .*: give --encoder E, the one with the id clip-24-"),
        (short_shard, r"shard-\w+\.safetensors cannot be read .*encode again"),
        (numberless_shard, r"shard-\w+\.safetensors is damaged \(it holds values that are no numbers\)"),
        (short_index, r"shard-\w+\.json is damaged .*: remove it and shard-\w+\.safetensors, and encode"),
        (short_head, r"store\.json is damaged .*: encode into another directory"),
    ],
)
def test_a_wrong_folder_is_one_line(
    spoil: Callable[[Path], None], line: str, place: Path, tideo: Tideo
) -> None:
    spoil(place)
    done = tideo("search", str(place), TEXT)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert re.search(line, done.stderr)


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ((" ",), "the text is empty: say what to look for"),
        ((TEXT, "--num", "0"), "Invalid value for '--num': Input should be greater than or equal to 1"),
        ((TEXT, "--html", "/dev/null/no/found.html"), "cannot be a folder"),
        ((TEXT, "--encoder", "./none"), "cannot load the dual encoder ./none"),
    ],
)
def test_wrong_arguments_are_one_line(args: tuple[str, ...], line: str, made: Path, tideo: Tideo) -> None:
    done = tideo("search", str(made / "pools"), *args)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert line in done.stderr


def test_another_encoder_is_refused(made: Path, tmp_path: Path) -> None:
    other = save_tiny_clip(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match=r"holds features of the encoder clip-24-\w+, and .*other is clip-24"):
        find(made / "pools", TEXT, encoder=str(other))


def test_an_encoder_that_has_moved_is_named_anew(place: Path, clip: DualEncoder, tideo: Tideo) -> None:
    (place / "encoder.json").write_text(json.dumps({"name": "./gone", "id": clip.id}))
    done = tideo("search", str(place), TEXT)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert re.search(r"cannot load the dual encoder ./gone.*if it has moved, give --encoder E", done.stderr)
    assert tideo("search", str(place), TEXT, "--encoder", clip.name).returncode == 0


def test_features_without_times_are_refused(clip: DualEncoder, tmp_path: Path) -> None:
    tideos = [TextualVideo(id="t", frames=(TextFrame(main="a dog"),), summary="")]
    encode_tideos(tideos, encoder=clip, out=tmp_path)
    with pytest.raises(UserError, match="holds features of texts, which have no times"):
        find(tmp_path, TEXT)
    store = FeatureStore(tmp_path / "none", dim=2, about={"encoder": "e", "modality": "image"})
    store.write({"key": np.ones((2, 2))})
    write_records(tmp_path / "none" / "items.jsonl", [{"id": "v", "key": "key"}])
    with pytest.raises(UserError, match="holds features without times, as of 'v'"):
        find(tmp_path / "none", TEXT)
