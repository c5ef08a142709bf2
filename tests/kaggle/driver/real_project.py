"""The quickstart in a project, driven to a loopback Kaggle that runs the generated notebook in real kernels; nothing else stands in.

The limit of a session may be shorter than the driver allows on Kaggle, where ten minutes are the least.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.kaggle.driver import planning, watch
from engine.kaggle.driver.api.pacing import Backoff
from tests.kaggle.platform.platform import Platform

REPOSITORY = Path(__file__).parents[3]
QUICKSTART = "runspecs/quickstart.yaml"


def real_project(root: Path) -> Path:
    """A folder with the quickstart and what it reads."""
    for folder in ("runspecs", "evalsets"):
        shutil.copytree(REPOSITORY / folder, root / folder)
    (root / ".runspec").mkdir()
    return root


def environment(kaggle: Platform, home: Path) -> dict[str, str]:
    """What leads the driver to this Kaggle, as its user."""
    return {"RUNSPEC_KAGGLE_API": kaggle.api_url, "KAGGLE_API_TOKEN": kaggle.token, "HOME": str(home)}


def be_quick(patch: pytest.MonkeyPatch) -> None:
    """Look often, and take short sessions: in this process."""
    patch.setattr(watch, "POLLS", Backoff(2.0, 1.0, 2.0))
    patch.setattr(planning, "SHORTEST_SECONDS", 1)


def typed(main: Callable[..., int], capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, Any]:
    """A command in this process: its exit code and its document."""
    capsys.readouterr()
    code = main([*words, "--json"])
    captured = capsys.readouterr()
    sys.stderr.write(captured.err)  # where it fails, the log says why
    return code, json.loads(captured.out)


def no_secret_below(root: Path, kaggle: Platform) -> None:
    """Nothing that the platform ever issued is in any file there."""
    for path in root.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        assert not [secret for secret in kaggle.issued_secrets if secret.encode() in data], path


def child_environment(kaggle: Platform, home: Path) -> dict[str, str]:
    """Of a driver in a process of its own."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment(kaggle, home)}
