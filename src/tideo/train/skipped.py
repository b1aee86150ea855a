"""OUT/skipped.jsonl: the examples that a finetuning leaves out because their video or image cannot be read.

An example that turns out unreadable keeps its place in its batch with no reply to learn, so no other example moves and
none takes its place. A training stops where more than a share of the training set is left out.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path

from accelerate import PartialState  # type: ignore[import-untyped]
from accelerate.utils import gather_object  # type: ignore[import-untyped]

from tideo.types import UserError

log = logging.getLogger(__name__)
SKIPPED_FILE = "skipped.jsonl"
Example = tuple[str, str]  # the id of a conversation, and why it is left out


class Skipped:
    """What was left out of `num` conversations so far; more than `share` of them raises UserError.

    With `resume` what the file lists counts too; otherwise the file is removed.
    """

    def __init__(self, path: Path, *, share: float, resume: bool = False) -> None:
        self.path, self.share, self.num = path, share, 0
        self.reasons: dict[str, str] = {}
        if resume and path.is_file():
            # The last line may be cut off by a kill.
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
            self.reasons = {row["id"]: row["reason"] for row in map(json.loads, lines)}
        elif PartialState().is_main_process:
            path.unlink(missing_ok=True)

    def add(self, examples: Iterable[Example]) -> None:
        """Note examples that every process knows. The main process writes them, each once, with a warning."""
        new = {id: reason for id, reason in examples if id not in self.reasons}
        self.reasons |= new
        if not PartialState().is_main_process:
            return
        for id, reason in new.items():
            log.warning("%s is left out: %s", id, reason)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"id": id, "reason": reason}, ensure_ascii=False) + "\n")

    def gather(self, examples: list[Example]) -> None:
        """Note the examples of every process; all call it at the same time."""
        several = PartialState().num_processes > 1
        self.add(gather_object(examples) if several else examples)
        self.check()

    def check(self) -> None:
        """Raises UserError if too many are left out."""
        if len(self.reasons) > self.share * self.num:
            raise UserError(
                f"{len(self.reasons)} of {self.num} examples cannot be read, the first: "
                f"{next(iter(self.reasons.values()))}; all are in {self.path}: mend them, or set "
                f"max_unreadable to the share that may be left out (now {self.share:g})"
            )

    def tell(self) -> None:
        """Say at the end how many were left out."""
        if self.reasons and PartialState().is_main_process:
            log.warning(
                "%d of %d examples were left out: %s lists them", len(self.reasons), self.num, self.path
            )
