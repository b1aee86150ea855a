"""What of a question is compared with frames.

A dual encoder compares a picture with a caption. Of "what does he do after he pours the tea?" a picture can show "he
pours the tea"; what the other words ask for is beside it. On drawn days that were made for this choice (docs/long.md),
comparing the clause alone found the evidence twice as often as comparing the whole question.
"""

from __future__ import annotations

import re

_CLAUSE = re.compile(r"(?<!\ba )\b(?:while|when|after|before|during)\s+", re.IGNORECASE)
_END = re.compile(r"[,;?!\n]|\.\s|\.$")
# "when does he come?" asks for a time, and "before and after the cut" has its clause behind the second word.
_NO_CLAUSE = re.compile(
    r"(?:is|are|was|were|do|does|did|has|have|had|will|can|could|and|or|a while)\b", re.IGNORECASE
)
LEAST_WORDS = 2  # "what happens before that?" names nothing that a picture shows


def moment(question: str) -> str:
    """The clause behind "while", "when", "after", "before" or "during", which names a moment; else the question."""
    for word in _CLAUSE.finditer(question):
        clause = _END.split(question[word.end() :], maxsplit=1)[0].strip()
        if len(clause.split()) >= LEAST_WORDS and not _NO_CLAUSE.match(clause):
            return clause
    return question
