"""Which processes train together: the run-spec's declaration and this process's environment variables.

In: ``cluster`` of a train_sft step and the environment. Out: the ``cluster`` of the trainer's job (see
engine.trainer.distributed.processes), and whether this process is the first, which does the run, or one that only trains along.

    RUNSPEC_COORDINATOR=10.0.0.1:8476 RUNSPEC_NUM_PROCESSES=4 RUNSPEC_PROCESS_ID=2    # on each machine its own number

    >>> cluster_of("none", {})
    >>> from engine.protocol.jobs import Cluster
    >>> cluster_of("auto", {"SLURM_PROCID": "3"}).how, process_of(Cluster(how="auto"), {"SLURM_PROCID": "3"})
    ('auto', 3)

The variables override the declaration: they are set for this very run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.errors import InputInvalid

if TYPE_CHECKING:
    from engine.protocol.jobs import Cluster

COORDINATOR, COUNT, PROCESS = "RUNSPEC_COORDINATOR", "RUNSPEC_NUM_PROCESSES", "RUNSPEC_PROCESS_ID"
JOIN_SECONDS = "RUNSPEC_JOIN_SECONDS"
# The other processes wait while process 0 makes the dataset and does the smoke run.
LONGEST_WAIT = 3600
# The variable with a process's number: SLURM, Open MPI, a Kubernetes indexed job (JobSet), Cloud TPU.
NUMBERS = ("SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "JOB_COMPLETION_INDEX", "TPU_WORKER_ID")


def cluster_of(declared: str, environment: Mapping[str, str]) -> Cluster | None:
    """The job's ``cluster``; None for one process alone. Raises InputInvalid R205 for contradictory variables."""
    names = (COORDINATOR, COUNT, PROCESS)
    present = [name for name in names if environment.get(name)]
    if not present and declared != "auto":
        return None
    from engine.protocol.jobs import Cluster  # most runs are of one process, and never pay for it

    if not present:
        return Cluster(how="auto")
    missing = [name for name in names if name not in present]
    if missing:
        raise _wrong(f"{' and '.join(present)} {'is' if len(present) == 1 else 'are'} set, {' and '.join(missing)} not")
    address = environment[COORDINATOR]
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise _wrong(f'{COORDINATOR} is "{address}", which is not host:port')
    count, process = (_number(name, environment) for name in (COUNT, PROCESS))
    if not 0 <= process < count:
        raise _wrong(f"{PROCESS} is {process}, and there are {count} processes: 0 to {count - 1}")
    seconds = _number(JOIN_SECONDS, environment) if environment.get(JOIN_SECONDS) else LONGEST_WAIT
    if count == 1:
        return None
    return Cluster(coordinator_address=address, num_processes=count, process_id=process, join_seconds=seconds)


def process_of(cluster: Cluster | None, environment: Mapping[str, str]) -> int:
    """The number of this process; process 0 does the run."""
    if cluster is None:
        return 0
    if cluster.process_id is not None:
        return cluster.process_id
    return next((int(environment[name]) for name in NUMBERS if environment.get(name, "").isdigit()), 0)


def _number(name: str, environment: Mapping[str, str]) -> int:
    text = environment[name]
    if not text.isdigit():
        raise _wrong(f'{name} is "{text}", which is not a number')
    return int(text)


def _wrong(message: str) -> InputInvalid:
    return InputInvalid(
        "R205",
        message,
        hint=f"each process needs {COORDINATOR} (host:port of process 0), {COUNT} and {PROCESS} (0, 1, …); "
        "unset all three to train in one process",
    )
