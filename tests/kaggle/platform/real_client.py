"""The real `kaggle` command, pointed at a platform on loopback and kept from everything else.

The extra `kaggle-parity` has it: `make kaggle-parity` runs these tests, which are skipped with a reason without it.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.kaggle.platform.platform import Platform

OLDEST = (2, 2, 5)
NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "execution_count": 1,
            "id": "a",
            "metadata": {},
            "outputs": [],
            "source": ["print('a')\n", "print('b')"],
        }
    ],
    "metadata": {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


def why_not() -> str | None:
    """The reason for which the real client cannot be run here, or None."""
    try:
        found = tuple(int(word) for word in version("kaggle").split(".")[:3])
    except PackageNotFoundError:
        return "the kaggle command is not installed here (make kaggle-parity)"
    if found < OLDEST:
        return f"the kaggle command is {version('kaggle')}; what is recorded here is 2.2.5's"
    return None if importlib.util.find_spec("six") else "the kaggle command needs six, which it does not declare"


@dataclass(frozen=True)
class Ran:
    """What the command left; ``code`` is None where it was killed because it did not come to an end."""

    code: int | None
    out: str
    err: str


class RealClient:
    """Runs `kaggle …` in a folder of its own with a home of its own."""

    def __init__(self, platform: Platform, folder: Path) -> None:
        self.platform = platform
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.token: str | None = platform.token

    def run(self, *words: str, seconds: float = 60.0, **variables: str) -> Ran:
        """One command."""
        environment = self.platform.client_env(self.home, **variables)
        if self.token is None:
            environment.pop("KAGGLE_API_TOKEN", None)
        command = [sys.executable, "-W", "ignore", "-m", "kaggle", *words]
        with subprocess.Popen(
            command, cwd=self.folder, env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            try:
                out, err = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                return Ran(None, out, err)
            return Ran(process.returncode, out, err)

    def notebook(self, text: str = json.dumps(NOTEBOOK), **metadata: Any) -> str:
        """A folder to push: a notebook, with the metadata file that the command wants."""
        folder = self.folder / "nb"
        folder.mkdir(exist_ok=True)
        (folder / "my-run.ipynb").write_text(text, encoding="utf-8")
        content = {
            "id": "someone/my-run", "title": "My run", "code_file": "my-run.ipynb", "language": "python",
            "kernel_type": "notebook", "is_private": True, "enable_gpu": False, "enable_tpu": False,
            "enable_internet": True, **metadata,
        }  # fmt: skip
        (folder / "kernel-metadata.json").write_text(json.dumps(content))
        return "nb"

    def dataset(self, slug: str = "my-data", content: bytes = b"hi\n") -> str:
        """A folder to make a dataset of."""
        folder = self.folder / "ds"
        folder.mkdir(exist_ok=True)
        (folder / "a.whl").write_bytes(content)
        about = {"id": f"someone/{slug}", "title": slug.replace("-", " "), "licenses": [{"name": "CC0-1.0"}]}
        (folder / "dataset-metadata.json").write_text(json.dumps(about))
        return "ds"
