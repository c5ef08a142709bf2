"""How bytes reach the disk: a file is complete or absent, whatever fails, and durable once the call is over."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.canonical import write_atomic
from engine.temporary import fsync_dir


@pytest.fixture
def set_umask() -> Iterator[Callable[[int], None]]:
    """Set the mask of this process for one test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize(("data", "expected"), [(b"\x00\xff", b"\x00\xff"), ("ä\n", b"\xc3\xa4\n"), ("", b"")])
def test_the_file_has_these_bytes(tmp_path: Path, data: bytes | str, expected: bytes) -> None:
    """Bytes as they are, text as UTF-8, whatever stood there before; nothing else is left in the folder."""
    for before in (None, b"longer than what comes after"):
        if before is not None:
            (tmp_path / "file").write_bytes(before)
        write_atomic(tmp_path / "file", data)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": expected}


def test_the_folders_are_made(tmp_path: Path) -> None:
    """Those above the file that are missing, however many; those that are there are taken as they are."""
    write_atomic(tmp_path / "a" / "b" / "file", "1")
    write_atomic(tmp_path / "a" / "b" / "other", "2")
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["file", "other"]


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o027, 0o077])
def test_permissions_are_those_of_any_new_file(tmp_path: Path, set_umask: Callable[[int], Any], mask: int) -> None:
    """What open() would have given under the person's mask, for new files and for replaced ones; the mask stays."""
    set_umask(mask)
    (tmp_path / "plain").write_text("")
    expected = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    for _ in range(2):
        write_atomic(tmp_path / "file", "1")
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == expected
    assert set_umask(mask) == mask


def test_a_power_cut_at_any_instant_leaves_one_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All bytes are on the disk before the file takes its name, and the name is on the disk before the call is over."""
    happened: list[Any] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        real_fsync(descriptor)
        found = os.fstat(descriptor)
        happened.append("folder" if stat.S_ISDIR(found.st_mode) else found.st_size)

    def replace(source: str, target: Path) -> None:
        real_replace(source, target)
        happened.append("named")

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write_atomic(tmp_path / "file", b"x" * 100)
    assert happened == [100, "named", "folder"]


def test_the_temporary_file_is_beside_it_and_says_whose_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename is atomic in one file system only; what a kill leaves behind is hidden, and its name says what it was."""
    names = []

    def replace(source: str, target: Path) -> None:
        names.append(Path(source))
        raise OSError("no rename")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="no rename"):
        write_atomic(tmp_path / "card.json", "1")
    (name,) = names
    assert name.parent == tmp_path
    assert name.match(".card.json.*.tmp")


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt("stop")])
@pytest.mark.parametrize("call", ["fsync", "chmod", "replace", "fdopen"])
def test_a_failure_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: BaseException
) -> None:
    """Whichever call fails, and however: the old bytes, no temporary file, and the error as it was raised."""
    (tmp_path / "file").write_text("old")

    def fail(*arguments: Any, **options: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(type(error)) as caught:
            write_atomic(tmp_path / "file", "new")
    assert caught.value is error
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "old"}


def test_an_interrupt_after_the_rename_is_the_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The temporary file is gone by then; looking for it must not hide what happened."""
    real = os.replace

    def replace(source: str, target: Path) -> None:
        real(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "file", "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "new"}


def test_a_file_in_the_way_of_the_folder_is_an_error(tmp_path: Path) -> None:
    """No file is replaced by a folder."""
    (tmp_path / "a").write_text("old")
    with pytest.raises(FileExistsError):
        write_atomic(tmp_path / "a" / "file", "new")
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize("fails", [False, True])
def test_a_folder_is_synchronised_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """The folder itself is what is synchronised, and its descriptor is closed, also where that fails."""
    seen: list[tuple[int, int]] = []

    def fsync(descriptor: int) -> None:
        seen.append((descriptor, os.fstat(descriptor).st_ino))
        if fails:
            raise OSError("no fsync")

    monkeypatch.setattr(os, "fsync", fsync)
    if fails:
        with pytest.raises(OSError, match="no fsync"):
            fsync_dir(tmp_path)
    else:
        fsync_dir(tmp_path)
    ((descriptor, inode),) = seen
    assert inode == tmp_path.stat().st_ino
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_where_folders_cannot_be_opened_none_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside POSIX there is nothing to synchronise, and nothing is tried."""
    opened: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda *arguments: opened.append(arguments))
        patch.setattr(os, "name", "nt")
        fsync_dir(tmp_path)
    assert opened == []


@pytest.mark.parametrize(
    ("number", "raised"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.ENOSYS, False), (errno.EIO, True)]
)
def test_a_file_system_that_cannot_sync_folders_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, raised: bool
) -> None:
    """Some FUSE and network file systems refuse it for folders: the file is complete all the same. A broken disk is an error."""
    sync = os.fsync

    def refuses_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuses_folders)
    if raised:
        with pytest.raises(OSError, match=os.strerror(number)):
            write_atomic(tmp_path / "file", "1")
    else:
        write_atomic(tmp_path / "file", "1")
    assert (tmp_path / "file").read_text() == "1"
