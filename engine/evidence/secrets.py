"""Secrets in packaged bytes, found by their shape. A finding never contains the secret.

>>> find_secrets({"log.txt": b"token hf_" + b"a" * 34})
[('log.txt:1', 'a Hugging Face token')]
"""

from __future__ import annotations

import re
from collections.abc import Mapping

SHAPES: Mapping[str, re.Pattern[bytes]] = {
    "a Hugging Face token": re.compile(rb"\bhf_[A-Za-z0-9]{20,}"),
    "a Kaggle token": re.compile(rb"\bKGAT_[A-Za-z0-9_-]{16,}"),
    "a cloud access key": re.compile(rb"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a GitHub token": re.compile(rb"\b(gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})"),
    "a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a Slack token": re.compile(rb"\bxox[abprs]-[A-Za-z0-9-]{20,}"),
}


def find_secrets(files: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """(file:line, kind) of every match."""
    secrets = []
    for name, data in sorted(files.items()):
        for kind, shape in SHAPES.items():
            secrets += [(f"{name}:{data.count(10, 0, match.start()) + 1}", kind) for match in shape.finditer(data)]
    return secrets
