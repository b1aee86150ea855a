"""A split as files: whole videos, two layouts of the same questions, Tideos, a card; and read again."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import av
import pytest

from tideo.benchmarks.dollhouse import dollhouse
from tideo.dollhouse.export import ask_split, make, tideo_of
from tideo.dollhouse.render import num_frames
from tideo.dollhouse.script import sample_episode
from tideo.textvid.schema import from_tideo, load, to_tideo
from tideo.types import UserError
from tiny import SHORT_SEED, videos_in

ANNOTATION = ("test.jsonl", "test.csv", "README.md")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return videos_in(tmp_path_factory.getbasetemp())


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copied"))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(exported: Path, tmp_path: Path) -> None:
    make(split="test", num=2, seed=SHORT_SEED, out=tmp_path, videos=False)
    for name in ANNOTATION:
        assert (tmp_path / name).read_bytes() == (exported / name).read_bytes()
    make(split="test", num=2, seed=SHORT_SEED + 1, out=tmp_path, videos=False)
    assert (tmp_path / "test.jsonl").read_bytes() != (exported / "test.jsonl").read_bytes()


def test_every_video_holds_its_episode(exported: Path) -> None:
    assert len(list((exported / "videos").iterdir())) == 2
    for index in range(2):
        episode = sample_episode("test", index, seed=SHORT_SEED)
        with av.open(str(exported / "videos" / f"{episode.id}.mp4")) as container:
            stream = container.streams.video[0]
            assert sum(1 for _ in container.decode(stream)) == num_frames(episode)
            assert float(stream.duration * stream.time_base) == pytest.approx(episode.duration_s, abs=0.1)
            assert (stream.width, stream.height) == (episode.style.width, episode.style.height)


@pytest.mark.slow
def test_whole_videos_are_kept_and_damaged_ones_rendered_again(copied: Path) -> None:
    first, second = sorted((copied / "videos").iterdir())
    untouched, whole = first.stat().st_mtime_ns, second.read_bytes()
    second.write_bytes(whole[: len(whole) * 3 // 4])
    done = make(split="test", num=2, seed=SHORT_SEED, out=copied)
    assert (done.num_episodes, done.num_rendered) == (2, 1)
    assert first.stat().st_mtime_ns == untouched
    with av.open(str(second)) as container:
        assert sum(1 for _ in container.decode(video=0)) == num_frames(
            sample_episode("test", 1, seed=SHORT_SEED)
        )
    assert make(split="test", num=2, seed=SHORT_SEED, out=copied).num_rendered == 0


@pytest.mark.slow
def test_another_episodes_video_is_done_again(copied: Path) -> None:
    first, second = sorted((copied / "videos").iterdir())
    shutil.copy(second, first)
    assert make(split="test", num=2, seed=SHORT_SEED, out=copied).num_rendered == 1


def test_rows_are_the_questions(exported: Path) -> None:
    rows = [json.loads(line) for line in (exported / "test.jsonl").read_text().splitlines()]
    expected = [(a, q) for a in ask_split("test", num=2, seed=SHORT_SEED) for q in a.questions]
    assert [(r["question"], tuple(r["options"]), r["answer"]) for r in rows] == [
        (q.question, q.options, q.answer) for _, q in expected
    ]
    assert len({r["id"] for r in rows}) == len(rows)
    for row, (asked, _) in zip(rows, expected, strict=True):
        assert row["open_answer"] == row["options"][row["answer"]]
        assert sample_episode(**row["episode"]).id == row["video"]
        segment = (0.0, asked.episode.duration_s) if row["kind"] == "Prediction" else (None, None)
        assert (row["start_s"], row["end_s"]) == segment


def test_the_csv_is_nextqas(exported: Path, shared: Path) -> None:
    with (shared / "data" / "nextqa" / "val.csv").open(encoding="utf-8", newline="") as file:
        theirs = next(csv.reader(file))
    with (exported / "test.csv").open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames == theirs
        rows = list(reader)
    ours = {r["id"]: r for r in map(json.loads, (exported / "test.jsonl").read_text().splitlines())}
    assert len(rows) == sum(r["kind"] != "Prediction" for r in ours.values())
    for row in rows:
        there = ours[f"{row['video']}_{row['type']}"]
        assert [row[f"a{i}"] for i in range(5)] == there["options"]
        assert int(row["answer"]) == there["answer"]
    by_video = Counter(row["video"] for row in rows)
    assert [int(r["qid"]) for r in rows] == [i for n in by_video.values() for i in range(n)]


def test_the_card_describes_the_split(exported: Path) -> None:
    card = (exported / "README.md").read_text(encoding="utf-8")
    kinds = Counter(json.loads(line)["kind"] for line in (exported / "test.jsonl").read_text().splitlines())
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert f"tideo dollhouse make --split test --num 2 --seed {SHORT_SEED}" in card
    for kind, num in kinds.items():
        assert f"| {kind} | {num} |" in card


def test_the_training_split_has_its_tideos(tmp_path: Path) -> None:
    make(split="train", num=4, out=tmp_path, videos=False)
    items = ask_split("train", num=4)
    records = load(tmp_path / "tideos.json")
    assert [to_tideo(r) for r in records] == [tideo_of(item, seed=0) for item in items]
    assert records == [from_tideo(tideo_of(item, seed=0)) for item in items]
    assert all(len(r.frames) == 10 and len(qa.options) == 5 for r in records for qa in r.QAs)
    cut = [r for r in records if str(r.idx).endswith("_cut")]
    assert cut, "no prediction among these: take more episodes"
    assert all(qa.type == "Prediction" for r in cut for qa in r.QAs)
    assert not (tmp_path / "videos").exists()


def test_no_episode_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a split of 0 episodes: expected at least 1"):
        make(split="test", num=0, out=tmp_path)


# --- the benchmark reads it ------------------------------------------------------------------------


def test_the_benchmark_reads_folder_or_file(exported: Path) -> None:
    samples = dollhouse(exported, videos=exported / "videos")
    assert samples == dollhouse(exported / "test.jsonl", videos=exported / "videos")
    assert all(Path(s.video.path).is_file() for s in samples)
    (predicted, *_) = [s for s in samples if s.kind == "Prediction"] or [None]
    assert predicted is None or predicted.video.end_s is not None
    assert {s.meta["held_out"] for s in samples} == {False, True}
    assert all(s.meta["split"] == "test" and s.evidence_s for s in samples)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": 5}, r"line 2, the row: answer 5 is not an index of the 5 options"),
        ({"answer": "A"}, r"line 2, answer: Input should be a valid integer"),
        ({"options": ["one"]}, r"line 2, options: List should have at least 2 items"),
        ({"start_s": 4.0, "end_s": 2.0}, r"line 2, the row: the segment ends at 2\.0 s, not after its start"),
        ({"evidence_s": [1.0]}, r"line 2, evidence_s: List should have at least 2 items"),
        ({"episode": {"split": "test", "index": 0}}, r"line 2, episode\.seed: Field required"),
        ({"anser": 1}, r"line 2, anser: Extra inputs are not permitted"),
        ({"id": None}, r"line 2, id: Input should be a valid string"),
    ],
)
def test_a_malformed_row_is_reported(
    exported: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    first, second, *_ = (exported / "test.jsonl").read_text().splitlines()
    path = tmp_path / "bad.jsonl"
    path.write_text(f"{first}\n{json.dumps(json.loads(second) | change)}\n")
    with pytest.raises(UserError, match=rf"bad\.jsonl {message}"):
        dollhouse(path, videos=tmp_path)


def test_a_line_that_is_no_json_or_comes_twice_is_reported(exported: Path, tmp_path: Path) -> None:
    first = (exported / "test.jsonl").read_text().splitlines()[0]
    path = tmp_path / "bad.jsonl"
    path.write_text(f"{first}\n{first[:40]}\n")
    with pytest.raises(UserError, match=r"bad\.jsonl line 2 is not JSON"):
        dollhouse(path, videos=tmp_path)
    path.write_text(f"{first}\n{first}\n")
    with pytest.raises(UserError, match=r"line 2: id '.*' occurs in .*line 1 already; remove one"):
        dollhouse(path, videos=tmp_path)


def test_a_folder_needs_one_annotation(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected one file \*\.jsonl, found none"):
        dollhouse(tmp_path, videos=tmp_path)
    for name in ("a.jsonl", "b.jsonl"):
        shutil.copy(exported / "test.jsonl", tmp_path / name)
    with pytest.raises(UserError, match=r"found a\.jsonl, b\.jsonl; name the file itself"):
        dollhouse(tmp_path, videos=tmp_path)
