"""MVBench (Li et al., CVPR 2024): twenty tasks that one frame does not solve, over videos of eleven data sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tideo.benchmarks.annotations import at, each_once, json_list, parsed
from tideo.store.video_files import VideoFolder
from tideo.types import Sample, UserError, Video

SCORE = "mean_of_kinds"
# file → the task's own name, and where its videos lie in the folder `video` of the download
TASKS: dict[str, tuple[str, str]] = {
    "action_sequence": ("Action Sequence", "star/Charades_v1_480"),
    "action_prediction": ("Action Prediction", "star/Charades_v1_480"),
    "action_antonym": ("Action Antonym", "ssv2_video"),
    "fine_grained_action": ("Fine-grained Action", "Moments_in_Time_Raw/videos"),
    "unexpected_action": ("Unexpected Action", "FunQA_test/test"),
    "object_existence": ("Object Existence", "clevrer/video_validation"),
    "object_interaction": ("Object Interaction", "star/Charades_v1_480"),
    "object_shuffle": ("Object Shuffle", "perception/videos"),
    "moving_direction": ("Moving Direction", "clevrer/video_validation"),
    "action_localization": ("Action Localization", "sta/sta_video"),
    "scene_transition": ("Scene Transition", "scene_qa/video"),
    "action_count": ("Action Count", "perception/videos"),
    "moving_count": ("Moving Count", "clevrer/video_validation"),
    "moving_attribute": ("Moving Attribute", "clevrer/video_validation"),
    "state_change": ("State Change", "perception/videos"),
    "fine_grained_pose": ("Fine-grained Pose", "nturgbd"),
    "character_order": ("Character Order", "perception/videos"),
    "egocentric_navigation": ("Egocentric Navigation", "vlnqa"),
    "episodic_reasoning": ("Episodic Reasoning", "tvqa/frames_fps3_hq"),
    "counterfactual_inference": ("Counterfactual Inference", "clevrer/video_validation"),
}


class Row(BaseModel):
    """One question of a task file as downloaded; `start` and `end` where the task is about a segment."""

    model_config = ConfigDict(extra="ignore")

    video: str = Field(min_length=1)
    question: str = Field(min_length=1)
    candidates: list[str] = Field(min_length=2)
    answer: str
    start: float | None = None
    end: float | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Row:
        if self.answer not in self.candidates:
            raise ValueError(f"answer {self.answer!r} is none of the candidates")
        if Path(self.video).is_absolute() or ".." in Path(self.video).parts:
            raise ValueError(f"video {self.video!r} lies outside the video folder")
        return self


def mvbench(data: str | Path, *, videos: str | Path) -> list[Sample]:
    """The questions of a folder of task files, or of one of them. The score is the mean over the tasks.

    Episodic Reasoning comes as folders of pictures, which are read as videos. Raises UserError for a malformed row,
    naming file, place and field, and for a folder without task files.
    """
    data, places = Path(data), VideoFolder(videos)
    files = (
        [data]
        if data.is_file()
        else [data / f"{task}.json" for task in TASKS if (data / f"{task}.json").is_file()]
    )
    if not files or files[0].stem not in TASKS:
        raise UserError(
            f"{data}: expected task files such as action_sequence.json, as in the folder json of MVBench"
        )
    return each_once(sample for path in files for sample in _samples(path, videos=places))


def _samples(path: Path, *, videos: VideoFolder) -> Iterator[tuple[str, Sample]]:
    task, folder = TASKS[path.stem]
    for number, (where, fields) in enumerate(json_list(path)):
        row = parsed(Row, fields, where=where)
        with at(where):
            video = Video(
                id=f"{folder}/{row.video}",
                path=videos.find(f"{folder}/{row.video}"),
                start_s=row.start,
                end_s=row.end,
            )
        yield (
            where,
            Sample(
                id=f"{path.stem}_{number}",
                video=video,
                question=row.question,
                options=tuple(row.candidates),
                answer=row.candidates.index(row.answer),
                kind=task,
                meta={"split": "test"},
            ),
        )
