"""Our requests are the real client's: beside what was recorded of it, and beside the client itself where it is installed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kaggle.driver.stand_ins import log_of, outcome
from tests.kaggle.platform.platform import Platform
from tests.kaggle.platform.real_client import RealClient, why_not
from tests.kaggle.platform.session.scripted import Script

RECORDED = json.loads((Path(__file__).parents[1] / "platform" / "exchange.json").read_text(encoding="utf-8"))
NAME, TITLE = "someone/runspec-toy-v1", "runspec toy v1"
# Calls whose whole body must be the recorded one, but for names and versions.
CALLS = (
    "IntrospectToken",
    "GetKernelSessionStatus",
    "ListKernelSessionOutput",
    "ListKernelFiles",
    "GetKernel",
    "GetAcceleratorQuotaStatistics",
)


def recorded(operation: str) -> dict[str, Any]:
    return next(entry["request"] for entry in RECORDED if entry["path"].endswith(operation))


@pytest.fixture
def pushed(runspec: Callable[..., Any], project: Path, kaggle: Platform) -> Platform:
    """A run that was pushed and fetched."""
    kaggle.add_dataset("someone/engine", {"engine.whl": "x"})
    kaggle.script(Script(files=outcome, log=log_of))
    runspec(
        "kaggle",
        "push",
        "runspecs/toy.yaml",
        "--target",
        "kaggle-t4x2",
        "--wheel-dataset",
        "someone/engine",
        "--session-limit",
        "30m",
    )
    runspec("kaggle", "fetch", "toy_v1")
    runspec("kaggle", "logs", "toy_v1", "--follow")
    return kaggle


@pytest.mark.parametrize("operation", CALLS)
def test_each_call_has_the_recorded_body(operation: str, pushed: Platform) -> None:
    """The same fields with the same values; the names are this run's, and version 1 is its first."""
    ours = next(
        one.body
        for one in pushed.requests
        if (one.operation == operation and "versionLabel" in (one.body or {}))
        or (one.operation == operation and operation in ("IntrospectToken", "GetAcceleratorQuotaStatistics"))
    )
    theirs = recorded(operation)
    theirs |= {
        key: value for key, value in {"kernelSlug": "runspec-toy-v1", "versionLabel": "v1"}.items() if key in theirs
    }
    assert ours == theirs


def test_a_push_has_the_recorded_fields(pushed: Platform) -> None:
    """None that the real client does not send, and all of its own but the pinning of an image, which we never name."""
    ours, theirs = pushed.version(f"{NAME}/1").request, recorded("SaveKernel")
    absent = {"dockerImagePinningType", "kernelDataSources", "modelDataSources"}  # this run has no such sources
    assert set(ours) == set(theirs) - absent
    same = (
        "language",
        "kernelType",
        "isPrivate",
        "enableGpu",
        "enableTpu",
        "enableInternet",
        "machineShape",
        "sessionTimeoutSeconds",
    )
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    assert all(isinstance(cell["source"], str) for cell in json.loads(ours["text"])["cells"])


def test_the_log_stream_is_asked_for_as_recorded(pushed: Platform) -> None:
    """The version as a parameter, and both forms of an answer."""
    ours = next(one for one in pushed.requests if one.operation == "LogStream")
    assert ours.path == f"/api/v1/kernels/logs/stream/{NAME}?versionLabel=v1"
    assert ours.headers["accept"] == "text/event-stream, */*"


def test_files_are_fetched_without_credentials(pushed: Platform) -> None:
    """A signed address is another host's."""
    assert {one.auth for one in pushed.requests if one.operation == "Download"} == {"none"}


@pytest.mark.slow
def test_the_real_client_sees_and_sends_the_same_kernel(pushed: Platform, tmp_path: Path) -> None:
    """Its push of our notebook with our metadata is our request; its status, output and log are of our version."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    real = RealClient(pushed, tmp_path / "client")
    ours = pushed.version(f"{NAME}/1").request
    folder = real.folder / "nb"
    folder.mkdir()
    (folder / "run.ipynb").write_text(ours["text"], encoding="utf-8")
    metadata = {"id": NAME, "title": TITLE, "code_file": "run.ipynb", "language": "python", "kernel_type": "notebook",
                "is_private": True, "enable_gpu": False, "enable_tpu": False, "enable_internet": True,
                "dataset_sources": ["someone/engine"], "machine_shape": "NvidiaTeslaT4"}  # fmt: skip
    (folder / "kernel-metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    said = real.run("kernels", "push", "-p", "nb", "-t", "3600")
    assert "Kernel version 2 successfully pushed" in said.out, said
    theirs = pushed.version(f"{NAME}/2").request
    assert {**theirs, "text": json.loads(theirs["text"])} == {**ours, "text": json.loads(ours["text"])}
    assert '"KernelWorkerStatus.COMPLETE"' in real.run("kernels", "status", f"{NAME}/1").out
    real.run("kernels", "list", "--mine", "--sort-by", "dateRun", "--page", "1")
    lists = [one.body for one in pushed.requests if one.operation == "ListKernels"]
    assert lists[0] == lists[-1]
    real.run("kernels", "output", f"{NAME}/1", "-p", "out")
    assert (real.folder / "out" / "outcome.json").read_text() == outcome(pushed.version(f"{NAME}/1"))["outcome.json"]
