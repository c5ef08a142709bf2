"""What a push is refused for, what it silently loses, what it becomes."""

from __future__ import annotations

import json

import pytest

from tests.kaggle.platform.plain import Plain
from tests.kaggle.platform.platform import Platform
from tests.kaggle.platform.session.scripted import Script

FOREVER = Script(running_seconds=float("inf"))


def test_a_push_is_a_version_with_a_session(kaggle: Platform, api: Plain) -> None:
    """Number, address and kernel's number are in the answer; the next push is the next version of the same kernel."""
    first, second = api.push().json, api.push(text='{"a": 1}').json
    assert first == {
        "ref": "/code/someone/my-run", "url": "https://www.kaggle.com/code/someone/my-run",
        "versionNumber": 1, "kernelId": first["kernelId"],
    }  # fmt: skip
    assert (second["versionNumber"], second["kernelId"]) == (2, first["kernelId"])
    assert [kaggle.version(f"someone/my-run/{number}").text for number in (1, 2)] == ["{}", '{"a": 1}']


@pytest.mark.parametrize(
    "body", [{"slug": "other/my-run"}, {"newTitle": "Another title"}, {"slug": ""}], ids=["owner", "title", "none"]
)
def test_a_name_that_is_not_yours_is_not_found(kaggle: Platform, api: Plain, body: dict[str, str]) -> None:
    """The refusal is an answer with HTTP 200, and nothing is saved."""
    answer = api.push(**body)
    assert (answer.status, answer.json) == (200, {"error": "Notebook not found"})
    assert not kaggle.kernels


@pytest.mark.parametrize(
    ("shape", "kind", "most"), [("NvidiaTeslaT4", "GPU", 2), ("TpuV5E8", "TPU", 1), ("", "CPU", 5)]
)
def test_so_many_sessions_and_no_more(kaggle: Platform, api: Plain, shape: str, kind: str, most: int) -> None:
    """One more is refused while they are under way; once one is over there is place again."""
    kaggle.script(FOREVER)
    for number in range(most):
        assert "error" not in api.push(f"run-{number}", machineShape=shape).json
    assert api.push("one-more", machineShape=shape).json == {
        "error": f"Maximum batch {kind} session count of {most} reached."
    }
    kaggle.session("someone/run-0").fail("out of memory")
    assert "error" not in api.push("one-more", machineShape=shape).json


@pytest.mark.parametrize(("shape", "kind", "hours"), [("NvidiaTeslaT4", "GPU", "30.00"), ("TpuV5E8", "TPU", "20.00")])
def test_hours_run_out_and_come_back(kaggle: Platform, api: Plain, shape: str, kind: str, hours: str) -> None:
    """What sessions ran counts; a new week begins at the time that the answer names."""
    kaggle.script(Script(running_seconds=float("inf")), Script())
    kaggle.quota.used[kind] = kaggle.quota.allowed[kind] - 3600
    api.push(machineShape=shape, sessionTimeoutSeconds=3600)
    kaggle.clock.advance(3600)
    refused = api.push(machineShape=shape).json
    assert refused == {"error": f"Maximum weekly {kind} quota of {hours} hours reached."}
    kaggle.clock.advance(7 * 24 * 3600)
    assert "error" not in api.push(machineShape=shape).json


def test_quota_counts_what_ran(kaggle: Platform, api: Plain) -> None:
    """A session of ten minutes is 600 seconds of its own kind, none of the other."""
    kaggle.script(Script(queued_seconds=300, running_seconds=600))
    api.push(machineShape="NvidiaTeslaT4")
    kaggle.clock.advance(3000)
    answer = api.call("GetAcceleratorQuotaStatistics").json
    assert (answer["gpuQuota"]["timeUsed"], answer["tpuQuota"]["timeUsed"]) == ("600s", "0s")


def test_sources_that_are_not_valid_are_dropped_and_named(kaggle: Platform, api: Plain) -> None:
    """Each kind in its own list; what is valid is attached."""
    kaggle.add_dataset("someone/mine", {"a.txt": "a"})
    kaggle.add_dataset("other/theirs", {"a.txt": "a"})
    kaggle.add_model("google/gemma/transformers/2b/3", {"config.json": "{}"}, gated=True)
    kaggle.add_model("google/open/flax/2b/1", {"config.json": "{}"})
    kaggle.add_competition("titanic", {"train.csv": ""})
    api.push("earlier-run")
    answer = api.push(
        datasetDataSources=["someone/mine", "other/theirs", "someone/none"],
        kernelDataSources=["someone/earlier-run", "someone/never-run"],
        competitionDataSources=["titanic", "atlantic"],
        modelDataSources=[
            "google/open/flax/2b/1",
            "google/gemma/transformers/2b/3",
            "google/open/flax/2b",
            "google/open",
        ],
        categoryIds=["fine", "not a tag"],
    ).json
    assert {key: names for key, names in answer.items() if key.startswith("invalid")} == {
        "invalidDatasetSources": ["other/theirs", "someone/none"],
        "invalidKernelSources": ["someone/never-run"],
        "invalidCompetitionSources": ["atlantic"],
        "invalidModelSources": ["google/gemma/transformers/2b/3", "google/open"],
        "invalidTags": ["not a tag"],
    }
    assert kaggle.version("someone/my-run").sources == {
        "datasetDataSources": ["someone/mine"],
        "kernelDataSources": ["someone/earlier-run"],
        "competitionDataSources": ["titanic"],
        "modelDataSources": ["google/open/flax/2b/1", "google/open/flax/2b"],
    }


def test_a_source_of_a_megabyte_is_refused(kaggle: Platform, api: Plain) -> None:
    """HTTP 400 with the platform's sentence; one byte less is taken."""
    refused = api.push(text="x" * 1_000_000)
    assert refused.status == 400
    assert refused.json["message"] == "The kernel source must be less than 1 megabytes in size."
    assert not kaggle.kernels
    assert api.push(text="x" * 999_999).status == 200


@pytest.mark.parametrize(
    ("asked", "shape", "image"),
    [
        ("NvidiaTeslaT4", "NvidiaTeslaT4", "GPU"),
        ("NvidiaTeslaP100", "NvidiaTeslaT4", "GPU"),
        ("TpuV38", "TpuV5E8", "TPU"),
        ("Tpu1VmV38", "TpuV5E8", "TPU"),
        ("tpuv232", "", "CPU"),
        ("NvidiaH100", "", "CPU"),
    ],
)
def test_accelerators_are_substituted_without_a_word(
    kaggle: Platform, api: Plain, asked: str, shape: str, image: str
) -> None:
    """The answer of the push is the same; GetKernel says what it became."""
    assert set(api.push(machineShape=asked).json) == {"ref", "url", "versionNumber", "kernelId"}
    machine = kaggle.version("someone/my-run").machine
    assert (machine.shape, machine.image_kind) == (shape, image)
    assert api.about("GetKernel").json["metadata"].get("machineShape", "") == shape


@pytest.mark.parametrize(
    "body",
    [
        {"dockerImage": "gcr.io/kaggle-gpu-images/python@sha256:0"},
        {"dockerImage": "gcr.io/somebody/else@sha256:0"},
        {"text": json.dumps({"metadata": {"kaggle": {"accelerator": "none"}}})},
        {"text": json.dumps({"metadata": {"kaggle": {"dockerImageVersionId": 1}}})},
    ],
    ids=["gpu image", "other image", "accelerator", "image id"],
)
def test_the_tpu_trap(kaggle: Platform, api: Plain, body: dict[str, str]) -> None:
    """An image of another kind, or a `kaggle` key in the notebook: a TPU session on a CPU or GPU image, without an error."""
    assert "error" not in api.push(machineShape="TpuV5E8", **body).json
    machine = kaggle.version("someone/my-run").machine
    assert machine.shape == "TpuV5E8"
    assert machine.image_kind != "TPU"


def test_a_quick_save_runs_nothing(kaggle: Platform, api: Plain) -> None:
    """A version without a session: the word is NEW_SCRIPT, the version is the current one."""
    assert api.push(kernelExecutionType="QUICK_SAVE").json["versionNumber"] == 1
    assert kaggle.version("someone/my-run").session is None
    assert api.status() == "NEW_SCRIPT"
    assert api.about("GetKernel").json["metadata"]["currentVersionNumber"] == 1


def test_what_a_push_says_comes_back(kaggle: Platform, api: Plain) -> None:
    """GetKernel has the source and the words of that version; another version has its own."""
    api.push(text='{"one": 1}', language="python", kernelType="notebook", enableInternet=True)
    api.push(text="two", language="r", kernelType="script", machineShape="NvidiaTeslaT4")
    first, second = (api.about("GetKernel", version=number).json for number in (1, 2))
    assert first["blob"] == {"source": '{"one": 1}', "language": "python", "kernelType": "notebook", "slug": "my-run"}
    assert second["blob"] == {"source": "two", "language": "r", "kernelType": "script", "slug": "my-run"}
    assert (second["metadata"]["language"], second["metadata"]["kernelType"]) == ("r", "script")
    shown = [(one["metadata"]["enableInternet"], one["metadata"]["enableGpu"]) for one in (first, second)]
    assert shown == [(True, False), (False, True)]
    assert {one["metadata"]["currentVersionNumber"] for one in (first, second)} == {2}


def test_a_push_detaches_secrets(kaggle: Platform, api: Plain) -> None:
    """What was attached before is gone after it."""
    api.push()
    kaggle.add_secret("HF_TOKEN", "made-up", attach_to="someone/my-run")
    assert kaggle.kernels["someone/my-run"].attached_secrets == {"HF_TOKEN"}
    api.push()
    assert not kaggle.kernels["someone/my-run"].attached_secrets
