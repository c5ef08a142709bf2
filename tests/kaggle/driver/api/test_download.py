"""A file of an output is whole, or not there; a cut costs only what was not fetched yet."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import RunFailed
from engine.kaggle.driver.api.answers import Refusal
from engine.kaggle.driver.api.client import ApiClient
from engine.kaggle.driver.api.connection import Kaggle, sign_in
from engine.kaggle.driver.api.download import OutputFolder, check_space, fetch_file, finished, safe_name
from engine.kaggle.driver.api.names import NotebookName
from engine.protocol.kaggle_api import ApiAddress
from engine.protocol.kaggle_logins import KaggleLogin
from tests.kaggle.driver.stand_ins import QuickClock
from tests.kaggle.platform.platform import Platform
from tests.kaggle.platform.session.scripted import Script

NAME, BYTES = NotebookName("someone", "my-run", "my run"), bytes(range(256)) * 40


@pytest.fixture
def there(kaggle: Platform) -> Kaggle:
    """A session that left one file."""
    kaggle.script(Script(files={"a/big.bin": BYTES}))
    login = KaggleLogin("key", "test", kaggle.key, "someone")
    connection = sign_in(ApiClient(ApiAddress(kaggle.api_url)), login, QuickClock(), print)
    connection.ask(
        "save_kernel", slug=str(NAME), new_title=NAME.title, text="{}", language="python", kernel_type="notebook"
    )
    return connection


@pytest.fixture
def fetch(there: Kaggle, tmp_path: Path) -> Callable[[], str]:
    """One try at the file."""
    folder = OutputFolder(tmp_path / "output")
    return lambda: fetch_file(there.wire, there.outputs(NAME, 1)[0][0], folder, len(BYTES))


def test_a_cut_file_is_resumed(fetch: Callable[[], str], kaggle: Platform, tmp_path: Path) -> None:
    """The second half alone is asked for, and only of the same file."""
    kaggle.fail("download_cut", times=1)
    with pytest.raises(Refusal):
        fetch()
    assert not (tmp_path / "output" / "a" / "big.bin").exists(), "half a file has no name"
    fetch()
    assert (tmp_path / "output" / "a" / "big.bin").read_bytes() == BYTES
    asked = [one.headers for one in kaggle.requests if one.operation == "Download"]
    assert asked[1]["range"] == f"bytes={len(BYTES) // 2}-"
    assert asked[1]["if-range"].startswith('"')


@pytest.mark.parametrize("failure", ["file_changed", "range_ignored", "no_validator"])
def test_a_file_that_changed_meanwhile_is_fetched_anew(
    failure: str, fetch: Callable[[], str], kaggle: Platform, tmp_path: Path
) -> None:
    """Never the beginning of one and the end of another."""
    kaggle.fail("no_validator" if failure == "no_validator" else "download_cut", times=1)
    if failure == "no_validator":
        kaggle.fail("download_cut", times=1)
    with pytest.raises(Refusal):
        fetch()
    if failure != "no_validator":
        kaggle.fail(failure, times=1)
    fetch()
    assert (tmp_path / "output" / "a" / "big.bin").read_bytes() in (BYTES, BYTES[::-1])


def test_a_finished_file_is_known_again_by_its_digest(fetch: Callable[[], str], tmp_path: Path) -> None:
    """One that was changed since is not taken for it."""
    folder = OutputFolder(tmp_path / "output")
    assert fetch() == finished(folder, "a/big.bin")
    (tmp_path / "output" / "a" / "big.bin").write_bytes(BYTES[:-1])
    assert finished(folder, "a/big.bin") is None


def test_a_full_disk_is_told_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With both figures."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**8))  # type: ignore[attr-defined]
    with pytest.raises(RunFailed, match=r"takes 5\.00 GB.*100\.0 MB free") as refused:
        check_space(OutputFolder(tmp_path / "not" / "there"), 5 * 10**9)
    assert refused.value.code == "G255"


@given(st.text(alphabet="ab./\\:\n\x1b", max_size=12))
def test_a_safe_name_stays_in_its_folder(name: str) -> None:
    """Whatever a listing says."""
    if safe_name(name) is not None:
        path = Path("/output", name)
        assert path.resolve().is_relative_to("/output")
        assert path.as_posix() == f"/output/{name}"


def test_a_file_elsewhere_is_not_fetched(there: Kaggle, tmp_path: Path) -> None:
    """An answer that names another host, or a file, is refused before anything is asked of it."""
    from engine.kaggle.driver.api.answers import OutputFile

    for url in ("http://kaggle.example/x", "file:///etc/passwd", "http://[", "ftp://127.0.0.1/x"):
        with pytest.raises(Refusal, match="not https"):
            fetch_file(there.wire, OutputFile("x", url), OutputFolder(tmp_path / "o"), None)


def test_only_https_in_production() -> None:
    """And from whatever host the platform names: its files are on another one than its API."""
    allowed: Any = ApiAddress("https://api.kaggle.com/v1").allows
    assert [
        allowed(url) for url in ("https://storage.example/x", "http://storage.example/x", "http://127.0.0.1/x")
    ] == [True, False, False]
