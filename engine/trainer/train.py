"""The train job: load, pack, restore, loop, export. Only here and in the modules below does training read and write files.

In: a :class:`engine.protocol.jobs.TrainJob`. Out: ``out/model/`` in Hugging Face's layout, ``out/metrics.jsonl``,
``out/train_report.json``; in ``work``: checkpoints and metrics that survive a kill; in ``cache``: the tokenized rows.
Events: those of :mod:`engine.protocol.events`, up to ``stopped`` or ``finished``.

    load_run(job)          model and data, checked against each other      (engine.trainer.inputs)
    restore(run, …)        the newest valid checkpoint, or train step 0    (engine.trainer.restore)
    TrainLoop(…).run()     train steps, eval, checkpoints, rows            (engine.trainer.train_loop)
    export_run(…)          the model folder and the report                 (engine.trainer.report)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import jax

from engine.protocol.deadline import StopReason, steady_seconds
from engine.protocol.events.base import Finished, Note
from engine.protocol.events.training import TrainStarted, TrainStopped
from engine.protocol.jobs import TrainJob, job_json, read_job
from engine.trainer import device
from engine.trainer.config.batch_shape import batch_of
from engine.trainer.distributed.gather import gathered, metrics_folder
from engine.trainer.distributed.placement import Placement
from engine.trainer.distributed.processes import SINGLE_PROCESS, ProcessGroup
from engine.trainer.generation.prompts import check_questions
from engine.trainer.input_pipeline.dataset import Data, load_data
from engine.trainer.input_pipeline.rows import has_messages
from engine.trainer.input_pipeline.token_store import Stopped
from engine.trainer.inputs import Model, TrainRun, load_model
from engine.trainer.models import param_count
from engine.trainer.ops.matmul import dtype_of, matmul_rule
from engine.trainer.process import Emit, Stopping
from engine.trainer.reference.export_check import ExportCheck
from engine.trainer.report import export
from engine.trainer.restore import RunState, model_bytes, pace_file, restore
from engine.trainer.session.guard import remember
from engine.trainer.text.encoding import renderer_of
from engine.trainer.tracking.tracker import Tracker, check_tracking
from engine.trainer.train_loop import TrainLoop
from engine.trainer.train_step import merge, saved_part
from engine.trainer.weights import save_companions


def run_train(
    job: TrainJob, emit: Emit, stopping: Stopping, processes: ProcessGroup = SINGLE_PROCESS
) -> dict[str, Any]:
    """Do the job; returns the report, or {"stopped": True, "train_step": N} after a stop request.

    With several processes each trains; only process 0 writes and has the report.
    """
    args, machine = job.args, device.describe(job.device)
    machine["matmul_dtype"] = dtype_of(matmul_rule(args.matmul_dtype, args.dtype, jax.local_devices()[0]), args.dtype)
    check_tracking(args)
    placement = Placement(mesh=args.mesh)
    model = load_model(job.model, args.dtype, args.seed, emit, stopping, placement=placement)
    if processes.is_writer and job.questions is not None:
        check_questions(job.questions, model.tokenizer, model.config.max_position_embeddings)
    with export_check_of(job, model) as check:
        if processes.is_writer:
            check.begin()
        try:
            data = _load_data(job, model, emit, stopping)
        except Stopped:
            processes.failed("it was stopped before the first train step")
            return _stopped(0, emit, _why(job, stopping))
        return _train(TrainRun(job, model, data, placement, processes, emit, stopping, check), machine)


def _train(run: TrainRun, machine: dict[str, Any]) -> dict[str, Any]:
    """From the first or the restored train step to the report, with model and data loaded."""
    job, emit, processes = run.job, run.emit, run.processes
    emit(_started(run, machine))
    tracker = Tracker(job, run.model, run.data, machine, emit)
    with metrics_folder(Path(job.work), processes) as folder:
        state = restore(run, folder)
        with state.saver, closing(state.metrics), closing(tracker):
            loop = TrainLoop(run, state, tracker)
            is_whole = loop.run()
            if processes.is_writer:
                remember(pace_file(run, state.topology), state.guard.pace)
            # A session that only exports has nothing better to do than to try.
            can_export = loop.here == 0 or processes.agree("export", lambda: state.guard.may_export(model_bytes(run)))
            if not is_whole or not can_export:
                return _stopped(state.train_step, emit, _why(job, run.stopping), loop.here, state.guard.needs())
            report = export_run(run, state, tracker, machine)
    emit(Finished(report))
    return report


def export_check_of(job: TrainJob, model: Model) -> ExportCheck:
    """The check of what this job will export beside its weights."""
    write = partial(
        save_companions,
        config=model.config,
        tokenizer=model.tokenizer,
        dtype=job.args.dtype,
        generation=model.generation,
    )
    cache = Path(job.cache or Path(job.work) / "cache")
    return ExportCheck(write, model.config, model.tokenizer, source=model.base_config, cache=cache)


def follow_job(processes: ProcessGroup, job: TrainJob | None = None) -> TrainJob:
    """The job of process 0, the only one that reads a job file, in every process."""
    values = processes.agree("job", lambda: None if job is None else job_json(job))
    agreed = read_job("train", values)
    assert isinstance(agreed, TrainJob)
    return agreed


def _stopped(
    train_step: int, emit: Emit, reason: StopReason = "request", here: int = 0, needs: str | None = None
) -> dict[str, Any]:
    emit(TrainStopped(train_step, reason, here, None if here else needs))
    return {"stopped": True, "train_step": train_step}


def _why(job: TrainJob, stopping: Stopping) -> StopReason:
    """The limit, where it is reached: the engine asks to stop then too."""
    deadline = job.deadline
    return "request" if stopping() and (deadline is None or deadline.fits(steady_seconds())) else "deadline"


def _load_data(job: TrainJob, model: Model, emit: Emit, stopping: Stopping) -> Data:
    cache = Path(job.cache or Path(job.work) / "cache")
    return load_data(
        Path(job.rows), model.tokenizer, job.args, cache=cache, render=job.render, emit=emit, stopping=stopping
    )


def _started(run: TrainRun, machine: Mapping[str, Any]) -> TrainStarted:
    data, mesh = run.data, run.placement.size
    batch = batch_of(run.args, mesh.fsdp)
    return TrainStarted(
        devices=tuple(machine["devices"]),
        platform=machine["platform"],
        jax=jax.__version__,
        params=param_count(run.model.config),
        n_rows=data.n_rows,
        mesh=mesh._asdict(),
        batch={**batch._asdict(), "empty": batch.empty},
        batches_per_epoch=round(data.packed.n_sequences / batch.sequences, 2),
        real_token_share=round(data.packed.real_token_share, 4),
        longest_row_tokens=data.longest,
        n_boundary_merges=data.n_boundary_merges,
        chat_template_sha256=_chat_template(run),
        num_train_steps=run.args.num_train_steps,
    )


def export_run(run: TrainRun, state: RunState, tracker: Tracker, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Write the results of the finished run, with its last or its best weights; returns the report."""
    run.check_export()
    best = state.saver.best(saved_part(state.state)) if state.args.export == "best" else None
    if state.args.export == "best" and best is None:
        run.emit(Note("no checkpoint has a finite eval loss: the last weights are exported, not the best"))
    arrays = state.state | (best.state if best else {})
    exported = {"params": arrays["params"]} | ({"frozen": arrays["frozen"]} if state.args.lora_merge else {})
    weights = gathered(exported, run.placement.replicated, run.processes)
    if weights is None:
        return {"process": run.processes.process_id}
    arrays |= weights
    facts = {
        **machine,
        "render": run.job.render,
        "rendered_by": renderer_of(
            messages=has_messages(Path(run.job.rows)), render=run.job.render, tokenizer=run.model.tokenizer
        ),
        "chat_template_sha256": _chat_template(run),
        "tokens_seen": state.tokens_seen(run.data.packed),
        "base": _base(run),
        "exported_train_step": best.train_step if best else state.train_step,
        "topology": state.topology.as_json(),
        "moves": list(state.moves),
        "sessions": state.sessions.chain(state.train_step, state.saver.checkpoints.digest(state.train_step)),
        "measured": tracker.report(state.metrics.rows),
        "sequences_per_train_step": state.shape.sequences,
    }
    return export(
        Path(run.job.out),
        merge(state.graphdef, arrays["params"], arrays.get("frozen")),
        state.metrics,
        state.train_step,
        args=state.args,
        model=run.model,
        data=run.data,
        facts=facts,
    )


def _from_here(path: str) -> str:
    """As the run-spec has it, from the project folder, which is where the trainer works; an absolute path says too much."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def _chat_template(run: TrainRun) -> str | None:
    """Digest of the chat template that rendered the rows; None where none did."""
    return run.model.tokenizer.chat_sha256 if has_messages(Path(run.job.rows)) else None


def _base(run: TrainRun) -> dict[str, Any]:
    """The base of the adapters: enough to load the same weights again. ``name_or_path`` is what PEFT would load."""
    source = run.job.model
    hub = source.id if source.init == "pretrained" else None
    return {
        "id": run.job.model.id,
        "name_or_path": hub if source.path is None else _from_here(source.path),
        "revision": run.model.commit,
        "init": run.job.model.init,
        "weights": run.model.origin,
        "dtype": run.args.dtype,
        "seed": run.args.seed,
    }
