"""What ``runspec run`` does in a process that is not the first of a cluster: it trains along, and nothing else.

In: the run-spec, this process's place. Out: a reply when the trainings of the run are over. Process 0 makes datasets,
smoke runs, checkpoints, evidence; its trainer tells the others what to do (engine.trainer.distributed.processes).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from engine.artifacts.store import Store
from engine.commands import Reply
from engine.pipeline.plan import Selection, make_plan
from engine.pipeline.runner import stop_on_signals
from engine.protocol.jobs import Cluster, FollowJob
from engine.trainer_process.cluster import cluster_of, process_of
from engine.trainer_process.jobs import allocator_of
from engine.trainer_process.process import Host, run_trainer

if TYPE_CHECKING:
    from engine.runspec.model import Spec
    from engine.steps import Handler


def place_in_cluster(spec: Spec) -> tuple[Cluster, int] | None:
    """(the trainer's ``cluster``, this process's number) where it is not the first. Raises InputInvalid R205."""
    declared = {str(step.args["cluster"]) for step in spec.steps if "cluster" in step.args}
    cluster = cluster_of("auto" if "auto" in declared else "none", os.environ) if declared else None
    process = process_of(cluster, os.environ)
    return (cluster, process) if cluster is not None and process else None


def trainings_ahead(spec: Spec, handlers: Mapping[str, Handler], selection: Selection) -> list[str]:
    """The trainings that process 0 will come to, by the plan it makes too: the artifacts lie on a disk that all share.

    Those that are done are not waited for: nobody would come.
    """
    plan = make_plan(spec, handlers, Store(spec.root), selection)
    return [entry.step.id for entry in plan.steps if "cluster" in entry.step.args and entry.action == "run"]


def follow(spec: Spec, cluster: Cluster, process: int, trainings: list[str], note: Callable[[str], None]) -> Reply:
    """Train along, once for each of ``trainings``."""
    # Asked to stop, it waits for process 0, which was asked too: who left at once would kill the common train step.
    with stop_on_signals(note) as stop:
        for step_id in trainings:
            note(f"process {process}: waits for process 0, then trains along ({step_id})")
            with tempfile.TemporaryDirectory(prefix="runspec-follow-") as folder:
                job = FollowJob(f"{folder}/work", spec.device, cluster, allocator_of(spec))
                run_trainer(job, Host(Path(folder), spec.root, stopping=stop))
    document = {"ok": True, "run_version": spec.run_version, "process": process, "trainings": trainings}
    if not trainings:
        return Reply(document, f"process {process}: nothing to do, no training is left")
    return Reply(document, f"process {process}: trained along ({', '.join(trainings)}); process 0 has the results")
