"""Is a TextVid any good? Faults of single Tideos, measures of the whole, and what is left when the faults are dropped.

OUT/check.json    figures, and the reasons for each Tideo that has a fault
OUT/check.html    the same as a page with plots, no network needed
OUT/kept/         with `keep`: the Tideos without fault, as a folder that trainings read
OUT/dropped.jsonl with `keep`: the others, each with its reasons
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from tideo.encoders.dual import DualEncoder
from tideo.encoders.features import text_vectors
from tideo.store.files import atomic_write_text
from tideo.textvid.faults import Reads, clauses, copies, disorder, doubtful, strangers, unread
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
    reader: Reads | None = None,
    against: Mapping[str, Sequence[str]] | None = None,
    keep: bool = False,
) -> Checked:
    """Check a file or folder of Tideos and write OUT. Without a `reader` no answer is doubted and no leak told.

    `against`: by name of a benchmark its questions. Raises UserError where no Tideo can be read at all.
    """
    source, out = Path(source), Path(out)
    records: list[Record] = []
    tideos: list[Tideo] = []
    faults: dict[str, dict[str, str]] = {}
    for where, read in load_each(source):
        if isinstance(read, UserError):
            faults[where] = {"schema": str(read)}
            continue
        try:
            tideos.append(to_tideo(read))
        except UserError as error:
            faults[where] = {"schema": str(error)}
            continue
        records.append(read)
    num = len(records) + len(faults)
    if not tideos:
        first = next(iter(faults.values()), {"schema": "there is none"})["schema"]
        raise UserError(f"{source}: none of {num} records is a Tideo: {first}")
    texts = [c for t in tideos for f in t.frames for c in f.captions]
    vector_of = text_vectors([*texts, *(p for t in tideos for p in clauses(t.summary))], encoder)
    unordered, p_N = disorder(tideos, vector_of)
    unlike, off_N = strangers(tideos, vector_of)
    for kind, found in (("copy", copies(tideos)), ("order", unordered), ("stranger", unlike)):
        for n, reason in found.items():
            faults.setdefault(tideos[n].id, {})[kind] = reason
    asked = [q for t in tideos for q in t.questions]
    measures: dict[str, Any] = {
        "tideos": len(tideos),
        "questions": len(asked),
        "detail": detail(tideos),
        "diversity": diversity(tideos, vector_of),
        "balance": balance(asked),
        "overlap": overlap(asked, against or {}),
    }
    doubts: dict[tuple[int, int], str] = {}
    if reader is not None:
        doubts, measures["leakage"] = doubtful(tideos, reader)
        for (n, i), reason in doubts.items():
            told = faults.setdefault(tideos[n].id, {})
            told["answer"] = "; ".join(filter(None, (told.get("answer"), f"question {i + 1}: {reason}")))
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
    """OUT/check.json and OUT/check.html."""
    told = asdict(checked) | {"counts": checked.counts}
    atomic_write_text(Path(out) / CHECK_FILE, json.dumps(told, indent=1, ensure_ascii=False) + "\n")
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
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in [*broken, *dropped])
    atomic_write_text(out / DROPPED_FILE, text)


def check_questions(
    tideos: Sequence[Tideo],
    *,
    source: str,
    reader: Reads | None,
    against: Mapping[str, Sequence[str]] | None = None,
) -> Checked:
    """What can be said of questions without frames, such as a benchmark's own: balance, leakage, overlap."""
    asked = [q for t in tideos for q in t.questions]
    measures: dict[str, Any] = {
        "questions": len(asked), "balance": balance(asked), "overlap": overlap(asked, against or {}),
    }  # fmt: skip
    if reader is not None:
        _, told = doubtful([replace(t, frames=()) for t in tideos], reader)
        measures["leakage"] = {"questions": told["questions"], "blind": told["blind"]}
    return Checked(source=source, num=len(tideos), faults={}, measures=measures)
