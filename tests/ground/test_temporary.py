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


@pytest.fixture
def system_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's folder for temporary files, with nothing in it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(temporary.tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has none."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(temporary.fcntl, "flock", flock)


def n_open() -> int:
    """Open descriptors of this process."""
    return sum(1 for _ in Path("/dev/fd").iterdir())


def killed_folder(folder: Path, name: str = "runspec-test-killed") -> Path:
    """A working folder as a killed process leaves it, with a file in it."""
    (folder / name).mkdir()
    (folder / name / ".lock").touch()
    (folder / name / "rows").write_text("x")
    return folder / name


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
        "import sys\nfrom pathlib import Path\nfrom engine.temporary import replacing\n"
        "with replacing(Path(sys.argv[1])) as stream:\n    stream.write(b'half'); stream.flush()\n"
        "    print('writing', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "card.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
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
        "import sys\nfrom engine.temporary import working_folder\n"
        "with working_folder('runspec-test-') as folder:\n    (folder / 'rows').write_text('x')\n"
        "    print(folder.name, flush=True); sys.stdin.read()\n"
    )
    (tmp_path / "runspec-other-x").mkdir()
    (tmp_path / "runspec-other-x" / ".lock").touch()
    (tmp_path / "runspec-test-not-ours").mkdir()
    kept = ["runspec-other-x", "runspec-test-not-ours"]
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
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


def test_one_that_cannot_be_removed_stays_and_the_others_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever cleans up has no right to fail; what it says it removed is gone."""
    stays = ".a.json.0123abcd.tmp"
    for name in (stays, LEFT, ".z.json.0123abcd.tmp"):
        (tmp_path / name).write_text("half")
    real, before = Path.unlink, n_open()

    def unlink(self: Path, missing_ok: bool = False) -> None:
        if self.name == stays:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        real(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    assert remove_leftovers(tmp_path) == [LEFT, ".z.json.0123abcd.tmp"]
    assert names(tmp_path) == [stays]
    assert n_open() == before


def test_no_descriptor_stays_open(system_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock lasts as long as its descriptor: a leaked one would keep a file from ever being cleaned up."""
    before = n_open()
    write_atomic(system_folder / "card.json", "1")
    (system_folder / LEFT).write_text("half")
    remove_leftovers(system_folder)
    killed_folder(system_folder)
    with working_folder("runspec-test-"):
        pass
    assert n_open() == before
    real, asked = fcntl.flock, []

    def flock(descriptor: int, operation: int) -> None:
        asked.append(descriptor)
        if len(asked) % 2:
            raise BlockingIOError(errno.EAGAIN, "locked")
        real(descriptor, operation)

    monkeypatch.setattr(temporary.fcntl, "flock", flock)
    write_atomic(system_folder / "card.json", "2")
    with working_folder("runspec-test-"):
        pass
    assert n_open() == before


def test_a_lock_is_held_until_the_file_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who cleans up between the last byte and the rename may take the file away."""
    real, cleaned = os.replace, []

    def replace(source: str, target: Path) -> None:
        cleaned.append(remove_leftovers(tmp_path))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    write_atomic(tmp_path / "card.json", "1")
    assert cleaned == [[]]
    assert names(tmp_path) == ["card.json"]


def test_a_working_folder_is_ours_alone_and_gone_after_an_error(system_folder: Path) -> None:
    """Nobody else reads the folder or its lock; the error is the one of the block."""
    with working_folder("runspec-test-") as folder:
        assert folder.parent == system_folder
        assert folder.name.startswith("runspec-test-")
        assert folder.stat().st_mode & 0o077 == (folder / ".lock").stat().st_mode & 0o177 == 0
    with pytest.raises(ZeroDivisionError), working_folder("runspec-test-"):
        raise ZeroDivisionError
    assert names(system_folder) == []


def test_what_else_may_be_there_is_left_alone(system_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that is a link (somebody else's trap) is not followed; the folder of another user is not touched."""
    trap = killed_folder(system_folder, "runspec-test-trap")
    (trap / ".lock").unlink()
    (trap / ".lock").symlink_to(trap / "rows")
    killed = killed_folder(system_folder)
    before, user = n_open(), os.getuid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: user + 1)
        with working_folder("runspec-test-") as mine:
            assert names(system_folder) == sorted([killed.name, trap.name, mine.name])
    with working_folder("runspec-test-") as mine:
        assert names(system_folder) == sorted([trap.name, mine.name])
    assert names(trap) == [".lock", "rows"]
    assert n_open() == before


def test_a_killed_folder_that_resists_loses_what_it_can(system_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be removed is no reason to keep the rest, or not to begin."""
    killed = killed_folder(system_folder)
    (killed / "stays").touch()
    real = os.unlink

    def unlink(path: str, **options: int) -> None:
        if Path(path).name == "stays":
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        real(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", unlink)
        with working_folder("runspec-test-") as mine:
            assert names(system_folder) == sorted([killed.name, mine.name])
        assert names(killed) == ["stays"]


@pytest.mark.usefixtures("without_locks")
def test_without_locks_a_working_folder_is_made_and_none_is_removed(system_folder: Path) -> None:
    """Nobody can tell whether a folder has an owner."""
    killed = killed_folder(system_folder)
    with working_folder("runspec-test-") as mine:
        assert names(system_folder) == sorted([killed.name, mine.name])
    assert names(system_folder) == [killed.name]


def test_on_windows_no_lock_is_asked_for(system_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has none of this kind: files and folders are written as everywhere, and none is taken for a killed one's."""
    killed = killed_folder(system_folder)
    (system_folder / LEFT).write_text("half")
    asked: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(temporary.fcntl, "flock", lambda descriptor, _: asked.append(descriptor))
        patch.setattr(sys, "platform", "win32")
        write_atomic(system_folder / "card.json", "whole")
        assert remove_leftovers(system_folder) == []
        with working_folder("runspec-test-"):
            pass
    assert asked == []
    assert names(system_folder) == sorted([LEFT, "card.json", killed.name])


def test_an_error_without_a_number_is_handed_on_as_it_is(tmp_path: Path) -> None:
    """One that the block itself raises may be of no file at all."""
    with pytest.raises(OSError, match="the rows are gone") as caught, replacing(tmp_path / "card.json"):
        raise OSError("the rows are gone")
    assert caught.value.filename is None
    assert names(tmp_path) == []


def test_a_link_that_is_put_in_place_after_the_look_is_not_followed(
    system_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at a file and its opening somebody may put a link there, to have another file locked and opened."""
    killed = killed_folder(system_folder)
    (system_folder / LEFT).write_text("half")
    real = Path.is_symlink

    def is_symlink(self: Path) -> bool:
        was_link = real(self)
        if self in {system_folder / LEFT, killed / ".lock"}:
            self.unlink()
            self.symlink_to(killed / "rows")
        return was_link

    monkeypatch.setattr(Path, "is_symlink", is_symlink)
    assert remove_leftovers(system_folder) == []
    with working_folder("runspec-test-"):
        pass
    assert names(system_folder) == sorted([LEFT, killed.name])
