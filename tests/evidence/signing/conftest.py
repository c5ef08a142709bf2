"""A second key, and evidence to sign."""

from __future__ import annotations

from typing import Any

import pytest

from engine.evidence.signing.private_keys import SigningKey, read_signing_key


@pytest.fixture
def bob(key_file: Any) -> SigningKey:
    """Somebody else's key."""
    return read_signing_key(key_file("bob.pem"))
