"""What frames chosen for the question cost models, and what training at uneven times gives back.

    python -m tideo.lab.uneven_study --out runs/uneven \
        --models dollhouse-topa runs/dollhouse_topa_uneven

Every model answers the same test questions with even frames (`middle`) and with those that each selector chooses from a
frame a second; all of these are decoded once for all questions. Each is compared with the first model on even frames:
paired differences with 95% intervals, clustered by video. Writes OUT/table.md and OUT/table.json; the outcome of a
model lies in OUT/outcomes, and is not computed again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from tideo import registry
from tideo.console import tracked
from tideo.encoders.pools import Pools
from tideo.evaluate.answers import MAIN
from tideo.lab.outcomes import Outcome, Outcomes
from tideo.lab.tables import Rates, Study, markdown, questions_of, study_of, table
from tideo.models.interface import VideoModel
from tideo.models.load import load_model
from tideo.models.selecting import stem
from tideo.scoring import decide
from tideo.store.files import atomic_write_text
from tideo.types import Frames, Sample
from tideo.video.decode import decode_at
from tideo.video.pool import PoolSettings
from tideo.video.samplers import sample_frames

EVEN, ENCODER = "middle", "dollhouse-clip"
SELECTORS = ("question", "bolt", "aks", "coverage")


def uneven_study(
    models: Sequence[str], *, out: str | Path, samplers: Sequence[str] = SELECTORS, num: int = 90
) -> Study:
    """Ask all models about `num` test episodes, write the table."""
    out = Path(out)
    samples = questions_of("test", num=num, out=out)
    outcomes = Outcomes(out / "outcomes", samples)
    loaded = {Path(path).name: load_model(path) for path in models}
    about = {name: [model.key, list(samplers)] for name, model in loaded.items()}
    missing = {n: model for n, model in loaded.items() if outcomes.kept(n, about=about[n]) is None}
    if missing:
        for name, rates in asked(missing, samples, samplers=samplers, pools=out / "pools").items():
            outcomes.keep(name, Outcome(rates=rates), about=about[name])
    runs: dict[str, Sequence[Rates]] = {}
    for name in loaded:
        kept = outcomes.kept(name, about=about[name])
        assert kept is not None
        for sampler, of_one in kept.rates.items():
            runs[f"{name}, {sampler}" if runs else MAIN] = [of_one]
    study = study_of(samples, runs)
    figures = table(study)
    atomic_write_text(out / "table.json", json.dumps(figures, indent=2) + "\n")
    text = markdown(figures, trained="training", result=f"{next(iter(loaded))}, {EVEN}")
    atomic_write_text(out / "table.md", text)
    return study


def asked(
    models: Mapping[str, VideoModel], samples: Sequence[Sample], *, samplers: Sequence[str], pools: Path
) -> dict[str, dict[str, dict[str, float]]]:
    """Model → sampler → 1 or 0 for each question."""
    found: dict[str, dict[str, dict[str, float]]] = {
        name: {sampler: {} for sampler in (EVEN, *samplers)} for name in models
    }
    of_videos = Pools(ENCODER, settings=PoolSettings(), folder=pools)
    groups = [list(group) for _, group in groupby(samples, key=lambda s: s.video)]
    for group in tracked(groups, "asking about videos", total=len(groups)):
        video = group[0].video
        pool = of_videos.pool(video)
        decoded = decode_at(video.path, pool.times_s_P.tolist(), video_id=video.id)
        assert not decoded.missing_s, video.path
        stems_QD = of_videos.encoder.encode_text([stem(sample) for sample in group])
        for name, model in models.items():
            num = model.num_frames()
            even = sample_frames(video, num)
            found[name][EVEN] |= right(model, group, even)
            for sampler in samplers:
                if len(decoded) <= num:  # no choice, as in Chooser.frames
                    found[name][sampler] |= {s.id: found[name][EVEN][s.id] for s in group}
                    continue
                for sample, stem_D in zip(group, stems_QD, strict=True):
                    values_PD = pool.features.values_TD
                    chosen = registry.load("samplers", sampler)(
                        values_PD @ stem_D, values_PD, pool.times_s_P, num
                    )
                    frames = replace(decoded.at(chosen), bounds_s=even.bounds_s)
                    found[name][sampler] |= right(model, [sample], frames)
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
    parser.add_argument("--num", type=int, default=90, help="test episodes")
    args = vars(parser.parse_args())
    uneven_study(**args)
    print((Path(args["out"]) / "table.md").read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
