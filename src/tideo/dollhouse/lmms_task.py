"""An exported split as a task of lmms-eval: `--include_path OUT/lmms_eval --tasks tideo_dollhouse_SPLIT`."""

from __future__ import annotations

import json
from pathlib import Path

from tideo.store.files import atomic_write_text

UTILS = '''\
"""Written by tideo dollhouse make: where the video of a question lies."""

from pathlib import Path

VIDEOS = Path(__file__).resolve().parents[1] / "videos"


def doc_to_visual(doc):
    """The file, of a part of it with its seconds (W3C Media Fragments): videos/ID.mp4#t=0,12.5"""
    path = str(VIDEOS / f"{doc['video']}.mp4")
    if doc["end_s"] is None:
        return [path]
    return [f"{path}#t={doc['start_s']:g},{doc['end_s']}"]
'''


def write_task(split: str, *, data: Path) -> None:
    """Write lmms_eval/ next to the split's jsonl file, to which the task refers by its full path."""
    folder = data.parent / "lmms_eval"
    task = Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
    # The path is written as a JSON string, which is valid YAML.
    # `multiple_choice` takes the option with the lowest loss.
    text = task.format(split=split, data=json.dumps(str(data.resolve())))
    atomic_write_text(folder / f"tideo_dollhouse_{split}.yaml", text)
    atomic_write_text(folder / "utils.py", UTILS)
