"""The law of imports (CONTRIBUTING, "The house"): which part may import which, lazy imports included."""

from __future__ import annotations

import ast
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from parts.structure import FLOORS

if TYPE_CHECKING:
    from collections.abc import Iterable

FRAMEWORKS = {"jax", "jaxlib", "flax", "optax", "orbax", "transformers"}
# What only the extra `train` brings: the light core has none of it.
TRAIN_ONLY = FRAMEWORKS | {
    "numpy",
    "tokenizers",
    "safetensors",
    "tensorstore",
    "huggingface_hub",
    "ml_dtypes",
}
CORE_LIBRARIES = {"jinja2", "jsonschema", "referencing", "rich", "ruamel", "structlog"}
# The named lazy doors out of the light core: a module, and what it may reach for; it is imported inside a function.
DOORS: Mapping[str, set[str]] = {
    "engine.evidence.signing.library": {"cryptography"},
    "engine.kaggle.driver.api.client": {"kagglesdk", "requests", "urllib3"},
    "engine.evidence.signing.sigstore_library": {"cryptography", "jwt", "requests", "sigstore"},
    "engine.evidence.signing.weights_library": {"cryptography", "model_signing"},
}

# Beside the floors of benchmarks/parts/structure.py: these parts know the ground, the protocol, and nothing beside them.
COMMAND_LINE = {"cli", "commands", "doctor", "project", "__main__"}
GROUND = FLOORS["ground"]
ISLANDS = {"data", "scoring", "runspec", "artifacts", "trainer"}


def _root(target: str) -> str:
    return target.split(".", maxsplit=1)[0]


def _part(target: str) -> str:
    return target.split(".")[1] if "." in target else "engine"


def _engine_imports(module: Any) -> Iterable[Any]:
    return (found for found in module.imports if _root(found.target) == "engine")


def test_islands_know_nothing_beside_them(modules: Mapping[str, Any]) -> None:
    """Data, scoring, run-specs, artifacts and the trainer import of the engine only ground and protocol: each could be published alone."""
    broken = [
        f"{module.name}:{found.line} imports {found.target}"
        for module in modules.values()
        if module.part in ISLANDS
        for found in _engine_imports(module)
        if _part(found.target) not in GROUND | {"protocol", module.part}
    ]
    assert broken == []


def test_only_the_trainer_knows_the_trainer(modules: Mapping[str, Any]) -> None:
    """The trainer is started as a process: nobody imports it."""
    broken = [
        f"{module.name}:{found.line}"
        for module in modules.values()
        for found in _engine_imports(module)
        if _part(found.target) == "trainer" and module.part != "trainer"
    ]
    assert broken == []


def test_no_step_imports_another(modules: Mapping[str, Any]) -> None:
    """Steps share the protocol and the schema reader; only the registry names them."""
    shared = {"engine.steps", "engine.steps.schemas", "engine.steps.hub_dataset", "engine.steps.smoke_proof"}
    broken = [
        f"{module.name}:{found.line} imports {found.target}"
        for module in modules.values()
        if module.name.startswith("engine.steps.") and module.name != "engine.steps.registry"
        for found in module.imports
        if found.target.startswith("engine.steps.") and found.target not in shared
    ]
    assert broken == []


def test_the_runner_and_the_plan_know_no_step(modules: Mapping[str, Any]) -> None:
    """Outside `steps/` only the command line and `verify`, which reads a stranger's run-spec, name a module below
    `engine.steps`: the registry."""
    broken = [
        f"{module.name}:{found.line} imports {found.target}"
        for module in modules.values()
        if module.part != "steps"
        for found in module.imports
        if found.target.startswith("engine.steps.")
        and not (module.part in {*COMMAND_LINE, "evidence"} and found.target == "engine.steps.registry")
    ]
    assert broken == []


def test_the_light_core_imports_light_libraries_only(modules: Mapping[str, Any]) -> None:
    """Outside the trainer every import is the standard library, a core dependency, or a named door."""
    broken = []
    for module in modules.values():
        if module.part == "trainer":
            continue
        allowed = {"engine", *CORE_LIBRARIES, *sys.stdlib_module_names, *DOORS.get(module.name, set())}
        broken += [
            f"{module.name}:{found.line} imports {found.target}"
            for found in module.imports
            if _root(found.target) not in allowed
        ]
    assert broken == []


IMPORT_ALL = """
import importlib, sys
names, heavy = sys.argv[1].split(","), set(sys.argv[2].split(","))
for name in names:
    importlib.import_module(name)
    found = sorted(heavy & set(sys.modules))
    if found:
        sys.exit(f"{name} brought in {found}")
"""

IMPORT_EACH_ALONE = """
import gc, importlib, os, sys
gc.disable()  # a process that only imports has no garbage
broken = []
for name in sys.argv[1].split(","):
    child = os.fork()
    if not child:
        try:
            importlib.import_module(name)
        except BaseException as error:
            print(f"{name}: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        broken.append(name)
sys.exit(f"cannot be imported first: {broken}" if broken else 0)
"""

COMMANDS = """
import contextlib, io, json, sys
from engine.cli import main
heavy = set(sys.argv[1].split(","))
for words in json.loads(sys.argv[2]):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(words)
    found = sorted(heavy & set(sys.modules))
    if found:
        sys.exit(f"runspec {words} brought in {found}")
    if code == 3:  # an internal error proves nothing
        sys.exit(f"runspec {words} ended with {code}: {said.getvalue()}")
print("ok")
"""


def _light(modules: Mapping[str, Any]) -> str:
    """Those outside the trainer, without the doors to what is not installed here."""
    closed = {door for door, libraries in DOORS.items() if not all(map(importlib.util.find_spec, libraries))}
    return ",".join(sorted(name for name, module in modules.items() if module.part != "trainer" and name not in closed))


def _python(code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_importing_the_whole_light_core_brings_no_framework(modules: Mapping[str, Any], tmp_path: Path) -> None:
    """All modules outside the trainer in one process: none of what the extra `train` brings is loaded."""
    done = _python(IMPORT_ALL, _light(modules), ",".join(sorted(TRAIN_ONLY)), cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_each_module_can_be_imported_first(modules: Mapping[str, Any], tmp_path: Path, every: int) -> None:
    """No module relies on another having been imported before it; every fifth in the short run."""
    done = _python(IMPORT_EACH_ALONE, ",".join(_light(modules).split(",")[::every]), cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_light_commands_bring_no_framework(repository: Path, tmp_path: Path) -> None:
    """validate, plan, score, verify and the like run without any framework loaded."""
    for folder in ("runspecs", "evalsets", "schemas"):
        shutil.copytree(repository / folder, tmp_path / folder)
    spec = "runspecs/quickstart.yaml"
    eval_set = sorted(path.name for path in (tmp_path / "evalsets").glob("*.jsonl"))[0]
    (tmp_path / "predictions.jsonl").write_text("")
    commands = [
        ["--version"],
        ["docs", "own-data"],
        ["validate", spec],
        ["plan", spec],
        ["presets"],
        ["steps"],
        ["evalset", "check", f"evalsets/{eval_set}"],
        ["dataset", "build", "quickstart-reasoning", "--num-rows", "20"],
        ["score", "predictions.jsonl", f"evalsets/{eval_set}"],
        ["verify", spec],
        ["status", spec],
    ]
    done = _python(COMMANDS, ",".join(sorted(TRAIN_ONLY)), json.dumps(commands), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ok\n"


def test_what_benchmarks_take_from_the_engine_is_there(repository: Path) -> None:
    """They import inside their functions, and no type checker reads them: a name that moved would be missed for weeks."""
    missing = []
    for path in sorted((repository / "benchmarks").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("engine"):
                module = importlib.import_module(str(node.module))
                for name in (f"{node.module}.{one.name}" for one in node.names):
                    inside = hasattr(module, "__path__") and importlib.util.find_spec(name)
                    there = hasattr(module, name.rpartition(".")[2]) or inside
                    missing += [] if there else [f"{path.name}: {name}"]
    assert missing == []
