"""A process that dies of its work harms nobody."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import hostile
from tideo.child import Child, ChildDied
from tideo.types import VideoError


def test_a_call_returns_the_pickled_result_and_errors_are_raised_here() -> None:
    child = Child(hostile.work)
    assert pickle.loads(child("ab")) == "abab"
    with pytest.raises(VideoError, match=r"^a bad video$"):
        child("raise")
    with pytest.raises(MemoryError):
        child("eat")
    assert pickle.loads(child("cd")) == "cdcd"
    child.close()


def test_after_each_end_the_next_call_has_a_new_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    child = Child(hostile.work, limit_s=30)
    with pytest.raises(ChildDied, match=r"ended with signal 11 \(SIGSEGV\)"):
        child("crash")
    with pytest.raises(ChildDied, match="ended with exit code 3"):
        child("leave")
    assert pickle.loads(child("ab")) == "abab"
    child.limit_s = 0.2
    with pytest.raises(ChildDied, match=r"no result within 0\.2 s"):
        child("hang")
    assert list(tmp_path.iterdir()) == []  # the folders of their temporary files
