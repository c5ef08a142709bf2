"""Importing engine.data is light: no framework, no builder, no recheck until a dataset is built."""

from __future__ import annotations

import json
import subprocess
import sys

PROBE = "import json, sys; import engine.data; print(json.dumps(sorted(sys.modules)))"


def test_importing_the_door_loads_no_framework_and_no_builder():
    run = subprocess.run([sys.executable, "-c", PROBE], check=True, capture_output=True, text=True)
    loaded = set(json.loads(run.stdout))
    assert not loaded & {"jax", "numpy", "jsonschema", "transformers", "rich", "ruamel"}
    late = ("engine.data.builders.", "engine.data.recheck", "engine.data.evalsets")
    assert not [name for name in loaded if name.startswith(late)]
    ours = {name.split(".")[1] for name in loaded if name.startswith("engine.")}
    assert ours <= {"data", "errors", "canonical", "printable", "temporary", "file_kinds"}
