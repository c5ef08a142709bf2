"""The end of a training run: the model folder, the metrics and the report.

In: the trained model and its inputs. Out: ``model/``, ``metrics.jsonl`` and ``train_report.json``, whose facts are the
facts of the pipeline's checkpoint artifact. Files of an earlier attempt are replaced.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.canonical import digest_json, digest_tree, pretty_json, write_atomic
from engine.errors import RunFailed
from engine.protocol.train_args import TrainArgs
from engine.trainer.input_pipeline.dataset import Data
from engine.trainer.inputs import Model
from engine.trainer.lora.adapter_files import save_adapter
from engine.trainer.lora.adapters import LoraArgs, adapter_shapes, merged
from engine.trainer.metrics import MetricsFile, MetricsRow
from engine.trainer.models import param_count
from engine.trainer.models.decoder import Decoder
from engine.trainer.weights import save_companions, save_folder

COPIED_FACTS = (
    "devices",
    "platform",
    "device_kind",
    "allocator",
    "libraries",
    "topology",
    "moves",
    "sessions",
    "sequences_per_train_step",
)


def export(
    out: Path,
    trained: Decoder,
    metrics: MetricsFile,
    train_step: int,
    *,
    args: TrainArgs,
    model: Model,
    data: Data,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Write all three; returns the report. ``facts``: devices, platform, libraries, render, tokens_seen, measured,
    exported_train_step, topology, moves (from other devices), sessions."""
    metrics.sync()
    if not metrics.complete_to(train_step):
        raise RunFailed(
            "T121",
            "metrics.jsonl does not have one row for every train step",
            hint="another program wrote into the work folder; train into an empty one",
        )
    if metrics.rows[-1]["loss"] is None:
        raise RunFailed("T131", f"the last train step, {train_step}, was skipped: there is no final loss",
                        hint="lower the learning_rate, or train in float32")  # fmt: skip
    shutil.rmtree(out / "model", ignore_errors=True)
    _save(out, trained, args, model, facts["base"])
    write_atomic(out / "metrics.jsonl", metrics.path_bytes())
    rows = metrics.rows
    exported = facts["exported_train_step"]
    measured: Mapping[str, Any] = facts["measured"]
    reasons = {**measured.get("not_applicable", {}), **_reasons(rows, exported)}
    seconds = sum(row["seconds"] for row in rows)
    report = {
        **_losses(rows, exported),
        "num_train_steps": train_step,
        "tokens_trained": sum(row["tokens"] for row in rows if not row.get("skipped")),
        "tokens_seen": facts["tokens_seen"],
        "method": args.method,
        "params": param_count(model.config),
        "trained_params": _trained_params(args, model),
        "param_dtype": args.dtype,
        "compute_dtype": args.dtype,
        "matmul_dtype": facts["matmul_dtype"],
        **{key: facts[key] for key in COPIED_FACTS},
        "n_skipped_steps": sum(bool(row.get("skipped")) for row in rows),
        "n_non_finite_evals": sum("eval_loss" in row and row["eval_loss"] is None for row in rows),
        "tokens_per_second": round(facts["tokens_seen"] / seconds, 1),
        **measured,
        "input_wait_share": round(sum(row["input_wait_seconds"] for row in rows) / seconds, 6),
        "model_sha256": digest_json(digest_tree(out / "model")),
        **_source_facts(model),
        "render": facts["render"],
        "rendered_by": facts["rendered_by"],
        **_data_facts(data),
        "chat_template_sha256": facts["chat_template_sha256"],
        "seq_len": args.seq_len,
        "not_applicable": reasons,
    }
    write_atomic(out / "train_report.json", pretty_json(report))
    return report


def _source_facts(model: Model) -> dict[str, object]:
    """Where the weights came from: the hub's commit, or the version and the files on Kaggle; rows of the embedding that were not read."""
    facts: dict[str, object] = {"model_commit": model.commit}
    facts |= {"model_kaggle": dict(model.kaggle)} if model.kaggle is not None else {}
    return facts | ({"embedding_rows_cut": model.cut_rows} if model.cut_rows else {})


def _data_facts(data: Data) -> dict[str, object]:
    """How many rows were used, withheld, dropped, truncated and split."""
    return {
        "n_rows": data.n_rows,
        "n_eval_rows": data.n_withheld,
        "n_dropped": data.n_dropped,
        "n_truncated": data.n_truncated,
        "n_split": data.n_split,
        "n_dropped_pieces": data.n_dropped_pieces,
        "real_token_share": round(data.packed.real_token_share, 4),
        "longest_row_tokens": data.longest,
        "n_boundary_merges": data.n_boundary_merges,
    }


def _losses(rows: Sequence[MetricsRow], exported: int) -> dict[str, object]:
    """At the last train step, and at the one whose weights are exported."""
    return {
        "final_loss": rows[-1]["loss"],
        "final_eval_loss": rows[-1].get("eval_loss"),
        "exported_train_step": exported,
        "exported_eval_loss": rows[exported - 1].get("eval_loss"),
    }


def _reasons(rows: Sequence[MetricsRow], exported: int) -> dict[str, str]:
    """Why an eval loss is null."""
    reasons: dict[str, str] = {}
    for name, train_step in (("final_eval_loss", len(rows)), ("exported_eval_loss", exported)):
        row = rows[train_step - 1]
        if "eval_loss" not in row:
            reasons[name] = f"no eval after train step {train_step}: no rows are withheld, or none was due"
        elif row["eval_loss"] is None:
            what = row.get("non_finite", {}).get("eval_loss", "not finite")
            reasons[name] = f"the eval loss of train step {train_step} is {what}"
    return reasons


def _save(out: Path, trained: Decoder, args: TrainArgs, model: Model, base: Mapping[str, object]) -> None:
    """``model/``: all weights, or adapters with the base's configuration and tokenizer; ``merged/`` with lora_merge."""
    companions: Any = {
        "config": model.config,
        "tokenizer": model.tokenizer,
        "dtype": args.dtype,
        "generation": model.generation,
    }
    if args.method == "full":
        save_folder(out / "model", trained, formats=args.export_formats, **companions)
        return
    save_adapter(out / "model", trained, base=base)
    save_companions(out / "model", **companions)
    shutil.rmtree(out / "merged", ignore_errors=True)
    if args.lora_merge:
        save_folder(out / "merged", merged(trained), formats=args.export_formats, **companions)


def _trained_params(args: TrainArgs, model: Model) -> int:
    """How many parameters the optimizer updated."""
    if args.method == "full":
        return param_count(model.config)
    lora = LoraArgs(args.lora_rank, args.lora_alpha, targets=args.lora_targets)
    return sum(math.prod(shape) for shape in adapter_shapes(model.config, lora).values())
