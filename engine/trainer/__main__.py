"""``python -m engine.trainer VERB JOB.json``: the trainer in a process of its own.

Verbs: ``train`` (see engine.trainer.train), ``generate`` (engine.trainer.generation.generate), ``probe`` (what devices there
are), ``fetch`` (a data file from the hub, see engine.trainer.hub), ``price`` (what a train step costs on a machine
that need not be there, see engine.trainer.cost.price), ``tokens`` (rows as they will be fed, see engine.trainer.input_pipeline.inspect),
``shardings`` (how the weights would lie on a mesh, see engine.trainer.cost.shardings). Events go to standard output, one JSON object a line; the process
ends when its standard input does.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import INTERNAL_ERROR_EXIT_CODE, Diagnostic, InputInvalid, RunspecError, Where
from engine.trainer import device, hub, process
from engine.trainer.cost import machines
from engine.trainer.distributed.processes import SINGLE_PROCESS, ProcessGroup, join

VERBS = ("train", "generate", "probe", "fetch", "price", "tokens", "shardings")
OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory")


def main(arguments: list[str]) -> int:
    """Run one job; returns the exit code."""
    if len(arguments) != 2 or arguments[0] not in VERBS:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    emit, processes = process.open_events(), SINGLE_PROCESS
    process.die_with_parent()
    stopping = process.stop_on_sigterm()
    try:
        job = _read_job(Path(arguments[1]))
        if arguments[0] == "fetch":
            _fetch(job, emit, stopping)
            return 0
        if arguments[0] == "tokens":  # nor this
            from engine.trainer.input_pipeline.inspect import inspect_rows

            emit({"event": "finished", "report": inspect_rows(job)})
            return 0
        device.select(job["device"], job.get("allocator"))
        if arguments[0] == "price":
            machines.prepare(str(job.get("machine")), *(_folder(job, key) for key in ("compilers", "dump")))
        _configure_jax(job.get("cache"))
        if arguments[0] == "train":
            processes = join(job.get("cluster"))
            processes.watch(lambda gone: process.leave(_fail(emit, 1, gone)))
        _do(arguments[0], job, emit, stopping, processes)
        processes.leave()
    except RunspecError as error:
        return _give_up(processes, emit, error.exit_code, *error.diagnostics)
    except OSError as error:
        traceback.print_exc()
        return _give_up(processes, emit, 1, _os_error(error))
    except Exception as error:  # noqa: BLE001 - the one place where a child's last words are put into an event
        traceback.print_exc()
        return _give_up(processes, emit, *_unforeseen(error))
    return 0


def _give_up(processes: ProcessGroup, emit: process.Emit, exit_code: int, *diagnostics: Diagnostic) -> int:
    """Tell the other processes, and the parent.

    With a process that died, collectives and the common checkpoint fail somewhere inside JAX and orbax: then that is
    what is said. Bad input is nobody's death.
    """
    gone = None if exit_code == InputInvalid.exit_code else processes.gone()
    if gone is not None:
        return _fail(emit, 1, gone)
    processes.failed(f"{diagnostics[0].code}: {diagnostics[0].message}")
    return _fail(emit, exit_code, *diagnostics)


def _read_job(path: Path) -> dict[str, Any]:
    try:
        job = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputInvalid("T115", f"the job is no JSON: {error}", where=Where(file=str(path))) from error
    if not isinstance(job, dict) or not isinstance(job.get("device"), str):
        raise InputInvalid("T115", "the job is no JSON object with a device", where=Where(file=str(path)))
    return job


def _do(
    verb: str,
    job: Mapping[str, Any],
    emit: process.Emit,
    stopping: process.Stopping,
    processes: ProcessGroup = SINGLE_PROCESS,
) -> None:
    if verb == "probe":
        emit({"event": "devices", **device.describe(job["device"])})
        return
    if verb == "price":
        from engine.trainer.cost.price import price_step

        emit({"event": "finished", "report": price_step(job)})
        return
    if verb == "shardings":
        from engine.trainer.cost.shardings import report_shardings

        emit({"event": "finished", "report": report_shardings(job)})
        return
    if not processes.is_writer:
        from engine.trainer.train import run_train

        run_train(job, process.silent(emit), stopping, processes)
        return
    with process.only_writer(Path(job["work"])):
        if verb == "train":
            from engine.trainer.train import run_train

            run_train(job, emit, stopping, processes)
        else:
            from engine.trainer.generation.generate import run_generate

            device.describe(job["device"])
            run_generate(job, emit, stopping)


def _fetch(job: Mapping[str, Any], emit: process.Emit, stopping: process.Stopping) -> None:
    """No device, no JAX. The report: {path, commit}."""
    repository = hub.Repository(job["hub"], job["revision"], "dataset")
    path, commit = hub.fetch_file(repository, job["any_of"], emit=emit, stopping=stopping)
    emit({"event": "finished", "report": {"path": str(path), "commit": commit}})


def _folder(job: Mapping[str, Any], key: str) -> Path | None:
    return Path(job[key]) if job.get(key) else None


def _configure_jax(cache: str | None) -> None:
    import jax

    if cache is not None:  # the smoke run, the training and a resumed training compile the same step once
        jax.config.update("jax_compilation_cache_dir", str(Path(cache) / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def _fail(emit: process.Emit, exit_code: int, *diagnostics: Diagnostic) -> int:
    rows = [diagnostic.as_json() for diagnostic in diagnostics]
    emit({"event": "error", "exit_code": exit_code, "diagnostics": rows})
    return exit_code


def _os_error(error: OSError) -> Diagnostic:
    if isinstance(error, FileNotFoundError):
        return Diagnostic("T140", f"{error.filename} is not there", hint="run again: what is missing is made again")
    hint = "free some room or give this user the right to write there, then run again: it goes on where it stopped"
    if isinstance(error, NotADirectoryError | FileExistsError | IsADirectoryError):
        hint = "something else lies there: move it away, then run again"
    return Diagnostic("T141", f"cannot use {error.filename or 'the disk'}: {error.strerror or error}", hint=hint)


def _unforeseen(error: Exception) -> tuple[int, Diagnostic]:
    message = str(error)
    if isinstance(error, MemoryError) or any(word in message for word in OUT_OF_MEMORY):
        return 1, Diagnostic(
            "T142",
            f"the device's memory is too small: {message.splitlines()[0][:300] if message else 'no memory'}",
            hint="halve per_device_batch_size and double grad_accum_steps (the same training), or lower seq_len",
        )
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = Where(file=Path(place.filename).name, line=place.lineno or 0)
    return INTERNAL_ERROR_EXIT_CODE, Diagnostic("T140", f"{type(error).__name__}: {message[:300]}", where)


if __name__ == "__main__":
    process.leave(main(sys.argv[1:]))
