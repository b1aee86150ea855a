"""A reply in words → the option that it chooses. A reply that does not say exactly one is a failure, never a guess.

A reply is parsed whole: known words around one letter, one option's text, or both. So nothing else can stand in it,
such as a negation, a second option, a doubt or a change of mind. Thoughts before a reply are no part of it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence

# --- thoughts --------------------------------------------------------------------------------------

# <think> and its kin, [THINK] (Magistral), ◁think▷ (Kimi-VL) and the channels of gpt-oss.
_NAME = r"(?:seed:)?(?:think|thinking|thought|thoughts|reasoning)"
_TAG = re.compile(
    rf"(?P<opens>[<\[◁]{_NAME}[>\]▷]|<\|channel\|>analysis<\|message\|>)"
    rf"|[<\[◁]/{_NAME}[>\]▷]|<\|channel\|>final<\|message\|>",
    re.IGNORECASE,
)


def without_thoughts(reply: str) -> str | None:
    """The reply without `<think>…</think>` and the like; None if a thought is not closed, as in a reply that was cut.

    All that comes before a lone closing tag is a thought: some chat templates end with the opening tag.
    """
    kept: list[str] = []
    inside, end = False, 0
    for tag in _TAG.finditer(reply):
        if not inside and tag["opens"]:
            kept.append(reply[end : tag.start()])
        elif not inside:
            kept.clear()
        inside, end = bool(tag["opens"]), tag.end()
    return None if inside else "".join([*kept, reply[end:]]).strip()


# --- the option that a reply chooses ---------------------------------------------------------------

_KEYS = {"answer", "final_answer", "choice", "option", "letter"}
_END_TOKEN = re.compile(r"(?:<\|\w+\|>|</s>)\Z")  # some servers leave it in
_WRAPPED = (  # around a whole reply
    re.compile(r"```\w*\s(?P<inner>.*)```", re.DOTALL),
    re.compile(r"<(answer|final_answer|choice|option)>(?P<inner>.*)</\1>", re.DOTALL | re.IGNORECASE),
    re.compile(r"<\|begin_of_box\|>(?P<inner>.*)<\|end_of_box\|>", re.DOTALL),  # GLM-4.1V
    re.compile("[\"'“‘«](?P<inner>.*)[\"'”’»]", re.DOTALL),
)
_MARKED = (  # anywhere; group 1 is what remains
    re.compile(r"(?:\$+|\\[(\[])?\s*\\(?:boxed|text|textbf|mathrm|mathbf)\{([^{}]*)\}\s*(?:\$+|\\[)\]])?"),
    re.compile(r"(?<![\w*])\*{1,3}(?=[^\s*])([^*]+)(?<=[^\s*])\*{1,3}(?![\w*])"),
    re.compile(r"(?<!\w)__(?=[^\s_])([^_]+)(?<=[^\s_])__(?!\w)"),
    re.compile(r"`([^`]+)`"),
)
_FULL_WIDTH = {0x3000: 0x20} | {code + 0xFEE0: code for code in range(0x21, 0x7F)}
_QUOTES = "\"'“”‘’«»"
_SEEN = "videos?|frames?|images?|grids?|pictures?|clips?|scenes?|contents?|information|evidence|context"
_NOUN = r"(?:answer|option|choice|response)"
_FRAME = re.compile(
    rf"""(?:(?:so|thus|therefore|hence|ok|okay|sure)\b[,:.!]?\s+)?
    (?:(?:based\ on|according\ to|from|in)(?:\s+(?:the|these|this|given|provided|visual|in|of|{_SEEN}))+,?\s+)?
    (?:
      (?:(?:the|my)\s+)?(?:(?:correct|right|best|final|most\ likely|most\ appropriate)\s+)*
        (?P<noun>{_NOUN})(?:\s+(?:letter|option|choice))?(?:\s+to\s+(?:the|this|your)\s+question)?
        (?:\s+(?:is|would\ be|must\ be|should\ be)\b\s*:?|\s*[:=])
    | (?:it\ is|it's|i(?:\ would|'d|\ will|'ll)?\s+(?:choose|pick|select|say|answer|go\s+with))\b\s*:?
    )\s*""",
    re.IGNORECASE | re.VERBOSE,
)
_LETTER = re.compile(
    r"""(?:(?:the\s+)?(?:option|choice|letter|answer)\s+)?
    (?:\((?P<round>[a-z])\)|\[(?P<square>[a-z])\]|(?P<half>[a-z])\)|(?P<bare>[a-z])(?!['’\w]))
    (?P<rest>.*)""",
    re.DOTALL | re.VERBOSE | re.IGNORECASE,
)
_NOTHING_MORE = re.compile(
    rf"\s*[.!]?|\s+is\s+(?:(?:the\s+)?(?:correct|right|best)(?:\s+{_NOUN})?|the\s+answer)[.!]?", re.IGNORECASE
)
_BEFORE_TEXT = re.compile(
    r"\s*[.:]\s*|\s*,\s+|\s+[–—-]\s+|\s+(?=\()"
)  # between a letter and its option's text
_LABEL = re.compile(r"\(?([a-z])(?:[).:]\s|\)?[.:]?\Z)", re.IGNORECASE)


def choice_of_reply(reply: str, options: Sequence[str]) -> int | None:
    """The 0-based option that a reply chooses; None unless the whole reply says exactly one.

    It says a letter, an option's text, or a letter with its own option's text, alone or after words such as "the answer
    is", with Markdown, `\\boxed{}`, `<answer>` or {"answer": …} around it. A letter is a capital; a small one is read
    if it is alone, but "a" and "i" only in brackets, because they are words. If a reply can be understood in two ways,
    as where an option's text is the letter of another, it chooses nothing.
    """
    text = without_thoughts(reply)
    # Known words around an option are short; what is longer says more, and patterns take long to search it.
    if text is None or len(text) > 500 + 2 * max(map(len, options), default=0):
        return None
    readings = set(_readings(_unwrapped(text), options))
    return readings.pop() if len(readings) == 1 else None


def _readings(text: str, options: Sequence[str]) -> Iterator[int]:
    """Every option that the whole text can be understood to choose."""
    yield from _by_text(text, options)
    yield from _by_letter(text, options, small=True)
    if frame := _FRAME.match(text):
        said = text[frame.end() :]
        yield from _by_letter(said, options)
        # "The answer is 2" says an option's text; "option: 2" may count the options.
        if not (_plain(said).isdecimal() and str(frame["noun"]).lower() in ("option", "choice")):
            yield from _by_text(said, options)


def _by_text(text: str, options: Sequence[str]) -> list[int]:
    said = _plain(text)
    return [i for i, option in enumerate(options) if said and _plain(option) == said]


def _by_letter(text: str, options: Sequence[str], *, small: bool = False) -> list[int]:
    """The options named by a letter that is all of the text, or that stands before its own option's text.

    `small`: a small letter is read too.
    """
    match = _LETTER.fullmatch(_without_quotes(text))
    if match is None:
        return []
    letter = next(filter(None, match.group("round", "square", "half", "bare")))
    rest = match["rest"]
    if letter.islower() and (not small or rest or (letter in "ai" and match["bare"])):
        return []
    index = ord(letter.upper()) - ord("A")
    if _NOTHING_MORE.fullmatch(rest):
        return [i for i, option in enumerate(options) if i == index or _label(option) == letter.upper()]
    between = _BEFORE_TEXT.match(rest) if match["bare"] else re.match(r"\s*[.:]?\s*", rest)
    if between is None:
        return []
    said = rest[between.end() :]
    if re.fullmatch("[a-z]", _plain(said)):  # "A, B": more likely two letters than an option's text
        return []
    in_brackets = re.fullmatch(r"\((.*)\)[.!]?", said, re.DOTALL)
    texts = [said, in_brackets[1]] if in_brackets else [said]
    return [index] if any(index in _by_text(text, options) for text in texts) else []


def _label(option: str) -> str | None:
    """The letter by which an option's own text is labelled, as "B" and "B. a book" are."""
    label = _LABEL.match(option.strip())
    return label[1].upper() if label else None


# --- formatting ------------------------------------------------------------------------------------


def _unwrapped(text: str) -> str:
    """The text without what only formats it."""
    text = _normal(text)
    for _ in range(4):  # layers, such as JSON in a code fence
        before = text
        for around in _WRAPPED:
            if whole := around.fullmatch(text.strip()):
                text = whole["inner"]
        text = _of_json(_without_marks(_END_TOKEN.sub("", text.strip()))).strip()
        if text == before:
            break
    return text


def _normal(text: str) -> str:
    """One form of each character, and full-width letters as plain ones; 10² stays another text than 102."""
    return unicodedata.normalize("NFC", text).translate(_FULL_WIDTH)


def _without_marks(text: str) -> str:
    for mark in _MARKED:
        text = mark.sub(r"\1", text)
    return text


def _of_json(text: str) -> str:
    """The text in a JSON object that holds an answer and nothing else, such as {"answer": "B"}."""
    if not text.startswith("{"):
        return text
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return text
    if len(pairs) == 1 and pairs[0][0].lower() in _KEYS and isinstance(pairs[0][1], str):
        return str(pairs[0][1])
    return text


def _plain(text: str) -> str:
    """A text as it is compared: without case, formatting, quotes around it and a full stop at its end."""
    text = _without_marks(_normal(text))
    return _without_quotes(" ".join(text.casefold().split()))


def _without_quotes(text: str) -> str:
    return text.lstrip(_QUOTES).rstrip(_QUOTES + ".!。 ")
