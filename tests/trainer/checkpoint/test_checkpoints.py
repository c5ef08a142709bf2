"""Checkpoints: complete or absent, bound to their training run, and skipped when a byte is wrong."""

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
    """The checkpoints of a folder, for a training run of this identity."""
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
    skipped: list[tuple[int, str]] = []
    restored = checkpoints.restore(make_state(0), lambda *fallback: skipped.append(fallback), **options)
    return restored, skipped


def test_what_was_saved_comes_back(saved: Checkpoints) -> None:
    """The newest is restored, byte for byte, with its dtypes and notes."""
    found, skipped = restore(saved)
    assert (found.train_step, found.notes, skipped) == (30, {"note": 30}, [])
    for leaf, expected in zip(jax.tree.leaves(found.state), jax.tree.leaves(make_state(30)), strict=True):
        assert (leaf.dtype, np.asarray(leaf).tobytes()) == (expected.dtype, np.asarray(expected).tobytes())


def test_a_restore_needs_memory_for_one_state(saved: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    """The replaced arrays are deleted just before the new ones are read: a refused restore leaves them intact."""
    fresh = make_state(0)
    real = saved._orbax.restore

    def checked(*args: Any) -> Any:
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(fresh))
        return real(*args)

    monkeypatch.setattr(saved._orbax, "restore", checked)
    assert saved.restore(fresh, lambda *_: None, lambda _: "rejected") is None
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(fresh))
    saved.save(make_state(40), 40)
    found = saved.restore(fresh, lambda *_: None)
    assert found is not None
    assert found.train_step == 40


def test_nothing_saved_is_no_checkpoint(tmp_path: Path) -> None:
    """An empty folder gives None, without an error."""
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
def test_any_damage_to_any_file_is_detected(saved: Checkpoints, tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """One wrong bit, two bytes less, a file missing or added, anywhere: the previous checkpoint is used and reported."""
    newest, spare = tmp_path / "checkpoints" / "00000030", tmp_path / "spare"
    shutil.copytree(newest, spare)
    files = [path.relative_to(newest) for path in newest.rglob("*") if path.is_file() and path.stat().st_size]
    assert len(files) > 5
    for name in files:
        harm(newest / name)
        found, skipped = restore(saved)
        assert found.train_step == 20, name
        ((train_step, reason),) = skipped
        assert train_step == 30
        assert "training resumes from train step 20" in reason
        assert not newest.exists()  # it does not count among those that are kept
        shutil.copytree(spare, newest)


def test_all_damaged_starts_from_the_beginning(saved: Checkpoints, tmp_path: Path) -> None:
    """If none is good, each is named and training starts from the beginning."""
    for path in (tmp_path / "checkpoints").iterdir():
        _flip(path / MANIFEST_FILE)
    found, skipped = restore(saved)
    assert found is None
    assert [step for step, _ in skipped] == [30, 20, 10]
    assert all("training starts from the beginning" in reason for _, reason in skipped)
    assert saved.steps() == []


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"mark_sha256": 1}', "\x00\xff"])
def test_a_manifest_of_any_content_is_no_crash(saved: Checkpoints, tmp_path: Path, text: str) -> None:
    """A manifest that is none makes the checkpoint a damaged one."""
    (tmp_path / "checkpoints" / "00000030" / MANIFEST_FILE).write_text(text)
    assert restore(saved)[0].train_step == 20


def test_a_half_written_one_is_deleted(saved: Checkpoints, tmp_path: Path) -> None:
    """What a killed process left in staging is neither used nor kept."""
    partial = tmp_path / "checkpoints" / "00000040.tmp"
    shutil.copytree(tmp_path / "checkpoints" / "00000030", partial)
    again = make(tmp_path / "checkpoints")
    assert (restore(again)[0].train_step, partial.exists()) == (30, False)


def test_the_oldest_are_deleted(tmp_path: Path) -> None:
    """keep: 2 leaves the two newest."""
    checkpoints = make(tmp_path / "checkpoints", keep=2)
    for train_step in (1, 2, 3, 4):
        checkpoints.save(make_state(train_step), train_step)
    assert checkpoints.steps() == [3, 4]


def test_a_damaged_newer_one_does_not_displace_a_good_one(tmp_path: Path) -> None:
    """After a fallback the checkpoints that follow are kept, although a damaged one had a higher number."""
    checkpoints = make(tmp_path / "checkpoints", keep=1)
    checkpoints.save(make_state(9), 9)
    _flip(tmp_path / "checkpoints" / "00000009" / MANIFEST_FILE)
    assert restore(checkpoints)[0] is None
    checkpoints.save(make_state(3), 3)
    assert restore(checkpoints)[0].train_step == 3


def test_another_training_run_is_refused(saved: Checkpoints, tmp_path: Path) -> None:
    """A checkpoint of other rows, arguments or libraries is refused; everything that differs is named; nothing is lost."""
    changed = {**IDENTITY, "argument learning_rate": 2e-5, "library jax": "0.11.0"}
    other = make(tmp_path / "checkpoints", identity=changed)
    with pytest.raises(InputInvalid) as caught:
        restore(other)
    messages = [found.message for found in caught.value.diagnostics]
    assert {found.code for found in caught.value.diagnostics} == {"T120"}
    assert "argument learning_rate was 1e-05, now it is 2e-05" in messages[0]
    assert "library jax was 0.10.2, now it is 0.11.0" in messages[1]
    assert saved.steps() == [10, 20, 30]


def test_a_failed_save_leaves_earlier_checkpoints(
    saved: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk fails in the middle, the earlier checkpoints stay and no staging folder is left."""

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.trainer.checkpoint.manifest.write_atomic", refuse)
    saved.begin(make_state(40), 40)
    saved.wait()
    with pytest.raises(OSError, match="No space left"):
        saved.check()
    saved.check()  # raised once
    assert [saved_step.train_step for saved_step in saved.published()] == [10, 20, 30]
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["00000010", "00000020", "00000030"]
    assert restore(saved)[0].train_step == 30


@pytest.fixture
def held_manifest(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The manifest of a save is written once this is set."""
    release = threading.Event()

    def late(*args: Any) -> None:
        assert release.wait(30)
        write_manifest(*args)

    monkeypatch.setattr("engine.trainer.checkpoint.checkpoints.write_manifest", late)
    yield release
    release.set()


def test_training_continues_while_a_checkpoint_is_written(tmp_path: Path, held_manifest: threading.Event) -> None:
    """The saved state is that of its step, whatever donating steps write to its memory; visible only once published."""
    checkpoints = make(tmp_path / "checkpoints")
    move = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + jnp.ones((), leaf.dtype), state), donate_argnums=0)
    state = {"w": jnp.zeros((1 << 20,), jnp.float32), "step": jnp.int32(0)}
    move.lower(state).compile()
    checkpoints.begin(state, 1)
    for _ in range(20):
        state = move(state)
    jax.block_until_ready(state)
    assert (checkpoints.steps(), list(checkpoints.published())) == ([], [])
    held_manifest.set()
    checkpoints.wait()
    (saved,) = checkpoints.published()
    assert saved.train_step == 1
    assert 0 < saved.stalled_seconds < saved.seconds
    found = checkpoints.restore(jax.tree.map(jnp.copy, state), lambda *_: None)
    assert found is not None
    assert not np.any(np.asarray(found.state["w"]))


def test_a_second_save_waits_for_the_first(tmp_path: Path, held_manifest: threading.Event) -> None:
    """At most one copy of the state is being saved; both are published, in order."""
    checkpoints = make(tmp_path / "checkpoints")
    checkpoints.begin(make_state(1), 1)
    threading.Timer(0.2, held_manifest.set).start()
    checkpoints.begin(make_state(2), 2)
    assert checkpoints.steps()[:1] == [1]
    checkpoints.wait()
    assert [saved_step.train_step for saved_step in checkpoints.published()] == [1, 2]
    assert list(checkpoints.published()) == []


def test_a_failed_save_is_raised_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the background does not stay there: the next save raises it."""
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
    """A valid manifest as another engine would have written it."""
    values = json.loads(path.read_bytes())
    values.pop("mark_sha256")
    values |= changes
    path.write_text(pretty_json({**values, "mark_sha256": digest_json(values)}))


@pytest.mark.parametrize(("written", "word"), [(FORMAT + 1, "update the engine"), (FORMAT - 1, "go back to")])
def test_another_format_is_refused(saved: Checkpoints, tmp_path: Path, written: int, word: str) -> None:
    """A good checkpoint of a newer or an older engine is neither read nor deleted; the message has the numbers."""
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
    """A manifest whose format was changed by accident is not a newer engine's: its digest tells."""
    path = tmp_path / "checkpoints" / "00000030" / MANIFEST_FILE
    path.write_text(path.read_text().replace(f'"format": {FORMAT}', f'"format": {FORMAT + 4}'))
    found, skipped = restore(saved)
    assert (found.train_step, skipped[0][0]) == (20, 30)


def test_the_manifest_has_the_data_position(saved: Checkpoints, tmp_path: Path) -> None:
    """Step, data position, topology, who wrote it, and how large it is."""
    manifest = json.loads((tmp_path / "checkpoints" / "00000020" / MANIFEST_FILE).read_bytes())
    assert manifest["data_position"] == {"sequences_seen": 80, "sequences_per_step": 4}
    assert manifest["topology"] == {"processes": 1, "devices": 1, "device_kind": "cpu", "mesh": {}}
    assert (manifest["format"], manifest["train_step"], manifest["identity"]) == (FORMAT, 20, IDENTITY)
    assert manifest["made_by"].startswith("runspec-engine")
    files = [path for path in (tmp_path / "checkpoints" / "00000020" / "state").rglob("*") if path.is_file()]
    assert manifest["bytes"] == sum(path.stat().st_size for path in files)


def test_empty_and_foreign_folders_are_no_crash(saved: Checkpoints, tmp_path: Path) -> None:
    """A folder that is empty, or that lacks its arrays, is skipped like any damaged one."""
    shutil.rmtree(tmp_path / "checkpoints" / "00000030" / "state")
    (tmp_path / "checkpoints" / "00000040").mkdir()
    found, skipped = restore(saved)
    assert (found.train_step, [step for step, _ in skipped]) == (20, [40, 30])


def test_the_best_and_every_mth_are_kept(tmp_path: Path) -> None:
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
    """Rows after the last checkpoint are written again: no gap, no repeat, whatever was torn at the end."""
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


def test_metrics_that_were_changed_make_a_checkpoint_useless(tmp_path: Path) -> None:
    """A row changed or lost before the checkpoint is a reason to reject it."""
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
    """An entry of the right name that is not a folder is left alone."""
    (tmp_path / "checkpoints" / "00000900").write_text("mine")
    assert 900 not in saved.steps()
    assert restore(saved)[0].train_step == 30
