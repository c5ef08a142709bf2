"""Checkpoints: whole or absent, bound to their training, and passed over when a byte is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engine.errors import InputInvalid
from engine.trainer.checkpoint import MARK, Checkpoints
from engine.trainer.metrics import MetricsFile, mismatch

IDENTITY = {"rows": "abc", "argument learning_rate": 1e-5, "library jax": "0.10.2"}


def make_state(value: float) -> dict[str, Any]:
    return {
        "params": {"w": jnp.full((3, 4), value, jnp.float32), "b": jnp.full((5,), value, jnp.bfloat16)},
        "step": jnp.int32(value),
    }


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoints:
    """Checkpoints of train steps 10, 20 and 30, all kept."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=5, identity=IDENTITY)
    for train_step in (10, 20, 30):
        checkpoints.save(make_state(train_step), train_step, {"note": train_step})
    return checkpoints


def restore(checkpoints: Checkpoints, **options: Any) -> tuple[Any, list[tuple[int, str]]]:
    passed_over: list[tuple[int, str]] = []
    found = checkpoints.restore(make_state(0), lambda *what: passed_over.append(what), **options)
    return found, passed_over


def test_what_was_saved_comes_back(saved: Checkpoints) -> None:
    """The newest is restored, byte for byte, with its dtypes and notes."""
    found, passed_over = restore(saved)
    assert (found.train_step, found.notes, passed_over) == (30, {"note": 30}, [])
    for one, other in zip(jax.tree.leaves(found.state), jax.tree.leaves(make_state(30)), strict=True):
        assert (one.dtype, np.asarray(one).tobytes()) == (other.dtype, np.asarray(other).tobytes())


def test_nothing_saved_is_no_checkpoint(tmp_path: Path) -> None:
    """An empty folder gives None, without complaint."""
    assert restore(Checkpoints(tmp_path / "new", keep=1, identity=IDENTITY)) == (None, [])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def _add(path: Path) -> None:
    path.with_name("stranger").write_bytes(b"")


@pytest.mark.parametrize("harm", [_flip, _truncate, Path.unlink, _add])
def test_any_damage_to_any_file_is_seen(saved: Checkpoints, tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """One wrong bit, two bytes less, a file gone or added, anywhere: the previous checkpoint is used, and it is said."""
    newest, spare = tmp_path / "checkpoints" / "00000030", tmp_path / "spare"
    shutil.copytree(newest, spare)
    files = [path.relative_to(newest) for path in newest.rglob("*") if path.is_file() and path.stat().st_size]
    assert len(files) > 5
    for name in files:
        harm(newest / name)
        found, passed_over = restore(saved)
        assert found.train_step == 20, name
        ((train_step, reason),) = passed_over
        assert train_step == 30
        assert "training goes on from train step 20" in reason
        assert not newest.exists()  # it takes no place among those that are kept
        shutil.copytree(spare, newest)


def test_all_damaged_starts_from_the_beginning(saved: Checkpoints, tmp_path: Path) -> None:
    """Where none is good, each is named and training starts anew."""
    for path in (tmp_path / "checkpoints").iterdir():
        _flip(path / MARK)
    found, passed_over = restore(saved)
    assert found is None
    assert [step for step, _ in passed_over] == [30, 20, 10]
    assert all("training starts from the beginning" in reason for _, reason in passed_over)
    assert saved.steps() == []


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"mark_sha256": 1}', "\x00\xff"])
def test_a_mark_of_any_content_is_no_crash(saved: Checkpoints, tmp_path: Path, text: str) -> None:
    """A mark that is not a mark makes the checkpoint a damaged one."""
    (tmp_path / "checkpoints" / "00000030" / MARK).write_text(text)
    assert restore(saved)[0].train_step == 20


def test_a_half_written_one_is_taken_away(saved: Checkpoints, tmp_path: Path) -> None:
    """What a killed process left in staging is neither used nor kept."""
    half = tmp_path / "checkpoints" / "00000040.tmp"
    shutil.copytree(tmp_path / "checkpoints" / "00000030", half)
    again = Checkpoints(tmp_path / "checkpoints", keep=5, identity=IDENTITY)
    assert (restore(again)[0].train_step, half.exists()) == (30, False)


def test_the_oldest_go(tmp_path: Path) -> None:
    """keep: 2 leaves the two newest."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2, identity=IDENTITY)
    for train_step in (1, 2, 3, 4):
        checkpoints.save(make_state(train_step), train_step)
    assert checkpoints.steps() == [3, 4]


def test_a_damaged_newer_one_does_not_push_out_a_good_one(tmp_path: Path) -> None:
    """After a fallback the checkpoints that follow are kept, although a damaged one had a higher number."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1, identity=IDENTITY)
    checkpoints.save(make_state(9), 9)
    _flip(tmp_path / "checkpoints" / "00000009" / MARK)
    assert restore(checkpoints)[0] is None
    checkpoints.save(make_state(3), 3)
    assert restore(checkpoints)[0].train_step == 3


def test_another_training_is_refused(saved: Checkpoints, tmp_path: Path) -> None:
    """A checkpoint of other rows, arguments or libraries is refused; all that differs is named; nothing is lost."""
    changed = {**IDENTITY, "argument learning_rate": 2e-5, "library jax": "0.11.0"}
    other = Checkpoints(tmp_path / "checkpoints", keep=5, identity=changed)
    with pytest.raises(InputInvalid) as caught:
        restore(other)
    messages = [found.message for found in caught.value.diagnostics]
    assert {found.code for found in caught.value.diagnostics} == {"T120"}
    assert "argument learning_rate was 1e-05, now it is 2e-05" in messages[0]
    assert "library jax was 0.10.2, now it is 0.11.0" in messages[1]
    assert saved.steps() == [10, 20, 30]


def test_a_failed_save_leaves_what_was_there(saved: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk refuses in the middle, the earlier checkpoints stand and no staging folder is left."""

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.trainer.checkpoint.write_atomic", refuse)
    with pytest.raises(OSError, match="No space left"):
        saved.save(make_state(40), 40)
    assert saved.steps() == [10, 20, 30]
    assert restore(saved)[0].train_step == 30


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    """Rows after the last checkpoint are done again: no gap, no repeat, whatever was torn at the end."""
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    for train_step in (1, 2):
        metrics.append({"train_step": train_step, "loss": 1.0})
    notes = metrics.sync()
    metrics.append({"train_step": 3, "loss": 1.0})
    metrics.close()
    path.write_bytes(path.read_bytes() + b'{"train_st')
    again = MetricsFile(path, json.loads(json.dumps(notes)))
    assert again.complete_to(2)
    again.append({"train_step": 3, "loss": 2.0})
    assert again.complete_to(3)
    again.close()
    assert [json.loads(line)["loss"] for line in path.read_text().splitlines()] == [1.0, 1.0, 2.0]


def test_metrics_that_were_touched_make_a_checkpoint_useless(tmp_path: Path) -> None:
    """A row changed or lost before the checkpoint is a reason to distrust it."""
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    metrics.append({"train_step": 1, "loss": 1.0})
    notes = metrics.sync()
    metrics.close()
    assert mismatch(path, notes) is None
    _flip(path)
    assert "no longer has the rows" in (mismatch(path, notes) or "")
    path.unlink()
    assert mismatch(path, notes) is not None
