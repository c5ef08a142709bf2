"""The evidence of a finished run, rendered once and copied for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evidence folder of its own: five items, one wrong, four train steps."""
    kept = tmp_path_factory.getbasetemp() / "rendered" / "toy_v1"
    if not kept.is_dir():
        shutil.copytree(request.getfixturevalue("render")(request.getfixturevalue("record")), kept)
    own = tmp_path / "submission_runs" / "toy_v1"
    if not own.is_dir():  # the first test's has just been rendered there
        shutil.copytree(kept, own)
    return own
