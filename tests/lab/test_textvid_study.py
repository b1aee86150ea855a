"""The table of Tideos: what a training gets, what the filter wins back, and the whole chain of commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tideo.dollhouse import world
from tideo.evaluate.answers import MAIN
from tideo.lab import textvid_study as study_module
from tideo.lab.scripted_writer import ONE_WAY, ScriptedWriter
from tideo.lab.tables import Study
from tideo.lab.textvid_study import FAULTS, FILLED, FILTERED, conditions_of, figures, page, textvid_study
from tideo.types import Sample, UserError, Video


def test_every_condition_differs_from_the_base_in_one_thing_or_is_filtered() -> None:
    conditions = conditions_of(base=600, sizes=(20, 2000))
    assert conditions[MAIN].num == 600
    assert {name for name, c in conditions.items() if c.filtered and c.most is None} == {
        "no fault, filtered", "shuffled frames, filtered", "wrong captions, filtered", "wrong answers, filtered",
    }  # fmt: skip
    filled = {name: (c.num, c.filtered) for name, c in conditions.items() if c.most == 600}
    assert filled == {
        f"{name}, filtered and filled up": (1320, True)
        for name in ("shuffled frames", "wrong captions", "wrong answers")
    }
    assert {c.num for name, c in conditions.items() if name.endswith(" Tideos")} == {20, 2000}
    assert {c.fault for c in conditions.values()} == {None, "order", "captions", "answer"}
    assert len({c.written for c in conditions.values()}) == 3
    assert len(set(conditions.values())) == len(conditions)


def rates(*values: float) -> dict[str, float]:
    return dict(zip("abcd", values, strict=True))


def test_the_table_compares_what_the_filter_wins_back_with_what_the_fault_costs() -> None:
    samples = [
        Sample(
            id=name, video=Video(id=name, path=""), question="what?", options=("a", "b"), answer=0, kind="DL",
            meta={"held_out": False},
        )
        for name in "abcd"
    ]  # fmt: skip
    main, noisy, filtered = rates(1, 1, 1, 0.9), rates(0.5, 0.5, 0.5, 0.4), rates(0.9, 0.9, 0.9, 0.8)
    found = {
        name: filtered if name.endswith(FILTERED) else noisy for name in conditions_of(base=9, sizes=())
    } | {name + FILLED: rates(1, 1, 1, 0.9) for name in FAULTS.values()}
    found[MAIN] = main
    found["wrong answers"] = main
    study = Study(samples=samples, rates=found, by_seed={name: [0.5] for name in found})
    content = figures(study, found={name: {"recall": 0.9, "lost": 0.1} for name in FAULTS.values()})
    of = content["filter"]["shuffled frames"]
    assert of["cost"]["all"]["difference"] == pytest.approx(0.5)
    assert of["won_back"]["all"]["difference"] == pytest.approx(0.4)
    text = page(content, base=9)
    assert (
        "| shuffled frames | 90% | 10% | all | 50.0 (50.0 to 50.0) | 40.0 (40.0 to 40.0) | 80% "
        "| 50.0 (50.0 to 50.0) | 100% |"
    ) in text
    assert (
        "| wrong answers | 90% | 10% | all | 0.0 (0.0 to 0.0) | -10.0 (-10.0 to -10.0) | no cost shown "
        "| 0.0 (0.0 to 0.0) | no cost shown |"
    ) in text


def test_the_writer_keeps_to_the_activities_and_to_one_wording_where_it_is_asked_to() -> None:
    named = world.PURPOSES["care"][1]
    named_phrases = ", ".join(world.ACTIVITIES[a].phrases[0] for a in named)
    allowed = {phrase for a in named for phrase in world.ACTIVITIES[a].phrases}
    others = {p for a in world.ACTIVITIES.values() for p in a.phrases} - allowed
    writer, wordings = ScriptedWriter(), set()
    for seed in range(20):
        prompt = f"Think of a video about: only {named_phrases}"
        video = json.loads(writer.reply(prompt, seed=seed, system=f"Tell the same {ONE_WAY}."))
        assert any(phrase in video["summary"] for phrase in allowed)
        assert not any(phrase in video["summary"] for phrase in others)
        wordings |= {
            frame["main"].partition(" is ")[0].split(" in a ")[0].split()[0] for frame in video["frames"]
        }
    assert wordings == {"a"}  # "a woman in a red shirt is …", never "in the kitchen, a woman …"


def test_a_study_needs_a_seed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one seed"):
        textvid_study(out=tmp_path, seeds=0)


@pytest.mark.slow
def test_the_commands_run_one_after_the_other_and_what_is_there_is_not_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_module, "FAULTS", {"answer": "wrong answers"})
    arguments = {
        "seeds": 1,
        "num": 1,
        "base": 12,
        "sizes": (),
        "steps": 1,
        "settings": ["train.batch=2"],
        "jobs": 2,
    }
    study = textvid_study(out=tmp_path, **arguments)
    assert set(study.rates) == set(conditions_of(base=12, sizes=()))
    commands = capsys.readouterr().err
    for command in ("textvid generate", "textvid check", "encode", "prealign dollhouse", "eval dollhouse"):
        assert f"$ tideo {command}" in commands
    content = json.loads((tmp_path / "table.json").read_text())
    assert content["filter"]["wrong answers"]["found"]["recall"] > 0.5
    assert (tmp_path / "table.md").read_text() == page(content, base=12)
    for folder in ("written", "given", "checked", "features", "models", "eval"):
        shutil.rmtree(tmp_path / folder)  # with the outcomes alone the table is made again
    again = textvid_study(out=tmp_path, **arguments)
    assert again.rates == study.rates
    assert "$ tideo" not in capsys.readouterr().err
    assert json.loads((tmp_path / "table.json").read_text()) == content
