"""Checkpoints: whole or absent, bound to their training, and passed over when a byte is wrong."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engine.canonical import digest_json, pretty_json
from engine.errors import InputInvalid
from engine.trainer.checkpoint.checkpoints import Checkpoints
from engine.trainer.checkpoint.manifest import FORMAT, MANIFEST_FILE, IdentityCheck, write_manifest
from engine.trainer.checkpoint.retention import Retention
from engine.trainer.distributed.topology import Topology
from engine.trainer.metrics import MetricsFile, mismatch

IDENTITY = {"rows": "abc", "argument learning_rate": 1e-5, "library jax": "0.10.2"}
HERE = Topology(processes=1, devices=1, device_kind="cpu", mesh={})


def make(folder: Path, keep: int = 5, identity: Any = None, **keeping: Any) -> Checkpoints:
    """The checkpoints of a folder, for a training of this identity."""
    identity_check = IdentityCheck(IDENTITY if identity is None else identity, HERE, sequences_per_step=4)
    return Checkpoints(folder, keep=Retention(keep, **keeping), identity_check=identity_check)


def make_state(value: float) -> dict[str, Any]:
    return {
        "params": {"w": jnp.full((3, 4), value, jnp.float32), "b": jnp.full((5,), value, jnp.bfloat16)},
        "step": jnp.int32(value),
    }


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoints:
    """Checkpoints of train steps 10, 20 and 30, all kept."""
    checkpoints = make(tmp_path / "checkpoints")
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


def test_a_restore_needs_room_for_one_state(saved: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is replaced is let go before the new arrays come, and only then: a refused restore leaves it whole."""
    fresh = make_state(0)
    real = saved._orbax.restore

    def watched(*what: Any) -> Any:
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(fresh))
        return real(*what)

    monkeypatch.setattr(saved._orbax, "restore", watched)
    assert saved.restore(fresh, lambda *_: None, lambda _: "distrusted") is None
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(fresh))
    saved.save(make_state(40), 40)
    found = saved.restore(fresh, lambda *_: None)
    assert found is not None
    assert found.train_step == 40


def test_nothing_saved_is_no_checkpoint(tmp_path: Path) -> None:
    """An empty folder gives None, without complaint."""
    assert restore(make(tmp_path / "new")) == (None, [])


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
        _flip(path / MANIFEST_FILE)
    found, passed_over = restore(saved)
    assert found is None
    assert [step for step, _ in passed_over] == [30, 20, 10]
    assert all("training starts from the beginning" in reason for _, reason in passed_over)
    assert saved.steps() == []


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"mark_sha256": 1}', "\x00\xff"])
def test_a_mark_of_any_content_is_no_crash(saved: Checkpoints, tmp_path: Path, text: str) -> None:
    """A mark that is not a mark makes the checkpoint a damaged one."""
    (tmp_path / "checkpoints" / "00000030" / MANIFEST_FILE).write_text(text)
    assert restore(saved)[0].train_step == 20


def test_a_half_written_one_is_taken_away(saved: Checkpoints, tmp_path: Path) -> None:
    """What a killed process left in staging is neither used nor kept."""
    half = tmp_path / "checkpoints" / "00000040.tmp"
    shutil.copytree(tmp_path / "checkpoints" / "00000030", half)
    again = make(tmp_path / "checkpoints")
    assert (restore(again)[0].train_step, half.exists()) == (30, False)


def test_the_oldest_go(tmp_path: Path) -> None:
    """keep: 2 leaves the two newest."""
    checkpoints = make(tmp_path / "checkpoints", keep=2)
    for train_step in (1, 2, 3, 4):
        checkpoints.save(make_state(train_step), train_step)
    assert checkpoints.steps() == [3, 4]


def test_a_damaged_newer_one_does_not_push_out_a_good_one(tmp_path: Path) -> None:
    """After a fallback the checkpoints that follow are kept, although a damaged one had a higher number."""
    checkpoints = make(tmp_path / "checkpoints", keep=1)
    checkpoints.save(make_state(9), 9)
    _flip(tmp_path / "checkpoints" / "00000009" / MANIFEST_FILE)
    assert restore(checkpoints)[0] is None
    checkpoints.save(make_state(3), 3)
    assert restore(checkpoints)[0].train_step == 3


def test_another_training_is_refused(saved: Checkpoints, tmp_path: Path) -> None:
    """A checkpoint of other rows, arguments or libraries is refused; all that differs is named; nothing is lost."""
    changed = {**IDENTITY, "argument learning_rate": 2e-5, "library jax": "0.11.0"}
    other = make(tmp_path / "checkpoints", identity=changed)
    with pytest.raises(InputInvalid) as caught:
        restore(other)
    messages = [found.message for found in caught.value.diagnostics]
    assert {found.code for found in caught.value.diagnostics} == {"T120"}
    assert "argument learning_rate was 1e-05, now it is 2e-05" in messages[0]
    assert "library jax was 0.10.2, now it is 0.11.0" in messages[1]
    assert saved.steps() == [10, 20, 30]


def test_a_failed_save_leaves_what_was_there(
    saved: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk refuses in the middle, the earlier checkpoints stand and no staging folder is left."""

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.trainer.checkpoint.manifest.write_atomic", refuse)
    saved.begin(make_state(40), 40)
    saved.wait()
    with pytest.raises(OSError, match="No space left"):
        saved.check()
    saved.check()  # said once
    assert [one.train_step for one in saved.published()] == [10, 20, 30]
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["00000010", "00000020", "00000030"]
    assert restore(saved)[0].train_step == 30


@pytest.fixture
def slow_mark(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The mark of a save is written once this is set."""
    go_on = threading.Event()

    def late(*what: Any) -> None:
        assert go_on.wait(30)
        write_manifest(*what)

    monkeypatch.setattr("engine.trainer.checkpoint.checkpoints.write_manifest", late)
    yield go_on
    go_on.set()


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, slow_mark: threading.Event) -> None:
    """What is saved is the state of its step, whatever donated steps make of its memory; seen only once published."""
    checkpoints = make(tmp_path / "checkpoints")
    move = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + jnp.ones((), leaf.dtype), state), donate_argnums=0)
    state = {"w": jnp.zeros((1 << 20,), jnp.float32), "step": jnp.int32(0)}
    move.lower(state).compile()
    checkpoints.begin(state, 1)
    for _ in range(20):
        state = move(state)
    jax.block_until_ready(state)
    assert (checkpoints.steps(), list(checkpoints.published())) == ([], [])
    slow_mark.set()
    checkpoints.wait()
    (saved,) = checkpoints.published()
    assert saved.train_step == 1
    assert 0 < saved.stalled_seconds < saved.seconds
    found = checkpoints.restore(jax.tree.map(jnp.copy, state), lambda *_: None)
    assert found is not None
    assert not np.any(np.asarray(found.state["w"]))


def test_a_second_save_waits_for_the_first(tmp_path: Path, slow_mark: threading.Event) -> None:
    """At most one copy of the state is under way; both are published, in order."""
    checkpoints = make(tmp_path / "checkpoints")
    checkpoints.begin(make_state(1), 1)
    threading.Timer(0.2, slow_mark.set).start()
    checkpoints.begin(make_state(2), 2)
    assert checkpoints.steps()[:1] == [1]
    checkpoints.wait()
    assert [one.train_step for one in checkpoints.published()] == [1, 2]
    assert list(checkpoints.published()) == []


def test_a_failed_save_is_met_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the background does not stay there: whoever saves again meets it."""
    checkpoints = make(tmp_path / "checkpoints")
    with monkeypatch.context() as patched:
        patched.setattr("os.rename", lambda *_: (_ for _ in ()).throw(PermissionError(13, "no", "x")))
        checkpoints.begin(make_state(1), 1)
        checkpoints.wait()
    with pytest.raises(PermissionError):
        checkpoints.begin(make_state(2), 2)
    checkpoints.save(make_state(2), 2)
    assert checkpoints.steps() == [2]


def _rewrite(path: Path, **changes: Any) -> None:
    """A mark as another engine would have written it, whole."""
    values = json.loads(path.read_bytes())
    values.pop("mark_sha256")
    values |= changes
    path.write_text(pretty_json({**values, "mark_sha256": digest_json(values)}))


@pytest.mark.parametrize(("written", "word"), [(FORMAT + 1, "update the engine"), (FORMAT - 1, "go back to")])
def test_another_format_is_refused(saved: Checkpoints, tmp_path: Path, written: int, word: str) -> None:
    """A whole checkpoint of a newer or an older engine is neither read nor deleted; the message has the numbers."""
    newest = tmp_path / "checkpoints" / "00000030"
    _rewrite(newest / MANIFEST_FILE, format=written, made_by="runspec-engine 9.9.9", unknown_key=1)
    with pytest.raises(InputInvalid) as caught:
        restore(saved)
    (found,) = caught.value.diagnostics
    assert found.code == "T122"
    assert f"has format {written}" in found.message
    assert f"reads format {FORMAT}" in found.message
    assert "runspec-engine 9.9.9" in found.message
    assert word in (found.hint or "")
    assert saved.steps() == [10, 20, 30]


def test_a_flipped_format_number_is_damage(saved: Checkpoints, tmp_path: Path) -> None:
    """A mark whose format was changed by accident is no newer engine's: its digest tells."""
    path = tmp_path / "checkpoints" / "00000030" / MANIFEST_FILE
    path.write_text(path.read_text().replace(f'"format": {FORMAT}', f'"format": {FORMAT + 4}'))
    found, passed_over = restore(saved)
    assert (found.train_step, passed_over[0][0]) == (20, 30)


def test_the_mark_says_where_the_data_are(saved: Checkpoints, tmp_path: Path) -> None:
    """Step, data position, topology, who wrote it, and how large it is."""
    manifest = json.loads((tmp_path / "checkpoints" / "00000020" / MANIFEST_FILE).read_bytes())
    assert manifest["data_position"] == {"sequences_seen": 80, "sequences_per_step": 4}
    assert manifest["topology"] == {"processes": 1, "devices": 1, "device_kind": "cpu", "mesh": {}}
    assert (manifest["format"], manifest["train_step"], manifest["identity"]) == (FORMAT, 20, IDENTITY)
    assert manifest["made_by"].startswith("runspec-engine")
    files = [path for path in (tmp_path / "checkpoints" / "00000020" / "state").rglob("*") if path.is_file()]
    assert manifest["bytes"] == sum(path.stat().st_size for path in files)


def test_empty_and_foreign_folders_are_survived(saved: Checkpoints, tmp_path: Path) -> None:
    """A folder that is empty, or that lacks its arrays, is passed over like any damage."""
    shutil.rmtree(tmp_path / "checkpoints" / "00000030" / "state")
    (tmp_path / "checkpoints" / "00000040").mkdir()
    found, passed_over = restore(saved)
    assert (found.train_step, [step for step, _ in passed_over]) == (20, [40, 30])


def test_the_best_and_every_mth_stay(tmp_path: Path) -> None:
    """keep 1, every 4th, the best one: what is left after six saves, and which one is the best."""
    checkpoints = make(tmp_path / "checkpoints", keep=1, every=4, best=1)
    for train_step, loss in enumerate([3.0, 1.0, 2.0, 2.5, 1.0, 1.5], start=1):
        checkpoints.save(make_state(train_step), train_step, {"eval_loss": loss})
    assert checkpoints.steps() == [2, 4, 6]
    best = checkpoints.restore_best(make_state(0))
    assert best is not None
    assert (best.train_step, int(best.state["step"])) == (2, 2)
    _flip(next((tmp_path / "checkpoints" / "00000002" / "state").rglob("_METADATA")))
    after = checkpoints.restore_best(make_state(0))
    assert after is not None
    assert after.train_step == 6


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
    assert mismatch(path, notes) is None, "the copy serves"
    again = MetricsFile(path, notes)
    again.close()
    assert (again.recovered, again.complete_to(1)) == (True, True)
    path.unlink()
    assert mismatch(path, notes) is None
    _flip(path.with_suffix(".copy.jsonl"))
    assert "no longer have the rows" in (mismatch(path, notes) or "")


def test_a_file_among_the_checkpoints_is_none(tmp_path: Path, saved: Checkpoints) -> None:
    """An entry of the right name that is no folder is left alone."""
    (tmp_path / "checkpoints" / "00000900").write_text("mine")
    assert 900 not in saved.steps()
    assert restore(saved)[0].train_step == 30
