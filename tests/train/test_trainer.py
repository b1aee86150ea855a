"""Checkpoints of any training."""

from __future__ import annotations

from pathlib import Path

from tideo.train.trainer import last_checkpoint


def test_a_half_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for step, state in ((2, "{}"), (10, '{"global_step"'), (9, "{}"), (11, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-9")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-9"]
    assert last_checkpoint(tmp_path / "none") is None
