"""Laws of the remembered digests: they save time, are never needed, and are never the digest of another content."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from engine.canonical import digest_bytes, pretty_json, sealed, unsealed
from engine.pipeline import digest_cache
from engine.pipeline.digest_cache import CACHE_FILE, CACHE_FROM_BYTES, SEAL, remembered_digest

LARGE = b"a" * CACHE_FROM_BYTES


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read, one entry each time."""
    real, seen = digest_cache.digest_file, []

    def digest_file(path: Path) -> str:
        seen.append(path)
        return real(path)

    monkeypatch.setattr(digest_cache, "digest_file", digest_file)
    return seen


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the clock had gone on long enough since every change."""
    real = time.time
    monkeypatch.setattr(digest_cache.time, "time", lambda: real() + 60)


@pytest.mark.usefixtures("later")
def test_a_large_file_is_read_once_and_a_small_one_each_time(tmp_path: Path, reads: list[Path]) -> None:
    large, small = tmp_path / "large", tmp_path / "small"
    large.write_bytes(LARGE)
    small.write_bytes(LARGE[1:])
    for _ in range(2):
        assert remembered_digest(large, tmp_path / "cache") == digest_bytes(LARGE)
        assert remembered_digest(small, tmp_path / "cache") == digest_bytes(LARGE[1:])
    assert reads == [large, small, small]


@pytest.mark.usefixtures("later")
def test_a_change_in_place_with_its_mtime_kept_is_noticed(tmp_path: Path, reads: list[Path]) -> None:
    """The same size, inode and mtime; the time of the change itself cannot be set back."""
    path = tmp_path / "weights"
    path.write_bytes(LARGE)
    times = path.stat()
    remembered_digest(path, tmp_path / "cache")
    time.sleep(0.02)  # the clock of the file system has ticks of some milliseconds
    with path.open("r+b") as stream:
        stream.write(b"b")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_mtime_ns == times.st_mtime_ns
    assert remembered_digest(path, tmp_path / "cache") == digest_bytes(b"b" + LARGE[1:])
    assert reads == [path, path]


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path: Path, reads: list[Path]) -> None:
    """Within one tick of the clock a second change would look like the first."""
    path = tmp_path / "weights"
    path.write_bytes(LARGE)
    for _ in range(2):
        assert remembered_digest(path, tmp_path / "cache") == digest_bytes(LARGE)
    assert reads == [path, path]
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("later")
def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(LARGE)
    real = digest_cache.digest_file

    def digest_file(file: Path) -> str:
        digest = real(file)
        file.write_bytes(LARGE + b"more")
        return digest

    monkeypatch.setattr(digest_cache, "digest_file", digest_file)
    remembered_digest(path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def _of_another_shape(values: Any) -> bytes:
    return pretty_json(sealed(values, SEAL)).encode()


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize(
    "data",
    [b"", b"[]\n", b"null\n", b"\xff", _of_another_shape({}), _of_another_shape({"files": []}), b'{"/x|1|2|3": "0"}\n',
     _of_another_shape({"files": {"PATH": 7}}), _of_another_shape({"files": {"PATH": [[1, 2, 3, 4], "0" * 64]}})],
)  # fmt: skip
def test_a_damaged_cache_is_as_good_as_none(tmp_path: Path, data: bytes) -> None:
    """And is replaced by a good one."""
    path, cache = tmp_path / "weights", tmp_path / "cache"
    path.write_bytes(LARGE)
    cache.mkdir()
    (cache / CACHE_FILE).write_bytes(data.replace(b"PATH", str(path).encode()))
    assert remembered_digest(path, cache) == digest_bytes(LARGE)
    kept = unsealed((cache / CACHE_FILE).read_bytes(), SEAL)
    assert kept is not None
    assert kept["files"][str(path)][1] == digest_bytes(LARGE)


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("spoil", ["folder", "fault", "a file where the folder should be"])
def test_a_cache_that_can_neither_be_read_nor_written_is_not_needed(tmp_path: Path, spoil: str) -> None:
    path, cache = tmp_path / "weights", tmp_path / "cache"
    path.write_bytes(LARGE)
    if spoil == "folder":
        (cache / CACHE_FILE / "in the way").mkdir(parents=True)
    elif spoil == "fault":
        cache.mkdir()
        (cache / CACHE_FILE).symlink_to("/proc/self/mem")
    else:
        cache.write_text("")
    assert remembered_digest(path, cache) == digest_bytes(LARGE)


@pytest.mark.usefixtures("later")
def test_what_is_gone_is_forgotten(tmp_path: Path) -> None:
    """The cache does not grow for ever."""
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(LARGE)
        remembered_digest(tmp_path / name, tmp_path / "cache")
        if name == "one":
            (tmp_path / name).unlink()
    kept = unsealed((tmp_path / "cache" / CACHE_FILE).read_bytes(), SEAL)
    assert kept is not None
    assert list(kept["files"]) == [str(tmp_path / "two")]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a plain file"):
        remembered_digest(tmp_path / "pipe", tmp_path / "cache")
