"""The wheel, built for real and installed with the light core only into an empty environment elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

Runspec = Callable[..., "subprocess.CompletedProcess[str]"]

# Of the machine's own environment pip needs its settings; what points at this checkout must not come along.
_LEFT_BEHIND = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_USER", "PIP_TARGET", "PIP_PREFIX")


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel in it."""

    root: Path
    wheel: Path
    environment: Mapping[str, str]

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.root / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Its site-packages."""
        return next(self.root.glob("lib/python*/site-packages"))

    def runspec(self, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Call the installed command as a person would, far from the checkout."""
        return subprocess.run(
            [str(self.root / "bin" / "runspec"), *words],
            cwd=cwd, env=dict(self.environment), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip


def _call(words: list[str], environment: Mapping[str, str], cwd: Path) -> None:
    done = subprocess.run(
        words, env=dict(environment), cwd=cwd, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="session")
def light(repository: Path, tmp_path_factory: pytest.TempPathFactory, real_environment: Mapping[str, str]) -> Installed:
    """Build the wheel from the checkout, then install it with the core dependencies and nothing else."""
    folder = tmp_path_factory.mktemp("light")
    environment = {name: value for name, value in real_environment.items() if name not in _LEFT_BEHIND}
    python = [sys.executable, "-m"]
    _call(
        [*python, "build", "--wheel", "--no-isolation", "--outdir", str(folder / "dist"), str(repository)],
        environment,
        folder,
    )
    wheel = next((folder / "dist").glob("*.whl"))
    # The pip that runs the tests installs into the new environment: no second pip is needed there.
    _call([*python, "venv", "--without-pip", str(folder / "venv")], environment, folder)
    into = ["--python", str(folder / "venv" / "bin" / "python")]
    _call(
        [
            *python, "pip", *into, "install", "--quiet", "--disable-pip-version-check",
            "--only-binary", ":all:", "--constraint", str(repository / "constraints.txt"), str(wheel),
        ],
        environment,
        folder,
    )  # fmt: skip
    clean = {name: value for name, value in os.environ.items() if name not in _LEFT_BEHIND}
    return Installed(folder / "venv", wheel, clean)
