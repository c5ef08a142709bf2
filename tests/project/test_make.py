"""The Makefile and the packaging files: everything that can be tested without installing."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

TARGETS = {"help", "setup", "run", "test", "test-all", "lint", "check", "bench", "compilers"}
PHASES = {"validate", "plan", "smoke", "train", "evidence", "package", "verify"}

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def checkout(repository: Path, tmp_path: Path) -> Path:
    """A folder, with a blank in its name, that holds what make reads."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(repository / name, folder)
    return folder


def _make(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *words],
        cwd=folder,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_is_the_default_and_lists_every_target(checkout: Path) -> None:
    """`make` alone prints one line for each target and makes nothing."""
    done = _make(checkout)
    assert done.returncode == 0
    shown = set(re.findall(r"^  ([a-z-]+) +\S", done.stdout, re.MULTILINE))
    assert shown >= TARGETS | PHASES
    assert not (checkout / ".venv").exists()


def test_the_compilers_go_into_a_folder_of_their_own(checkout: Path) -> None:
    """`make compilers` installs pinned plug-ins beside .venv, without what they depend on, never into it."""
    done = _make(checkout, "-n", "compilers")
    assert done.returncode == 0
    (line,) = (line for line in done.stdout.splitlines() if "pip install" in line and "libtpu" in line)
    assert "--constraint constraints.txt --no-deps --target .compilers " in line
    pinned = (checkout / "constraints.txt").read_text()
    names = line.partition("--target .compilers ")[2].split()
    assert all(re.search(rf"^{re.escape(name)}==", pinned, re.MULTILINE) for name in names)


def test_a_dry_run_makes_nothing(checkout: Path) -> None:
    """`make -n run` shows the commands and leaves the folder as it was."""
    before = sorted(checkout.rglob("*"))
    done = _make(checkout, "-n", "run", "test")
    assert done.returncode == 0
    assert "runspec run runspecs/quickstart.yaml" in done.stdout
    assert "-m pytest" in done.stdout
    assert sorted(checkout.rglob("*")) == before


@pytest.mark.parametrize("target", sorted(PHASES | {"run"}))
def test_spec_and_args_reach_the_command(checkout: Path, target: str) -> None:
    """`make PHASE SPEC=… ARGS=…` hands both to runspec."""
    done = _make(checkout, "-n", target, "SPEC=runspecs/m36.yaml", "ARGS=train.seed=7")
    assert re.search(r"runspec [a-z]+ runspecs/m36\.yaml .*train\.seed=7", done.stdout)


def test_running_installs_no_test_tools(checkout: Path) -> None:
    """`make run` installs the extra `train` alone; `make test` adds `dev`."""
    assert "dev" not in _make(checkout, "-n", "run").stdout.replace("/dev/null", "")
    assert "[train,dev]" in _make(checkout, "-n", "test").stdout


def test_a_python_that_is_too_old_is_refused_in_one_sentence(checkout: Path) -> None:
    """An unusable Python is named, with what is needed instead, and nothing is created."""
    old = checkout / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = _make(checkout, "setup", "PYTHON=./old-python")
    assert done.returncode != 0
    assert "needs Python 3.11 or later" in done.stderr
    assert "./old-python" in done.stderr
    assert not (checkout / ".venv").exists()


def _fake_python(folder: Path) -> Path:
    """A stand-in for Python that makes a stand-in for an environment, and writes down what it was asked."""
    fake = folder / "fake-python"
    fake.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> "{folder}/asked"\n'
        'case "$*" in\n'
        '  "-m venv --clear .venv") rm -rf .venv; mkdir -p .venv/bin;\n'
        f'    cp "{folder}/fake-python" .venv/bin/python ;;\n'
        "esac\n"
    )
    fake.chmod(0o755)
    return fake


def test_setup_is_done_once(checkout: Path) -> None:
    """A second `make setup` does nothing at all."""
    fake = _fake_python(checkout)
    assert _make(checkout, "setup", f"PYTHON={fake}").returncode == 0
    asked = (checkout / "asked").read_text()
    assert asked.count("pip install") == 2
    assert _make(checkout, "setup", f"PYTHON={fake}").returncode == 0
    assert (checkout / "asked").read_text() == asked


def test_new_requirements_are_installed(checkout: Path) -> None:
    """A newer pyproject.toml makes the next target install again, into the same environment."""
    fake = _fake_python(checkout)
    _make(checkout, "setup", f"PYTHON={fake}")
    later = (checkout / ".venv" / ".ready-train-dev").stat().st_mtime + 5
    os.utime(checkout / "pyproject.toml", (later, later))
    _make(checkout, "setup", f"PYTHON={fake}")
    asked = (checkout / "asked").read_text()
    assert (asked.count("-m venv"), asked.count("pip install")) == (1, 4)


@pytest.mark.parametrize("harm", ["half made", "python gone", "moved here"])
def test_a_broken_environment_is_made_anew(checkout: Path, harm: str) -> None:
    """One that was interrupted, lost its Python, or came with a copied checkout is replaced, not trusted."""
    fake = _fake_python(checkout)
    _make(checkout, "setup", f"PYTHON={fake}")
    if harm == "half made":
        shutil.rmtree(checkout / ".venv")
        (checkout / ".venv" / "bin").mkdir(parents=True)
    elif harm == "python gone":
        (checkout / ".venv" / "bin" / "python").unlink()
        (checkout / ".venv" / "bin" / "python").symlink_to("/nonexistent/python")
    else:
        (checkout / ".venv" / ".path").write_text("/somewhere/else\n")
    assert _make(checkout, "setup", f"PYTHON={fake}").returncode == 0
    asked = (checkout / "asked").read_text()
    assert (asked.count("-m venv"), asked.count("pip install")) == (2, 4)


@pytest.mark.parametrize("target", ["setup", "run", "test", "lint", "docs", "validate"])
@pytest.mark.parametrize("to", ["another environment", "a plain folder", "nothing"])
def test_a_link_is_refused_and_left_alone(checkout: Path, target: str, to: str) -> None:
    """`.venv -> ../other`: one sentence, and neither the link nor a file behind it is touched."""
    fake, other = _fake_python(checkout), checkout.parent / "other"
    if to != "nothing":
        (other / "bin").mkdir(parents=True)
        (other / "precious").write_text("1")
    if to == "another environment":
        shutil.copy(fake, other / "bin" / "python")
        (other / ".path").write_text("/the/other/checkout\n")
    (checkout / ".venv").symlink_to("../other")
    before = sorted(other.rglob("*"))
    done = _make(checkout, target, f"PYTHON={fake}")
    assert done.returncode == 2
    assert (
        ".venv is a link, and make would empty the folder that it points to. Remove the link: rm .venv\n" in done.stderr
    )
    assert (sorted(other.rglob("*")), (checkout / ".venv").is_symlink()) == (before, True)
    assert not (checkout / "asked").exists()


@pytest.fixture(scope="module")
def pyproject(repository: Path) -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~; ]", text)[0].lower().replace(".", "-") for text in requirements}


def test_every_requirement_is_pinned(repository: Path, pyproject: dict[str, Any]) -> None:
    """The constraints have exactly one version of every direct requirement, for Python 3.11 and for 3.12."""
    from packaging.requirements import Requirement

    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"==[^,*]+", str(pin.specifier)) for pin in pins)
    project = pyproject["project"]
    wanted = _names(project["dependencies"] + [*itertools.chain(*project["optional-dependencies"].values())])
    for python in ("3.11", "3.12"):
        environment = {
            "python_version": python,
            "python_full_version": f"{python}.4",
            "sys_platform": "linux",
            "os_name": "posix",
            "platform_machine": "x86_64",
            "platform_python_implementation": "CPython",
            "extra": "",
        }
        found = [pin.name.lower() for pin in pins if pin.marker is None or pin.marker.evaluate(environment)]
        assert len(found) == len(set(found))
        assert wanted - set(found) - {"runspec-engine"} == set()


# What imports, by trying each pair (flax subclasses internals of jax): release of flax -> releases of jax.
PAIRS = {
    "0.12.8": ("0.10.0", "0.10.2", "0.11.0"),
    "0.12.9": ("0.11.0", "0.11.1"),
    "0.12.12": ("0.11.0", "0.11.1", "0.11.2", "0.12.0", "0.12.0.1"),
}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_bounds_admit_pairs_that_import_and_no_others(pyproject: dict[str, Any], python: str) -> None:
    """Of each Python: any flax with any jax; and the pins lie within every bound."""
    from packaging.requirements import Requirement

    wanted = [Requirement(text) for text in pyproject["project"]["optional-dependencies"]["train"]]
    bounds = {
        one.name: one.specifier
        for one in wanted
        if one.marker is None or one.marker.evaluate({"python_version": python})
    }
    flaxes = [flax for flax in PAIRS if flax in bounds["flax"]]
    released = sorted({jax for jaxes in PAIRS.values() for jax in jaxes})
    admitted = [jax for jax in released if jax in bounds["jax"]]
    assert flaxes == (["0.12.8"] if python == "3.11" else ["0.12.12"])
    assert all(jax in PAIRS[flax] for flax in flaxes for jax in admitted)
    assert len(admitted) >= 3
    assert ("1.0.0" in bounds["orbax-checkpoint"], "0.12.8" in bounds["orbax-checkpoint"]) == (False, True)
    assert ("5.9.0" in bounds["transformers"], "5.10.1" in bounds["transformers"]) == (False, True)


def test_the_pins_are_within_the_bounds(repository: Path, pyproject: dict[str, Any]) -> None:
    """For either Python, of every requirement of training."""
    from packaging.requirements import Requirement

    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    for python in ("3.11", "3.12"):
        here = {"python_version": python, "python_full_version": f"{python}.4"}
        pinned = {pin.name: str(pin.specifier)[2:] for pin in pins if pin.marker is None or pin.marker.evaluate(here)}
        for text in pyproject["project"]["optional-dependencies"]["train"]:
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate(here):
                assert pinned[wanted.name] in wanted.specifier, text


def test_the_light_core_stays_light(pyproject: dict[str, Any]) -> None:
    """Five dependencies, none of them numerical; a sixth is a decision."""
    assert _names(pyproject["project"]["dependencies"]) == {
        "jinja2", "jsonschema", "rich", "ruamel-yaml", "structlog",
    }  # fmt: skip


def test_ci_installs_everything_itself(repository: Path) -> None:
    """.ci/run is executable, stops at the first failure, and runs lint, types and tests."""
    script = repository / ".ci" / "run"
    text = script.read_text(encoding="utf-8")
    assert os.access(script, os.X_OK)
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    order = [text.index(word) for word in ("make --no-print-directory setup", "ruff check", "mypy", "directory test")]
    assert order == sorted(order)
