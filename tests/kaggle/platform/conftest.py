"""A platform for each test, a plain client of it, and the real command where it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kaggle.platform.plain import Plain
from tests.kaggle.platform.platform import Platform
from tests.kaggle.platform.real_client import RealClient, why_not


@pytest.fixture
def kaggle(tmp_path: Path) -> Iterator[Platform]:
    """A Kaggle on loopback with one user."""
    with Platform(tmp_path / "kaggle", stream_idle_seconds=0.5) as platform:
        yield platform


@pytest.fixture
def api(kaggle: Platform) -> Plain:
    """Plain requests as that user."""
    return Plain(kaggle)


@pytest.fixture
def real(kaggle: Platform, tmp_path: Path) -> RealClient:
    """The real `kaggle` command; the test is skipped where it is not installed."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    return RealClient(kaggle, tmp_path / "client")
