"""The one lock of the engine: taken, held by another process, or an error that says what to do."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.artifacts.store import Store
from engine.errors import RunFailed
from engine.locks import take
from engine.trainer.input_pipeline.array_store import only_builder
from engine.trainer.process import only_writer

NO_LOCKS = [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS]


def test_it_is_held_by_one_open_file_at_a_time(tmp_path: Path) -> None:
    """Taken, refused to a second one, free again once the first is closed."""
    path = tmp_path / "lock"
    with path.open("ab") as second:
        with path.open("ab") as first:
            assert take(first, path)
            assert not take(second, path)
        assert take(second, path, wait=True)


@pytest.mark.parametrize("number", NO_LOCKS, ids=errno.errorcode.get)
@pytest.mark.parametrize(
    "hold",
    [lambda root: Store(root).lock("run-x"), only_writer, lambda root: only_builder(root / "arrays")],
    ids=["store", "trainer", "arrays"],
)
def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, hold: object
) -> None:
    """X310 from whoever needs a lock: one sentence with the folder and the system's reason, and what to do."""

    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(RunFailed) as caught, hold(tmp_path):  # type: ignore[operator]
        raise AssertionError("nothing is held")
    [finding] = caught.value.diagnostics
    assert finding.code == "X310"
    assert finding.message.startswith(f"the file system of {tmp_path}")
    assert f"has no locks ({os.strerror(number)}), so that two runs could write there at once" in finding.message
    assert "local disk" in str(finding.hint)


def test_what_else_the_system_refuses_is_not_called_a_lack_of_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken disk is R103 with its own reason."""

    def refused(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(RunFailed) as caught, Store(tmp_path).lock("run-x"):
        raise AssertionError("nothing is held")
    assert caught.value.code == "R103"


def test_a_lock_file_that_may_have_no_byte_is_an_error_once(tmp_path: Path) -> None:
    """The kernel's own limit on file sizes, in a process of its own: R103 with the limit, and nothing from the closing of the file."""
    script = (
        "import resource, sys; from pathlib import Path; from engine.artifacts.store import Store; from engine.errors import RunFailed\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "try:\n    Store(Path(sys.argv[1])).lock('run-x').__enter__()\nexcept RunFailed as error:\n    print(error.code, 'ulimit' in error.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("R103 True\n", "", 0)
