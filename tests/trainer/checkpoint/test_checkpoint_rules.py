"""Which checkpoints are kept, whether the next one fits on the disk, and which run on which devices may resume."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputInvalid, RunFailed, render
from engine.protocol.disk_space import Kept, training_disk_bytes
from engine.protocol.train_args import TrainArgs, names_affecting
from engine.trainer.checkpoint import disk_space
from engine.trainer.checkpoint.checkpoints import Checkpoints
from engine.trainer.checkpoint.manifest import IdentityCheck, Manifest
from engine.trainer.checkpoint.retention import Retention, best_steps
from engine.trainer.checkpoint.saver import Saver
from engine.trainer.code_digest import ROOTS, code_text, modules
from engine.trainer.code_digest import code_digest as code_digest_of
from engine.trainer.distributed.topology import Topology
from tests.fixtures.events import log_into

EIGHT = Topology(processes=1, devices=8, device_kind="TPU v5 lite", mesh={"fsdp": 8, "tp": 1})
FOUR = replace(EIGHT, devices=4, mesh={"fsdp": 4, "tp": 1})
IDENTITY = {
    "rows": "a" * 64, "argument per_device_batch_size": 2, "argument grad_accum_steps": 1,
    "argument update": "after_backward", "library jax": "0.10.2", "trainer code": "c" * 64,
}  # fmt: skip


def manifest(**changes: Any) -> Manifest:
    """Of train step 30, saved on eight devices."""
    known: dict[str, Any] = {
        "train_step": 30, "identity": IDENTITY, "topology": EIGHT.as_json(),
        "data_position": {"sequences_seen": 480, "sequences_per_step": 16}, "notes": {}, "bytes": 1, "files": {},
    }  # fmt: skip
    return Manifest(**{**known, **changes})


def refusal(identity_check: IdentityCheck, saved: Manifest) -> str:
    """The error as a person reads it."""
    with pytest.raises(InputInvalid) as caught:
        identity_check.check(saved, Path("work/checkpoints"))
    return "\n".join(map(render, caught.value.diagnostics))


eval_losses = st.dictionaries(st.integers(1, 60), st.none() | st.sampled_from([0.5, 1.0, 2.0]), max_size=20)


@given(eval_losses, st.integers(1, 4), st.none() | st.integers(1, 9), st.none() | st.integers(1, 3))
def test_what_is_declared_is_kept_and_nothing_else(
    losses: dict[int, float | None], last: int, every: int | None, best: int | None
) -> None:
    """A checkpoint is deleted if and only if it is neither new, nor an every-mth, nor among the best."""
    deleted = Retention(last, every, best).to_delete(losses)
    for step, loss in losses.items():
        newer = sum(other > step for other in losses)
        better = [other for other in best_steps(losses) if other != step]
        rank = best_steps(losses).index(step) if loss is not None else len(better)
        stays = newer < last or (every is not None and step % every == 0) or (
            loss is not None and rank < (best or 0)
        )  # fmt: skip
        assert (step not in deleted) == stays
    assert deleted == sorted(deleted)


@given(st.integers(1, 200), st.integers(1, 9), st.integers(1, 3), st.none() | st.integers(1, 20), st.integers(0, 3))
def test_never_more_exist_at_once_than_counted(
    last: int, save_every: int, keep: int, every: int | None, best: int
) -> None:
    """``most_at_once`` bounds how many exist at any moment of a training run, the one being written included."""
    retention = Retention(keep, every, best or None)
    steps = sorted({*range(save_every, last + 1, save_every), last})
    existing: dict[int, float | None] = {}
    most = 0
    for step in steps:
        existing[step] = float(-step)  # each better than all before
        most = max(most, len(existing))
        for deleted in retention.to_delete(existing):
            del existing[deleted]
    assert most <= retention.kept.most_at_once(len(steps), last) <= len(steps)


def test_the_schema_says_what_may_change_between_two_attempts() -> None:
    """The arguments that change the state are those whose x-affects in the schema has "state"."""
    from engine.runspec.keywords import changes_state
    from engine.steps.train_sft import HANDLER

    known = HANDLER.schema["properties"]
    assert {name for name, entry in known.items() if changes_state(entry)} == set(names_affecting("state"))
    assert known.keys() == set(TrainArgs.__dataclass_fields__)


# -- another training run, another machine -----------------------------------------------------------------------------------


def test_the_same_training_run_may_resume() -> None:
    """Equal in everything: no error, with reshard or without."""
    for reshard in (False, True):
        IdentityCheck(IDENTITY, EIGHT, 16, reshard=reshard).check(manifest(), Path("work/checkpoints"))


def test_other_code_rows_and_libraries_are_named_with_both_values() -> None:
    """One finding for each value that differs: its name, both values, and what to do."""
    changed = {**IDENTITY, "rows": "b" * 64, "library jax": "0.11.0", "trainer code": "d" * 64}
    assert refusal(IdentityCheck(changed, EIGHT, 16), manifest()) == (
        "error[T120]: the checkpoint of train step 30 belongs to another training run: library jax was 0.10.2, now it is 0.11.0\n"
        "  --> work/checkpoints\n"
        "   = help: resume with those versions; to start over, delete work/checkpoints\n"
        "error[T120]: the checkpoint of train step 30 belongs to another training run: rows was aaaaaaaaaaaa…, now it is bbbbbbbbbbbb…\n"
        "  --> work/checkpoints\n"
        "   = help: resume with what it was made from; to start over, delete work/checkpoints\n"
        "error[T120]: the checkpoint of train step 30 belongs to another training run: trainer code was cccccccccccc…, now it is dddddddddddd…\n"
        "  --> work/checkpoints\n"
        "   = help: resume with the engine that wrote it; to start over, delete work/checkpoints"
    )


def test_other_devices_are_refused_unless_declared() -> None:
    """Both topologies are named; the hint says how to declare it. Declared, the same batch fits in two micro-batches."""
    assert refusal(IdentityCheck(IDENTITY, FOUR, 8), manifest()) == (
        "error[T120]: the checkpoint of train step 30 belongs to another training run: topology was 8 x TPU v5 lite (mesh fsdp=8, tp=1), "
        "now it is 4 x TPU v5 lite (mesh fsdp=4, tp=1)\n"
        "  --> work/checkpoints\n"
        "   = help: resume there; or declare on_other_devices: reshard to resume here, no longer bit for bit; "
        "to start over, delete work/checkpoints"
    )
    IdentityCheck(IDENTITY, FOUR, 8, reshard=True).check(manifest(), Path("work/checkpoints"))


def test_a_cpu_that_multiplies_in_another_dtype_is_another_device() -> None:
    """JAX calls both "cpu": what ``matmul_dtype: auto`` chose is named with both values, and allowed with ``reshard``."""
    fast, slow = ({**IDENTITY, "matmul dtype": dtype} for dtype in ("bfloat16", "float32"))
    assert refusal(IdentityCheck(slow, EIGHT, 16), manifest(identity=fast)) == (
        "error[T120]: the checkpoint of train step 30 belongs to another training run: matmul dtype was bfloat16, now it is float32\n"
        "  --> work/checkpoints\n"
        "   = help: resume there; or declare on_other_devices: reshard to resume here, no longer bit for bit; "
        "to start over, delete work/checkpoints"
    )
    moved = IdentityCheck(slow, EIGHT, 16, reshard=True)
    moved.check(manifest(identity=fast), Path("work/checkpoints"))
    assert moved.move(manifest(identity=fast)) == (f"{EIGHT}, matmuls in bfloat16", f"{EIGHT}, matmuls in float32")
    assert moved.move(manifest(identity=slow)) is None


def test_more_devices_than_sequences_are_refused() -> None:
    """A data-parallel size of 32 cannot split sixteen sequences; the hint says what can. Three can: the last rows are empty."""
    many = replace(EIGHT, devices=32, mesh={"fsdp": 32, "tp": 1})
    assert refusal(IdentityCheck(IDENTITY, many, 64, reshard=True), manifest()) == (
        "error[T123]: the checkpoint's train steps take 16 sequences, which 32 x TPU v5 lite (mesh fsdp=32, tp=1) cannot: "
        "global_batch_size is 16, and fsdp is 32: 16 of its ranks would never see a sequence\n"
        "  --> work/checkpoints\n"
        "   = help: global_batch_size: 32 would do, or fsdp: 16 in the mesh and the other devices on tp; "
        "it was saved on 8 x TPU v5 lite (mesh fsdp=8, tp=1)"
    )
    three = replace(EIGHT, devices=3, mesh={"fsdp": 3, "tp": 1})
    IdentityCheck(IDENTITY, three, 6, reshard=True).check(manifest(), Path("work/checkpoints"))


def test_the_update_inside_the_backward_pass_has_one_micro_batch() -> None:
    """It can only resume on devices that take all sequences at once."""
    changed = {**IDENTITY, "argument update": "in_backward"}
    text = refusal(IdentityCheck(changed, FOUR, 8, reshard=True), manifest(identity=changed))
    assert "takes 2 micro-batches of 2 x 4 sequences, and update: in_backward takes at most 1" in text
    assert "per_device_batch_size: 4 would do" in text
    IdentityCheck(changed, EIGHT, 16, reshard=True).check(manifest(identity=changed), Path("work/checkpoints"))


def test_reshard_excuses_nothing_else() -> None:
    """With ``reshard`` other rows are still refused."""
    changed = {**IDENTITY, "rows": "b" * 64, "argument per_device_batch_size": 4}
    text = refusal(IdentityCheck(changed, FOUR, 16, reshard=True), manifest())
    assert "rows was" in text
    assert "per_device_batch_size" not in text


def test_a_moved_training_run_needs_the_declaration_again() -> None:
    """Saved after a move, on these very devices: without ``reshard`` the batch would be another, and is refused."""
    moved = manifest(topology=FOUR.as_json())
    assert "sequences a train step was 16, now it is 8" in refusal(IdentityCheck(IDENTITY, FOUR, 8), moved)


# -- the train loop's side -----------------------------------------------------------------------------------------------


def test_what_ends_training_waits_for_the_running_save(
    tmp_path: Path, make_args: Callable[..., TrainArgs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training run that fails leaves its last checkpoint published; a save that fails too is noted, not raised."""
    events: list[dict[str, Any]] = []
    identity_check = IdentityCheck(IDENTITY, EIGHT, 16)

    def fail(folder: Path) -> None:
        options = {"last": 9, "emit": log_into(events), "stop_after": None}
        with Saver(folder, make_args(), identity_check, **options) as saver:
            saver.save(STATE, 3, {}, lambda: False)
            raise RuntimeError("exploded")

    with pytest.raises(RuntimeError, match="exploded"):
        fail(tmp_path / "a")
    assert [(event["event"], event["train_step"]) for event in events] == [("checkpoint", 3)]
    assert 0 < events[0]["stalled_seconds"] <= events[0]["seconds"]
    assert [path.name for path in (tmp_path / "a" / "checkpoints").iterdir()] == ["00000003"]

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.trainer.checkpoint.checkpoints.write_manifest", refuse)
    events.clear()
    with pytest.raises(RuntimeError, match="exploded"):
        fail(tmp_path / "b")
    assert [event["event"] for event in events] == ["note"]
    assert "the last checkpoint was not saved: [Errno 28] No space left" in events[0]["text"]


# -- disk space ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def crowded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Checkpoints]:
    """Checkpoints on a disk with space for ``slots`` of them (the free space is injected)."""

    def make(slots: float, keep: int = 2) -> Checkpoints:
        folder = tmp_path / "checkpoints"
        each = disk_space.checkpoint_bytes(STATE)

        def free(_: Path) -> int:
            return int(each * slots) - sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

        monkeypatch.setattr(disk_space, "free_bytes", free)
        return Checkpoints(folder, keep=Retention(keep), identity_check=IdentityCheck(IDENTITY, EIGHT, 16))

    return make


STATE = {"w": jax.random.normal(jax.random.key(0), (1000, 1000))}  # zeros would be compressed to nothing


def test_the_exported_model_must_fit_too(crowded: Callable[..., Checkpoints]) -> None:
    """After two checkpoints that stay, a model of two more needs space for four; the plan counts the same."""
    each = disk_space.checkpoint_bytes(STATE)
    crowded(4).require_space(STATE, saves=9, last=90, model=2 * each)
    with pytest.raises(RunFailed, match=r"for 3 checkpoints and the model: 19\.56 MiB needed, 14\.67 MiB free"):
        crowded(3).require_space(STATE, saves=9, last=90, model=2 * each)
    crowded(3).require_space(STATE, saves=9, last=90, model=each)  # it takes the place of the one being written
    most = training_disk_bytes(checkpoint=each, model=2 * each, saves=9, last_train_step=90, kept=Kept(2))
    assert most == 4 * each


def test_too_little_disk_space_is_an_error_at_the_start(crowded: Callable[..., Checkpoints]) -> None:
    """Keeping two takes space for three while the third is written; with space for two no run starts."""
    crowded(3).require_space(STATE, saves=9, last=90)
    crowded(1).require_space(STATE, saves=1, last=10)
    with pytest.raises(RunFailed) as caught:
        crowded(2).require_space(STATE, saves=9, last=90)
    text = render(caught.value.diagnostics[0])
    where = caught.value.diagnostics[0].where
    assert where is not None
    assert text.replace(where.file, "FOLDER") == (
        "error[T143]: not enough disk space for 3 checkpoints: 14.67 MiB needed, 9.78 MiB free; nothing has been saved yet\n"
        "  --> FOLDER\n"
        "   = help: free some disk space there and run again: it resumes where it stopped; "
        "or keep fewer (keep_checkpoints, keep_every_steps, keep_best)"
    )


def test_what_would_be_deleted_anyway_is_deleted_first(crowded: Callable[..., Checkpoints]) -> None:
    """Disk space for two and two to keep: the older one is deleted before the third is written, never the newest."""
    checkpoints = crowded(2)
    for train_step in (1, 2):
        checkpoints.save(STATE, train_step)
    checkpoints.require_space_for_next()
    checkpoints.save(STATE, 3)
    assert checkpoints.steps() == [2, 3]


def test_too_little_space_for_the_next_is_an_error_right_after_a_checkpoint(
    crowded: Callable[..., Checkpoints],
) -> None:
    """With space for one, training stops right after the first checkpoint, before a step is lost, and keeps it."""
    checkpoints = crowded(1)
    checkpoints.save(STATE, 1)
    with pytest.raises(
        RunFailed, match=r"not enough disk space for the next checkpoint: .*; the checkpoint of train step 1 is kept"
    ):
        checkpoints.require_space_for_next()
    with pytest.raises(RunFailed, match="not enough disk space"):
        checkpoints.begin(STATE, 2)
    assert checkpoints.steps() == [1]


def test_the_only_checkpoint_is_never_deleted_first(crowded: Callable[..., Checkpoints]) -> None:
    """Keeping one, it would be deleted after the next: it is not deleted before."""
    checkpoints = crowded(1, keep=1)
    checkpoints.save(STATE, 1)
    with pytest.raises(RunFailed, match="not enough disk space"):
        checkpoints.begin(STATE, 2)
    assert checkpoints.steps() == [1]


# -- the digest of the code ----------------------------------------------------------------------------------------------


def test_the_code_of_the_numbers_is_all_of_it() -> None:
    """What the train step imports is in the digest, through lazy and indirect imports; what only writes files is not."""
    found = {name.removeprefix("engine.trainer.") for name in modules(ROOTS)}
    made_of = {"optim.stochastic_rounding", "optim.tied_embedding", "models.gemma3", "models.layers"}
    assert made_of | {"ops.blocked_attention", "input_pipeline.packing"} <= found
    writes_files = {"checkpoint.checkpoints", "metrics", "report", "hub", "input_pipeline.tokenizing", "train"}
    assert found.isdisjoint(writes_files)
    existing = {
        name.removeprefix("engine.trainer.") for name in modules(tuple(f"engine.trainer.{n}" for n in writes_files))
    }
    assert writes_files <= existing  # these modules exist


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ("def f(x):\n    return x + 1  # why", True),
        ('def f(x):\n    """What."""\n    return (x + 1)', True),
        ("def f(x): return x + 2", False),
        ("def f(x, y=0): return x + 1", False),
        ("import os\nfrom a.b import c as d\ndef f(x):\n    import e\n    return x + 1", True),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import b\ndef f(x): return x + 1", True),
        ("if x:\n    y = 1\ndef f(x): return x + 1", False),
    ],
)
def test_only_what_is_executed_counts(changed: str, same: bool) -> None:
    """Comments, docstrings, layout and import lines change no digest; any other change does."""
    assert (code_text(changed) == code_text("def f(x):\n    return x + 1")) == same


def test_a_module_that_moves_keeps_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal code under another name, in another folder, importing from another place: the same digest. Other code: another."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "old_name.py").write_text("import os\nX = 1\n")
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "new_name.py").write_text("import sys\nfrom pathlib import Path\nX = 1\n")
    (tmp_path / "room" / "other.py").write_text("import os\nX = 2\n")
    for name in ("old_name", "room.new_name", "room.other"):
        importlib.import_module(name)
    old = code_digest_of("old_name")
    assert (code_digest_of("room.new_name") == old, code_digest_of("room.other") == old) == (True, False)
