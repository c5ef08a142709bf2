"""Laws of temporary files: one that has a writer is left alone, one whose writer was killed is found and removed."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine import temporary
from engine.canonical import write_atomic
from engine.temporary import remove_leftovers, replacing, working_folder

LEFT = ".card.json.0123abcd.tmp"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    """Names that are not quite ours, folders, links and pipes stay."""
    kept = [
        "card.json",
        ".card.json.tmp",
        ".card.json.0123ABCD.tmp",
        ".card.json.0123abcd.tmp.bak",
        "card.json.0123abcd.tmp",
    ]
    for name in (*kept, LEFT, ".a b.\n.zz_zz_99.tmp"):
        (tmp_path / name).write_text("half")
    (tmp_path / ".folder.0123abcd.tmp").mkdir()
    (tmp_path / ".link.0123abcd.tmp").symlink_to(tmp_path / "card.json")
    os.mkfifo(tmp_path / ".pipe.0123abcd.tmp")
    assert remove_leftovers(tmp_path) == [".a b.\n.zz_zz_99.tmp", LEFT]
    odd = [".folder.0123abcd.tmp", ".link.0123abcd.tmp", ".pipe.0123abcd.tmp"]
    assert names(tmp_path) == sorted([*kept, *odd])


def test_only_those_of_the_named_targets_are_removed(tmp_path: Path) -> None:
    (tmp_path / LEFT).write_text("half")
    assert remove_leftovers(tmp_path, "other.json".__eq__) == []
    assert remove_leftovers(tmp_path, "card.json".__eq__) == [LEFT]


def test_a_folder_that_is_none_has_no_leftovers(tmp_path: Path) -> None:
    """Whoever needs it says what is wrong with it."""
    (tmp_path / "file").touch()
    assert remove_leftovers(tmp_path / "absent") == remove_leftovers(tmp_path / "file") == []


def test_a_file_in_progress_stays_and_a_killed_writers_does_not(tmp_path: Path) -> None:
    """A real process, killed while it writes."""
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom engine.temporary import replacing\n"
        "with replacing(Path(sys.argv[1])) as stream:\n    stream.write(b'half'); stream.flush()\n"
        "    print('writing', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "card.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"writing\n"
        (name,) = names(tmp_path)
        assert remove_leftovers(tmp_path) == []
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert names(tmp_path) == [name]
    assert remove_leftovers(tmp_path) == [name]
    assert names(tmp_path) == []


def test_a_cleaner_that_is_quicker_than_the_lock_costs_the_writer_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the making of the file and its lock another process may lock it, or remove it: a new one is made."""
    real, stolen = fcntl.flock, []

    def flock(descriptor: int, operation: int) -> None:
        if len(stolen) < 2:
            (path,) = tmp_path.glob(".*.tmp")
            stolen.append(path)
            path.unlink()
            if len(stolen) == 2:
                raise BlockingIOError(errno.EAGAIN, "locked")
        real(descriptor, operation)

    monkeypatch.setattr(temporary.fcntl, "flock", flock)
    write_atomic(tmp_path / "card.json", "whole")
    assert len(stolen) == 2
    assert {name: (tmp_path / name).read_text() for name in names(tmp_path)} == {"card.json": "whole"}


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_locks_files_are_written_and_none_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """On a file system that has none nobody can tell whether a file has a writer."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(temporary.fcntl, "flock", flock)
    write_atomic(tmp_path / "card.json", "whole")
    (tmp_path / LEFT).write_text("half")
    assert remove_leftovers(tmp_path) == []
    assert names(tmp_path) == [LEFT, "card.json"]


def test_an_error_names_the_file_that_was_wanted(tmp_path: Path) -> None:
    """A folder is in its place; the temporary file's name would help nobody."""
    (tmp_path / "card.json").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_atomic(tmp_path / "card.json", "1")
    assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / "card.json"), None)
    assert names(tmp_path) == ["card.json"]


def test_a_stream_takes_its_name_when_the_block_ends(tmp_path: Path) -> None:
    with replacing(tmp_path / "card.json") as stream:
        stream.write(b"one ")
        assert not (tmp_path / "card.json").exists()
        stream.write(b"two")
    assert (tmp_path / "card.json").read_bytes() == b"one two"


def test_the_working_folder_of_a_killed_process_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real process, killed inside; a folder in use, one of another prefix and one that is not ours stay."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(temporary.tempfile, "tempdir", None)
    script = (
        "import time\nfrom engine.temporary import working_folder\n"
        "with working_folder('runspec-test-') as folder:\n    (folder / 'rows').write_text('x')\n"
        "    print(folder.name, flush=True); time.sleep(60)\n"
    )
    (tmp_path / "runspec-other-x").mkdir()
    (tmp_path / "runspec-other-x" / ".lock").touch()
    (tmp_path / "runspec-test-not-ours").mkdir()
    kept = ["runspec-other-x", "runspec-test-not-ours"]
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        name = child.stdout.readline().strip()
        with working_folder("runspec-test-") as mine:
            assert names(tmp_path) == sorted([*kept, mine.name, name])
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert names(tmp_path) == sorted([*kept, name])
    with working_folder("runspec-test-") as mine:
        assert names(tmp_path) == sorted([*kept, mine.name])
    assert names(tmp_path) == kept


def test_a_cleaner_that_is_quicker_than_the_lock_costs_a_working_folder_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes began with the same prefix: one took the other's new folder for a killed one's, and removed it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(temporary.tempfile, "tempdir", None)
    real, stolen = fcntl.flock, []

    def flock(descriptor: int, operation: int) -> None:
        if len(stolen) < 2:
            (lock,) = tmp_path.glob("runspec-test-*/.lock")
            stolen.append(lock.parent.name)
            shutil.rmtree(lock.parent)
            if len(stolen) == 2:
                raise BlockingIOError(errno.EAGAIN, "locked")
        real(descriptor, operation)

    monkeypatch.setattr(temporary.fcntl, "flock", flock)
    with working_folder("runspec-test-") as folder:
        (folder / "rows").write_text("x")
        assert names(tmp_path) == [folder.name]
        assert folder.name not in stolen
    assert len(stolen) == 2
    assert names(tmp_path) == []
