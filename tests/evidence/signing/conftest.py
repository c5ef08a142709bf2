"""A second key, and evidence to sign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.artifacts.journal import RunRecord
from engine.evidence import package
from engine.evidence.signing.private_keys import SigningKey, read_signing_key


@pytest.fixture
def bob(key_file: Any) -> SigningKey:
    """Somebody else's key."""
    return read_signing_key(key_file("bob.pem"))


@pytest.fixture
def folder(record: RunRecord, render: Any) -> Path:
    """An evidence folder."""
    path: Path = render(record)
    return path


@pytest.fixture
def archive(folder: Path, tmp_path: Path) -> Path:
    """The zip of it."""
    return package(folder, tmp_path / "submission", "toy")
