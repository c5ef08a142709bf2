"""What a session installs is what pyproject.toml asks for, in the versions of constraints.txt."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from engine.assets import asset
from engine.kaggle.session.requirements import CORE, DEVICES, TRAIN, names_for, packages, pins, to_install


def _names(entries: list[str]) -> set[str]:
    return {re.match(r"[a-z0-9.-]+", entry)[0].replace(".", "-") for entry in entries}  # type: ignore[index]


def test_the_names_are_those_of_pyproject(repository: Path) -> None:
    """Core and the extra `train`; gpu and tpu add jax's own extra."""
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(CORE) == _names(project["dependencies"])
    extras = project["optional-dependencies"]
    assert set(TRAIN) == _names(extras["train"])
    assert [DEVICES[name][0] for name in ("gpu", "tpu")] == [extras[name][1] for name in ("gpu", "tpu")]


def test_the_constraints_that_travel_are_the_projects(repository: Path) -> None:
    """`make constraints` writes both; without: sed -n '/^# By hand/q;/^[^#]/p' constraints.txt > templates/kaggle/constraints.txt."""
    ours = (repository / "constraints.txt").read_text(encoding="utf-8").split("# By hand")[0].splitlines()
    travels = asset("templates", "kaggle", "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert travels == [line for line in ours if not line.startswith("#")]


@pytest.mark.parametrize("version", [(3, 11, 9), (3, 12, 0), (3, 13, 1)])
@pytest.mark.parametrize("device", DEVICES)
def test_every_package_that_is_checked_is_pinned(device: str, version: tuple[int, int, int]) -> None:
    """On each Python, for each device; jax and jaxlib are a pair."""
    pinned = pins(asset("templates", "kaggle", "constraints.txt").read_text(encoding="utf-8"), version)
    assert set(names_for(device)) <= set(pinned)
    assert pinned["jax"] == pinned["jaxlib"] == pinned["jax-cuda12-plugin"]
    assert set(to_install(device)) - {"jax[cuda12]", "jax[tpu]"} <= set(pinned)


def test_a_package_that_is_there_in_another_version_does_not_fit() -> None:
    """Equal, other, absent: asked of an interpreter, nothing imported."""
    import sys

    rows = packages(
        Path(sys.executable), {"pytest": "0.0.1", "surely-not-installed": "1"}, ["pytest", "surely-not-installed"]
    )
    assert [row.fits for row in rows] == [False, False]
    assert [str(row) for row in rows][1] == "surely-not-installed 1"
    assert rows[0].found is not None
    assert packages(Path(sys.executable), {"pytest": rows[0].found}, ["pytest"])[0].fits
