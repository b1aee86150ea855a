"""Any model of tideo inside lmms-eval: `lmms-eval --model tideo --model_args model=NAME`.

lmms-eval finds it through the entry point `lmms_eval.models`. Only lmms-eval imports this module.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from lmms_eval.api import instance
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest

from tideo.evaluate.ahead import num_bytes
from tideo.evaluate.loop import MOST_BYTES
from tideo.models.batching import in_batches
from tideo.models.interface import Asked
from tideo.models.load import load_model
from tideo.scoring import decide, scores
from tideo.types import Answer, Frames, Sample, UserError, Video, VideoError

_FRAGMENT = re.compile(r"(?P<path>.+)#t=(?P<start>[\d.]+),(?P<end>[\d.]+)")


def manifest() -> ModelManifest:
    """What lmms-eval registers."""
    return ModelManifest(model_id="tideo", simple_class_path="tideo.evaluate.lmms_eval.Tideo")


class Tideo(lmms):
    """`model` as for `tideo eval`; every other argument is one of `--model-args`, such as `batch`, and so is
    lmms-eval's `--device`.

    Videos come as their paths. An option's loss is the negative of its score under the model's own reduction, so that
    the lowest is tideo's choice.
    """

    is_simple = True

    def __init__(
        self, model: str = "", batch_size: Any = 1, device: str | None = None, **settings: Any
    ) -> None:
        super().__init__()  # lmms-eval gives batch_size to every model; ours choose it themselves
        if not model:
            raise UserError(
                "which model of tideo is to answer? give --model_args model=NAME: one of tideo list models, a folder "
                "that training wrote, or a Hugging Face id"
            )
        settings |= {} if device is None else {"device": device}
        self.tideo = load_model(model, args=[f"{name}={value}" for name, value in settings.items()])

    def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
        """(loss, whether it is the choice) of each option; a question that failed has infinite losses and no choice."""
        parsed = [_Request(r) for r in requests]
        by_question: dict[tuple[Any, ...], list[_Request]] = {}
        for request in parsed:
            by_question.setdefault(request.question, []).append(request)
        questions = list(by_question.values())
        samples: dict[Video, list[Sample]] = {}
        for number, of in enumerate(questions):
            video, options = self._video(of[0]), tuple(request.last.strip() for request in of)
            sample = Sample(id=str(number), video=video, question=of[0].question[-1], options=options)
            samples.setdefault(video, []).append(sample)
        pairs: dict[_Request, tuple[float, bool]] = {}
        for answer in self._answers(samples):
            of = questions[int(answer.sample_id)]
            losses = self._losses(answer, num=len(of))
            choice = decide(answer, reduction=self.tideo.settings.reduction).choice
            pairs |= {request: (losses[i], i == choice) for i, request in enumerate(of)}
        return [_kept(pairs[request]) for request in parsed]

    def _losses(self, answer: Answer, *, num: int) -> list[float]:
        if answer.error is not None:
            return [math.inf] * num
        if answer.choice is not None:  # of a model that names its choice and no likelihoods
            return [float(i != answer.choice) for i in range(num)]
        reduction = self.tideo.settings.reduction
        return [-score for score in scores(answer.loglikelihoods, answer.num_tokens, reduction=reduction)]

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The model's answer to each question in its own words, of its own length."""
        parsed = [_Request(r) for r in requests]
        samples: dict[Video, list[Sample]] = {}
        for number, request in enumerate(parsed):
            video = self._video(request)
            samples.setdefault(video, []).append(
                Sample(id=str(number), video=video, question=request.question[-1])
            )
        texts = {int(a.sample_id): a.text for a in self._answers(samples)}
        return [texts[number] for number in range(len(parsed))]

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        raise NotImplementedError("tideo's models answer single questions; choose a task of one round")

    def _video(self, request: _Request) -> Video:
        doc = self.task_dict[request.task][request.split][request.doc_id]
        visuals = request.doc_to_visual(doc)
        if len(visuals) != 1 or not isinstance(visuals[0], str):
            raise UserError(
                f"task {request.task}: expected the path of one video for a question, not {visuals!r:.200}"
            )
        part = _FRAGMENT.fullmatch(visuals[0])
        if part is None:
            return Video(id=visuals[0], path=visuals[0])
        return Video(id=visuals[0], path=part["path"], start_s=float(part["start"]), end_s=float(part["end"]))

    def _answers(self, samples: dict[Video, list[Sample]]) -> list[Answer]:
        """Each video is decoded once for all its questions. A failure is printed, and remains a failure."""
        answers: list[Answer] = []

        def looked() -> Iterator[Asked]:
            for video, of_video in samples.items():
                for of in ([s] for s in of_video) if self.tideo.chooses else [of_video]:
                    try:
                        yield Asked(video=video, samples=of, seen=self.tideo.look_for(of[0]))
                    except VideoError as error:
                        answers.extend(Answer(sample_id=s.id, error=str(error)) for s in of)

        def answered(batch: Sequence[Asked], at_once: int) -> list[list[Answer]]:
            return self.tideo.answer_many(batch, at_once=at_once)

        def fits(batch: Sequence[Asked]) -> bool:
            return num_bytes(a.seen for a in batch if isinstance(a.seen, Frames)) <= MOST_BYTES

        batches = in_batches(
            looked(), answered, size=self.tideo.batch_size(), weight=lambda a: len(a.samples), fits=fits
        )
        for batch in batches:
            for asked, result in batch:
                if isinstance(result, UserError):
                    result = [Answer(sample_id=s.id, error=str(result)) for s in asked.samples]
                answers += result
        for answer in answers:
            if answer.error is not None:
                print(f"tideo: question {answer.sample_id}: {answer.error}")
        return answers


def _kept(pair: tuple[float, bool]) -> Any:
    """lmms-eval 0.7 makes a string of whatever is no text; inside its own wrapper a pair stays what it is."""
    wrapper = getattr(instance, "GenerationResult", None)
    return pair if wrapper is None else wrapper(text=pair)


class _Request:
    """What lmms-eval's Instance holds: (context, continuation or settings, doc_to_visual, doc_id, task, split)."""

    def __init__(self, instance: Any) -> None:
        context, self.last, self.doc_to_visual, self.doc_id, self.task, self.split = instance.args
        self.question = (self.task, self.split, self.doc_id, context)
