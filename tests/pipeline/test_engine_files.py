"""Which engine made a run: one digest in a checkout and installed, another one after any change."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.pipeline import engine_files as module

SAY = "import json; from engine.pipeline.engine_files import engine_files; print(json.dumps(engine_files()))"


def _said(folder: Path) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", SAY], cwd=folder, env=environment, capture_output=True, check=True)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_it_is_of_the_files_alone(repository: Path, tmp_path: Path) -> None:
    """A copy in another place, as a checkout has it and as a wheel does; then one changed template."""
    ignore = shutil.ignore_patterns("__pycache__", "_assets")
    for name in ("engine", "schemas", "templates"):
        shutil.copytree(repository / name, tmp_path / "checkout" / name, ignore=ignore)
    shutil.copytree(repository / "engine", tmp_path / "wheel" / "engine", ignore=ignore)
    for name in ("schemas", "templates"):
        shutil.copytree(repository / name, tmp_path / "wheel" / "engine" / "_assets" / name)
    here = module.engine_files()["tree"]
    assert _said(tmp_path / "checkout")["tree"] == _said(tmp_path / "wheel")["tree"] == here
    with (tmp_path / "checkout" / "templates" / "README.txt.j2").open("a") as stream:
        stream.write("\n")
    assert _said(tmp_path / "checkout")["tree"] != here


@pytest.mark.parametrize(
    ("noted", "wheel"),
    [
        ({"url": "file:///w.whl", "archive_info": {"hashes": {"sha256": "a" * 64}}}, "a" * 64),
        ({"url": "file:///checkout", "dir_info": {"editable": True}}, None),
        ([], None),
        (None, None),
    ],
)
def test_the_wheel_is_what_pip_noted(monkeypatch: pytest.MonkeyPatch, noted: Any, wheel: str | None) -> None:
    """PEP 610; an editable install and one from an index have no digest there."""

    class Installed:
        @staticmethod
        def read_text(_: str) -> str | None:
            return None if noted is None else json.dumps(noted)

    monkeypatch.setattr(module, "distribution", lambda _: Installed)
    assert module._wheel() == wheel
