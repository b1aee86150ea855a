"""An exported split as two tasks of lmms-eval, `--include_path OUT/lmms_eval --tasks tideo_dollhouse_SPLIT[_letters]`.

The first one scores the options. The other is for models that only write, such as lmms-eval's own for OpenAI's
protocol: they get frames and lettered options, and reply with a letter.
"""

from __future__ import annotations

import json
from pathlib import Path

from tideo.store.files import atomic_write_text

UTILS = '''\
"""Written by tideo dollhouse make: what a model is shown of a question."""

from pathlib import Path

VIDEOS = Path(__file__).resolve().parents[1] / "videos"


def doc_to_visual(doc):
    """The file, of a part of it with its seconds (W3C Media Fragments): videos/ID.mp4#t=0,12.5"""
    path = str(VIDEOS / f"{doc['video']}.mp4")
    if doc["end_s"] is None:
        return [path]
    return [f"{path}#t={doc['start_s']:g},{doc['end_s']}"]


def frames(doc, settings):
    """Pictures, those that a model of tideo looks at."""
    from PIL import Image

    from tideo.types import Video
    from tideo.video.samplers import sample_frames

    path = str(VIDEOS / f"{doc['video']}.mp4")
    video = Video(id=doc["video"], path=path, start_s=doc["start_s"], end_s=doc["end_s"])
    return [Image.fromarray(rgb) for rgb in sample_frames(video, settings["num_frames"]).rgb_THWC]


def letter(doc):
    return chr(ord("A") + doc["answer"])


def lettered(doc, settings=None):
    options = (f"{chr(ord('A') + i)}. {option}" for i, option in enumerate(doc["options"]))
    return "\\n".join(
        [doc["question"], *options, "Answer with the option's letter from the given choices directly."]
    )


def right(doc, replies):
    return {"acc": float(replies[0].strip() == letter(doc))}
'''


def write_task(split: str, *, data: Path) -> None:
    """Write lmms_eval/ next to the split's jsonl file, to which the tasks refer by its full path."""
    folder = data.parent / "lmms_eval"
    for file, ending in (("lmms_task.yaml", ""), ("lmms_letters.yaml", "_letters")):
        task = Path(__file__).with_name(file).read_text(encoding="utf-8")
        # The path is written as a JSON string, which is valid YAML.
        text = task.format(split=split, data=json.dumps(str(data.resolve())))
        atomic_write_text(folder / f"tideo_dollhouse_{split}{ending}.yaml", text)
    atomic_write_text(folder / "utils.py", UTILS)
