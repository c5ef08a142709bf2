"""Laws of the store: complete or absent, found by fingerprint, damage noticed, locks released with their process."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from engine.artifacts.holder import is_alive
from engine.artifacts.store import Artifact, Store, explain_os_error
from engine.canonical import digest_json, pretty_json, sealed, unsealed
from engine.errors import LockBusy, RunFailed
from tests.fixtures.scratch import other_disk

FINGERPRINT = "f" * 64
OTHER_DISK = other_disk()


def mark(**changes: object) -> dict[str, object]:
    return {
        "type": "apple", "kind": "grow", "fingerprint": FINGERPRINT, "facts": {"n": 1}, "ingredients": {},
        "started_at": "2026-01-01T00:00:00Z", "finished_at": "2026-01-01T00:00:01Z", **changes,
    }  # fmt: skip


def published(store: Store, content: str = "red"):
    staging = store.stage(FINGERPRINT)
    (staging.out / "deep").mkdir()
    (staging.out / "deep" / "apple.txt").write_text(content)
    return store.publish(staging, mark())


def test_a_staged_artifact_is_invisible_until_it_is_published(tmp_path: Path) -> None:
    store = Store(tmp_path)
    staging = store.stage(FINGERPRINT)
    (staging.out / "apple.txt").write_text("half")
    assert store.find("apple", FINGERPRINT) is None
    artifact = store.publish(staging, mark())
    assert store.find("apple", FINGERPRINT) == artifact
    assert artifact.file("apple.txt").read_text() == "half"
    assert not staging.root.exists()


def test_out_is_emptied_and_work_is_kept_between_two_attempts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.stage(FINGERPRINT)
    (first.out / "half.txt").write_text("x")
    (first.work / "checkpoint").write_text("y")
    second = store.stage(FINGERPRINT)
    assert list(second.out.iterdir()) == []
    assert (second.work / "checkpoint").read_text() == "y"


def test_equal_content_has_an_equal_digest_whatever_the_times(tmp_path: Path) -> None:
    one = published(Store(tmp_path / "a"))
    two = published(Store(tmp_path / "b"))
    os.utime(two.path / "deep" / "apple.txt", (0, 0))
    assert one.digest == two.digest
    assert published(Store(tmp_path / "c"), "green").digest != one.digest


@pytest.mark.parametrize("spoil", ["delete", "lengthen", "mark", "unmark"])
def test_an_artifact_that_lost_something_is_not_found(tmp_path: Path, spoil: str) -> None:
    store = Store(tmp_path)
    artifact = published(store)
    match spoil:
        case "delete":
            (artifact.path / "deep" / "apple.txt").unlink()
        case "lengthen":
            (artifact.path / "deep" / "apple.txt").write_text("redder")
        case "mark":
            (artifact.path / "artifact.json").write_text("{")
        case "unmark":
            (artifact.path / "artifact.json").unlink()
    assert store.find("apple", FINGERPRINT) is None


def test_a_change_that_keeps_the_size_is_named_by_damage(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = published(store)
    assert store.damage(artifact) == []
    (artifact.path / "deep" / "apple.txt").write_text("ret")
    assert store.find("apple", FINGERPRINT) is not None
    assert store.damage(artifact) == ["deep/apple.txt"]


def test_publishing_again_replaces_the_old_artifact(tmp_path: Path) -> None:
    store = Store(tmp_path)
    published(store, "red")
    assert published(store, "new").file("deep/apple.txt").read_text() == "new"


def test_a_second_holder_of_a_lock_is_told_who_holds_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.lock("run-x"), pytest.raises(LockBusy) as caught, store.lock("run-x"):
        pass
    assert str(os.getpid()) in str(caught.value)
    assert caught.value.exit_code == 6
    with store.lock("run-x"):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from engine.artifacts.store import Store
        with Store(Path({str(tmp_path)!r})).lock("run-x"):
            print("held", flush=True)
            time.sleep(60)
    """)
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(LockBusy), Store(tmp_path).lock("run-x"):
            pass
        child.send_signal(signal.SIGKILL)
        child.wait()
    with Store(tmp_path).lock("run-x"):
        pass


def test_publish_killed_at_any_system_call_leaves_whole_or_nothing(tmp_path: Path) -> None:
    """A process is killed at each os.* call of publishing; every artifact found afterwards is complete."""
    script = textwrap.dedent("""
        import os, sys
        from pathlib import Path
        from engine.artifacts.store import Store
        root, countdown = Path(sys.argv[1]), int(sys.argv[2])
        store = Store(root)
        staging = store.stage("f" * 64)
        for name in ("a.txt", "b.txt"):
            (staging.out / name).write_text(name * 1000)
        def wrap(real):
            def call(*args, **kwargs):
                global countdown
                countdown -= 1
                if countdown == 0:
                    os._exit(77)
                return real(*args, **kwargs)
            return call
        for name in ("replace", "rename", "fsync", "open"):
            setattr(os, name, wrap(getattr(os, name)))
        store.publish(staging, {"type": "apple", "kind": "grow", "fingerprint": "f" * 64, "facts": {},
            "ingredients": {}, "started_at": "t", "finished_at": "t"})
    """)
    outcomes = set()
    for countdown in range(1, 40):
        root = tmp_path / str(countdown)
        root.mkdir()
        done = subprocess.run([sys.executable, "-c", script, str(root), str(countdown)], check=False)
        found = Store(root).find("apple", FINGERPRINT)
        if found is not None:
            assert Store(root).damage(found) == []
            assert set(found.files) == {"a.txt", "b.txt"}
        outcomes.add((done.returncode, found is not None))
        if done.returncode == 0:
            break
    assert (77, False) in outcomes
    assert (0, True) in outcomes


@pytest.mark.parametrize(
    ("number", "code"), [("ENOSPC", "R101"), ("EDQUOT", "R101"), ("EACCES", "R102"), ("EROFS", "R102"), ("EIO", "R103")]
)
def test_what_the_operating_system_refuses_becomes_a_sentence(number: str, code: str) -> None:
    import errno

    error = OSError(getattr(errno, number), os.strerror(getattr(errno, number)), "some/file")
    explained = explain_os_error(error, Path("x"))
    assert explained.code == code
    assert "some/file" in str(explained)


def test_a_folder_that_cannot_be_written_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / ".runspec").write_text("a file where the folder should be")
    with pytest.raises(RunFailed, match="cannot write"):
        Store(tmp_path).stage(FINGERPRINT)


def test_a_damaged_manifest_is_named_and_the_artifact_counts_as_not_made(tmp_path: Path) -> None:
    """No value of it is believed, and ``flaw`` says why; without any folder there is nothing to say."""
    store = Store(tmp_path)
    assert store.flaw("apple", FINGERPRINT) is None
    artifact = published(store)
    path = artifact.path / "artifact.json"
    whole = path.read_text()
    for changed in (whole.replace('"n": 1', '"n": 9'), whole.replace("grow", "brow"), whole.replace("manifest_sha256", "manifest_sha257"),
                    "[]\n", "null\n", "{}\n", whole.replace('"files": {', '"files": [')):  # fmt: skip
        path.write_text(changed)
        assert store.find("apple", FINGERPRINT) is None
        assert store.flaw("apple", FINGERPRINT) == "artifact.json is not what was written"
    path.unlink()
    assert store.flaw("apple", FINGERPRINT) == "artifact.json is missing"
    path.write_text(whole)
    (artifact.path / "deep" / "apple.txt").unlink()
    assert store.flaw("apple", FINGERPRINT) == "deep/apple.txt is missing or has another size"


@pytest.mark.parametrize("change", [{"files": []}, {"files": {"a": {"sha256": "f" * 64, "bytes": "3"}}}, {"facts": None},
                                    {"files": {"a": 3}}, {"digest": 7}, {"more": 1}])  # fmt: skip
def test_a_sealed_manifest_of_another_shape_is_none(tmp_path: Path, change: dict[str, object]) -> None:
    """Its keys and their types are what a reader finds."""
    store = Store(tmp_path)
    path = published(store).path / "artifact.json"
    values = unsealed(path.read_bytes(), "manifest_sha256")
    assert values is not None
    path.write_text(pretty_json(sealed({**values, **change}, "manifest_sha256")))
    assert store.find("apple", FINGERPRINT) is None
    path.write_text(pretty_json(sealed({**values, "type": "pear"}, "manifest_sha256")))
    assert store.flaw("apple", FINGERPRINT) == "artifact.json is that of another artifact"


def older(store: Store, **changes: object) -> Artifact:
    """Published by an engine whose manifests had no digest of themselves."""
    ingredients = {"kind": "grow"}
    fingerprint = digest_json(ingredients)
    staging = store.stage(fingerprint)
    (staging.out / "apple.txt").write_text("red")
    artifact = store.publish(staging, mark(fingerprint=fingerprint, ingredients=ingredients))
    path = artifact.path / "artifact.json"
    values = unsealed(path.read_bytes(), "manifest_sha256")
    path.write_text(pretty_json({**(values or {}), **changes}))
    return artifact


def test_an_artifact_without_a_seal_is_found_and_can_be_sealed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = older(store)
    found = store.find("apple", artifact.fingerprint)
    assert found == dataclasses.replace(artifact, is_sealed=False)
    store.seal(found)
    assert store.find("apple", artifact.fingerprint) == artifact
    store.seal(artifact)
    assert store.find("apple", artifact.fingerprint) == artifact


@pytest.mark.parametrize(
    "change", [{"ingredients": {"kind": "brow"}}, {"facts": []}, {"note": "one key more"}, {"files": {"a": 1}}]
)
def test_what_can_be_checked_of_a_manifest_without_a_seal_is_checked(tmp_path: Path, change: dict[str, object]) -> None:
    """The fingerprint follows from the ingredients; the keys are those, and of those types."""
    store = Store(tmp_path)
    artifact = older(store, **change)
    assert store.find("apple", artifact.fingerprint) is None
    assert store.flaw("apple", artifact.fingerprint) == "artifact.json is not what was written"


@pytest.mark.parametrize(
    ("spoil", "reason"), [("fault", "Input/output error"), ("folder", "Is a directory"), ("pipe", "not a plain file")]
)
def test_a_manifest_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path, spoil: str, reason: str) -> None:
    """R112: not "not made", for what is there may be whole."""
    store = Store(tmp_path)
    path = published(store).path / "artifact.json"
    path.unlink()
    match spoil:
        case "fault":
            path.symlink_to("/proc/self/mem")
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
    with pytest.raises(RunFailed) as caught:
        store.find("apple", FINGERPRINT)
    assert caught.value.code == "R112"
    assert f"cannot read {path}: " in str(caught.value)
    assert reason in str(caught.value)
    assert "it is made again by the next run" in str(caught.value)


def test_each_attempt_has_an_out_of_its_own(tmp_path: Path) -> None:
    """A trainer that was frozen and wakes writes into the folder of its own attempt, and nothing of it is published."""
    store = Store(tmp_path)
    first = store.stage(FINGERPRINT)
    second = store.stage(FINGERPRINT)
    assert first.out != second.out
    assert first.work == second.work
    first.out.mkdir()
    (first.out / "late.txt").write_text("of the frozen one")
    (second.out / "apple.txt").write_text("red")
    assert set(store.publish(second, mark()).files) == {"apple.txt"}
    assert list((store.root / "staging").iterdir()) == []


def test_the_sweep_removes_what_kills_leave_and_nothing_that_can_be_resumed(tmp_path: Path) -> None:
    """A published step's work, a discarded artifact, temporary files; an attempt with work stays, and one that has its lock."""
    store = Store(tmp_path)
    resumable = store.stage("a" * 64)
    (resumable.work / "checkpoint").write_text("x")
    done = store.stage("b" * 64)
    shutil.rmtree(done.out)  # it was renamed into the store; its work was not removed yet
    busy = store.stage("c" * 64)
    shutil.rmtree(busy.work)
    discarded = store.root / "staging" / "discarded-x"
    discarded.mkdir()
    for name in ("replaced-v1", "replaced-v2", f"probe-{2**22 + 1}", f"probe-{os.getpid()}"):
        (store.root / "staging" / name).mkdir()
    for folder in (store.cache, store.root / "runs" / "v1"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".file.json.0123abcd.tmp").write_text("half")
    with store.lock(f"step-{'c' * 16}"):
        store.sweep("v1")
    of_others = [f"probe-{os.getpid()}", "replaced-v2"]
    assert sorted(path.name for path in (store.root / "staging").iterdir()) == ["a" * 32, "c" * 32, *of_others]
    assert (resumable.work / "checkpoint").read_text() == "x"
    assert list(store.root.rglob("*.tmp")) == []
    store.sweep("v1")
    assert sorted(path.name for path in (store.root / "staging").iterdir()) == ["a" * 32, *of_others]


def test_a_lock_names_its_holder_beyond_the_number(tmp_path: Path) -> None:
    """The same number with another start is another process: a killed run does not look alive for ever."""
    store = Store(tmp_path)
    with store.lock("run-x"):
        text = (store.root / "locks" / "run-x.lock").read_text()
    assert is_alive(text)
    number, _, start = text.partition(" ")
    assert int(number) == os.getpid()
    assert not is_alive(f"{number} 0{start}")
    assert is_alive(number)  # written by an engine that knew the number alone
    for nobody in ("", "x", "-1", "0x", f"{2**40}", f"{2**22 + 1} {start}"):
        assert not is_alive(nobody), nobody


@pytest.mark.skipif(OTHER_DISK is None, reason="one disk")
@pytest.mark.parametrize("linked", ["store", "store/apple", "staging"])
def test_a_folder_of_the_store_on_another_disk_is_found_before_the_work(tmp_path: Path, linked: str) -> None:
    """X311 for a real link to a real other disk; the whole of .runspec/ there is fine."""
    store = Store(tmp_path)
    with tempfile.TemporaryDirectory(dir=OTHER_DISK) as elsewhere:
        (tmp_path / ".runspec" / linked).parent.mkdir(parents=True)
        (tmp_path / ".runspec" / linked).symlink_to(elsewhere)
        with pytest.raises(RunFailed) as caught:
            store.check_publication({"apple"})
        [finding] = caught.value.diagnostics
        assert (finding.code, "is on another disk than" in finding.message) == ("X311", True)
        assert finding.hint == "link the whole of .runspec/ to that disk instead of a folder in it"
        shutil.rmtree(tmp_path / ".runspec")
        (tmp_path / ".runspec").symlink_to(elsewhere)
        store.check_publication({"apple", "juice"})
        assert [path.name for path in Path(elsewhere).rglob("*probe*")] == []


def test_the_attempt_to_publish_leaves_nothing(tmp_path: Path) -> None:
    """Nor does that of a run that was killed in the middle of it."""
    (tmp_path / ".runspec" / "store" / "apple" / ".probe-1").mkdir(parents=True)
    Store(tmp_path).check_publication({"apple"})
    assert [path.name for path in tmp_path.rglob("*probe*")] == []


def test_the_refusal_that_is_said_is_the_one_that_was_met(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rename was done and what followed was refused: not "no such file", for the folder that is no longer there."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Path, "glob", refuse)
    with pytest.raises(RunFailed, match=r"R103.*Too many open files"):
        Store(tmp_path).check_publication({"apple"})
