"""The project as data, read once for all tests of the house."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from parts import source


@pytest.fixture(scope="session")
def modules(repository: Path) -> Mapping[str, source.Module]:
    """Dotted name -> module, for all of ``engine``."""
    return source.read_modules(repository)


@pytest.fixture(scope="session")
def project_files(repository: Path) -> list[Path]:
    """Every file that belongs to the project."""
    return source.project_files(repository)


@pytest.fixture(scope="session")
def texts(project_files: list[Path], repository: Path) -> Mapping[str, str]:
    """POSIX path -> text, for every text file of the project but the licence."""
    found = {}
    for path in project_files:
        name = path.relative_to(repository).as_posix()
        if path.suffix in source.TEXT_SUFFIXES and name != "LICENSE":
            found[name] = path.read_bytes().decode("utf-8", errors="replace")
    return found
