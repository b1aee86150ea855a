"""The nouns of Tideo. They check shapes only; nothing here reads a file or knows a model.

Shape legend: T frames, H height, W width, C = 3 colours, D feature width, N captions.
Times are seconds (`_s`) on the video's own clock. Log-likelihoods: higher is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

Modality = Literal["text", "image", "projected"]


class UserError(ValueError):
    """The caller's input is wrong. The message is one line: what was given, what was expected, what to do.

    The command line prints it without a traceback and exits with code 2.
    """


class VideoError(UserError):
    """A video that gives no frame: missing, empty, corrupt, without a video stream, or of unknown format."""


class Stopped(UserError):
    """No further request can succeed now. It ends the run, and no question counts as failed because of it."""


@dataclass(frozen=True, kw_only=True)
class Video:
    """A video file, or the segment [start_s, end_s] of one."""

    id: str
    path: str
    start_s: float | None = None
    end_s: float | None = None

    def __post_init__(self) -> None:
        for name, time_s in (("starts", self.start_s), ("ends", self.end_s)):
            if time_s is not None and not 0 <= time_s < math.inf:
                raise UserError(
                    f"video {self.id}: the segment {name} at {time_s} s; expected a time in seconds from 0 on"
                )
        if self.start_s is not None and self.end_s is not None and self.end_s <= self.start_s:
            raise UserError(
                f"video {self.id}: the segment ends at {self.end_s} s, not after its start at {self.start_s} s"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Frames:
    """Decoded frames in time order. `missing_s` are the requested times whose frames could not be decoded.

    `relevance`: of frames that were chosen for a question, the times of moments of the video and how relevant each is,
    from 0 to 1. `bounds_s`: where the video or segment starts and ends; None for pictures without a video.
    """

    rgb_THWC: np.ndarray  # uint8
    pts_s_T: np.ndarray  # float64
    video_id: str
    missing_s: tuple[float, ...] = ()
    relevance: tuple[tuple[float, float], ...] = ()
    bounds_s: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        rgb, pts = self.rgb_THWC, self.pts_s_T
        if rgb.dtype != np.uint8 or rgb.ndim != 4 or rgb.shape[3] != 3:
            raise ValueError(f"rgb_THWC must be uint8 [T, H, W, 3], not {rgb.dtype} {list(rgb.shape)}")
        if pts.shape != rgb.shape[:1]:
            raise ValueError(f"pts_s_T must be [{rgb.shape[0]}], not {list(pts.shape)}")

    def __len__(self) -> int:
        return len(self.pts_s_T)

    @property
    def num_bytes(self) -> int:
        return int(self.rgb_THWC.nbytes)

    @property
    def places_T(self) -> np.ndarray:
        """Where in the video or segment each frame lies, from 0 at its start to 1 at its end.

        Pictures without a video are taken to begin and to end half a mean step before the first and behind the last.
        """
        pts = self.pts_s_T
        if not len(pts):
            return np.zeros(0)
        start_s, end_s = self.bounds_s or (pts[0], pts[-1])
        if self.bounds_s is None and len(pts) > 1:
            half_s = (end_s - start_s) / (len(pts) - 1) / 2
            start_s, end_s = start_s - half_s, end_s + half_s
        if end_s <= start_s:
            return np.full(len(pts), 0.5)
        return np.clip((pts - start_s) / (end_s - start_s), 0.0, 1.0)

    def at(self, places: slice | Sequence[int] | np.ndarray) -> Frames:
        """The frames at these places."""
        return replace(self, rgb_THWC=self.rgb_THWC[places], pts_s_T=self.pts_s_T[places])


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """Frames of a video pasted row by row into one picture. The last `num_blank` cells hold no frame."""

    rgb_HWC: np.ndarray  # uint8
    rows: int
    cols: int
    pts_s: tuple[float, ...]  # of the frames, in reading order
    num_blank: int
    missing_s: tuple[float, ...] = ()  # requested times whose frames could not be decoded

    def __post_init__(self) -> None:
        rgb = self.rgb_HWC
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            raise ValueError(f"rgb_HWC must be uint8 [H, W, 3], not {rgb.dtype} {list(rgb.shape)}")
        if len(self.pts_s) + self.num_blank != self.rows * self.cols:
            raise ValueError(
                f"{len(self.pts_s)} frames and {self.num_blank} blanks are not {self.rows} x {self.cols} cells"
            )


@dataclass(frozen=True, kw_only=True)
class TextFrame:
    """The captions of one frame of a Tideo. Only `main` is required, as in TextVid."""

    main: str
    foreground: str | None = None
    background: str | None = None

    @property
    def captions(self) -> tuple[str, ...]:
        return tuple(c for c in (self.main, self.foreground, self.background) if c)


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question with its options. `answer` is the 0-based index of the right one, None if unknown.

    `evidence_s` is the span of the video, in seconds, that shows the answer.
    """

    question: str
    options: tuple[str, ...] = ()
    answer: int | None = None
    open_answer: str | None = None
    kind: str = "all"
    evidence_s: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check_options(self.options, self.answer)


def _check_not_one_text(texts: Sequence[str]) -> None:
    if isinstance(texts, str):  # its letters would each count as a text
        raise UserError(f"{texts!r} is one text where several are expected, as in ({texts!r}, 'another')")


def _check_options(options: Sequence[str], answer: int | None) -> None:
    _check_not_one_text(options)
    if answer is not None and not 0 <= answer < len(options):
        raise UserError(f"answer {answer} is not an index of {len(options)} options")


@dataclass(frozen=True, kw_only=True)
class Tideo:
    """A textual video: frames described in words, their summary, questions, and their provenance."""

    id: str
    frames: tuple[TextFrame, ...]
    summary: str
    questions: tuple[Question, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Unit-length vectors of one encoder, one per frame. A Tideo and a Video both become this.

    `places_T`: where in the segment each frame lies, from 0 to 1; None for even frames, as those of a Tideo are.
    """

    values_TD: np.ndarray  # float32, every row of length 1
    pts_s_T: np.ndarray | None  # None for a Tideo, which has no clock
    modality: Modality
    encoder: str
    places_T: np.ndarray | None = None

    def __post_init__(self) -> None:
        values = self.values_TD
        if values.dtype != np.float32 or values.ndim != 2:
            raise ValueError(f"values_TD must be float32 [T, D], not {values.dtype} {list(values.shape)}")
        if self.pts_s_T is not None and self.pts_s_T.shape != values.shape[:1]:
            raise ValueError(f"pts_s_T must be [{values.shape[0]}], not {list(self.pts_s_T.shape)}")

    def __len__(self) -> int:
        return len(self.values_TD)


@dataclass(frozen=True, kw_only=True)
class Cue:
    """A subtitle: what is said from `start_s` to `end_s` of a video."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One question of a benchmark about one video. Each span of `evidence_s`, in seconds, shows the answer.

    For a benchmark of descriptions the question is empty, and `references` are descriptions written by people.
    `cues` are the video's subtitles where a benchmark has them; `stem` is then the question without them.
    """

    id: str
    video: Video
    question: str
    options: tuple[str, ...] = ()
    answer: int | None = None
    kind: str = "all"
    evidence_s: tuple[tuple[float, float], ...] = ()
    references: tuple[str, ...] = ()
    cues: tuple[Cue, ...] = ()
    stem: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_options(self.options, self.answer)
        _check_not_one_text(self.references)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A model's answer to a sample. A failure is kept in `error`, with `choice` None, and counts as wrong.

    `loglikelihoods` are sums over each option's tokens and `num_tokens` their counts, so that the answers can be
    scored again, with another reduction, without a model. `choice` is 0-based. `relevance` is that of the `Frames`.
    `prompt_tokens` are those before the options or the reply, `visual_tokens` those of them that stand for images or
    frames; None where the model does not count them.
    """

    sample_id: str
    choice: int | None = None
    loglikelihoods: tuple[float, ...] = ()
    num_tokens: tuple[int, ...] = ()
    text: str = ""
    error: str | None = None
    pts_s: tuple[float, ...] = ()
    relevance: tuple[tuple[float, float], ...] = ()
    seconds: float = 0.0
    prompt_tokens: int | None = None
    visual_tokens: int | None = None
