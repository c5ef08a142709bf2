"""Where a notebook runs, and the folders that it has there: Kaggle, Colab, or a Jupyter of one's own.

In: the environment. Out: the :class:`Place`. The root is found by :mod:`engine.protocol.kaggle_models`, where the trainer asks too.

    >>> place({"KAGGLE_KERNEL_RUN_TYPE": "Batch"}).output.as_posix()
    '/kaggle/working'
    >>> place({"KAGGLE_KERNEL_RUN_TYPE": "Batch", "RUNSPEC_KAGGLE_ROOT": "/tmp/stand-in"}).output.as_posix()
    '/tmp/stand-in/working'
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.protocol.kaggle_models import SESSION_VARIABLE, kaggle_root

PlaceName = Literal["kaggle", "colab", "jupyter"]

SCRATCH_VARIABLE = "RUNSPEC_SCRATCH"
COLAB_PREFIX = "COLAB_"
OUTPUT = "runspec_output"
IMAGE_DATE = Path("/etc/build_date")


@dataclass(frozen=True, slots=True)
class Place:
    """``output``: what the platform keeps; ``scratch``: where the heavy work is done; ``root``: Kaggle's, or its stand-in's."""

    name: PlaceName
    root: Path
    output: Path
    scratch: Path

    @property
    def inputs(self) -> Path:
        """Where Kaggle mounts datasets, models and the outputs of other notebooks."""
        return self.root / "input"


def name_of(environ: Mapping[str, str]) -> PlaceName:
    """By the variables that the platforms set.

    >>> name_of({"COLAB_RELEASE_TAG": "release"}), name_of({})
    ('colab', 'jupyter')
    """
    if environ.get(SESSION_VARIABLE):
        return "kaggle"
    return "colab" if any(name.startswith(COLAB_PREFIX) for name in environ) else "jupyter"


def place(environ: Mapping[str, str]) -> Place:
    """Its folders. A Jupyter of one's own may share its temporary folder with others: there the work is beside the output."""
    name, root = name_of(environ), kaggle_root(environ)
    output = root / "working" if name == "kaggle" else Path(OUTPUT).absolute()
    usual = output / ".scratch" if name == "jupyter" else Path(tempfile.gettempdir(), "runspec")
    return Place(name, root, output, Path(environ.get(SCRATCH_VARIABLE) or usual).absolute())


def image_date() -> str | None:
    """The day on which Kaggle's image was built; None elsewhere."""
    try:
        return IMAGE_DATE.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None
