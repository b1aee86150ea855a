"""A household's day: its script, questions that nothing gives away, one long file, and the benchmark that reads it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest

from conftest import Tideo
from tideo.benchmarks.dollhouse import dollhouse
from tideo.benchmarks.dollhouse import tideo as captions_of
from tideo.dollhouse import world
from tideo.dollhouse.day import PICTURES_PER_S, Day, sample_day, script_of
from tideo.dollhouse.export import ask_days, make
from tideo.dollhouse.render import draw_frame, num_frames
from tideo.dollhouse.script import SPLITS, is_held_out, signature, split_of
from tideo.types import Question, UserError
from tideo.video.samplers import sample_frames

CHANCE = 0.2


@cache
def asked(split: str, num: int, seconds: int) -> list[tuple[Day, tuple[Question, ...]]]:
    return ask_days(split, num=num, seconds=seconds)  # type: ignore[arg-type]


def questions(split: str) -> list[Question]:
    return [q for _, of_day in asked(split, 50, 180) for q in of_day]


# --- the script ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [10, 60, 600, 3600])
def test_a_day_is_as_long_as_asked_and_has_no_gap(seconds: int) -> None:
    day = sample_day("train", 3, seconds=seconds)
    assert day.duration_s == pytest.approx(seconds)
    ends_s = [start_s + e.duration_s for start_s, e in zip(day.starts_s, day.episodes, strict=True)]
    assert ends_s[:-1] == pytest.approx(day.starts_s[1:])
    assert len(day.episodes) >= (3 if seconds >= 60 else 1)


def test_the_state_of_a_second_is_that_of_its_episode() -> None:
    day = sample_day("val", 0, seconds=300)
    for episode, start_s in zip(day.episodes, day.starts_s, strict=True):
        for event in episode.events:
            state = day.state_at(start_s + (event.start_s + event.end_s) / 2)
            assert (state.actor.id, state.action, state.room) == (
                episode.actor_id,
                event.action,
                episode.segments[0].room,
            )
    assert day.state_at(300.0).action == day.episodes[-1].events[-1].action


def test_a_household_has_one_person_of_each_noun_and_stays_as_it_is() -> None:
    for index in range(8):
        day = sample_day("test", index, seconds=600)
        people = {e.actor_id: e.shirt for e in day.episodes}
        assert len({world.ACTORS[a].noun for a in people}) == len(people) > 1
        assert all(people[e.actor_id] == e.shirt for e in day.episodes)
        rooms = {(e.segments[0].room, e.shelf_item, e.shelf_count, e.side_object) for e in day.episodes}
        assert len({room for room, *_ in rooms}) == len(rooms)


def test_every_episode_belongs_to_the_days_split_and_no_day_is_in_two() -> None:
    scripts: dict[str, set[str]] = {}
    for split in SPLITS:
        scripts[split] = set()
        for day, _ in asked(split, 6, 600):
            for e in day.episodes:
                own = signature(e.actor_id, e.segments, tuple(event.action for event in e.events))
                assert split_of(own) == split
                held_out = is_held_out(e.segments[0].activity, e.segments[0].room, e.actor_id)
                assert e.held_out == held_out
                assert not held_out or split == "test"
                scripts[split].add(own)
    assert not scripts["train"] & scripts["test"]
    assert not scripts["train"] & scripts["val"]
    assert not scripts["val"] & scripts["test"]


def test_the_same_arguments_give_the_same_day_and_others_another() -> None:
    day = sample_day("test", 1, seconds=120, seed=4)
    assert sample_day("test", 1, seconds=120, seed=4) == day
    assert script_of({"split": "test", "index": 1, "seed": 4, "seconds": 120}) == day
    others = [("val", 1, 120, 4), ("test", 2, 120, 4), ("test", 1, 180, 4), ("test", 1, 120, 5)]
    for split, index, seconds, seed in others:
        assert sample_day(split, index, seconds=seconds, seed=seed).episodes != day.episodes  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0, 9, 10801])
def test_a_length_that_no_day_has_is_an_error(seconds: int) -> None:
    with pytest.raises(UserError, match=f"a day of {seconds} s: expected 10 to 10800 s"):
        sample_day("test", 0, seconds=seconds)


# --- its questions ---------------------------------------------------------------------------------


def test_an_hour_has_every_kind_of_question() -> None:
    kinds = Counter(q.kind for _, of_day in asked("train", 3, 3600) for q in of_day)
    assert set(kinds) == {"CH", "TC", "TN", "TP", "Purpose"}
    assert (kinds["CH"], kinds["TC"], kinds["Purpose"]) == (12, 9, 3)


def test_the_evidence_shows_the_answer_and_a_needle_happens_once() -> None:
    for day, of_day in asked("train", 4, 1800):
        for q in of_day:
            start_s, end_s = q.evidence_s or (0, 0)
            assert 0 <= start_s < end_s <= day.duration_s
            answer = q.options[q.answer or 0]
            states = [day.state_at(t) for t in np.linspace(start_s + 0.01, end_s - 0.01, 50)]
            if q.kind == "CH":
                assert {f"{world.TOOL_WORD[s.action]} {s.tool}" for s in states} == {answer}
                (deed,) = {(s.actor.id, s.action) for s in states}
                assert day.times_of()[deed] == 1
            elif q.kind == "TC":
                (action,) = {s.action for s in states}
                assert answer in world.ACTIONS[action].phrases
                (deed,) = {(s.actor.id, s.distractor) for s in states}
                assert deed[1] is not None
                assert day.times_of()[deed] == 1
            elif q.kind in ("TN", "TP"):
                first, last = world.ACTIONS[states[0].action], world.ACTIONS[states[-1].action]
                before, after = (first, last) if q.kind == "TN" else (last, first)
                assert answer in after.phrases
                assert any(phrase in q.question for phrase in before.phrases)
                assert {s.actor.id for s in states} == {states[0].actor.id}
            else:
                assert answer == world.PURPOSES[day.purpose][0]


def test_needles_lie_anywhere_in_the_day() -> None:
    places = [
        (q.evidence_s or (0, 0))[0] / day.duration_s
        for split in SPLITS
        for day, of_day in asked(split, 6, 600)
        for q in of_day
        if q.kind in ("CH", "TC")
    ]
    assert np.mean(places) == pytest.approx(0.5, abs=0.1)


def share_right(guess, of: list[Question]) -> float:
    return sum(guess(q) == q.answer for q in of) / len(of)


def by_rate(key) -> object:
    """The option whose key was right most often in training."""
    right, there = Counter[str](), Counter[str]()
    for q in questions("train"):
        there.update(key(q, option) for option in q.options)
        right[key(q, q.options[q.answer or 0])] += 1
    rate = {k: (right[k] + 1) / (n + 5) for k, n in there.items()}
    return lambda q: int(np.argmax([rate.get(key(q, option), CHANCE) for option in q.options]))


GUESSERS = {
    "position": lambda: by_rate(lambda q, option: f"{q.kind} {q.options.index(option)}"),
    "option": lambda: by_rate(lambda q, option: f"{q.kind} {option}"),
    "question and option": lambda: by_rate(lambda q, option: f"{q.question} {option}"),
    "longest": lambda: lambda q: int(np.argmax([len(option) for option in q.options])),
    "shortest": lambda: lambda q: int(np.argmin([len(option) for option in q.options])),
    "echo": lambda: (
        lambda q: int(np.argmax([len(set(q.question.split()) & set(option.split())) for option in q.options]))
    ),
    "odd one": lambda: (
        lambda q: int(
            np.argmin([sum(len(set(a.split()) & set(b.split())) for b in q.options) for a in q.options])
        )
    ),
}


@pytest.mark.parametrize("name", GUESSERS)
def test_a_guesser_that_sees_no_video_stays_at_chance(name: str) -> None:
    of = questions("test")
    margin = 2.6 * (CHANCE * (1 - CHANCE) / len(of)) ** 0.5
    assert abs(share_right(GUESSERS[name](), of) - CHANCE) < margin


def test_every_position_is_right_equally_often() -> None:
    for kind in ("CH", "TC", "Purpose"):
        places = Counter(q.answer for q in questions("test") if q.kind == kind)
        assert max(places.values()) - min(places[i] for i in range(5)) <= 1


@pytest.mark.slow
def test_a_language_model_that_sees_no_video_stays_at_chance(tmp_path: Path) -> None:
    from tideo.models.load import load_model
    from tideo.scoring import decide

    make(split="test", num=60, seconds=300, out=tmp_path, videos=False)
    samples = dollhouse(tmp_path, videos=tmp_path)
    model = load_model("dollhouse-topa")
    right = sum(
        decide(model.answer(s.video, [s], seen=None)[0], reduction=model.settings.reduction).choice
        == s.answer
        for s in samples
    )
    assert len(samples) > 400
    assert abs(right / len(samples) - CHANCE) < 2.6 * (CHANCE * (1 - CHANCE) / len(samples)) ** 0.5


# --- its file --------------------------------------------------------------------------------------

COMMAND = [sys.executable, "-m", "tideo", "dollhouse", "make", "--split", "test", "--num", "1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("days")
    make(split="test", num=1, seconds=61, out=out)  # two parts
    return out


def test_the_file_shows_the_day_at_every_second(made: Path) -> None:
    day = sample_day("test", 0, seconds=61)
    path = made / "videos" / f"{day.id}.mp4"
    with av.open(str(path)) as container:
        times_s = [float(f.pts * f.time_base) for f in container.decode(video=0)]
    assert times_s == pytest.approx([i / day.style.fps for i in range(num_frames(day))])
    frames = sample_frames(path, 16)
    for rgb, pts_s in zip(frames.rgb_THWC, frames.pts_s_T, strict=True):
        state = day.state_at(int(pts_s * PICTURES_PER_S) / PICTURES_PER_S)
        drawn = draw_frame(state, width=day.style.width, height=day.style.height)
        assert np.abs(rgb.astype(int) - drawn).mean() < 8
    assert not (made / "parts").exists()


@pytest.mark.slow
def test_a_day_is_kept_and_a_damaged_one_rendered_again(made: Path) -> None:
    (path,) = (made / "videos").iterdir()
    whole = path.read_bytes()
    assert make(split="test", num=1, seconds=61, out=made).num_rendered == 0
    path.write_bytes(whole[: len(whole) // 2])
    assert make(split="test", num=1, seconds=61, out=made).num_rendered == 1
    assert path.read_bytes() == whole


def test_the_benchmark_reads_days(made: Path) -> None:
    samples = dollhouse(made, videos=made / "videos")
    ((day, of_day),) = ask_days("test", num=1, seconds=61)
    assert [s.question for s in samples] == [q.question for q in of_day]
    assert [s.evidence_s for s in samples] == [(q.evidence_s,) for q in of_day]
    assert all(Path(s.video.path).is_file() for s in samples)
    captions = captions_of(samples, num=7)
    assert len(captions.frames) == 7
    assert day.state_at(5.0).actor.noun in captions.frames[0].main
    rows = [json.loads(line) for line in (made / "test.jsonl").read_text().splitlines()]
    assert len({row["id"] for row in rows}) == len(rows)
    assert "--seed 0 --minutes 1.01667" in (made / "README.md").read_text()


@pytest.mark.parametrize(
    ("minutes", "message"),
    [
        ("0", "greater than or equal to 1"),
        ("181", "less than or equal to 180"),
        ("an hour", "valid integer"),
    ],
)
def test_a_wrong_number_of_minutes_is_one_line(
    tideo: Tideo, tmp_path: Path, minutes: str, message: str
) -> None:
    out = tmp_path / "out"
    run = tideo(*COMMAND[3:], "--minutes", minutes, "--out", str(out))
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert message in run.stderr
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_day_goes_on_where_it_stopped(tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen([*COMMAND, "--minutes", "5", "--out", str(out)])
    parts, deadline = out / "parts", time.monotonic() + 120
    while not list(parts.glob("*/*.mp4")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, number)
    assert process.wait() == (130 if number == signal.SIGINT else -signal.SIGKILL)
    first = next(parts.glob("*/000.mp4"), None) or next(parts.glob("*/*.mp4"))
    rendered_at = first.stat().st_mtime_ns
    assert list((out / "videos").iterdir()) == []
    time.sleep(1.0)  # the processes of one that was killed end by themselves
    again = subprocess.Popen([*COMMAND, "--minutes", "5", "--out", str(out)])
    while again.poll() is None:
        if first.exists():
            assert first.stat().st_mtime_ns == rendered_at
        time.sleep(0.05)
    assert again.returncode == 0
    (path,) = (out / "videos").iterdir()
    with av.open(str(path)) as container:
        assert sum(1 for p in container.demux(video=0) if p.size) == num_frames(
            sample_day("test", 0, seconds=300)
        )
    assert not parts.exists()


@pytest.mark.slow
def test_parts_of_a_day_that_is_not_wanted_now_stay(tmp_path: Path) -> None:
    left = tmp_path / "parts" / "test_0_000001_10s" / "000.mp4"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"of a run with more days, which was ended")
    assert make(split="test", num=1, seconds=10, out=tmp_path).num_rendered == 1
    assert left.exists()
    assert make(split="test", num=2, seconds=10, out=tmp_path).num_rendered == 1
    assert not (tmp_path / "parts").exists()


def test_two_seeds_ask_differently() -> None:
    first, second = (ask_days("val", num=1, seconds=120, seed=seed)[0][1] for seed in (0, 1))
    assert first != second
    assert ask_days("val", num=1, seconds=120, seed=0)[0][1] == first
