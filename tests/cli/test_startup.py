"""Cold starts import nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("jax", "flax", "optax", "orbax", "transformers", "numpy", "rich", "structlog")
SCRIPT = """
import contextlib, io, sys
from engine.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    code = main(sys.argv[1:])
print(code, *sorted(name for name in {heavy!r} if name in sys.modules))
"""


@pytest.mark.parametrize(
    "words",
    [
        ["--help"], ["--version"], ["docs"], ["docs", "T114"], ["presets"], ["steps"], ["schema"], ["status"],
        ["validate", "runspecs/quickstart.yaml"], ["plan", "runspecs/quickstart.yaml"],
        ["evalset", "check", "evalsets/eval_v2.jsonl"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_light_commands_import_nothing_heavy(words, request):
    """No framework, no numpy, no rich, no structlog: they are for commands that run something."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(heavy=HEAVY), *words],
        capture_output=True, text=True, check=True, cwd=request.config.rootpath,
    )  # fmt: skip
    assert done.stdout == "0\n"
