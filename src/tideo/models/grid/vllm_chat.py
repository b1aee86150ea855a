"""One turn with an image-text model that vLLM runs in this process: prompts, likelihoods and replies as `ImageChat`'s.

The prompt's tokens are those of the model's own processor and template, as on the local path (models/grid/template.py);
vLLM itself puts in the tokens of the images. All requests of a call are handed over together: vLLM batches them, and
computes what they begin with, images included, once.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from PIL import Image

from tideo.llms.vllm_library import advice, one_line
from tideo.models.answering import Counted
from tideo.models.grid.chat import Asked, Visual
from tideo.models.grid.template import ChatTemplate, Kind, video_metadata
from tideo.models.likelihood import OptionScores
from tideo.models.listener import MAX_NEW_TOKENS, Listener, Writing
from tideo.models.prompts import common_start, end_ids
from tideo.types import Frames, Stopped, UserError

MOST_IDS = 128  # how many tokens vLLM gives the log-probabilities of in one request


class _Question(NamedTuple):
    """The tokens up to where the options differ, those of each option, and what is shown."""

    stem: list[int]
    replies: list[list[int]]
    images: Sequence[Visual]

    @property
    def letters(self) -> list[int]:
        """The options' tokens if each has one, as letters have in most vocabularies; one request scores them all."""
        ids = sorted({reply[0] for reply in self.replies})
        return ids if len(ids) <= MOST_IDS and all(len(reply) == 1 for reply in self.replies) else []


class VLLMChat:
    """`engine` is a `vllm.LLM` of this process, `processor` the model's own. Safe to call from several threads."""

    alone = None  # vLLM batches every model

    def __init__(self, engine: Any, *, processor: Any, name: str, kind: Kind = "image") -> None:
        from vllm import SamplingParams

        self.template = ChatTemplate(processor, name=name, kind=kind)
        self.engine, self.processor, self.name = engine, processor, name
        self._params = SamplingParams
        self._lock = threading.Lock()
        self._checked: set[tuple[tuple[int, ...], ...]] = set()

    def loglikelihoods(self, asked: Sequence[Asked], *, at_once: int = 1) -> list[list[OptionScores]]:
        """As `ImageChat.loglikelihoods`. How many requests share a forward pass is vLLM's own affair."""
        return [[found.scores for found in of_video] for of_video in self.counted(asked)]

    def counted(self, asked: Sequence[Asked], *, at_once: int = 1) -> list[list[Counted]]:
        """As `ImageChat.counted`."""
        questions = [
            [self._question(images, turn, options) for turn, options in turns] for images, turns in asked
        ]
        letter = {"max_tokens": 1, "temperature": 0.0}
        requests = []
        for question in (question for of_video in questions for question in of_video):
            if ids := question.letters:
                requests.append(
                    (question.stem, question.images, self._params(logprob_token_ids=ids, **letter))
                )
                continue
            for reply in question.replies:
                # 0: of each token of the prompt its own log-probability and no others.
                params = self._params(prompt_logprobs=0, **letter)
                requests.append(([*question.stem, *reply], question.images, params))
        outputs = iter(self._run(requests))
        return [[self._scores(question, outputs) for question in of_video] for of_video in questions]

    def num_prompt_tokens(self, images: Sequence[Visual], *, turn: str) -> int:
        """As `ImageChat.num_prompt_tokens`."""
        opening = self.template.opening(turn, num_images=len(images))
        return int(self.template.encode(opening.rstrip(" "), images)["input_ids"].shape[1])

    def generate(
        self,
        images: Sequence[Visual],
        *,
        turn: str,
        max_new_tokens: int = MAX_NEW_TOKENS,
        listener: Listener | None = None,
    ) -> str:
        """As `ImageChat.generate`, but a listener gets the reply as a whole."""
        listener = listener or Listener()
        room = self.engine.model_config.max_model_len - self.num_prompt_tokens(images, turn=turn)
        most = listener.limit(max_new_tokens, room=max(1, room))
        if most > room:
            raise self._too_long(f"{most} tokens of a reply and room for {max(0, room)} behind the prompt")
        opening = self.template.opening(turn, num_images=len(images))
        own = self.engine.get_default_sampling_params()  # of the model's generation_config
        params = self._params(
            max_tokens=most,
            temperature=0.0,
            repetition_penalty=own.repetition_penalty,
            stop_token_ids=sorted(end_ids(self.processor.tokenizer, None) | {self.template.end_ids[-1]}),
        )
        (output,) = self._run([(self._begun(self.template.plain(opening)), images, params)])
        (completion,) = output.outputs
        ended = completion.finish_reason == "stop"
        listener.prompt_tokens = len(output.prompt_token_ids)
        listener.visual_tokens = self._num_visual(output)
        writing = Writing(tokenizer=self.processor.tokenizer, listener=listener)
        for token in list(completion.token_ids)[: -1 if ended else None]:
            writing.add(token)
        return writing.end(truncated=not ended)

    def _question(self, images: Sequence[Visual], turn: str, options: Sequence[str]) -> _Question:
        opening = self.template.opening(turn, num_images=len(images))
        plain, replies, lost = self.template.tokens(opening, options)
        stem = self._begun(plain)
        self._check(images, opening, stem, lost=lost)
        return _Question(stem, replies, images)

    def _begun(self, plain: list[int]) -> list[int]:
        """An opening's tokens, begun once, as `ChatTemplate.encode` does it."""
        begin = self.template.begin_ids
        return plain if plain[: len(begin)] == begin else [*begin, *plain]

    def _check(self, images: Sequence[Visual], opening: str, stem: list[int], *, lost: int) -> None:
        """Raises UserError unless vLLM puts in the processor's tokens, for images of sizes that are new."""
        sizes = tuple(i.rgb_THWC.shape if isinstance(i, Frames) else i.size for i in images)
        if sizes in self._checked:
            return
        ids = self.template.encode(opening.rstrip(" "), images)["input_ids"][0].tolist()
        expected = self.template.stem(ids, opening, lost=lost)
        (output,) = self._run([(stem, images, self._params(max_tokens=1, temperature=0.0))])
        if (found := list(output.prompt_token_ids)) != expected:
            same = common_start(found, expected)
            words = [self.processor.tokenizer.decode(part[same : same + 8]) for part in (found, expected)]
            raise UserError(
                f"model {self.name}: vLLM reads {len(found)} tokens and its processor makes {len(expected)}, "
                f"{words[0]!r} instead of {words[1]!r} at {same}: name the model without vllm:"
            )
        self._checked.add(sizes)

    def _run(self, requests: Sequence[tuple[list[int], Sequence[Visual], Any]]) -> list[Any]:
        """The output of each request. Raises UserError if vLLM refuses one, and Stopped if it breaks down."""
        if not requests:
            return []
        prompts = [
            {"prompt_token_ids": ids} | ({"multi_modal_data": self._shown(images)} if images else {})
            for ids, images, _ in requests
        ]
        with self._lock:
            try:
                found = self.engine.generate(prompts, [params for *_, params in requests], use_tqdm=False)
            except Exception as error:
                # One that is refused is not begun. Any that were would be among the outputs of the next call.
                if isinstance(error, ValueError) and not self.engine.llm_engine.has_unfinished_requests():
                    raise self._refused(error) from error
                raise Stopped(f"{self.name}: vLLM broke down ({one_line(error)}){advice(error)}") from error
        assert len(found) == len(requests)
        return list(found)

    def _shown(self, images: Sequence[Visual]) -> dict[str, Any]:
        if self.template.kind == "image":
            return {"image": [image for image in images if isinstance(image, Image.Image)]}
        videos = [image for image in images if isinstance(image, Frames)]
        sampled = {"do_sample_frames": False}  # the sampler has chosen them
        return {"video": [(f.rgb_THWC, asdict(video_metadata(f)) | sampled) for f in videos]}

    def _refused(self, error: ValueError) -> UserError:
        if "longer than" in str(error) or "context length" in str(error):
            return self._too_long(one_line(error))
        return UserError(f"{self.name}: vLLM refuses the prompt ({one_line(error)})")

    def _too_long(self, what: str) -> UserError:
        return UserError(
            f"{self.name}: {what}, with max_model_len={self.engine.model_config.max_model_len}: raise it, if the model "
            "was made for more, or show fewer or smaller frames"
        )

    def _scores(self, question: _Question, outputs: Any) -> Counted:
        """Of one question, whose outputs are the next ones."""
        if question.letters:
            output = next(outputs)
            (first,) = output.outputs[0].logprobs
            sums = [first[reply[0]].logprob for reply in question.replies]
            num_prompt = len(output.prompt_token_ids)
        else:
            sums = []
            for reply in question.replies:
                output = next(outputs)
                found = output.prompt_logprobs[-len(reply) :]
                sums.append(math.fsum(of[token].logprob for of, token in zip(found, reply, strict=True)))
                num_prompt = len(output.prompt_token_ids) - len(reply)
        scores = OptionScores(tuple(sums), tuple(map(len, question.replies)))
        return Counted(scores, num_prompt, self._num_visual(output))

    def _num_visual(self, output: Any) -> int:
        """The tokens of a prompt that stand for images and frames."""
        tokens = {getattr(self.processor, f"{kind}_token_id", None) for kind in ("image", "video")}
        return sum(token in tokens for token in output.prompt_token_ids)
