"""``python -m engine.trainer VERB JOB.json [when-told]``: the trainer in a process of its own.

Verbs and their jobs are in :mod:`engine.protocol.jobs`: ``train``, ``follow`` (train along with process 0 of a cluster),
``generate``, ``probe`` (which devices there are), ``fetch`` (a data file from the hub), ``price`` (the memory of a train step
on a machine that need not be present), ``tokens`` (rows as the model will see them), ``shardings`` (how the weights would be sharded
over a mesh). Events (:mod:`engine.protocol.events`) go to standard output, one JSON object a line; the process ends when
its standard input does. With ``when-told`` it reads its job, imports what it needs, and begins when something arrives on its
standard input: nothing is written, locked or asked of a device before.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from importlib import metadata
from pathlib import Path
from typing import Any

from engine.errors import INTERNAL_ERROR_EXIT_CODE, Diagnostic, InputInvalid, RunspecError, Where
from engine.protocol.events.base import Failed, Finished
from engine.protocol.jobs import (
    JOBS,
    WHEN_TOLD,
    FetchJob,
    FollowJob,
    GenerateJob,
    Job,
    PriceJob,
    ProbeJob,
    ShardingsJob,
    TokensJob,
    TrainJob,
    read_job_file,
)
from engine.trainer import device, hub, process
from engine.trainer.cost import machines
from engine.trainer.distributed.processes import SINGLE_PROCESS, ProcessGroup, join
from engine.trainer.process import Emit, Stopping

MODULES = {
    "train": "engine.trainer.train",
    "generate": "engine.trainer.generation.generate",
}  # all that the verb imports
OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory")


def main(arguments: list[str]) -> int:
    """Run one job; returns the exit code."""
    if len(arguments) < 2 or arguments[0] not in JOBS or arguments[2:] not in ([], [WHEN_TOLD]):
        sys.stderr.write(f"{__doc__}\n")
        return 2
    verb, path, *when = arguments
    emit, processes = process.open_events(), SINGLE_PROCESS
    wait_until_told = process.die_with_parent()
    stopping = process.stop_on_sigterm()
    try:
        job = read_job_file(verb, Path(path))
        with process.importing():
            _prepare_jax(job)
            if not isinstance(job, FetchJob | TokensJob | ProbeJob):
                _import_libraries(MODULES.get(verb))
        if when:
            wait_until_told()
        if isinstance(job, TrainJob | FollowJob):
            processes = join(job.cluster)
            processes.watch(lambda gone: process.leave(_fail(emit, 1, gone)))
        _do(job, emit, stopping, processes)
        processes.leave()
    except RunspecError as error:
        return _give_up(processes, emit, error.exit_code, *error.diagnostics)
    except OSError as error:
        process.say_traceback()
        return _give_up(processes, emit, 1, _os_error(error))
    except Exception as error:  # noqa: BLE001 - the one place where a child's last error is put into an event
        process.say_traceback()
        return _give_up(processes, emit, *_unforeseen(error))
    return 0


def _give_up(processes: ProcessGroup, emit: Emit, exit_code: int, *diagnostics: Diagnostic) -> int:
    """Tell the other processes, and the parent.

    With a dead process, collectives and the common checkpoint fail somewhere inside JAX and orbax: then the dead process is
    what is reported. Bad input is not a dead process.
    """
    gone = None if exit_code == InputInvalid.exit_code else processes.gone()
    if gone is not None:
        return _fail(emit, 1, gone)
    processes.failed(f"{diagnostics[0].code}: {diagnostics[0].message}")
    return _fail(emit, exit_code, *diagnostics)


def _prepare_jax(job: Job) -> None:
    """What must be set before JAX is imported. Jobs without a device never import it."""
    if isinstance(job, PriceJob | ShardingsJob):
        device.select(job.device)
    if isinstance(job, TrainJob | FollowJob | GenerateJob | ProbeJob):
        device.select(job.device, job.allocator)
    if isinstance(job, PriceJob):
        machines.prepare(job.machine, _path(job.compilers), _path(job.dump))
    if isinstance(job, TrainJob | FollowJob | GenerateJob) and job.cache is not None:
        import jax

        # the smoke run, the training run and a resumed one compile the same train step once
        jax.config.update("jax_compilation_cache_dir", str(Path(job.cache) / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # thirty small ones take half a second


def _import_libraries(module: str | None) -> None:
    """Raises InputInvalid M111 where flax and jax do not fit each other, or one of them is broken."""
    try:
        for name in ("jax", "flax.nnx"):
            importlib.import_module(name)
    except Exception as error:
        found = ", ".join(f"{name} {metadata.version(name)}" for name in ("flax", "jax", "jaxlib"))
        raise InputInvalid(
            "M111",
            f"the installed libraries cannot be imported together ({found}): {type(error).__name__}: {error}",
            hint="pip install --upgrade 'runspec-engine[train]'   (runspec doctor names the library)",
        ) from error
    if module is not None:
        importlib.import_module(module)


def _do(job: Job, emit: Emit, stopping: Stopping, processes: ProcessGroup) -> None:
    """One job to its end. A job that only computes a report ends with it."""
    if isinstance(job, TrainJob | FollowJob):
        _train(job, emit, stopping, processes)
    elif isinstance(job, GenerateJob):
        from engine.trainer.generation.generate import run_generate

        with process.only_writer(Path(job.work)):
            device.describe(job.device)
            run_generate(job, emit, stopping)
    else:
        emit(Finished(_answer(job, emit, stopping)))


def _train(job: TrainJob | FollowJob, emit: Emit, stopping: Stopping, processes: ProcessGroup) -> None:
    """Process 0 writes, under the lock of the work folder; the others train along and emit only their last event."""
    from engine.trainer.train import follow_job, run_train

    own_job = job if isinstance(job, TrainJob) else None
    if not processes.is_writer:
        run_train(follow_job(processes, own_job), process.silent(emit), stopping, processes)
        return
    with process.only_writer(Path(job.work)):
        run_train(follow_job(processes, own_job), emit, stopping, processes)


def _answer(job: Job, emit: Emit, stopping: Stopping) -> dict[str, Any]:
    """The report of a job that leaves no result on disk."""
    match job:
        case FetchJob():
            repository = hub.Repository(job.hub, job.revision, "dataset")
            path, commit = hub.fetch_file(repository, job.any_of, emit=emit, stopping=stopping)
            return {"path": str(path), "commit": commit}
        case TokensJob():
            from engine.trainer.input_pipeline.inspect import inspect_rows

            return inspect_rows(job)
        case PriceJob():
            from engine.trainer.cost.price import price_step

            return price_step(job)
        case ShardingsJob():
            from engine.trainer.cost.shardings import report_shardings

            return report_shardings(job)
        case ProbeJob():
            return device.describe(job.device)
    raise AssertionError(job.verb)


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name)


def _fail(emit: Emit, exit_code: int, *diagnostics: Diagnostic) -> int:
    emit(Failed(exit_code, tuple(diagnostic.as_json() for diagnostic in diagnostics)))
    return exit_code


def _os_error(error: OSError) -> Diagnostic:
    if isinstance(error, FileNotFoundError):
        return Diagnostic("T140", f"{error.filename} is not there", hint="run again: missing files are made again")
    hint = "free some disk space or give this user the right to write there, then run again: it resumes"
    if isinstance(error, NotADirectoryError | FileExistsError | IsADirectoryError):
        hint = "something else is at that path: move it away, then run again"
    return Diagnostic("T141", f"cannot use {error.filename or 'the disk'}: {error.strerror or error}", hint=hint)


def _unforeseen(error: Exception) -> tuple[int, Diagnostic]:
    message = str(error)
    if isinstance(error, MemoryError) or any(word in message for word in OUT_OF_MEMORY):
        return 1, Diagnostic(
            "T142",
            f"the device's memory is too small: {message.splitlines()[0][:300] if message else 'no memory'}",
            hint="halve per_device_batch_size and double grad_accum_steps (the same global batch), or lower seq_len",
        )
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = Where(file=Path(frame.filename).name, line=frame.lineno or 0)
    return INTERNAL_ERROR_EXIT_CODE, Diagnostic("T140", f"{type(error).__name__}: {message[:300]}", where)


if __name__ == "__main__":
    process.leave(main(sys.argv[1:]))
