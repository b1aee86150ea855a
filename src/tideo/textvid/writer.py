"""One Tideo from a language model: three requests, whose replies are read strictly and requested again if bad.

frames and summary → questions with their answers → wrong options. The right answer's place among the options is drawn
here, because a language model left to choose prefers some letters.
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
from tideo.replies import without_thoughts
from tideo.textvid.packs import Pack
from tideo.textvid.schema import LETTERS, Record, first_fault
from tideo.types import UserError

Text = Annotated[str, Field(min_length=1, max_length=2000)]
NUM_WRONG = 4
REQUESTS = 3  # of a Tideo whose replies can all be used
_FENCE = re.compile(r"\A```(?:json)?\s*\n(.*?)\n?```\Z", re.DOTALL)
Parsed = TypeVar("Parsed", bound=BaseModel)
Check = Callable[[Parsed], str | None]  # what is wrong with a reply that parsed, or None


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
class Usage:
    """Tokens and requests of one Tideo."""

    tokens_in: int = 0
    tokens_out: int = 0
    requests: int = 0

    def add(self, reply: Reply) -> None:
        self.tokens_in += reply.tokens_in
        self.tokens_out += reply.tokens_out
        self.requests += 1


class Rejected(UserError):
    """No Tideo after the last try. `reply` is the last one, or empty if none came."""

    def __init__(self, reason: str, *, reply: str = "") -> None:
        super().__init__(reason)
        self.reply = reply


@dataclass(frozen=True, kw_only=True)
class WriterSettings:
    """How a Tideo is requested. Each of its three requests is made up to `tries` times.

    With `use_schema` a request carries the JSON schema of its reply, for servers that can enforce one; with `use_seed`
    a seed; with `use_system` the pack's system prompt as a message of its own, which is else part of the user's.
    `temperature` None leaves it to the model. `max_tokens` counts thoughts too.
    """

    num_questions: int = 4
    tries: int = 3
    temperature: float | None = 1.0
    max_tokens: int = 4096
    use_schema: bool = True
    use_seed: bool = True
    use_system: bool = True

    def __post_init__(self) -> None:
        if min(self.num_questions, self.tries, self.max_tokens) < 1 or (self.temperature or 0) < 0:
            raise UserError(
                f"num_questions={self.num_questions}, tries={self.tries}, max_tokens={self.max_tokens}, "
                f"temperature={self.temperature}: expected at least 1 of the first three, and no negative temperature"
            )


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Writes Tideos with a language model. Safe to use from several threads."""

    llm: LanguageModel
    pack: Pack
    settings: WriterSettings

    def write(self, condition: str, *, seed: int, idx: str, usage: Usage) -> Record:
        """The Tideo with its provenance. `usage` counts its requests and tokens, also if it is rejected.

        Raises Rejected, and Stopped as its language model does.
        """
        rng = random.Random(f"{seed}/{idx}")
        pack = self.pack
        first_seed, num_frames = rng.getrandbits(31), rng.randint(pack.min_frames, pack.max_frames)

        def request(prompt: str, kind: type[Parsed], check: Check[Parsed] = lambda parsed: None) -> Parsed:
            return self._request(prompt, kind, seed=first_seed, usage=usage, check=check)

        prompt = pack.frames.format(condition=condition, num_frames=num_frames)
        video = request(prompt, WrittenVideo, lambda parsed: _check_video(parsed, pack))
        text = as_text(video)
        prompt = pack.questions.format(video=text, num_questions=self.settings.num_questions)
        questions = request(prompt, WrittenQuestions).questions
        listed = "\n".join(f"{i}. {q.question} Right answer: {q.answer}" for i, q in enumerate(questions, 1))
        prompt = pack.options.format(video=text, questions=listed)
        options = request(prompt, WrittenOptions, lambda parsed: _check_options(parsed, questions))
        return Record.model_validate(
            {
                "idx": idx,
                "frames": [frame.model_dump(exclude_none=True) for frame in video.frames],
                "global_video_caption": video.summary,
                "QAs": [_qa(q, wrong, rng) for q, wrong in zip(questions, options.wrong, strict=True)],
                "provenance": {
                    "model": self.llm.name,
                    "pack": pack.name,
                    "version": pack.version,
                    "prompts": pack.digest,
                    "condition": condition,
                    "seed": seed,
                    "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    **asdict(usage),
                    **self.llm.cost_field(usage.tokens_in, usage.tokens_out),
                },
            }
        )

    def _request(
        self, prompt: str, kind: type[Parsed], *, seed: int, usage: Usage, check: Check[Parsed]
    ) -> Parsed:
        """The reply as `kind`, in up to `tries` requests. A further request names the fault of the last reply."""
        settings, system, user = self.settings, self.pack.system.strip(), prompt.strip()
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        if not settings.use_system:
            messages = [{"role": "user", "content": f"{system}\n\n{user}"}]
        reason = last = ""
        for attempt in range(settings.tries):
            options: dict[str, Any] = _format(kind) if settings.use_schema else {}
            if settings.use_seed:
                options["seed"] = seed + attempt
            try:
                reply = self.llm.ask(
                    [*messages, *_correction(last, reason)],
                    max_tokens=settings.max_tokens,
                    temperature=settings.temperature,
                    **options,
                )
            except Unanswered as error:
                reason, last = str(error), ""
                continue
            usage.add(reply)
            parsed, reason = read_reply(reply.text, kind)
            if parsed is not None:
                reason = check(parsed) or ""
                if not reason:
                    return parsed
            elif reply.truncated:
                reason = f"it was cut at {settings.max_tokens} tokens, the limit that max_tokens sets"
            last = (without_thoughts(reply.text) or reply.text)[:4000]
        raise Rejected(f"{kind.__name__}: {reason}", reply=last)


def _correction(reply: str, reason: str) -> list[dict[str, str]]:
    """The turns that a further request adds after a reply that could not be used; none after a thought alone."""
    if not reply or without_thoughts(reply) is None:
        return []
    correction = f"This cannot be used: {reason}. Reply again, with the JSON alone."
    return [{"role": "assistant", "content": reply}, {"role": "user", "content": correction}]


def read_reply(text: str, kind: type[Parsed]) -> tuple[Parsed | None, str]:
    """The JSON of a reply as `kind`, or None and the reason. Only thoughts and a code fence around it are removed."""
    said = without_thoughts(text)
    if said is None:
        return None, "it ends within a thought"
    if fenced := _FENCE.match(said):
        said = fenced[1]
    try:
        return kind.model_validate(json.loads(said)), ""
    except ValidationError as error:
        return None, first_fault(error, whole="the reply")
    except (ValueError, RecursionError) as error:
        return None, f"it is not JSON ({error})"


def as_text(video: WrittenVideo) -> str:
    """The video as the later prompts show it."""
    lines = []
    for number, frame in enumerate(video.frames, 1):
        parts = (frame.main, frame.foreground, frame.background)
        lines.append(f"{number}. " + " ".join(part for part in parts if part))
    return "\n".join(lines)


def _format(kind: type[BaseModel]) -> dict[str, Any]:
    schema = {"name": kind.__name__, "schema": kind.model_json_schema()}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _check_video(video: WrittenVideo, pack: Pack) -> str | None:
    num = len(video.frames)
    if pack.min_frames <= num <= pack.max_frames:
        return None
    return f"expected {pack.min_frames} to {pack.max_frames} frames, not {num}"


def _check_options(options: WrittenOptions, questions: Sequence[WrittenQuestion]) -> str | None:
    if len(options.wrong) != len(questions):
        return f"expected wrong answers to {len(questions)} questions, not to {len(options.wrong)}"
    for number, (question, wrong) in enumerate(zip(questions, options.wrong, strict=True), 1):
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
