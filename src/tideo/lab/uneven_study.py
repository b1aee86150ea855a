"""What frames chosen for the question cost models, and what training at uneven times gives back.

    python -m tideo.lab.uneven_study --out runs/uneven \
        --models dollhouse-topa runs/dollhouse_topa_uneven

Every model answers the same questions with even frames (`middle`) and with those that each selector chooses from a
frame a second, for each share of frames that stay even (--even); all are decoded once for all questions. Differences
are paired, with 95% intervals, clustered by video: from the same model on even frames, and from the first model on the
same frames. Writes OUT/table.md and OUT/table.json; the outcome of a
model lies in OUT/outcomes, and is not computed again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

from tideo import registry
from tideo.console import tracked
from tideo.dollhouse.questions import TEMPORAL
from tideo.dollhouse.script import Split
from tideo.encoders.moment import moment
from tideo.encoders.pools import Pools
from tideo.evaluate.metrics import accuracy
from tideo.lab.outcomes import Outcome, Outcomes
from tideo.lab.tables import Rates, difference_of, of_kinds, questions_of, signed
from tideo.models.interface import VideoModel
from tideo.models.load import load_model
from tideo.models.selecting import COMPARED, stem
from tideo.scoring import decide
from tideo.store.files import atomic_write_text
from tideo.types import Frames, Sample, UserError
from tideo.video.decode import decode_at
from tideo.video.pool import PoolSettings
from tideo.video.samplers import sample_frames
from tideo.video.selectors import beside_even

EVEN, ENCODER = "middle", "dollhouse-clip"
SELECTORS = ("question", "bolt", "aks", "coverage")


def uneven_study(
    models: Sequence[str],
    *,
    out: str | Path,
    samplers: Sequence[str] = SELECTORS,
    even: Sequence[float] = (0.0,),
    num: int = 90,
    split: Split = "test",
) -> dict[str, Any]:
    """Ask all models about `num` episodes, write the table, return its figures."""
    out = Path(out)
    ways = {
        f"{sampler}, even={share:g}" if share else sampler: (sampler, share)
        for sampler in samplers
        for share in even
    }
    for sampler, share in ways.values():
        beside_even(registry.load("samplers", sampler), share)  # what cannot be ends before a video is made
    names = [Path(path).name for path in models]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two models are named {twice}: rename a folder, as the table names models by theirs")
    samples = questions_of(split, num=num, out=out)
    outcomes = Outcomes(out / "outcomes", samples)
    loaded = {name: load_model(path) for name, path in zip(names, models, strict=True)}
    about = {name: [model.key, COMPARED, ways] for name, model in loaded.items()}
    missing = {n: model for n, model in loaded.items() if outcomes.kept(n, about=about[n]) is None}
    if missing:
        for name, rates in asked(missing, samples, ways=ways, pools=out / "pools").items():
            outcomes.keep(name, Outcome(rates=rates), about=about[name])
    outcome_rates: dict[str, Mapping[str, Rates]] = {}
    for name in loaded:
        kept = outcomes.kept(name, about=about[name])
        assert kept is not None
        outcome_rates[name] = kept.rates
    figures = table(samples, outcome_rates)
    atomic_write_text(out / "table.json", json.dumps(figures, indent=1) + "\n")
    atomic_write_text(out / "table.md", page(figures))
    return figures


def table(samples: Sequence[Sample], rates: Mapping[str, Mapping[str, Rates]]) -> dict[str, Any]:
    """The figures of table.json. `rates`: model → `middle` or way → 1 or 0 for each question."""
    first = next(iter(rates.values()))
    temporal = of_kinds(samples, TEMPORAL)
    rows = [
        {
            "model": name,
            "frames": way,
            **asdict(accuracy([of_one[s.id] for s in samples], clusters=[s.video.id for s in samples])),
            "temporal": sum(of_one[s.id] for s in temporal) / len(temporal) if temporal else None,
            "minus_even": difference_of(samples, of_one, by_way[EVEN]),
            "minus_first": difference_of(samples, of_one, first[way]),
        }
        for name, by_way in rates.items()
        for way, of_one in by_way.items()
    ]
    return {"num_questions": len(samples), "num_videos": len({s.video.id for s in samples}), "rows": rows}


def page(figures: Mapping[str, Any]) -> str:
    """table.md."""
    first = figures["rows"][0]["model"]
    lines = [
        f"{figures['num_questions']:,} questions about {figures['num_videos']} videos; 95% intervals by video.",
        "",
        f"| model | frames | all | temporal | minus itself, {EVEN} | minus {first}, same frames |",
        "|---|---|---|---|---|---|",
    ]
    for row in figures["rows"]:
        temporal = "" if row["temporal"] is None else f"{100 * row['temporal']:.1f}"
        less = "" if row["frames"] == EVEN else signed(row["minus_even"])
        beside = "" if row["model"] == first else signed(row["minus_first"])
        cells = (row["model"], row["frames"], f"{100 * row['accuracy']:.1f}", temporal, less, beside)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def asked(
    models: Mapping[str, VideoModel],
    samples: Sequence[Sample],
    *,
    ways: Mapping[str, tuple[str, float]],
    pools: Path,
) -> dict[str, dict[str, dict[str, float]]]:
    """Model → `middle` or way → 1 or 0 for each question. A way is a selector and the share of even frames."""
    found: dict[str, dict[str, dict[str, float]]] = {
        name: {way: {} for way in (EVEN, *ways)} for name in models
    }
    selectors = {
        way: beside_even(registry.load("samplers", name), even) for way, (name, even) in ways.items()
    }
    of_videos = Pools(ENCODER, settings=PoolSettings(), folder=pools)
    groups = [list(group) for _, group in groupby(samples, key=lambda s: s.video)]
    for group in tracked(groups, "asking about videos", total=len(groups)):
        video = group[0].video
        pool = of_videos.pool(video)
        decoded = decode_at(video.path, pool.times_s_P.tolist(), video_id=video.id)
        assert not decoded.missing_s, video.path
        moments_QD = of_videos.encoder.encode_text([moment(stem(sample)) for sample in group])
        for name, model in models.items():
            num = model.num_frames()
            even = sample_frames(video, num)
            found[name][EVEN] |= right(model, group, even)
            for way, choose in selectors.items():
                if len(decoded) <= num:  # no choice, as in Chooser.frames
                    found[name][way] |= {s.id: found[name][EVEN][s.id] for s in group}
                    continue
                for sample, moment_D in zip(group, moments_QD, strict=True):
                    values_PD = pool.features.values_TD
                    chosen = choose(values_PD @ moment_D, values_PD, pool.times_s_P, num)
                    frames = replace(decoded.at(chosen), bounds_s=even.bounds_s)
                    found[name][way] |= right(model, [sample], frames)
    return found


def right(model: VideoModel, samples: Sequence[Sample], frames: Frames) -> dict[str, float]:
    """1 or 0 for each question about the frames."""
    answers = model.answer(samples[0].video, samples, seen=frames)
    choices = [decide(answer, reduction=model.settings.reduction).choice for answer in answers]
    return {s.id: float(choice == s.answer) for s, choice in zip(samples, choices, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--models", nargs="+", required=True, help="the first one is compared with")
    parser.add_argument("--samplers", nargs="+", default=list(SELECTORS))
    parser.add_argument(
        "--even", type=float, nargs="+", default=[0.0], help="shares of frames that stay even"
    )
    parser.add_argument("--num", type=int, default=90, help="episodes")
    parser.add_argument("--split", choices=get_args(Split), default="test")
    args = vars(parser.parse_args())
    uneven_study(**args)
    print((Path(args["out"]) / "table.md").read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
