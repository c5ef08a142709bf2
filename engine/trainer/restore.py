"""Where a training run starts: at its newest valid checkpoint, or at train step 0.

In: a :class:`TrainRun`. Out: its state before the next train step (:class:`RunState`), with its
checkpoints and metrics. On other devices the arguments in effect may differ from the job's (``on_other_devices: reshard``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from engine.canonical import digest_json
from engine.protocol.disk_space import model_file_bytes
from engine.protocol.events.base import Note
from engine.protocol.train_args import TrainArgs, names_affecting
from engine.trainer.checkpoint import disk_space
from engine.trainer.checkpoint.manifest import IdentityCheck
from engine.trainer.checkpoint.saver import Move, Saver
from engine.trainer.config.batch_shape import BatchShape, batch_of
from engine.trainer.distributed.gather import check_same
from engine.trainer.distributed.topology import Topology
from engine.trainer.guard import Skips
from engine.trainer.input_pipeline.batches import DataOrder, real_tokens
from engine.trainer.input_pipeline.packing import Packed
from engine.trainer.inputs import TrainRun, identity
from engine.trainer.lora.adapters import LoraArgs, adapter_shapes
from engine.trainer.metrics import MetricsFile
from engine.trainer.models import param_count
from engine.trainer.models.decoder import Decoder
from engine.trainer.session.chain import Sessions
from engine.trainer.session.guard import SessionGuard, recall
from engine.trainer.train_step import State, init_state, saved_part, with_method


@dataclass(slots=True)
class RunState:
    """A training run between two train steps.

    ``state``       parameters, optimizer, keys; empty while a train step owns them
    ``args``        the arguments in effect; ``shape``: the batch they give on these devices
    ``moves``       resumes on other devices, for the report
    ``order``       the sequences of each train step
    ``sessions``    those before this one, and where this one begins; ``guard``: when it has to end
    """

    graphdef: nnx.GraphDef[Decoder]
    state: State
    train_step: int
    args: TrainArgs
    shape: BatchShape
    order: DataOrder
    topology: Topology
    moves: tuple[Move, ...]
    saver: Saver
    metrics: MetricsFile
    skips: Skips
    sessions: Sessions
    guard: SessionGuard

    def tokens_seen(self, packed: Packed) -> int:
        """Tokens of all train steps so far, padding not counted."""
        return real_tokens(packed, self.order, self.train_step)


def last_train_step(run: TrainRun) -> int:
    """The last train step: ``num_train_steps``, or the job's earlier ``stop_at``."""
    return min(run.args.num_train_steps, run.job.stop_at or run.args.num_train_steps)


def restore(run: TrainRun, metrics_folder: Path) -> RunState:
    """The state to start with. Raises InputInvalid T120, T122, T123, T174; RunFailed T143."""
    args, size = run.args, run.placement.size
    topology = Topology.of(run.placement)
    made_from = identity(args, run.model, run.data)
    check_same(made_from, run.processes)
    reshard = args.on_other_devices == "reshard"
    identity_check = IdentityCheck(made_from, topology, batch_of(args, size.fsdp).sequences, reshard=reshard)
    graphdef, fresh = init_state(with_method(run.model.module, args, jax.local_devices()[0]), args)
    fresh = run.placement.state(fresh, run.model.config)
    guard = session_guard(run, topology, disk_space.checkpoint_bytes(saved_part(fresh)))
    saver = Saver(
        Path(run.job.work),
        args,
        identity_check,
        last=last_train_step(run),
        emit=run.emit,
        stop_after=run.job.stop_after_saves,
        processes=run.processes,
        guard=guard,
    )
    origin = saver.restore(saved_part(fresh), model_bytes=model_bytes(run))
    shape = batch_of(origin.args, size.fsdp)
    metrics = MetricsFile(metrics_folder / "metrics.jsonl", origin.notes if run.processes.is_writer else None)
    if metrics.recovered:
        run.emit(Note("metrics.jsonl was damaged: its rows are those of its copy"))
    skips = Skips(args.max_skipped_steps)
    skips.recall(metrics.rows)
    return RunState(
        graphdef=graphdef,
        state=fresh | (origin.state or {}),
        train_step=origin.train_step,
        args=origin.args,
        shape=shape,
        order=DataOrder(run.data.packed.n_sequences, shape.sequences, args.seed),
        topology=topology,
        moves=origin.moves,
        saver=saver,
        metrics=metrics,
        skips=skips,
        sessions=Sessions.after(origin.notes, origin.digest, origin.train_step, run.job.session, _machine(topology)),
        guard=guard,
    )


def _machine(topology: Topology) -> dict[str, Any]:
    """What a session says of the devices that it trained on."""
    return {"platform": jax.default_backend(), "device_kind": topology.device_kind, "devices": topology.devices}


def session_guard(run: TrainRun, topology: Topology, state_bytes: int) -> SessionGuard:
    """The guard of this process, with what earlier runs of the same program on such devices took."""
    deadline = run.job.deadline
    if deadline is not None and run.processes.count > 1:  # each process would measure, and save, differently
        deadline = replace(deadline, cadence="declared")
    return SessionGuard(deadline, state_bytes=state_bytes, known=recall(pace_file(run, topology)))


def pace_file(run: TrainRun, topology: Topology) -> Path:
    """Where the pace of this program on these devices is remembered."""
    arguments = {name: getattr(run.args, name) for name in names_affecting("program")}
    made_of = {
        **arguments,
        "mesh": [run.args.mesh.fsdp, run.args.mesh.tp],
        "config": run.model.config.to_hf(),
        "topology": topology.as_json(),
    }
    return Path(run.job.cache or Path(run.job.work) / "cache") / f"pace-{digest_json(made_of)[:16]}.json"


def model_bytes(run: TrainRun) -> int:
    """Bytes of the files that the run exports at its end."""
    args, config = run.args, run.model.config
    lora = LoraArgs(args.lora_rank, args.lora_alpha, targets=args.lora_targets)
    adapters = sum(4 * math.prod(shape) for shape in adapter_shapes(config, lora).values())
    return model_file_bytes(
        weights=param_count(config) * jnp.dtype(args.dtype).itemsize,
        adapters=adapters if args.method == "lora" else None,
        formats=len(args.export_formats),
        merge=args.lora_merge,
    )
