"""The prompts of the three tasks, the forms in which options are put to a model, and their tokens.

A prompt is a string with one `<video>` marker, where the frame vectors go. TOPA's texts come from the published
code (arXiv 2405.13911; dhg-wei/TOPA llama/tokenizer.py and dataloader/). `plain` has fewer tokens, for tiny models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tideo.types import UserError

VIDEO = "<video>"
IGNORE = -100  # the label of a token that the loss leaves out, as everywhere in transformers


@dataclass(frozen=True, kw_only=True)
class PromptStyle:
    """Templates with the fields {question} and {choices}.

    `choice` is the template of one line of the choices, `letter` that of an answer which names an option. `end`
    closes an answer in words. `capitalise` writes a question as TOPA does: the first letter in upper case, all others
    in lower case, a question mark at the end.
    """

    choose: str
    answer: str
    summarise: str
    choice: str = "({letter}) {option}\n"
    letter: str = "({letter})"
    end: str = ""
    capitalise: bool = False


def _topa(choice_is: str) -> PromptStyle:
    return PromptStyle(
        choose="Instruction: Choose the correct answer based on the video and question.\n"
        f"Video:<video>\nQuestion: {{question}}\nChoices: \n{{choices}}Answer: {choice_is} ",
        answer="Instruction: Predict the answer based on the video and question.\n"
        "Video:<video>\nQuestion: {question}\nAnswer: ",
        summarise="Instruction: Generate a summary for the video.\nVideo:<video>\n\nDescription: ",
        end="\n",
        capitalise=True,
    )


STYLES = {
    "topa": _topa("The correct choice is"),
    "topa_star": _topa("The answer is"),
    "plain": PromptStyle(
        choose="Video:<video>\nQuestion: {question}\nOptions:{choices}\nAnswer: ",
        answer="Video:<video>\nQuestion: {question}\nAnswer: ",
        summarise="Video:<video>\nSummary: ",
        choice=" ({letter}) {option}",
        end=".",
    ),
    # As LLaVA-1.5 was trained and is evaluated (arXiv 2310.03744, table 7).
    "llava": PromptStyle(
        choose="<video>{question}\n{choices}Answer with the option's letter from the given choices directly.",
        answer="<video>{question}\nAnswer the question using a single word or phrase.",
        summarise="<video>Describe what happens in the video.",
        choice="{letter}. {option}\n",
        letter="{letter}",
    ),
}


def style(name: str) -> PromptStyle:
    """The prompt style with this name. Raises UserError for an unknown name."""
    if name not in STYLES:
        raise UserError(f"prompt style {name!r} is unknown; expected one of {', '.join(STYLES)}")
    return STYLES[name]


def choose_prompt(question: str, options: Sequence[str], *, style: PromptStyle) -> str:
    """Multiple choice: the question and its lettered options."""
    choices = "".join(
        style.choice.format(letter=letter, option=option)
        for letter, option in zip(letters(len(options)), options, strict=True)
    )
    return style.choose.format(question=_question(question, style), choices=choices)


def answer_prompt(question: str, *, style: PromptStyle) -> str:
    """Open question answering."""
    return style.answer.format(question=_question(question, style))


def summary_prompt(*, style: PromptStyle) -> str:
    """The summary of the whole video."""
    return style.summarise


def open_prompt(question: str, *, style: PromptStyle) -> str:
    """The prompt of a sample without options: an open question, or the summary if the question is empty."""
    return answer_prompt(question, style=style) if question.strip() else summary_prompt(style=style)


def letters(num: int) -> list[str]:
    """A, B, C … for `num` options, at most 26."""
    if num > 26:
        raise UserError(f"{num} options cannot be lettered A to Z: use at most 26, or scoring form 'text'")
    return [chr(ord("A") + i) for i in range(num)]


def _by_letter(question: str, options: Sequence[str], style: PromptStyle) -> tuple[str, list[str]]:
    named = [style.letter.format(letter=letter) for letter in letters(len(options))]
    return choose_prompt(question, options, style=style), named


def _by_text(question: str, options: Sequence[str], style: PromptStyle) -> tuple[str, list[str]]:
    return answer_prompt(question, style=style), [option + style.end for option in options]


def _by_listed_text(question: str, options: Sequence[str], style: PromptStyle) -> tuple[str, list[str]]:
    return choose_prompt(question, options, style=style), [option + style.end for option in options]


# Forms of options: (question, options, style) -> (prompt, the continuation that stands for each option).
# `letter` lists the options and scores their letters, as TOPA does for multiple choice. `text` asks an open question
# and scores the options' words. `listed_text` lists the options and scores their words.
FORMS: dict[str, Callable[[str, Sequence[str], PromptStyle], tuple[str, list[str]]]] = {
    "letter": _by_letter,
    "text": _by_text,
    "listed_text": _by_listed_text,
}


@dataclass(frozen=True, kw_only=True)
class PromptTokens:
    """Token ids of the prompt before and after the video, and of each continuation."""

    before: list[int]
    after: list[int]
    continuations: list[list[int]]


def encode(
    tokenizer: Any, prompt: str, *, continuations: Sequence[str] = (), end_of_text: bool = True
) -> PromptTokens:
    """Tokenise a prompt and its continuations. `end_of_text` closes these with the tokenizer's end token.

    Prompt and continuation are tokenised together, as in training, and split where they first differ from the
    prompt without its trailing spaces: most vocabularies merge a space with the next word. Raises UserError for
    an empty continuation, for a special token in the text, and unless the prompt has exactly one `<video>`.
    """
    if prompt.count(VIDEO) != 1:
        raise UserError(f"the prompt has {prompt.count(VIDEO)} {VIDEO} markers; expected exactly one")
    check_no_blank(continuations)
    for text in (prompt, *continuations):
        check_no_special(text, tokenizer)
    before, after = prompt.split(VIDEO)
    end = [tokenizer.eos_token_id] if end_of_text and tokenizer.eos_token_id is not None else []
    stem = _after_video(tokenizer, after.rstrip(" "))
    whole = [_after_video(tokenizer, after + text) + end for text in continuations]
    shared = min((common_start(stem, ids) for ids in whole), default=len(stem))
    return PromptTokens(
        before=begin_ids(tokenizer) + _ids(tokenizer, before),
        after=stem[:shared],
        continuations=[ids[shared:] for ids in whole],
    )


def check_no_blank(options: Sequence[str]) -> None:
    """Raise UserError for an option without text."""
    if blank := [i for i, text in enumerate(options, start=1) if not text.strip()]:
        raise UserError(f"option {blank[0]} of {len(options)} is empty: give it some text")


def check_no_special(text: str, tokenizer: Any) -> None:
    """Raise UserError for a text with a special token in it, such as </s>, which would be read as the end."""
    if found := next((token for token in tokenizer.all_special_tokens if token and token in text), None):
        raise UserError(f"the text contains {found}, a special token of the model: rephrase it")


def begin_ids(tokenizer: Any) -> list[int]:
    """What this tokenizer puts before a text (Llama's a begin token, Qwen2's nothing), without what it puts behind."""
    plain, special = _ids(tokenizer, "a"), list(tokenizer("a").input_ids)
    for start in range(len(special) - len(plain) + 1):
        if special[start : start + len(plain)] == plain:
            return special[:start]
    raise UserError(
        f"the tokenizer reads 'a' as {special}, but without special tokens as {plain}: expected it inside"
    )


def end_ids(tokenizer: Any, model: Any) -> set[int]:
    """The tokens that end a generation: all those of the model's generation_config, and the tokenizer's end token."""
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ends = {tokenizer.eos_token_id, *(named if isinstance(named, Sequence) else [named])}
    return {int(n) for n in ends if n is not None}


def _after_video(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text whose leading line break is one token, as in TOPA: SentencePiece adds a space before it."""
    if text.startswith("\n"):
        return _ids(tokenizer, "\n")[-1:] + _ids(tokenizer, text[1:])
    return _ids(tokenizer, text)


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids) if text else []


def common_start(left: Sequence[object], right: Sequence[object]) -> int:
    """How many tokens, or letters, two sequences have in common at their start."""
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


def _question(text: str, style: PromptStyle) -> str:
    """The question as the style writes it."""
    if not style.capitalise:
        return text.strip()
    text = text.capitalize().strip()
    return text if text.endswith("?") else text + "?"
