"""Ctrl-C at any moment, while modules are imported too, is exit code 130 and one sentence; a deleted folder is X320."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures import version_1

REPOSITORY = Path(__file__).parent.parent.parent
SPEC = str(REPOSITORY / "runspecs" / "quickstart.yaml")
# A Ctrl-C (a real SIGINT) at the moment when a module is looked for.
SITE = """
import os, signal, sys
class CtrlC:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == os.environ["INTERRUPT_AT"]:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, CtrlC)
"""
# What Python makes of an interruption that it cannot raise at once: a wrapped one, and a dropped one.
WRAPPED = """
import os, signal, sys
class Named:
    def __set_name__(self, owner, name):
        os.kill(os.getpid(), signal.SIGINT)
class Wrapping:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "ruamel.yaml":
            type("Owner", (), {"attribute": Named()})
sys.meta_path.insert(0, Wrapping)
"""
DROPPED = """
import gc, os, signal, sys, time
class Dying:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
class Dropping:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "ruamel.yaml":
            Dying()
            time.sleep(0.3)
sys.meta_path.insert(0, Dropping)
"""
# A shell that begins its jobs in the background has them ignore Ctrl-C; a person's terminal does not.
OBEYED = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"


def _run(folder: Path, customize: str, *words: str, at: str = "") -> subprocess.CompletedProcess[str]:
    """``runspec`` as a process whose ``sitecustomize`` is this text."""
    (folder / "sitecustomize.py").write_text(OBEYED + customize)
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}", "INTERRUPT_AT": at}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, env=environment)


SCRIPT = "import sys; from engine.__main__ import main; sys.argv[0] = 'runspec'; sys.exit(main())"  # as pip writes it


@pytest.mark.parametrize("how", [["-m", "engine"], ["-c", SCRIPT]], ids=["module", "script"])
@pytest.mark.parametrize(
    "at", ["engine.interrupt", "engine.cli", "argparse", "engine.commands.validate", "ruamel.yaml"]
)
def test_ctrl_c_while_a_module_is_imported(how: list[str], at: str, tmp_path: Path) -> None:
    """130 and one sentence, from the first import of ours to the last, and one document with --json."""
    done = _run(tmp_path, SITE, *how, "validate", SPEC, at=at)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error[U130]: interrupted\n")
    done = _run(tmp_path, SITE, *how, "validate", SPEC, "--json", at=at)
    assert (done.returncode, done.stderr) == (130, "")
    [row] = json.loads(done.stdout)["diagnostics"]
    assert (row["code"], row["message"]) == ("U130", "interrupted")


@pytest.mark.parametrize("customize", [WRAPPED, DROPPED], ids=["wrapped", "dropped"])
def test_an_interruption_that_python_changes_is_still_one(customize: str, tmp_path: Path) -> None:
    """RuntimeError out of __set_name__ is no fault of ours, and one that was dropped in a callback comes again."""
    done = _run(tmp_path, customize, "-m", "engine", "validate", SPEC)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error[U130]: interrupted\n")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--version"], 0), (["docs", "T114"], 0), (["presets"], 0), (["validate", SPEC], 0),
        (["verify", str(version_1.EVIDENCE)], 0),
        (["validate", "spec.yaml"], 2), (["status"], 2), (["init"], 2), (["verify", "x.zip"], 2), (["run", "x.yaml"], 2),
        (["dataset", "check", "x.jsonl"], 2), (["score", "p.jsonl", "e.jsonl"], 2),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)  # fmt: skip
def test_a_deleted_folder_is_named_where_it_matters(words: list[str], code: int, tmp_path: Path) -> None:
    """A command with a complete path works; one that needs the current folder says that it is gone, with the cure."""
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"rmdir '{gone}'; exec \"$@\""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = ["sh", "-c", script, "sh", sys.executable, "-m", "engine", *words]
    done = subprocess.run(command, cwd=gone, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code
    said = (
        "error[X320]: the folder that this command was started in has been deleted\n"
        "   = help: cd into a folder that exists (in a notebook: %cd), and type it again\n"
    )
    assert (said in done.stderr) == (code != 0)
    assert "Traceback" not in done.stderr
