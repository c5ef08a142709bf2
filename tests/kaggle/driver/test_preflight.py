"""What Kaggle would refuse is said before anything is pushed: all of it at once, each with what helps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.runspec.model import needs_token
from tests.kaggle.driver.stand_ins import load_toy, log_of, outcome, unfinished
from tests.kaggle.platform.platform import Platform
from tests.kaggle.platform.session.scripted import Script


def told(done: Any) -> list[tuple[str, str]]:
    return [(row["code"], row["message"]) for row in done.document["diagnostics"]]


def write_log(project: Path, seconds: float, platform: str) -> None:
    """The log of a smoke run here."""
    rows = [
        {"event": "step_started", "uses": "smoke_run"},
        {"event": "train_started", "platform": platform},
        {"event": "train_step", "seconds": 40 * seconds, "warm_up": True},
        {"event": "train_step", "seconds": seconds},
        {"event": "step_started", "uses": "train_sft"},
        {"event": "train_step", "seconds": 0.001},
    ]
    path = project / ".runspec" / "logs" / "toy_v1.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("not JSON\n" + "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_everything_is_said_at_once(
    run: Callable[..., Any], runspec: Callable[..., Any], project: Path, kaggle: Platform
) -> None:
    """An empty quota and two running sessions, in one answer; nothing is pushed."""
    kaggle.script(Script(running_seconds=float("inf")))
    for run_version in ("one", "two"):
        text = (project / "runspecs" / "toy.yaml").read_text().replace("toy_v1", run_version)
        (project / "runspecs" / f"{run_version}.yaml").write_text(text)
        runspec("kaggle", "push", f"runspecs/{run_version}.yaml", "--target", "kaggle-t4x2")
    kaggle.quota.used["GPU"] = kaggle.quota.allowed["GPU"]
    done = run("--json")
    assert done.code == 8
    assert told(done) == [
        ("G220", "the week's GPU quota is used: 0.0s of 30h 00m of GPU are left this week"),
        (
            "G221",
            "2 GPU sessions of yours run or wait, and Kaggle allows 2: someone/runspec-two (version 1), someone/runspec-one (version 1)",
        ),
    ]
    assert len(kaggle.kernels) == 2


def test_the_session_fits_into_what_is_left(run: Callable[..., Any], kaggle: Platform) -> None:
    """Without a declared limit it ends half an hour before the quota does; a declared one is never shortened."""
    kaggle.quota.used["GPU"] = kaggle.quota.allowed["GPU"] - 2 * 3600
    declared = run("--session-limit", "3h", "--json")
    assert told(declared) == [
        ("G220", "2h 00m of 30h 00m of GPU are left this week, and a session of 3h 30m was asked for")
    ]
    assert run().code != 2
    assert kaggle.version("someone/runspec-toy-v1").request["sessionTimeoutSeconds"] == 2 * 3600


@pytest.mark.parametrize(
    ("seconds", "platform", "said"), [(20_000.0, "gpu", "G220"), (2.0, "gpu", ""), (20_000.0, "cpu", "")]
)
def test_the_time_is_foretold_by_the_smoke_run_here(
    seconds: float, platform: str, said: str, runspec: Callable[..., Any], project: Path, kaggle: Platform
) -> None:
    """Where it ran on such a device, and by its steady train step; a run that is longer than the week's quota is told."""
    write_log(project, seconds, platform)
    kaggle.quota.used["GPU"] = kaggle.quota.allowed["GPU"] - 20 * 3600
    done = runspec("kaggle", "push", "runspecs/toy.yaml", "--target", "kaggle-t4x2", "--json")
    assert [code for code, _ in told(done)] == [said] if said else done.code == 0
    if said:
        message = told(done)[0][1]
        assert (
            message
            == "20h 00m of 30h 00m of GPU are left this week, and the run takes about 22h 13m (20000.00 s a train step in the smoke run here)"
        )
        assert (
            runspec("kaggle", "push", "runspecs/toy.yaml", "--target", "kaggle-t4x2", "--session-limit", "8h").code == 0
        )
    else:
        assert ("s a train step in the smoke run here" in done.err) is (platform == "gpu")


def test_the_sessions_before_foretell_the_rest(run: Callable[..., Any], kaggle: Platform) -> None:
    """Two train steps in ten minutes: the other two take ten more."""
    first, _ = unfinished(2)
    kaggle.script(Script(files=first, log=log_of), Script(files=outcome, log=log_of))
    assert "the run takes about 10m 00s (300.00 s a train step in the sessions before)" in run().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--target", "kaggle-p100"), "G223", "kaggle-p100 is gone"),
        (("--target", "kaggle-t4"), "G223", '"single T4 is not supported"'),
        (("--target", "h100"), "G223", "h100 is no machine of Kaggle's"),
        (("--target", "kaggle-t4x3"), "U116", "there is no target"),
        ((), "G225", "device is auto"),
        (("--target", "cpu", "--session-limit", "11h45m"), "G226", "does not fit cpu: from 10m to 11h30m"),
        (("--target", "kaggle-v5e-8", "--session-limit", "8h45m"), "G226", "from 10m to 8h30m"),
        (("--target", "cpu", "--session-limit", "soon"), "G226", "--session-limit"),
        (("--target", "cpu", "--notebook", "My_Run"), "G202", 'Kaggle would change the name "My_Run" to "my-run"'),
        (("--target", "cpu", "--notebook", "run"), "G202", "5 to 50"),
        (("--target", "cpu", "--notebook", "a/b/c"), "G202", "not the name of a notebook"),
    ],
)  # fmt: skip
def test_what_is_typed_wrongly(
    words: tuple[str, ...], code: str, said: str, runspec: Callable[..., Any], kaggle: Platform
) -> None:
    """Exit code 2 before anything is made there."""
    done = runspec("kaggle", "push", "runspecs/toy.yaml", *words, "--json")
    assert done.code == 2
    ((found, message),) = told(done)
    assert found == code
    assert said in message
    assert not kaggle.kernels


@pytest.mark.parametrize("failure", ["server_error", "unknown_fields"])
def test_what_cannot_be_looked_at_does_not_stop_a_push(
    failure: str, runspec: Callable[..., Any], kaggle: Platform
) -> None:
    """It is said."""
    kaggle.fail(failure, on=("ListKernels", "GetAcceleratorQuotaStatistics"))
    done = runspec("kaggle", "push", "runspecs/toy.yaml", "--target", "kaggle-t4x2")
    assert done.code == 0
    assert done.err.count("cannot be looked up now") == 3 * (failure == "server_error")


def test_no_image_is_ever_named(runspec: Callable[..., Any], kaggle: Platform) -> None:
    """A TPU session with an image of another kind runs on a CPU, without an error."""
    runspec("kaggle", "push", "runspecs/toy.yaml", "--target", "kaggle-v5e-8")
    version = kaggle.version("someone/runspec-toy-v1")
    assert (version.request["machineShape"], "dockerImage" in version.request, version.machine.image) == (
        "TpuV5E8", False, "gcr.io/kaggle-images/python-tpuvm@sha256:0"
    )  # fmt: skip
    assert "kaggle" not in json.loads(version.text)["metadata"]


def test_a_model_of_kaggle_is_a_source_and_needs_no_token(
    runspec: Callable[..., Any], project: Path, kaggle: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is mounted; what it takes is one consent, which is said with the page."""
    handle = "google/gemma/transformers/2b/3"
    kaggle.add_model(handle, {"config.json": "{}"})
    text = json.loads((project / "runspecs" / "toy.yaml").read_text())
    text["model"] = {"kaggle": handle}
    (project / "runspecs" / "toy.yaml").write_text(json.dumps(text))
    spec, _ = load_toy("runspecs/toy.yaml")
    assert not needs_token(spec)
    done = runspec("kaggle", "push", "runspecs/toy.yaml", "--target", "kaggle-t4x2")
    assert done.code == 0, done.err
    assert kaggle.version("someone/runspec-toy-v1").request["modelDataSources"] == [handle]
    assert "needs your consent once: https://www.kaggle.com/models/google/gemma" in done.err


def test_a_model_of_the_hub_may_need_what_a_push_detaches(
    runspec: Callable[..., Any], project: Path, kaggle: Platform
) -> None:
    """Said before the push, with the way that needs no token; a model of Kaggle's needs one consent."""
    spec = project / "runspecs" / "toy.yaml"
    document = json.loads(spec.read_text())
    said = {}
    kaggle.add_model("google/gemma/transformers/2b/3", {"config.json": b"{}"})
    for name, model in (
        ("hub", {"id": "google/gemma-2b"}),
        ("kaggle", {"kaggle": "google/gemma/transformers/2b/3"}),
    ):
        spec.write_text(json.dumps({**document, "run_version": f"{name}_v1", "model": model}))
        done = runspec("kaggle", "push", "runspecs/toy.yaml", "--target", "cpu")
        assert done.code == 0, done.err
        said[name] = done.err
    assert "the session needs the secret HF_TOKEN, and a push from outside detaches secrets" in said["hub"]
    assert "HF_TOKEN" not in said["kaggle"]
    assert "needs your consent once: https://www.kaggle.com/models/google/gemma" in said["kaggle"]
