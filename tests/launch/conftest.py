"""A project whose run-spec has a launch section that tests change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.runspec import load_spec
from engine.runspec.model import Spec
from engine.steps.registry import handlers

REPOSITORY = Path(__file__).parent.parent.parent
STEPS = "      num_train_steps: 400\n"
# A training run that may be one of several processes.
QUICKSTART = (
    (REPOSITORY / "runspecs" / "quickstart.yaml")
    .read_text(encoding="utf-8")
    .replace(STEPS, f"{STEPS}      cluster: auto\n", 1)
)


@pytest.fixture
def make_spec(tmp_path: Path) -> Callable[..., Spec]:
    """The quickstart on a device of a cluster, with a launch section as YAML."""

    def make(launch: str | None, *overrides: str, device: str = "gpu", name: str = "cluster") -> Spec:
        for folder in (".runspec", "runspecs", "evalsets"):
            (tmp_path / folder).mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / "evalsets" / "quickstart.jsonl", tmp_path / "evalsets")
        path = tmp_path / "runspecs" / f"{name}.yaml"
        section = "" if launch is None else f"launch: {launch}\n"
        path.write_text(QUICKSTART.replace("\nmodel:\n", f"\ndevice: {device}\n{section}\nmodel:\n", 1))
        return load_spec(path, list(overrides), kinds=handlers())

    return make
