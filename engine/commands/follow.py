"""What ``runspec run`` does in a process that is not the first of a cluster: it trains along, and nothing else.

In: the run-spec, this process's place. Out: a reply when the trainings of the run are over. Process 0 makes datasets,
smoke runs, checkpoints, evidence; its trainer tells the others what to do (engine.trainer.peers).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.child import ask_trainer
from engine.cluster import cluster_of, process_of
from engine.commands import Reply
from engine.runner import stop_on_signals

if TYPE_CHECKING:
    from engine.spec.model import Spec


def place_in_cluster(spec: Spec) -> tuple[dict[str, Any], int] | None:
    """(the trainer's ``cluster``, this process's number) where it is not the first. Raises InputInvalid R205."""
    declared = {str(step.args["cluster"]) for step in spec.steps if "cluster" in step.args}
    cluster = cluster_of("auto" if "auto" in declared else "none", os.environ) if declared else None
    process = process_of(cluster, os.environ)
    return (cluster, process) if cluster is not None and process else None


def follow(spec: Spec, cluster: Mapping[str, Any], process: int, note: Callable[[str], None]) -> Reply:
    """Train along, once for each training of the run."""
    trainings = [step.id for step in spec.steps if "cluster" in step.args]
    # Asked to stop, it waits for process 0, which was asked too: who left at once would kill the common train step.
    with stop_on_signals(note) as stop:
        for step_id in trainings:
            note(f"process {process}: waits for process 0, then trains along ({step_id})")
            with tempfile.TemporaryDirectory(prefix="runspec-follow-") as folder:
                job: dict[str, Any] = {"device": spec.device, "work": f"{folder}/work", "cluster": dict(cluster)}
                job["allocator"] = dict(spec.allocator) if spec.allocator else None
                ask_trainer("train", job, work=Path(folder), cwd=spec.root, stopping=stop)
    document = {"ok": True, "run_version": spec.run_version, "process": process, "trainings": trainings}
    return Reply(document, f"process {process}: trained along ({', '.join(trainings)}); process 0 has the results")
