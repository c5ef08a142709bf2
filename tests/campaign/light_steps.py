"""``runspec`` in a process of its own, with light stand-ins for the two steps that need the trainer: a run takes a second.

    python tests/campaign/light_steps.py [at N] run runspecs/spec.yaml

Everything else is the real thing: store, journal, locks, evidence, package, verification. With ``at N`` the process kills
itself (SIGKILL) right before the N-th call that changes files; with ``count FILE`` it writes into FILE how many there were.
"""

from __future__ import annotations

import atexit
import dataclasses
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

CALLS = ("open", "fdopen", "fsync", "chmod", "replace", "rename", "mkdir", "unlink", "rmdir", "truncate")


def arm(at: int | None, count_into: str | None) -> None:
    """Count the calls that change files, and die before one of them."""
    seen = [0]

    def wrap(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            seen[0] += 1
            if seen[0] == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        setattr(owner, name, call)

    for name in CALLS:
        wrap(os, name)
    wrap(subprocess, "run")
    if count_into is not None:
        atexit.register(lambda: Path(count_into).write_text(str(seen[0])))


def light_train(ctx: Any) -> Any:
    """What the trainer leaves, by formula: a model folder, one row of metrics a train step, the report."""
    from engine.canonical import digest_json, digest_tree, jsonl_bytes, pretty_json, write_atomic
    from engine.steps import StepResult

    steps = int(ctx.args["num_train_steps"])
    write_atomic(ctx.out / "model" / "config.json", pretty_json({"rows": ctx.inputs["dataset"].facts["rows_sha256"]}))
    rows = []
    for step in range(1, steps + 1):
        rows.append({"train_step": step, "loss": 1.0 / step, "learning_rate": 1e-3, "grad_norm": 1.0, "tokens": 9,
                     "tokens_per_second": 90.0, "seconds": 0.1, "input_wait_seconds": 0.0})  # fmt: skip
        write_atomic(ctx.work / "progress.json", pretty_json(rows))
    write_atomic(ctx.out / "metrics.jsonl", jsonl_bytes(rows))
    report = {
        "final_loss": rows[-1]["loss"], "final_eval_loss": None, "exported_train_step": steps, "exported_eval_loss": None,
        "num_train_steps": steps, "devices": ["cpu:0"], "platform": "cpu", "device_kind": "cpu", "method": "full",
        "model_sha256": digest_json(digest_tree(ctx.out / "model")), "model_commit": None, "render": ctx.inputs["dataset"].facts["render"],
        "libraries": used_libraries(), "params": 3, "trained_params": 3, "chat_template_sha256": None,
        "param_dtype": ctx.args["dtype"], "compute_dtype": ctx.args["dtype"], "n_rows": 9, "seq_len": ctx.args["seq_len"],
        "real_token_share": 0.5, "tokens_seen": 9 * steps, "tokens_trained": 9 * steps, "tokens_per_second": 90.0,
        "input_wait_share": 0.0, "n_skipped_steps": 0, "n_non_finite_evals": 0, "n_dropped": 0, "n_truncated": 0,
    }  # fmt: skip
    write_atomic(ctx.out / "train_report.json", pretty_json(report))
    return StepResult(report)


def used_libraries() -> dict[str, str]:
    """Python and the libraries that the fingerprint of a training run has, by their versions here."""
    from importlib.metadata import version

    return {"python": platform.python_version(), **{name: version(name) for name in ("jax", "jaxlib", "flax", "optax")}}


def light_generate(ctx: Any) -> Any:
    """The expected answer to every question but the first."""
    from engine.canonical import digest_text, jsonl_bytes, pretty_json, write_atomic
    from engine.data import read_eval_set, render_prompt
    from engine.steps import StepResult

    train = ctx.inputs["checkpoint"].facts
    items = read_eval_set(ctx.spec.resolve(ctx.spec.eval_set))
    rows = [{"id": item.id, "prompt_sha256": digest_text(render_prompt(train["render"], item.prompt)),
             "text": f"so\nAnswer: {item.expected_answer if number else 'no'}", "prompt_tokens": 5, "new_tokens": 4,
             "finish_reason": "eos", "milliseconds": 2.0} for number, item in enumerate(items)]  # fmt: skip
    report = {"n_items": len(rows), "new_tokens": 4 * len(rows), "tokens_per_second": 2000.0, "platform": "cpu",
              "finish_reasons": {"eos": len(rows)}, "chat_template": None, "chat_template_sha256": None,
              "model_sha256": train["model_sha256"]}  # fmt: skip
    write_atomic(ctx.out / "predictions_raw.jsonl", jsonl_bytes(rows))
    write_atomic(ctx.out / "generate_report.json", pretty_json(report))
    return StepResult(report)


def main(words: list[str]) -> int:
    """The command line, and before it what to do to this process."""
    from engine.cli import main as runspec
    from engine.steps import registry

    light = {"train_sft": light_train, "generate": light_generate}
    for kind, function in light.items():
        handler: Any = registry.HANDLERS[kind]
        registry.HANDLERS[kind] = dataclasses.replace(handler, function=function, needs_extra=None)
    if words[0] in ("at", "count"):
        arm(int(words[1]) if words[0] == "at" else None, words[1] if words[0] == "count" else None)
        words = words[2:]
    return runspec(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
