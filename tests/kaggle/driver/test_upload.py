"""Files that are too large for a notebook go there as a private dataset: once, whole, and ready before the push."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.canonical import digest_file
from engine.kaggle.driver.story import read_story
from tests.kaggle.platform.platform import Platform

PUSH = ("kaggle", "push", "runspecs/toy.yaml", "--target", "cpu", "--upload-data", "--json")


def code_of(done: Any) -> str:
    return "" if done.code == 0 else str(done.document["diagnostics"][0]["code"])


def operations(kaggle: Platform) -> list[str]:
    return [one.operation for one in kaggle.requests]


def test_the_files_are_a_private_source_of_the_notebook(
    runspec: Callable[..., Any], project: Path, kaggle: Platform
) -> None:
    """Named by their digest: a second push uploads nothing."""
    assert runspec(*PUSH).code == 0
    ((name, dataset),) = kaggle.world.datasets.items()
    assert dataset.is_private
    assert kaggle.version("someone/runspec-toy-v1").request["datasetDataSources"] == [name]
    digest = digest_file(project / "items.jsonl")
    assert f"data_files=(('items.jsonl', 'items.jsonl', '{digest}'),)" in kaggle.version("someone/runspec-toy-v1").text
    runspec("kaggle", "fetch", "toy_v1")
    assert runspec(*PUSH, "--again").code == 0
    assert operations(kaggle).count("Upload") == 1


@pytest.mark.parametrize(
    ("failure", "times", "on"),
    [("upload_interrupted", 1, ()), ("upload_expired", 1, ()), ("connection_cut", 1, "CreateDataset"), ("answer_cut", 1, "CreateDataset"),
     ("rate_limited", 1, "CreateDataset"), ("server_error", 1, "Upload"), ("dataset_never_ready", 3, ())],
)  # fmt: skip
def test_what_passes_is_tried_again(
    failure: str, times: int, on: Any, runspec: Callable[..., Any], kaggle: Platform
) -> None:
    """And one dataset is made, whatever was lost."""
    kaggle.fail(failure, times=times, on=on)
    done = runspec(*PUSH)
    assert done.code == 0, done.out
    assert len(kaggle.world.datasets) == 1


@pytest.mark.parametrize(("failure", "on"), [("slug_taken", "CreateDataset"), ("dataset_never_ready", ())])
def test_what_stays_is_told_and_nothing_is_pushed(
    failure: str, on: Any, runspec: Callable[..., Any], project: Path, kaggle: Platform
) -> None:
    """Kaggle's own command ends with 0 where a name is taken."""
    kaggle.fail(failure, on=on)
    done = runspec(*PUSH)
    assert (done.code, code_of(done)) == (8, "G227")
    assert "SaveKernel" not in operations(kaggle)
    assert read_story(project, "toy_v1").last is None
