"""The cluster that the environment variables describe: exact, or refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.errors import InputInvalid
from engine.protocol.jobs import Cluster
from engine.trainer_process.cluster import cluster_of, process_of

THREE = {"RUNSPEC_COORDINATOR": "10.0.0.1:8476", "RUNSPEC_NUM_PROCESSES": "4", "RUNSPEC_PROCESS_ID": "2"}


def test_the_variables_override_the_declaration():
    """They are set for this run and count whatever the run-spec says; a single process is not a cluster."""
    wanted = Cluster(coordinator_address="10.0.0.1:8476", num_processes=4, process_id=2, join_seconds=3600)
    assert cluster_of("none", THREE) == cluster_of("auto", THREE) == wanted
    assert process_of(wanted, {"SLURM_PROCID": "7"}) == 2
    assert cluster_of("auto", {**THREE, "RUNSPEC_NUM_PROCESSES": "1", "RUNSPEC_PROCESS_ID": "0"}) is None
    assert cluster_of("none", {**THREE, "RUNSPEC_JOIN_SECONDS": "30"}) == replace(wanted, join_seconds=30)


@pytest.mark.parametrize("name", ["SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "JOB_COMPLETION_INDEX", "TPU_WORKER_ID"])
def test_the_cluster_sets_the_number_of_a_process(name):
    """With auto the number is the cluster's; without a variable it is 0."""
    assert process_of(cluster_of("auto", {name: "3"}), {name: "3"}) == 3
    assert process_of(cluster_of("auto", {}), {}) == 0
    assert process_of(cluster_of("none", {name: "3"}), {name: "3"}) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RUNSPEC_PROCESS_ID": ""}, "RUNSPEC_COORDINATOR and RUNSPEC_NUM_PROCESSES are set, RUNSPEC_PROCESS_ID not"),
        ({"RUNSPEC_COORDINATOR": "10.0.0.1"}, 'RUNSPEC_COORDINATOR is "10.0.0.1", which is not host:port'),
        ({"RUNSPEC_COORDINATOR": "10.0.0.1:99999"}, 'RUNSPEC_COORDINATOR is "10.0.0.1:99999", which is not host:port'),
        ({"RUNSPEC_NUM_PROCESSES": "four"}, 'RUNSPEC_NUM_PROCESSES is "four", which is not a number'),
        ({"RUNSPEC_PROCESS_ID": "4"}, "RUNSPEC_PROCESS_ID is 4, and there are 4 processes: 0 to 3"),
    ],
)
def test_contradictory_variables_are_refused(changes, message):
    """R205, with what each process needs."""
    with pytest.raises(InputInvalid) as error:
        cluster_of("none", {**THREE, **changes})
    assert (error.value.code, error.value.diagnostics[0].message) == ("R205", message)
    assert error.value.hint == (
        "each process needs RUNSPEC_COORDINATOR (host:port of process 0), RUNSPEC_NUM_PROCESSES and RUNSPEC_PROCESS_ID "
        "(0, 1, …); unset all three to train in one process"
    )
