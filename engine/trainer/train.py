"""The body of the train job: load, pack, restore, loop, save, export. The one place where training meets the disk.

In: the job (see ``python -m engine.trainer --help``). Out: ``out/model/`` in Hugging Face's layout,
``out/metrics.jsonl``, ``out/train_report.json``; in ``work``: checkpoints and metrics that survive a kill.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from engine.canonical import digest_file, digest_json, digest_tree, pretty_json, write_atomic
from engine.errors import InputInvalid
from engine.trainer import device, hub
from engine.trainer.args import TrainArgs
from engine.trainer.batches import DataOrder, batch_at
from engine.trainer.checkpoint import Checkpoints
from engine.trainer.loop import Done, train
from engine.trainer.metrics import MetricsFile
from engine.trainer.models import config_from_hf, create, param_count
from engine.trainer.packing import Packed, pack_rows
from engine.trainer.process import Emit, Stopping
from engine.trainer.rows import Fitted, TokenRow, fit_rows, read_token_rows
from engine.trainer.tokenizer import Tokenizer, build_chars
from engine.trainer.train_step import State, compile_train_step, init_state, make_eval_loss
from engine.trainer.weights import load_folder, save_folder


@dataclass(frozen=True, slots=True)
class Model:
    """What the job's ``model`` stands for. ``commit`` is the hub's, None elsewhere."""

    module: Any
    config: Any
    tokenizer: Tokenizer
    commit: str | None


@dataclass(frozen=True, slots=True)
class Data:
    """Packed training sequences, the rows withheld for the eval loss, and what did not fit."""

    packed: Packed
    withheld: Packed | None
    fitted: Fitted
    n_rows: int
    n_withheld: int
    longest: int


def run_train(job: Mapping[str, Any], emit: Emit, stopping: Stopping) -> dict[str, Any]:
    """Do the job; returns the report, or {"stopped": True} where ``stopping`` said so."""
    args, machine = TrainArgs.of(job["args"]), device.describe(job["device"])
    model = load_model(job["model"], args, Path(job["cache"]) if job.get("cache") else None)
    data = load_data(Path(job["rows"]), model.tokenizer, args)
    work, out = Path(job["work"]), Path(job["out"])
    training = _Training(job, args, model, data, emit, stopping, work)
    emit(_started(model, data, args, machine))
    if not training.run():
        emit({"event": "stopped", "train_step": training.train_step})
        return {"stopped": True, "train_step": training.train_step}
    report = _export(training, machine, out)
    emit({"event": "finished", "report": report})
    return report


def load_model(job: Mapping[str, Any], args: TrainArgs, cache: Path | None) -> Model:
    """Fresh weights, a local folder, or the hub's. Raises InputInvalid (M codes)."""
    dtype = jnp.dtype(args.dtype)
    if job["init"] == "random":
        tokenizer = build_chars()
        config = config_from_hf({**job["config"], **_tokenizer_keys(job["config"], tokenizer)}, "the run-spec")
        return Model(create(config, seed=args.seed, param_dtype=dtype, compute_dtype=dtype), config, tokenizer, None)
    folder, commit = (Path(job["path"]), None) if job.get("path") else hub.fetch(job["id"], job["revision"], cache)
    module, config, tokenizer = load_folder(folder, param_dtype=dtype, compute_dtype=dtype)
    return Model(module, config, tokenizer, commit)


def _tokenizer_keys(config: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, int]:
    """What the tokenizer decides of the configuration. Raises InputInvalid T116 where the spec says otherwise."""
    ours = {
        "vocab_size": tokenizer.vocab_size,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
    }
    wrong = {key: value for key, value in ours.items() if config.get(key, value) != value}
    if wrong:
        said = ", ".join(f"{key} {config[key]} (the tokenizer has {value})" for key, value in wrong.items())
        raise InputInvalid("T116", f"model.config contradicts the tokenizer: {said}", hint="leave these keys out")
    return ours


def load_data(path: Path, tokenizer: Tokenizer, args: TrainArgs) -> Data:
    """Tokenise, apply the length policy, withhold eval rows, pack."""
    rows = read_token_rows(path, tokenizer)
    fitted = fit_rows(rows, args.seq_len, args.on_long_row)
    if args.eval_rows >= len(fitted.rows):
        raise InputInvalid("T117", f"eval_rows {args.eval_rows} leaves nothing of {len(fitted.rows)} rows to train on",
                           hint="lower eval_rows")  # fmt: skip
    withheld, kept = _withhold(fitted.rows, args)
    packed = pack_rows(kept, args.seq_len, packing=args.packing)
    eval_packed = pack_rows(withheld, args.seq_len, packing=args.packing) if withheld else None
    longest = max(len(row.tokens) for row in fitted.rows)
    return Data(packed, eval_packed, fitted, len(kept), len(withheld), longest)


def _withhold(rows: tuple[TokenRow, ...], args: TrainArgs) -> tuple[list[TokenRow], list[TokenRow]]:
    """(withheld, kept): which rows is a pure function of the seed and the number of rows."""
    generator = np.random.Generator(np.random.Philox(key=[args.seed, len(rows)]))
    chosen = {int(index) for index in generator.permutation(len(rows))[: args.eval_rows]}
    withheld = [row for index, row in enumerate(rows) if index in chosen]
    return withheld, [row for index, row in enumerate(rows) if index not in chosen]


def _started(model: Model, data: Data, args: TrainArgs, machine: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "event": "started",
        "devices": machine["devices"],
        "platform": machine["platform"],
        "jax": jax.__version__,
        "params": param_count(model.config),
        "n_rows": data.n_rows,
        "batches_per_epoch": data.packed.tokens.shape[0] / args.sequences_per_step,
        "real_token_share": round(data.packed.real_token_share, 4),
        "longest_row_tokens": data.longest,
        "num_train_steps": args.num_train_steps,
    }


class _Training:
    """One training from its restored (or first) step to its last."""

    def __init__(
        self, job: Mapping[str, Any], args: TrainArgs, model: Model, data: Data, emit: Emit, stopping: Stopping, work: Path
    ) -> None:
        self.job, self.args, self.model, self.data = job, args, model, data
        self._emit, self._stopping = emit, stopping
        self.last = min(args.num_train_steps, job.get("stop_at") or args.num_train_steps)
        identity = {
            "arguments": digest_json(dict(job["args"])),
            "rows": digest_file(Path(job["rows"])),
            "model": digest_json([job["model"], model.config.to_hf(), model.commit]),
            "libraries": digest_json({name: str(value) for name, value in _libraries().items()}),
            "devices": f"{jax.default_backend()} x {jax.device_count()}",
        }
        self.checkpoints = Checkpoints(work / "checkpoints", keep=args.keep_checkpoints, identity=identity)
        self.graphdef, fresh = init_state(model.module, args)
        restored = self.checkpoints.restore(fresh, self._fell_back)
        self.state: State = restored.state if restored else fresh
        self.train_step = restored.train_step if restored else 0
        if restored:
            emit({"event": "restored", "train_step": restored.train_step})
        self.metrics = MetricsFile(work / "metrics.jsonl", restored_step=self.train_step)
        self._order = DataOrder(data.packed.tokens.shape[0], args.sequences_per_step, args.seed)
        self._eval_loss = make_eval_loss(self.graphdef)
        self._saves = 0

    def _fell_back(self, train_step: int, reason: str) -> None:
        self._emit({"event": "fallback", "train_step": train_step, "reason": reason})

    def run(self) -> bool:
        """True at the end; False where it was asked to stop (a checkpoint of the last step is then saved)."""
        if self.train_step >= self.last:
            return True
        started = time.perf_counter()
        step = compile_train_step(self.graphdef, self.args, self.state, self._batch(self.train_step + 1))
        self._emit({"event": "compiled", "seconds": round(time.perf_counter() - started, 2)})
        began, first = time.perf_counter(), self.train_step + 1
        for done in train(step, self.state, self._batch, first=first, last=self.last, pause_after=self._pauses):
            self._take(done, began, first)
            if done.state is not None and self._stopping() and done.train_step < self.last:
                self._save()
                return False
        return True

    def _batch(self, train_step: int) -> dict[str, jax.Array]:
        batch = batch_at(self.data.packed, self._order, train_step, self.args.grad_accum_steps)
        return {name: jnp.asarray(array) for name, array in batch.items()}

    def _pauses(self, train_step: int) -> bool:
        return self._saves_after(train_step) or self._evals_after(train_step) or self._stopping()

    def _saves_after(self, train_step: int) -> bool:
        return train_step % self.args.save_every_steps == 0 or train_step == self.last

    def _evals_after(self, train_step: int) -> bool:
        if self.data.withheld is None:
            return False
        every = self.args.eval_every_steps
        return train_step == self.last or bool(every and train_step % every == 0)

    def _take(self, done: Done, began: float, first: int) -> None:
        """Log one train step, and do what is due after it."""
        row = done.metrics
        if done.state is not None:
            self.state, self.train_step = done.state, done.train_step
            if self._evals_after(done.train_step):
                row = {**row, "eval_loss": self._evaluate()}
                self._emit({"event": "eval", "train_step": done.train_step, "eval_loss": row["eval_loss"]})
        self.metrics.append(row)
        pace = (time.perf_counter() - began) / (done.train_step - first + 1)
        self._emit({"event": "train_step", "num_train_steps": self.last, **row,
                    "seconds_left": round(pace * (self.last - done.train_step), 1)})  # fmt: skip
        if done.state is not None and self._saves_after(done.train_step):
            self._save()

    def _save(self) -> None:
        if self.checkpoints.steps()[-1:] == [self.train_step]:
            return
        self.metrics.sync()
        self.checkpoints.save(self.state, self.train_step)
        self._emit({"event": "checkpoint", "train_step": self.train_step})
        self._saves += 1
        if self._saves == self.job.get("stop_after_saves"):
            self._emit({"event": "ready_to_die", "train_step": self.train_step})
            while True:  # the smoke run kills us here, for real
                time.sleep(60)

    def _evaluate(self) -> float:
        """Mean loss over the withheld rows, token by token."""
        withheld = self.data.withheld
        assert withheld is not None
        total = tokens = 0.0
        size = self.args.per_device_batch_size
        for start in range(0, withheld.tokens.shape[0], size):
            part = {name: jnp.asarray(_padded(getattr(withheld, name)[start : start + size], size))
                    for name in ("tokens", "loss_mask", "segment_ids", "positions")}  # fmt: skip
            loss, count = self._eval_loss(self.state["params"], part)
            total, tokens = total + float(loss), tokens + float(count)
        return total / max(tokens, 1.0)


def _padded(array: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """The last batch filled up with empty sequences, so that one compilation serves all."""
    return np.pad(array, ((0, size - array.shape[0]), (0, 0)))


def _libraries() -> dict[str, str]:
    from importlib import metadata

    return {name: metadata.version(name) for name in device.LIBRARIES}


def _export(training: _Training, machine: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Model folder, metrics and report. What lies in ``out`` from an attempt before gives way."""
    training.metrics.close()
    if not training.metrics.complete_to(training.train_step):
        raise InputInvalid("T121", "metrics.jsonl does not have one row for every train step",
                           hint="something else wrote into the work folder; train into an empty one")  # fmt: skip
    args, data, model = training.args, training.data, training.model
    shutil.rmtree(out / "model", ignore_errors=True)
    trained = nnx.merge(training.graphdef, training.state["params"])
    save_folder(out / "model", trained, model.config, model.tokenizer, dtype=args.dtype)
    rows = training.metrics.rows
    write_atomic(out / "metrics.jsonl", training.metrics.path_bytes())
    seconds = sum(row["seconds"] for row in rows)
    sequences = training.train_step * args.sequences_per_step
    report = {
        "final_loss": rows[-1]["loss"],
        "final_eval_loss": rows[-1].get("eval_loss"),
        "num_train_steps": training.train_step,
        "tokens_trained": sum(row["tokens"] for row in rows),
        "tokens_seen": sequences * args.seq_len,
        "params": param_count(model.config),
        "param_dtype": args.dtype,
        "compute_dtype": args.dtype,
        **{key: machine[key] for key in ("devices", "platform", "device_kind", "libraries")},
        "tokens_per_second": round(sum(row["tokens"] for row in rows) / seconds, 1),
        "model_sha256": digest_json(digest_tree(out / "model")),
        "model_commit": model.commit,
        "render": training.job["render"],
        "n_rows": data.n_rows,
        "n_eval_rows": data.n_withheld,
        "n_dropped": data.fitted.n_dropped,
        "n_truncated": data.fitted.n_truncated,
        "real_token_share": round(data.packed.real_token_share, 4),
        "longest_row_tokens": data.longest,
        "seq_len": args.seq_len,
    }
    write_atomic(out / "train_report.json", pretty_json(report))
    return report


