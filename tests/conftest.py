"""What holds for every test: nobody's home, no network, no secrets, one clock zone, strict JAX.

The environment is set when pytest loads this file, before any test imports JAX or huggingface_hub, and is
inherited by every process a test starts. Tests that need the machine's own settings (pip's, say) ask for
``real_environment``.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.examples import QUICK, examples
from tests.fixtures import scratch

REPOSITORY = Path(__file__).resolve().parent.parent
_REAL_ENVIRONMENT = dict(os.environ)
# One folder for all processes of a run of the tests; xdist's workers inherit it from the process that starts them.
_IN_MEMORY = scratch.in_memory() if QUICK and "PYTEST_XDIST_WORKER" not in os.environ else None
_DISK = tempfile.gettempdir()
if _IN_MEMORY is not None:
    os.environ["TMPDIR"] = tempfile.tempdir = str(_IN_MEMORY)
_HOME = Path(tempfile.mkdtemp(prefix="runspec-tests-home-"))

# What a person's shell may carry and no test may see.
_REMOVED_PREFIXES = (
    "HF_",
    "HUGGING",
    "KAGGLE_",
    "RUNSPEC_",
    "TRANSFORMERS_",
    "GIT_",
    "XDG_",
    "WANDB_",
    "JPY_",
    "COLAB_",
    "DATABRICKS_",
)
_REMOVED = ("FORCE_COLOR", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "XLA_FLAGS")

_SET = {
    "HOME": str(_HOME),
    "XDG_CACHE_HOME": str(_HOME / ".cache"),
    "XDG_CONFIG_HOME": str(_HOME / ".config"),
    # Names for `run --commit`; nobody's git configuration.
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.invalid",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.invalid",
    "GIT_CONFIG_NOSYSTEM": "1",
    # The hub's clients fail at once instead of trying, in child processes too.
    "HF_HOME": str(_HOME / "huggingface"),
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # f32 + bf16 or [B] + [B, T] by accident is an error, in the trainer's process too.
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    # A zone with an odd offset: local time where UTC is meant shows.
    "TZ": "Asia/Kathmandu",
    "COLUMNS": "120",
    # Children run this checkout, from whatever folder they are started in.
    "PYTHONPATH": str(REPOSITORY),
}

for _name in list(os.environ):
    if _name.startswith(_REMOVED_PREFIXES) or _name in _REMOVED:
        del os.environ[_name]
os.environ.update(_SET)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Two thirds of the tests' time was the compilation of programs that run for milliseconds: LLVM's optimizer, then the emitters
# that make a module of MLIR of every fusion. Without both a tiny Gemma's gradients take a seventh of the time, and had the same
# bits when this was tried; fusions may differ by a few. `make test-all` compiles as a run does.
_QUICK_FLAGS = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)
os.environ["XLA_FLAGS"] = os.environ.setdefault("TEST_XLA_FLAGS", _QUICK_FLAGS)
time.tzset()

# Each test has its time limit (pyproject.toml); 200 ms for each example fails on a machine that is busy.
# `make test` draws half as many examples as `make test-all`; tests with a number of their own say it through `examples`.
settings.register_profile("house", deadline=None, max_examples=examples(100))
settings.load_profile("house")

_LOOPBACK = ("127.", "::1", "localhost")


class NetworkRefused(RuntimeError):
    """A test reached for an address that is not this machine."""


def _check(address: object) -> None:
    host = address[0] if isinstance(address, tuple) and address else None
    if isinstance(host, str) and host and not host.startswith(_LOOPBACK):
        raise NetworkRefused(f"tests have no network; this one reached for {host}")


# Folders with files that take up to a minute: begun last, one worker would wait for the other at the end.
_LONG = ("trainer", "steps", "campaign", "cli", "docs", "evidence", "gallery", "kaggle", "meta", "project")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; the Makefile tells xdist to keep the order."""
    items.sort(key=lambda item: item.path.relative_to(REPOSITORY).parts[1] not in _LONG)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Without the garbage collector, which then leaves alone what was imported and collected: all of it stays to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


_CRASH_LOG = re.compile(r"/\S+crash-\d{8}T\d{6}Z-\d+\.log")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The traceback behind an X301 is in a file that is gone when one reads the report: it is printed with it."""
    report = yield
    if report.failed:
        text = "\n".join([report.longreprtext, *(part for _, part in report.sections)])
        for name in dict.fromkeys(_CRASH_LOG.findall(text)):
            with contextlib.suppress(OSError):
                report.sections.append((name, Path(name).read_text(encoding="utf-8", errors="replace")))
    return report


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection and every name look-up that leaves this machine. Unix sockets are fine."""
    real = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex", "sendto")}

    def guarded(name: str) -> Any:
        def call(self: socket.socket, *arguments: Any) -> Any:
            _check(arguments[-1])
            return real[name](self, *arguments)

        return call

    for name in real:
        monkeypatch.setattr(socket.socket, name, guarded(name))
    look_up = socket.getaddrinfo

    def guarded_look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        _check((host,))
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that is under test."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_environment() -> Mapping[str, str]:
    """The environment pytest was started in, for the few tests that install packages."""
    return _REAL_ENVIRONMENT


def pytest_unconfigure(config: pytest.Config) -> None:
    """What failed tests left in memory is moved to the disk, where one can look at it."""
    if _IN_MEMORY is None:
        return
    tempfile.tempdir = _DISK
    if any(_IN_MEMORY.glob("pytest-of-*/pytest-*")):
        kept = shutil.move(_IN_MEMORY, _DISK)
        config.get_terminal_writer().line(f"the folders of failed tests are in {kept}, no longer in {_IN_MEMORY}")
    else:
        shutil.rmtree(_IN_MEMORY, ignore_errors=True)


@pytest.fixture(autouse=True, scope="session")
def _home_is_removed() -> Iterator[None]:
    yield
    shutil.rmtree(_HOME, ignore_errors=True)
