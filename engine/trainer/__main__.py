"""``python -m engine.trainer VERB JOB.json``: the trainer in a process of its own.

Verbs: ``train`` (see engine.trainer.train), ``generate`` (engine.trainer.generate), ``probe`` (what devices there
are). Events go to standard output, one JSON object a line; the process ends when its standard input does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import RunspecError
from engine.trainer import device, process

VERBS = ("train", "generate", "probe")


def main(arguments: list[str]) -> int:
    """Run one job; returns the exit code."""
    if len(arguments) != 2 or arguments[0] not in VERBS:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    verb, job = arguments[0], json.loads(Path(arguments[1]).read_text(encoding="utf-8"))
    emit = process.open_events()
    process.die_with_parent()
    stopping = process.stop_on_sigterm()
    try:
        device.select(job["device"])
        _configure_jax(job.get("cache"))
        _do(verb, job, emit, stopping)
    except RunspecError as error:
        rows = [diagnostic.as_json() for diagnostic in error.diagnostics]
        emit({"event": "error", "exit_code": error.exit_code, "diagnostics": rows})
        return error.exit_code
    except OSError as error:
        emit({"event": "error", "exit_code": 1, "diagnostics": [_os_error(error)]})
        return 1
    return 0


def _do(verb: str, job: Mapping[str, Any], emit: process.Emit, stopping: process.Stopping) -> None:
    if verb == "probe":
        emit({"event": "devices", **device.describe(job["device"])})
        return
    with process.only_writer(Path(job["work"])):
        if verb == "train":
            from engine.trainer.train import run_train

            run_train(job, emit, stopping)
        else:
            from engine.trainer.generate import run_generate

            device.describe(job["device"])
            run_generate(job, emit, stopping)


def _configure_jax(cache: str | None) -> None:
    import jax

    if cache is not None:  # the smoke run, the training and a resumed training compile the same step once
        jax.config.update("jax_compilation_cache_dir", str(Path(cache) / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _os_error(error: OSError) -> dict[str, Any]:
    from engine.errors import Diagnostic

    message = f"cannot write {error.filename or 'a file'}: {error.strerror or error}"
    hint = "free some room or give this user the right to write there, then run again: it goes on where it stopped"
    return Diagnostic("T140", message, hint=hint).as_json()


if __name__ == "__main__":
    process.leave(main(sys.argv[1:]))
