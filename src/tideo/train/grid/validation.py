"""Validation while training: the loss of the right replies, and how often the right option is the likeliest.

Each option of a question is scored as the model's reply, as `tideo eval` scores it: its tokens without the end token.
The loss is that of training: the right reply with its end token. A question whose video cannot be read counts as wrong,
as there, and has no part in the loss. Shapes: L tokens, B sequences.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from accelerate.utils import gather_object  # type: ignore[import-untyped]
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tideo.models.prompts import IGNORE
from tideo.scoring import best, scores
from tideo.train.grid.conversations import Conversation
from tideo.train.grid.examples import ChatExamples, collate_chats
from tideo.train.saving import ends_epoch
from tideo.train.workers import loader_arguments
from tideo.types import UserError

log = logging.getLogger(__name__)
Key = tuple[int, int, int]  # of a reply: conversation, turn, option


class _Sequences(Dataset[tuple[list[Key], dict[str, Any]]]):
    """Sequences of up to `packed` replies to questions about the same pictures."""

    def __init__(self, examples: ChatExamples, *, packed: int) -> None:
        self.examples = examples
        self.parts: list[list[Key]] = []
        for number, conversation in enumerate(examples.conversations):
            keys = [
                (number, place, option)
                for place, turn in enumerate(conversation.turns)
                for option in range(max(1, len(turn.options)))
            ]
            self.parts += [keys[i : i + packed] for i in range(0, len(keys), packed)]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> tuple[list[Key], dict[str, Any]]:
        keys = self.parts[index]
        replies = [(place, option) for _, place, option in keys]
        return keys, self.examples.replies(keys[0][0], replies)


class Evaluating(TrainerCallback):
    """Asks for an evaluation every `steps` steps, by default at the end of an epoch; and at the last step."""

    def __init__(self, *, steps: int | None, epoch_steps: float) -> None:
        self.steps, self.epoch_steps = steps, epoch_steps

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        step = state.global_step
        due = step % self.steps == 0 if self.steps else ends_epoch(step, epoch_steps=self.epoch_steps)
        if due or step == state.max_steps:
            control.should_evaluate = True


class Validation:
    """A validation set, scored in batches of `batch` sequences of up to `packed` replies.

    `unread` are conversations of it that are known to be unreadable, with the reasons.
    """

    def __init__(
        self,
        examples: ChatExamples,
        *,
        packed: int,
        batch: int,
        reduction: str,
        pad_id: int,
        workers: int = 0,
        unread: Sequence[tuple[Conversation, str]] = (),
    ) -> None:
        self.sequences = _Sequences(examples, packed=packed)
        self.batch, self.reduction, self.pad_id, self.workers = batch, reduction, pad_id, workers
        self.num_end = len(examples.chat.template.end_ids)
        self.conversations = examples.conversations
        self._unread: set[str] = set()  # conversations that a warning has named
        self._num_unread = sum(
            bool(turn.options) for conversation, _ in unread for turn in conversation.turns
        )
        for conversation, reason in unread:
            self._warn(conversation.id, reason)
        self._loader: DataLoader[Any] | None = None

    @torch.no_grad()
    def score(self, model: Any, *, device: torch.device) -> dict[str, float]:
        """`eval_loss` in nats a token, `eval_accuracy` of the questions with options, and numbers of both.

        Every process scores its share, with as many forwards as the others, and gets the result of all.
        """
        state = PartialState()
        found: dict[Key, torch.Tensor] = {}
        shares = [
            list(range(rank, len(self.sequences), state.num_processes)) for rank in range(state.num_processes)
        ]
        share = shares[state.process_index] or [0]
        num_batches = -(-len(shares[0]) // self.batch)  # the first process has the most
        share += [share[0]] * (num_batches * self.batch - len(share)) if state.num_processes > 1 else []
        was_training = model.training
        model.eval()
        try:
            with torch.random.fork_rng(devices=[]):  # the training goes on as without this
                for keys, scores in self._scored(model, share, device=device):
                    found |= dict(zip(keys, scores, strict=True))
        finally:
            model.train(was_training)
        every = gather_object([found]) if state.num_processes > 1 else [found]
        return self._summary({key: value for each in every for key, value in each.items()})

    def _scored(
        self, model: Any, share: Sequence[int], *, device: torch.device
    ) -> Iterator[tuple[list[Key], list[torch.Tensor]]]:
        """The replies of each sequence, and the log-likelihood of each one's tokens."""
        if self._loader is None:  # its workers start once
            self._loader = DataLoader(
                self.sequences, sampler=share, batch_size=self.batch, collate_fn=list,
                persistent_workers=self.workers > 0, **loader_arguments(self.workers),
            )  # fmt: skip
        for loaded in self._loader:
            examples = [example for _, example in loaded]
            batch = collate_chats(examples, pad_id=self.pad_id)
            for id, reason in batch.pop("skipped", ()):
                self._warn(id, reason)
            labels = batch.pop("labels")
            logits = model(**{k: v.to(device) for k, v in batch.items()}).logits[:, :-1]
            for row, (keys, example) in enumerate(loaded):
                if "skipped" in example:
                    continue
                block_L = torch.tensor(example["block"][1:])
                scored_L = labels[row, 1 : len(block_L) + 1] != IGNORE
                at_T = scored_L.nonzero()[:, 0]
                targets_T = labels[row, 1:][at_T].to(device)
                logprob_T = -F.cross_entropy(
                    logits[row, at_T.to(device)].float(), targets_T, reduction="none"
                ).cpu()
                of_T = block_L[at_T]
                yield keys, [logprob_T[of_T == block] for block in range(1, len(keys) + 1)]

    def _warn(self, id: str, reason: str) -> None:
        if id not in self._unread:
            self._unread.add(id)
            log.warning("validation: %s cannot be read and counts as wrong: %s", id, reason)

    def _summary(self, found: dict[Key, torch.Tensor]) -> dict[str, float]:
        total = count = right = 0.0
        asked = self._num_unread
        questions = [
            (c, place, turn)
            for c, each in enumerate(self.conversations)
            for place, turn in enumerate(each.turns)
        ]
        for number, place, turn in questions:
            asked += bool(turn.options)
            keys = [(number, place, option) for option in range(max(1, len(turn.options)))]
            if not all(key in found for key in keys):
                continue
            answer = turn.options.index(turn.reply) if turn.options else 0
            tokens = [found[key] for key in keys]
            total += -float(tokens[answer].sum())
            count += len(tokens[answer])
            if turn.options:
                sums = [float(t[: -self.num_end].sum()) for t in tokens]
                counts = [len(t) - self.num_end for t in tokens]
                right += best(scores(sums, counts, reduction=self.reduction)) == answer
        result = {"eval_loss": total / count if count else math.nan}
        if asked:
            result |= {"eval_accuracy": right / asked, "eval_questions": asked}
        return result


def check_apart(training: Sequence[Conversation], validation: Sequence[Conversation]) -> None:
    """Raises UserError, with the first names, for pictures that are in both sets, under whatever file's name."""
    trained: dict[str, list[Any]] = defaultdict(list)
    for conversation in training:
        pictures = conversation.pictures
        trained[pictures.segment.content if pictures.segment else pictures.key].append(pictures.segment)
    shared: dict[str, None] = {}
    for conversation in validation:
        pictures = conversation.pictures
        here = pictures.segment
        for there in trained.get(here.content if here else pictures.key, ()):
            if here is None or there is None or (here.start_s < there.end_s and there.start_s < here.end_s):
                shared[here.path if here else conversation.id] = None
    if shared:
        names = ", ".join(list(shared)[:3])
        raise UserError(
            f"{len(shared)} videos of the validation set are in the training set too, as {names}: take them out of one "
            "of the two files, or the validation measures memory"
        )
