"""A check of Tideos: faults of single ones, measures of the whole set, and the set without the faulty ones.

OUT/check.json      the measures, and the reasons for each Tideo with a fault
OUT/check.html      the same as a page with plots; it needs no network
OUT/vectors/        with `cluster`: the vectors of the captions, which the next check takes
OUT/kept/           with `keep`: the Tideos without fault, as a folder for trainings
OUT/dropped.jsonl   with `keep`: the others, each with its reasons
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from tideo.cluster import Cluster
from tideo.encoders.dual import DualEncoder
from tideo.encoders.encode import encode_texts
from tideo.encoders.features import text_vectors
from tideo.loading import Loading
from tideo.store.files import atomic_write_text
from tideo.store.records import write_records
from tideo.textvid.faults import OptionScorer, clauses, copies, disorder, doubtful, strangers, unread
from tideo.textvid.page import Checked, page
from tideo.textvid.schema import SHARDS, Record, dump, load_each, to_tideo
from tideo.textvid.statistics import balance, detail, diversity, overlap
from tideo.types import Tideo, UserError

CHECK_FILE, PAGE_FILE, DROPPED_FILE = "check.json", "check.html", "dropped.jsonl"


def check(
    source: str | Path,
    *,
    out: str | Path,
    encoder: DualEncoder,
    reader: OptionScorer | None = None,
    against: Mapping[str, Sequence[str]] | None = None,
    keep: bool = False,
    loading: Loading | None = None,
    cluster: Cluster | None = None,
) -> Checked:
    """Check a file or folder of Tideos and write OUT. Without a `reader`, answers and leakage are not checked.

    With a `cluster` its machines encode the captions; they load the encoder by its name, as `loading` says.

    `against` maps a benchmark's name to its questions. Raises UserError if no record is a valid Tideo.
    """
    source, out = Path(source), Path(out)
    records: list[Record] = []
    tideos: list[Tideo] = []
    faults: dict[str, dict[str, str]] = {}
    for where, record in load_each(source):
        try:
            if isinstance(record, UserError):
                raise record
            tideos.append(to_tideo(record))
        except UserError as error:
            faults[where] = {"schema": str(error)}
        else:
            records.append(record)
    num = len(records) + len(faults)
    if not tideos:
        first = next(iter(faults.values()), {"schema": "there are none"})["schema"]
        raise UserError(f"{source}: none of {num} records is a Tideo: {first}")
    texts = [c for t in tideos for f in t.frames for c in f.captions]
    texts += [clause for t in tideos for clause in clauses(t.summary)]
    if cluster is not None:
        encode_texts(texts, encoder=encoder, loading=loading, cache_dir=out / "vectors", cluster=cluster)
    vector_of = text_vectors(texts, encoder, cache_dir=out / "vectors" if cluster else None)
    unordered, p_N = disorder(tideos, vector_of)
    unlike, off_N = strangers(tideos, vector_of)
    for kind, found in (("copy", copies(tideos)), ("order", unordered), ("stranger", unlike)):
        for n, reason in found.items():
            faults.setdefault(tideos[n].id, {})[kind] = reason
    questions = [q for t in tideos for q in t.questions]
    measures: dict[str, Any] = {
        "tideos": len(tideos),
        "questions": len(questions),
        "detail": detail(tideos),
        "diversity": diversity(tideos, vector_of),
        "balance": balance(questions),
        "overlap": overlap(questions, against or {}),
    }
    doubts: dict[tuple[int, int], str] = {}
    if reader is not None:
        doubts, measures["leakage"] = doubtful(tideos, reader)
        for (n, i), reason in doubts.items():
            reasons = faults.setdefault(tideos[n].id, {})
            reasons["answer"] = "; ".join(
                filter(None, (reasons.get("answer"), f"question {i + 1}: {reason}"))
            )
        for n, reason in unread(tideos, doubts).items():
            faults[tideos[n].id]["unread"] = reason
    checked = Checked(
        source=str(source), num=num, faults=faults, measures=measures,
        spread={"order": _plain(p_N), "stranger": _plain(off_N)},
    )  # fmt: skip
    write(checked, out)
    if keep:
        _keep(records, checked, doubts, out=out)
    return checked


def write(checked: Checked, out: str | Path) -> None:
    """Write OUT/check.json and OUT/check.html."""
    results = asdict(checked) | {"counts": checked.counts}
    atomic_write_text(Path(out) / CHECK_FILE, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    atomic_write_text(Path(out) / PAGE_FILE, page(checked))


def _plain(values: np.ndarray) -> list[float | None]:
    return [round(float(v), 4) if np.isfinite(v) else None for v in values]


def _keep(
    records: Sequence[Record], checked: Checked, doubts: Mapping[tuple[int, int], str], *, out: Path
) -> None:
    kept, dropped = [], []
    for n, record in enumerate(records):
        reasons = checked.faults.get(str(record.idx), {})
        good = [qa for i, qa in enumerate(record.QAs) if (n, i) not in doubts]
        if set(reasons) - {"answer"} or (record.QAs and not good):
            dropped.append({"idx": str(record.idx), "reasons": reasons})
        else:
            kept.append(record.model_copy(update={"QAs": good}) if len(good) < len(record.QAs) else record)
    broken = [{"idx": where, "reasons": r} for where, r in checked.faults.items() if "schema" in r]
    dump(kept, out / "kept" / SHARDS.replace("*", "00000"))
    write_records(out / DROPPED_FILE, [*broken, *dropped], ensure_ascii=False)


def check_questions(
    tideos: Sequence[Tideo],
    *,
    source: str,
    reader: OptionScorer | None,
    against: Mapping[str, Sequence[str]] | None = None,
) -> Checked:
    """Balance, leakage and overlap of questions without frames, such as a benchmark's own."""
    questions = [q for t in tideos for q in t.questions]
    measures: dict[str, Any] = {
        "questions": len(questions),
        "balance": balance(questions),
        "overlap": overlap(questions, against or {}),
    }
    if reader is not None:
        _, leakage = doubtful([replace(t, frames=()) for t in tideos], reader)
        measures["leakage"] = {"questions": leakage["questions"], "blind": leakage["blind"]}
    return Checked(source=source, num=len(tideos), faults={}, measures=measures)
