"""Helpers for the tests of engine.data: a file from lines, and the first finding of a reader as text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import RunspecError


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., Path]:
    """``jsonl(row, "raw text", b"raw bytes")`` → the path of a file with these lines."""

    def write(*lines: Any, name: str = "mine.jsonl", end: bytes = b"\n") -> Path:
        parts = [
            line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
            for line in lines
        ]
        path = tmp_path / name
        path.write_bytes(end.join(parts) + (end if parts else b""))
        return path

    return write


@pytest.fixture
def complaint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """The text a person reads, with file names relative to the folder of the test."""

    def call(function: Callable[..., Any], *arguments: Any, **named: Any) -> str:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(RunspecError) as caught:
            function(*arguments, **named)
        return str(caught.value).replace(f"{tmp_path}/", "")

    return call
