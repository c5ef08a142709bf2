"""The real `kaggle` command meets every failure: that is what a driver has to be better than."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.kaggle.platform.failures.catalog import FAILURES
from tests.kaggle.platform.failures.real_cases import INSIDE, KILLED, OUTPUT, REAL_CASES, RealCase
from tests.kaggle.platform.plain import Plain
from tests.kaggle.platform.platform import Platform
from tests.kaggle.platform.real_client import RealClient
from tests.kaggle.platform.session.scripted import Script


def test_every_failure_has_its_case() -> None:
    """Those that a notebook meets are in the tests of what runs there."""
    assert {case.name for case in REAL_CASES} | INSIDE == set(FAILURES)


def _written(folder: Path) -> dict[str, int]:
    found = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log"]
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in found}


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", REAL_CASES, ids=lambda case: f"{case.name}-{case.words[1] if case.words[1:] else 'quota'}"
)
def test_the_real_client(kaggle: Platform, real: RealClient, case: RealCase) -> None:
    """Exit code, what it says, what it wrote, how often it asked."""
    kaggle.add_dataset("someone/data", {"a": "b"})
    kaggle.add_competition("titanic", {"train.csv": ""})
    kaggle.add_model("google/gemma/flax/2b/2", {"a": ""})
    kaggle.script(case.script)
    api = Plain(kaggle)
    api.push("earlier-run")
    if case.words[1:2] != ("push",):
        api.push(machineShape="NvidiaTeslaT4")
    real.notebook(
        dataset_sources=["someone/data"], competition_sources=["titanic"], kernel_sources=["someone/earlier-run"],
        model_sources=["google/gemma/flax/2b/2"], keywords=["nlp"],
    )  # fmt: skip
    real.dataset()
    armed = kaggle.fail(case.name, on=case.on, times=case.times, after=case.after, **case.arguments)
    ran = real.run(*case.words, seconds=6 if case.code is KILLED else 60)
    said = ran.out + ran.err
    assert ran.code == case.code, said
    assert case.text in said
    assert not case.not_said or case.not_said not in said
    assert armed.hits >= 1
    if case.files is not None:
        assert _written(real.folder / "out") == case.files
    if case.calls is not None:
        assert len([one for one in kaggle.requests if one.operation in armed.on]) == case.calls + (
            case.words[1] == "push"
        )


@pytest.mark.slow
def test_a_version_into_the_folder_of_another(kaggle: Platform, real: RealClient) -> None:
    """The command keeps a file that is newer and not smaller: of version 1, changed by hand, in the folder of version 2."""
    kaggle.script(Script(files={"a.txt": "version 1"}), Script(files={"a.txt": "version 2"}))
    api = Plain(kaggle)
    api.push()
    api.push()
    kaggle.fail("stale_file")
    assert real.run(*OUTPUT).code == 0
    kept = real.folder / "out" / "a.txt"
    kept.write_text("tampered!")
    os.utime(kept, (time.time(), time.time()))
    ran = real.run("kernels", "output", "someone/my-run/2", "-p", "out")
    assert (ran.code, kept.read_text()) == (0, "tampered!")


@pytest.mark.slow
def test_a_refused_token_falls_to_the_next_kind(kaggle: Platform, real: RealClient) -> None:
    """In name only: the command goes on without a word, and kagglesdk sends the refused token all the same. 401 ends it."""
    Plain(kaggle).push()
    kaggle.fail("token_refused", status=403)
    variables = {"KAGGLE_USERNAME": "someone", "KAGGLE_KEY": kaggle.key}
    ran = real.run("kernels", "status", "someone/my-run/1", **variables)
    assert (ran.code, ran.err) == (0, "")
    assert [(one.auth, one.status) for one in kaggle.requests[-2:]] == [
        ("<redacted:Bearer>", 403),
        ("<redacted:Bearer>", 200),
    ]
    kaggle.heal()
    kaggle.fail("unauthorized", on="IntrospectToken")
    assert real.run("kernels", "status", "someone/my-run/1", **variables).code == 1


@pytest.mark.slow
def test_a_retired_accelerator(kaggle: Platform, real: RealClient) -> None:
    """A warning on standard error, and the push goes through with the name that is no more."""
    real.notebook()
    ran = real.run("kernels", "push", "-p", "nb", "--accelerator", "NvidiaTeslaP100")
    assert ran.code == 0
    assert "is retired" in ran.err
    version = kaggle.version("someone/my-run")
    assert (version.request["machineShape"], version.machine.shape) == ("NvidiaTeslaP100", "NvidiaTeslaT4")
