"""What ``runspec run`` does in a process that is not the first of a cluster: it trains along, and nothing else.

In: the run-spec, this process's number. Out: a reply when the run's training steps are over. Process 0 makes datasets,
smoke runs, checkpoints, evidence; its trainer tells the others what to do (engine.trainer.distributed.processes).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from engine.artifacts.store import Store
from engine.commands import Reply
from engine.pipeline.plan import Selection, make_plan
from engine.pipeline.stop import stop_on_signals
from engine.temporary import working_folder
from engine.trainer_process.cluster import cluster_of, process_of

if TYPE_CHECKING:
    from engine.protocol.jobs import Cluster
    from engine.runspec.model import Spec
    from engine.steps import Handler


def follower_of(spec: Spec) -> tuple[Cluster, int] | None:
    """(the trainer's ``cluster``, this process's number) where this process is not the first, else None. Raises InputInvalid R205."""
    declared = {str(step.args["cluster"]) for step in spec.steps if "cluster" in step.args}
    cluster = cluster_of("auto" if "auto" in declared else "none", os.environ) if declared else None
    process = process_of(cluster, os.environ)
    return (cluster, process) if cluster is not None and process else None


def training_steps_ahead(spec: Spec, handlers: Mapping[str, Handler], selection: Selection) -> list[str]:
    """Ids of the training steps that process 0 will run, by the same plan as its own: all processes share the artifacts' disk.

    Steps that are done are left out: process 0 would never start them.
    """
    plan = make_plan(spec, handlers, Store(spec.root), selection)
    return [entry.step.id for entry in plan.steps if "cluster" in entry.step.args and entry.action == "run"]


def follow(spec: Spec, cluster: Cluster, number: int, step_ids: list[str], note: Callable[[str], None]) -> Reply:
    """Train along, once for each of these steps."""
    from engine.protocol.jobs import FollowJob  # a run that is not of a cluster never pays for the trainer's side
    from engine.trainer_process import host, jobs, process

    # After a stop request it waits for process 0, which got one too: leaving at once would kill the common train step.
    with stop_on_signals(note) as stop:
        for step_id in step_ids:
            note(f"process {number}: waits for process 0, then trains along ({step_id})")
            with working_folder("runspec-follow-") as folder:
                job = FollowJob(f"{folder}/work", spec.device, cluster, jobs.allocator_of(spec))
                process.run_trainer(job, host.Host(folder, spec.root, stopping=stop))
    document = {"ok": True, "run_version": spec.run_version, "process": number, "trainings": step_ids}
    if not step_ids:
        return Reply(document, f"process {number}: nothing to do, every training step is done")
    return Reply(document, f"process {number}: trained along ({', '.join(step_ids)}); process 0 has the results")
