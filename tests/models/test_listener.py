"""Replies token by token: what a listener gets is never taken back, and is all of the reply in the end."""

from __future__ import annotations

import pytest

from tideo.models.listener import Listener, Writing


class Bytes:
    """A tokenizer whose tokens are bytes, as those of rare letters are."""

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        return bytes(ids).decode("utf-8", errors="replace")


def written(text: str) -> tuple[list[str], str, Listener]:
    pieces: list[str] = []
    writing = Writing(tokenizer=Bytes(), listener=Listener(on_text=pieces.append))
    for byte in text.encode():
        writing.add(byte)
    return pieces, writing.end(truncated=False), writing.listener


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("tea", ["t", "e", "a"]),
        ("a b ", ["a", " b"]),
        (" é ", ["é"]),
        ("<think>no</think>tea", ["t", "e", "a"]),
        ("1 < 2", ["1", " < 2"]),
        ("<think>no", []),
    ],
)
def test_pieces(text, pieces):
    found, whole, listener = written(text)
    assert found == pieces
    assert whole == text.strip()
    assert listener.reply_tokens == len(text.encode())


def test_a_listeners_limit_is_bounded_by_the_room():
    assert Listener(max_new_tokens=500).limit(64, room=100) == 100
    assert Listener(max_new_tokens=3).limit(64, room=100) == 3
    assert Listener().limit(64, room=10) == 64
