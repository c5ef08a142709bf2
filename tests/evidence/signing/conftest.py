"""Keys made by ``cryptography`` and evidence to sign, without JAX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from engine.artifacts.journal import RunRecord
from engine.evidence import package
from engine.evidence.signing.private_keys import SigningKey, read_signing_key


@pytest.fixture
def key_file(tmp_path: Path) -> Callable[[str], Path]:
    """``key_file(name)`` -> a new private key, PEM."""

    def call(name: str) -> Path:
        path = tmp_path / name
        key = Ed25519PrivateKey.generate()
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        path.chmod(0o600)
        return path

    return call


@pytest.fixture
def ann(key_file: Any) -> SigningKey:
    """Somebody's key."""
    return read_signing_key(key_file("ann.pem"))


@pytest.fixture
def bob(key_file: Any) -> SigningKey:
    """Somebody else's."""
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
