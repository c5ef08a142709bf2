"""What the processes of one training have to have in common, and how one of them gets all of the weights.

    check_same(identity, peers)             # T174 where code, libraries or data differ from process 0's
    weights = gathered(state, whole, peers) # numpy arrays in process 0, None in the others

A leaf is on every device at once only while it is copied: no device holds the whole model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np

from engine.canonical import pretty_json
from engine.errors import Diagnostic, InputInvalid
from engine.trainer.distributed.processes import ProcessGroup


def check_same(identity: Mapping[str, Any], processes: ProcessGroup) -> None:
    """Raises InputInvalid T174 naming everything in which this process differs from process 0."""
    ours = json.loads(pretty_json(dict(identity)))
    theirs = processes.agree("identity", lambda: ours)
    differing = [name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]
    if differing:
        raise InputInvalid.of(
            Diagnostic(
                "T174",
                f"process {processes.process_id} differs from process 0: {name} is {ours.get(name)} here, "
                f"{theirs.get(name)} there",
                hint="the same engine, libraries, model and data on every machine, at the same paths",
            )
            for name in differing
        )


def gathered(tree: Any, whole: Any, processes: ProcessGroup) -> Any:
    """The whole of every leaf as numpy arrays in the process that writes, None in the others; one process: the tree."""
    if processes.count == 1:
        return tree
    everywhere = jax.jit(lambda leaf: leaf, out_shardings=whole)

    def fetch(leaf: jax.Array) -> Any:
        copy = everywhere(leaf)
        return np.array(copy.addressable_data(0)) if processes.is_writer else None

    found = jax.tree.map(fetch, tree)
    return found if processes.is_writer else None


@contextmanager
def metrics_folder(work: Path, processes: ProcessGroup) -> Iterator[Path]:
    """Where a process keeps its rows of metrics: the work folder, or, for those that do not write, one that goes away."""
    if processes.is_writer:
        yield work
        return
    with TemporaryDirectory(prefix=f"runspec-process-{processes.process_id}-") as folder:
        yield Path(folder)
