"""Where attached sources lie below `input`, in either layout, and that they cannot be written by accident."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.kaggle.platform.plain import Plain
from tests.kaggle.platform.platform import Platform
from tests.kaggle.platform.session.mounts import mount_all
from tests.kaggle.platform.session.scripted import Script

NEW = {
    "competitions/titanic/train.csv", "datasets/someone/data/a/b.txt", "notebooks/someone/earlier-run/out.txt",
    "models/google/gemma/pytorch/2b/3/config.json",
}  # fmt: skip
OLD = {"titanic/train.csv", "data/a/b.txt", "earlier-run/out.txt", "gemma/PyTorch/2b/3/config.json"}


@pytest.mark.parametrize(("layouts", "expected"), [(("new",), NEW), (("old",), OLD), (("new", "old"), NEW | OLD)])
def test_layouts(kaggle: Platform, api: Plain, tmp_path: Path, layouts: tuple[str, ...], expected: set[str]) -> None:
    """Each kind of source, once a layout, with its bytes and its date, read-only."""
    kaggle.world.layouts = layouts
    kaggle.add_competition("titanic", {"train.csv": "rows"})
    kaggle.add_dataset("someone/data", {"a/b.txt": "data"})
    on_disk = tmp_path / "config.json"
    on_disk.write_text("{}")
    kaggle.add_model("google/gemma/pyTorch/2b/3", {"config.json": on_disk})
    kaggle.script(Script(files={"out.txt": "one"}), Script(files={"out.txt": "two"}), Script(state="ERROR"))
    for _ in range(3):
        api.push("earlier-run")
    api.push(
        competitionDataSources=["titanic"], datasetDataSources=["someone/data"],
        kernelDataSources=["someone/earlier-run"], modelDataSources=["google/gemma/PyTorch/2b/3"],
    )  # fmt: skip
    mount_all(kaggle.world, kaggle.version("someone/my-run").sources, tmp_path / "input")
    found = {path.relative_to(tmp_path / "input").as_posix(): path for path in (tmp_path / "input").rglob("*.*")}
    assert set(found) == expected
    texts = {name.rsplit("/", 1)[-1]: path.read_text() for name, path in found.items()}
    # of the newest version that is complete, not of the one that failed after it
    assert texts == {"train.csv": "rows", "b.txt": "data", "out.txt": "two", "config.json": "{}"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in found.values()} == {0o444}
    assert all(abs(path.stat().st_mtime - kaggle.clock.now().timestamp()) < 60 for path in found.values())


def test_one_version_of_an_output(kaggle: Platform, api: Plain, tmp_path: Path) -> None:
    """``owner/slug/N`` is that version's; one without a complete session is not a source."""
    kaggle.script(Script(files={"out.txt": "one"}), Script(state="ERROR"), Script())
    api.push("earlier-run")
    api.push("earlier-run")
    answer = api.push(kernelDataSources=["someone/earlier-run/1", "someone/earlier-run/2"]).json
    assert answer["invalidKernelSources"] == ["someone/earlier-run/2"]
    mount_all(kaggle.world, kaggle.version("someone/my-run").sources, tmp_path)
    assert (tmp_path / "notebooks/someone/earlier-run/out.txt").read_text() == "one"
