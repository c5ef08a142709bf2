"""What the processes of one training run must have in common, and how one of them gets all of the weights.

    check_same(identity, processes)                       # T174 where code, libraries or data differ from process 0's
    weights = gathered(state, replicated, processes)      # numpy arrays in process 0, None in the others

A leaf is replicated only while it is copied: no device ever holds the full model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np

from engine.canonical import pretty_json
from engine.errors import Diagnostic, InputInvalid
from engine.temporary import working_folder
from engine.trainer.distributed.placement import PyTree
from engine.trainer.distributed.processes import ProcessGroup


def check_same(identity: Mapping[str, object], processes: ProcessGroup) -> None:
    """Raises InputInvalid T174 naming everything in which this process differs from process 0."""
    local = json.loads(pretty_json(dict(identity)))
    reference = processes.agree("identity", lambda: local)
    differing = [name for name in sorted({*local, *reference}) if local.get(name) != reference.get(name)]
    if differing:
        raise InputInvalid.of(
            Diagnostic(
                "T174",
                f"process {processes.process_id} differs from process 0: {name} is {local.get(name)} here, "
                f"{reference.get(name)} there",
                hint="the same engine, libraries, model and data on every machine, at the same paths",
            )
            for name in differing
        )


def gathered(tree: PyTree, replicated: jax.sharding.Sharding | None, processes: ProcessGroup) -> PyTree:
    """Every leaf in full as a numpy array in the process that writes, None in the others; one process: the tree."""
    if processes.count == 1:
        return tree
    replicate = jax.jit(lambda leaf: leaf, out_shardings=replicated)

    def fetch(leaf: jax.Array) -> np.ndarray | None:
        copy = replicate(leaf)
        return np.array(copy.addressable_data(0)) if processes.is_writer else None

    arrays = jax.tree.map(fetch, tree)
    return arrays if processes.is_writer else None


@contextmanager
def metrics_folder(work: Path, processes: ProcessGroup) -> Iterator[Path]:
    """Where a process keeps its rows of metrics: the work folder for the writer, a temporary one for the others."""
    if processes.is_writer:
        yield work
        return
    with working_folder(f"runspec-process-{processes.process_id}-") as folder:
        yield folder
