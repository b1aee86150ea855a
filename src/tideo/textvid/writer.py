"""One Tideo from a language model: three requests, each reply read strictly, a bad one asked for again.

frames and summary → questions with their answers → wrong options. The right answer's place among the options is drawn
here: left to itself a language model prefers some letters.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tideo.llms.interface import LanguageModel, Reply, Unanswered
from tideo.textvid.packs import Pack
from tideo.textvid.schema import LETTERS, Record
from tideo.types import Stopped, UserError

Text = Annotated[str, Field(min_length=1, max_length=2000)]
NUM_WRONG = 4
_FENCE = re.compile(r"\A```(?:json)?\s*\n(.*?)\n?```\Z", re.DOTALL)
_SCHEMA = re.compile(r"response_format|json_schema")
Wanted = TypeVar("Wanted", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class WrittenFrame(_Strict):
    main: Text
    foreground: Text | None = None
    background: Text | None = None


class WrittenVideo(_Strict):
    frames: list[WrittenFrame] = Field(min_length=2, max_length=64)
    summary: Text


class WrittenQuestion(_Strict):
    question: Text
    answer: Text
    kind: Text = "all"


class WrittenQuestions(_Strict):
    questions: list[WrittenQuestion] = Field(min_length=1, max_length=20)

    @model_validator(mode="after")
    def _differ(self) -> WrittenQuestions:
        if len({_plain(q.question) for q in self.questions}) < len(self.questions):
            raise ValueError("a question is asked twice")
        return self


class WrittenOptions(_Strict):
    wrong: list[Annotated[list[Text], Field(min_length=NUM_WRONG, max_length=NUM_WRONG)]] = Field(
        min_length=1
    )


@dataclass
class Spent:
    """What one Tideo took."""

    tokens_in: int = 0
    tokens_out: int = 0
    requests: int = 0

    def add(self, reply: Reply) -> None:
        self.tokens_in += reply.tokens_in
        self.tokens_out += reply.tokens_out
        self.requests += 1


class Rejected(UserError):
    """No Tideo came of it after the last try; `reply` is the last one, where there was one."""

    def __init__(self, reason: str, *, reply: str = "") -> None:
        super().__init__(reason)
        self.reply = reply


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a Tideo is asked for. Each of its three requests is made up to `tries` times.

    With `use_schema` the language model is asked to hold to the reply's JSON schema.
    """

    num_questions: int = 4
    tries: int = 3
    temperature: float = 1.0
    max_tokens: int = 4096
    use_schema: bool = True

    def __post_init__(self) -> None:
        if self.num_questions < 1 or self.tries < 1 or self.max_tokens < 1 or self.temperature < 0:
            raise UserError(
                f"num_questions={self.num_questions}, tries={self.tries}, max_tokens={self.max_tokens}, "
                f"temperature={self.temperature}: expected at least 1 of the first three, and no negative temperature"
            )


@dataclass(frozen=True, kw_only=True)
class Writer:
    """How Tideos are asked for. Safe to use from several threads."""

    llm: LanguageModel
    pack: Pack
    asking: Asking

    def write(self, condition: str, *, seed: int, idx: str, spent: Spent) -> Record:
        """The Tideo, with where it came from; `spent` grows by what it takes, also where nothing comes of it.

        Raises Rejected, and Stopped as its language model does.
        """
        rng = random.Random(f"{seed}/{idx}")
        pack = self.pack
        first, wanted = rng.getrandbits(31), rng.randint(pack.min_frames, pack.max_frames)
        prompt = pack.frames.format(condition=condition, num_frames=wanted)
        video = self._ask(
            prompt, WrittenVideo, seed=first, spent=spent, unfit=lambda found: _miscounted(found, pack)
        )
        told = as_text(video)
        prompt = pack.questions.format(video=told, num_questions=self.asking.num_questions)
        asked = self._ask(prompt, WrittenQuestions, seed=first, spent=spent).questions
        listed = "\n".join(f"{i}. {q.question} Right answer: {q.answer}" for i, q in enumerate(asked, 1))
        prompt = pack.options.format(video=told, questions=listed)
        options = self._ask(
            prompt, WrittenOptions, seed=first, spent=spent, unfit=lambda found: _unfit(found, asked)
        )
        return Record.model_validate(
            {
                "idx": idx,
                "frames": [frame.model_dump(exclude_none=True) for frame in video.frames],
                "global_video_caption": video.summary,
                "QAs": [_qa(q, wrong, rng) for q, wrong in zip(asked, options.wrong, strict=True)],
                "provenance": {
                    "model": self.llm.name,
                    "pack": pack.name,
                    "version": pack.version,
                    "prompts": pack.digest,
                    "condition": condition,
                    "seed": seed,
                    "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    **asdict(spent),
                    "cost": self.llm.cost(spent.tokens_in, spent.tokens_out),
                },
            }
        )

    def _ask(
        self,
        prompt: str,
        kind: type[Wanted],
        *,
        seed: int,
        spent: Spent,
        unfit: Callable[[Wanted], str | None] = lambda found: None,
    ) -> Wanted:
        """One request, and up to `tries` in all; a reply that was read and is unfit is told why."""
        messages = [
            {"role": "system", "content": self.pack.system.strip()},
            {"role": "user", "content": prompt.strip()},
        ]
        reason = last = ""
        given = _format(kind) if self.asking.use_schema else {}
        for attempt in range(self.asking.tries):
            try:
                reply = self.llm.ask(
                    [*messages, *_corrected(last, reason)], max_tokens=self.asking.max_tokens,
                    temperature=self.asking.temperature, seed=seed + attempt, **given,
                )  # fmt: skip
            except Unanswered as error:
                if self.asking.use_schema and _SCHEMA.search(str(error)):
                    raise Stopped(
                        f"{error}: if the server takes no JSON schema, set use_schema=false"
                    ) from error
                reason, last = str(error), ""
                continue
            spent.add(reply)
            found, reason = read_reply(reply.text, kind)
            if found is not None:
                reason = unfit(found) or ""
                if not reason:
                    return found
            elif reply.truncated:
                reason = f"it was cut at {self.asking.max_tokens} tokens"
            last = reply.text[:4000]
        raise Rejected(f"{kind.__name__}: {reason}", reply=last)


def _corrected(reply: str, reason: str) -> list[dict[str, str]]:
    """The turns that follow a reply which could not be used."""
    if not reply:
        return []
    told = f"This cannot be used: {reason}. Reply again, with the JSON alone."
    return [{"role": "assistant", "content": reply}, {"role": "user", "content": told}]


def read_reply(text: str, kind: type[Wanted]) -> tuple[Wanted | None, str]:
    """The JSON of a reply as `kind`, or None with the reason. A fence of code around it is taken off, nothing else."""
    text = text.strip()
    if fenced := _FENCE.match(text):
        text = fenced[1]
    try:
        return kind.model_validate(json.loads(text)), ""
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the reply"
        return None, f"{where}: {first['msg'].removeprefix('Value error, ')}"
    except (ValueError, RecursionError) as error:
        return None, f"it is not JSON ({error})"


def as_text(video: WrittenVideo) -> str:
    """The video as later prompts show it."""
    lines = []
    for number, frame in enumerate(video.frames, 1):
        parts = (frame.main, frame.foreground, frame.background)
        lines.append(f"{number}. " + " ".join(part for part in parts if part))
    return "\n".join(lines)


def _format(kind: type[BaseModel]) -> dict[str, Any]:
    schema = {"name": kind.__name__, "schema": kind.model_json_schema()}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _miscounted(video: WrittenVideo, pack: Pack) -> str | None:
    num = len(video.frames)
    if pack.min_frames <= num <= pack.max_frames:
        return None
    return f"expected {pack.min_frames} to {pack.max_frames} frames, not {num}"


def _unfit(options: WrittenOptions, asked: Sequence[WrittenQuestion]) -> str | None:
    if len(options.wrong) != len(asked):
        return f"expected wrong answers to {len(asked)} questions, not to {len(options.wrong)}"
    for number, (question, wrong) in enumerate(zip(asked, options.wrong, strict=True), 1):
        if len({_plain(text) for text in (question.answer, *wrong)}) < NUM_WRONG + 1:
            return f"the options of question {number} are not all different"
    return None


def _qa(question: WrittenQuestion, wrong: Sequence[str], rng: random.Random) -> dict[str, Any]:
    place = rng.randrange(NUM_WRONG + 1)
    options = [*wrong[:place], question.answer, *wrong[place:]]
    return {
        "question": question.question,
        "options": options,
        "answer": LETTERS[place],
        "answer_open_ended": question.answer,
        "type": question.kind,
    }


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".?!")
