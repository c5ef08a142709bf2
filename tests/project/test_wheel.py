"""The wheel with nothing but the light core: small, complete, and useful to a reviewer without JAX."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

import engine
from engine.kaggle.notebook.embed import digest_of_files, engine_files, travels

MOST_MEGABYTES = 60
HEAVY = ("jax", "jaxlib", "flax", "optax", "orbax", "transformers", "numpy", "tokenizers", "safetensors")


@pytest.fixture
def project(light: Any, tmp_path: Path) -> Path:
    """An empty folder in which `runspec init quickstart` has been typed."""
    done = light.runspec("init", "quickstart", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_the_wheel_carries_every_schema_template_preset_eval_set_and_page(light: Any, repository: Path) -> None:
    """The wheel has the files of the five folders, byte for byte."""
    with zipfile.ZipFile(light.wheel) as wheel:
        inside = {name: wheel.read(name) for name in wheel.namelist() if name.startswith("engine/_assets/")}
    here = {
        f"engine/_assets/{path.relative_to(repository).as_posix()}": path.read_bytes()
        for folder in ("schemas", "templates", "runspecs", "evalsets", "docs")
        for path in (repository / folder).rglob("*")
        if path.is_file()
    }
    assert sorted(inside) == sorted(here)
    assert inside == here


def test_the_wheel_carries_the_engine_and_nothing_else(light: Any, repository: Path) -> None:
    """Every module is in it; tests, benchmarks and caches are not."""
    with zipfile.ZipFile(light.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    modules = {path.relative_to(repository).as_posix() for path in (repository / "engine").rglob("*.py")}
    assert modules - names == set()
    assert {name for name in names if not name.startswith("engine/") or "__pycache__" in name} == set()


def test_the_wheel_has_the_digest_that_a_notebook_asks_for(light: Any) -> None:
    """A wheel in a dataset is the engine of a notebook by its files, whoever built it."""
    with zipfile.ZipFile(light.wheel) as wheel:
        files = {name: wheel.read(name) for name in wheel.namelist() if travels(name)}
    assert digest_of_files(files) == digest_of_files(engine_files())


def test_the_light_core_is_light(light: Any) -> None:
    """The engine with all it needs takes less than 60 MB on disk."""
    size = sum(path.stat().st_size for path in light.packages.rglob("*") if path.is_file())
    assert size / 1e6 < MOST_MEGABYTES


def test_no_framework_comes_along(light: Any, tmp_path: Path) -> None:
    """None of what the extra `train` brings can be imported there."""
    code = f"import importlib.util; print([n for n in {HEAVY!r} if importlib.util.find_spec(n)])"
    done = subprocess.run(
        [light.python, "-c", code],
        cwd=tmp_path, env=dict(light.environment), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "[]\n"


def test_the_installed_engine_runs_and_not_the_checkout(light: Any, tmp_path: Path) -> None:
    """`import engine` there finds the copy in its site-packages."""
    done = subprocess.run(
        [light.python, "-c", "import engine; print(engine.__file__)"],
        cwd=tmp_path, env=dict(light.environment), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(done.stdout.strip()) == light.packages / "engine" / "__init__.py"


def test_version(light: Any, tmp_path: Path) -> None:
    """`runspec --version` prints the version of the package."""
    done = light.runspec("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"runspec {engine.__version__}\n")


def test_the_documents_are_in_the_terminal(light: Any, tmp_path: Path) -> None:
    """`runspec docs` lists the topics there, and prints a page and an error code."""
    listed = light.runspec("docs", "--json", cwd=tmp_path)
    assert {"own-data", "errors", "spec"} <= {row["topic"] for row in json.loads(listed.stdout)["topics"]}
    page = light.runspec("docs", "own-data", cwd=tmp_path)
    assert (page.returncode, page.stdout.split("\n")[0]) == (0, "# Train on your own data")
    assert light.runspec("docs", "T114", cwd=tmp_path).stdout.startswith("# T114\n")


def test_init_writes_a_project_that_validates(light: Any, project: Path) -> None:
    """`runspec init quickstart` in an empty folder, then `validate`: exit 0 and nothing to say."""
    spec = next((project / "runspecs").glob("*.yaml"))
    done = light.runspec("validate", spec.relative_to(project).as_posix(), "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"ok": True, "diagnostics": []}


def test_the_modeline_of_a_new_project_leads_to_its_schema(project: Path) -> None:
    """An editor opening the new spec finds the schema that `init` wrote."""
    spec = next((project / "runspecs").glob("*.yaml"))
    where = spec.read_text(encoding="utf-8").split("\n")[0].partition("$schema=")[2]
    assert json.loads((spec.parent / where).read_text(encoding="utf-8"))["properties"]


def test_plan_without_jax(light: Any, project: Path) -> None:
    """`runspec plan` tells the steps and the price with the light core alone."""
    done = light.runspec("plan", "runspecs/quickstart.yaml", "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    assert [step["action"] for step in json.loads(done.stdout)["steps"]] == ["run"] * 6


def test_evalset_check(light: Any, project: Path) -> None:
    """The shipped eval set passes its check there."""
    path = next((project / "evalsets").glob("*.jsonl"))
    done = light.runspec("evalset", "check", path.relative_to(project).as_posix(), cwd=project)
    assert done.returncode == 0, done.stderr


def test_a_run_without_the_extra_says_which_and_how(light: Any, project: Path) -> None:
    """`runspec run` names the extra `train` and the command that installs it, and exits 2."""
    done = light.runspec("run", "runspecs/quickstart.yaml", cwd=project)
    assert done.returncode == 2, done.stderr
    assert "error[X101]" in done.stderr
    assert "pip install 'runspec-engine[train]'" in done.stderr
