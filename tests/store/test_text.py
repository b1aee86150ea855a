"""Text files in the encodings that spreadsheets write, and one line for those that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tideo.store.text import NotUtf8, json_lines, json_of, lines_of, text_of
from tideo.types import UserError

TEXT = "Tür, 茶, 🎬\u2028\x85\x0cend\r\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_is_read_as_it_is_whatever_its_form(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(TEXT.encode(encoding))
    assert text_of(path) == TEXT


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            "ein\nKäse für".encode("windows-1252"),
            r"0xe4 in line 2\): it is probably WINDOWS-1252; .*iconv -f WIN",
        ),
        ("чай и книга".encode("windows-1251"), r"find its ENCODING, .*iconv -f ENCODING -t UTF-8"),
        ("お茶を入れる".encode("shift_jis"), r"find its ENCODING"),
        (b"PK\x03\x04\x14\x00\xff", r"a spreadsheet \(xlsx\) or a zip file: save or unpack it as text"),
        ("a\n".encode("utf-16") + b"\x00", r"is not whole UTF-16 text"),
    ],
)
def test_another_encoding_is_named_in_one_line(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as raised:
        text_of(path)
    assert "\n" not in str(raised.value)
    assert isinstance(raised.value, NotUtf8) == ("ENCODING" in message or "1252" in message)


def test_what_is_no_file_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(UserError, match=r"cannot be read: "):
            text_of(path)


def test_only_line_ends_divide_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"a": "x\u2028y\x85z"}\r\n\r\n[1]\n\n'.encode())
    assert lines_of(path) == ['{"a": "x\u2028y\x85z"}', "", "[1]", ""]
    assert list(json_lines(path)) == [(f"{path} line 1", {"a": "x\u2028y\x85z"}), (f"{path} line 3", [1])]


def test_half_a_character_in_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(r'["\ud83c\udfac"]')
    assert json_of(path) == ["🎬"]
    path.write_text(r'["tea \uD83C"]')
    with pytest.raises(UserError, match=r"a\.json holds half of a character \(\\ud83c\)"):
        json_of(path)
