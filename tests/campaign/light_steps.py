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

WRONG = "quick-001"  # the item that is answered wrong
PARAMS = 6512  # of the model that light_project declares
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
    from tests.campaign.light_trainer import train
    from tests.fixtures.training import train_report

    trained = train(ctx)
    model = {"rows": ctx.inputs["dataset"].facts["rows_sha256"], "weight": trained.weight}
    write_atomic(ctx.out / "model" / "config.json", pretty_json(model))
    write_atomic(ctx.out / "metrics.jsonl", jsonl_bytes(trained.rows))
    dataset = ctx.inputs["dataset"].facts
    report = train_report(ctx.args, trained.rows, model_sha256=digest_json(digest_tree(ctx.out / "model")), render=dataset["render"],
                          params=PARAMS, n_rows=dataset["n_rows"], libraries=used_libraries(), sessions=trained.sessions)  # fmt: skip
    write_atomic(ctx.out / "train_report.json", pretty_json(report))
    return StepResult(report)


def used_libraries() -> dict[str, str]:
    """Python and the libraries that the fingerprint of a training run has, by their versions here."""
    from importlib.metadata import version

    return {"python": platform.python_version(), **{name: version(name) for name in ("jax", "jaxlib", "flax", "optax")}}


def light_generate(ctx: Any) -> Any:
    """The expected answer to every question but one; an answer does not depend on the others."""
    from engine.canonical import digest_text, jsonl_bytes, pretty_json, write_atomic
    from engine.data import read_eval_set, render_prompt
    from engine.steps import StepResult

    train = ctx.inputs["checkpoint"].facts
    items = read_eval_set(ctx.spec.resolve(ctx.spec.eval_set))
    rows = [{"id": item.id, "prompt_sha256": digest_text(render_prompt(train["render"], item.prompt)),
             "prompt": render_prompt(train["render"], item.prompt),
             "text": f"so\nAnswer: {'no' if item.id == WRONG else item.expected_answer}", "prompt_tokens": 5, "new_tokens": 4,
             "finish_reason": "eos", "milliseconds": 2.0} for item in items]  # fmt: skip
    report = {"n_items": len(rows), "new_tokens": 4 * len(rows), "tokens_per_second": 2000.0, "platform": "cpu", "weights": "float32",
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
