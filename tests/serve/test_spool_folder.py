from __future__ import annotations

import tempfile

import pytest

from tideo.serve.spool_folder import SpoolFolder, remove_old


@pytest.fixture
def parent(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_only_this_users_and_goes_with_its_server(parent):
    folder = SpoolFolder()
    assert folder.path.parent == parent
    assert folder.path.stat().st_mode & 0o077 == 0
    folder.close()
    assert list(parent.iterdir()) == []


def test_a_server_removes_what_a_killed_one_left_and_nothing_else(parent):
    running = SpoolFolder()
    left = parent / "tideo-serve-killed"
    left.mkdir()
    (left / "lock").touch()
    (left / "0123.part").write_bytes(b"video")
    (parent / "tideo-serve-other").mkdir()
    (parent / "tideo-serve-link").symlink_to(parent / "elsewhere")
    (parent / "elsewhere").mkdir()
    (parent / "elsewhere" / "lock").touch()
    remove_old(parent)
    left_over = {"elsewhere", running.path.name, "tideo-serve-link", "tideo-serve-other"}
    assert {path.name for path in parent.iterdir()} == left_over
    running.close()
