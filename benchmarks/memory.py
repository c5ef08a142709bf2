"""Compiled memory of the train step: Gemma 2B and larger, full fine-tuning, by the TPU and GPU compilers without the device.

In: the compilers (``make compilers``, or a folder of them in RUNSPEC_COMPILERS). Out: a table of
peak GiB per device, or with ``--json`` rows {name, value, unit, bar, peer}; ``peer`` is a plain functional train step
(layers stacked under a scan, each recomputed, cross-entropy in chunks, donated state), compiled by the same compilers.

    $ python benchmarks/memory.py [--only T4] [--fresh] [--json]
    $ python benchmarks/memory.py --machine v5e-8 --set seq_len=2048 --set optimizer=adafactor --live 20

The second form asks about one step of your own (``--set`` takes any argument of train_sft; ``--model`` a config.json)
and names the largest buffers that are live at its peak. A compilation takes 10 s to two minutes and answers are kept in
.runspec/cache until the code changes. Exit code 1 if a bar is missed or a row cannot be built yet.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.errors import RunspecError
from engine.model_config.shapes import KNOWN_CONFIGS
from engine.preflight.exact import ask, cached_answer, compilers_folder, job_for
from engine.steps.schemas import step_schema
from engine.trainer_process.host import Host
from engine.trainer_process.process import run_trainer

ROOT = Path(__file__).resolve().parent.parent
GIB = 1 << 30
GEMMA_2B = {"model_type": "gemma", **KNOWN_CONFIGS["google/gemma-2b"]}
SCHEMA = step_schema("train_sft")["properties"]
DEFAULTS = {name: entry.get("default") for name, entry in SCHEMA.items()} | {"num_train_steps": 100}

BF16 = {"dtype": "bfloat16", "optimizer": "adafactor"}
IN_BACKWARD = {"update": "in_backward", "max_grad_norm": None}
LORA = {"method": "lora", "lora_rank": 16, "optimizer": "adamw"}


@dataclass(frozen=True)
class Step:
    """One row: ``rows`` sequences a device. Arguments that train_sft does not have make it "not built"."""

    name: str
    machine: str
    bar: float | None
    peer: float | None
    seq_len: int = 512
    rows: int = 1
    args: Mapping[str, Any] = field(default_factory=lambda: BF16)
    model: str = "gemma-2b"

    @property
    def config(self) -> dict[str, Any]:
        """The model's configuration."""
        return {"model_type": "gemma", **KNOWN_CONFIGS[f"google/{self.model}"]}

    @property
    def missing(self) -> list[str]:
        """Arguments it needs and that no schema has yet, or that do not take its value yet."""
        return [key for key, value in self.args.items() if value not in SCHEMA.get(key, {}).get("enum", [value])
                or key not in SCHEMA]  # fmt: skip


STEPS = (
    Step("v5e-8  bf16 Adafactor  512 x 8", "v5e-8", 1.35, 1.38),
    Step("v5e-8  f32 AdamW       512 x 8", "v5e-8", 5.2, 5.46, args={"dtype": "float32", "optimizer": "adamw"}),
    Step("v5e-8  bf16 Adafactor 2048 x 8", "v5e-8", 1.9, 2.03, seq_len=2048),
    Step("v5e-8  bf16 Adafactor 8192 x 8", "v5e-8", 4.2, 4.53, seq_len=8192),
    Step("v5e-1  bf16 Adafactor  512 x 1", "v5e-1", 9.5, 9.53),
    Step("v5e-1  update in backward 512 x 1", "v5e-1", 6.0, 6.20, args=BF16 | IN_BACKWARD),
    Step("T4     Adafactor       512 x 1", "t4", 11.0, 11.83),
    Step("T4     update in backward 512 x 1", "t4", 7.5, 7.90, args=BF16 | IN_BACKWARD),
    Step("T4 x2  Adafactor       512 x 2", "t4x2", 5.5, 5.93),
    Step("T4     LoRA r16        512 x 4", "t4", 7.0, None, rows=4, args=BF16 | LORA),
    Step("T4     2B in backward 8192 x 1", "t4", 8.0, 8.38, seq_len=8192, args=BF16 | IN_BACKWARD),
    Step("T4 x2  Gemma 3 4B in b. 512 x 2", "t4x2", 4.0, 4.13, args=BF16 | IN_BACKWARD, model="gemma-3-4b-pt"),
    Step("T4 x2  7B in backward 2048 x 2", "t4x2", 9.8, 10.29, seq_len=2048, args=BF16 | IN_BACKWARD, model="gemma-7b"),
    Step("T4 x2  Gemma 2 9B in b. 512 x 2", "t4x2", 9.5, 9.90, args=BF16 | IN_BACKWARD, model="gemma-2-9b"),
)


def main() -> int:
    """Ask, print, judge."""
    options = _options()
    folder = compilers_folder(ROOT)
    try:
        if options.machine:
            return one(options, folder)
        if folder is None:
            print("memory.py: the compilers are not installed (make compilers); nothing measured", file=sys.stderr)
            return 0
        chosen = [step for step in STEPS if options.only.lower() in step.name.lower()]
        rows = [row(step, folder, fresh=options.fresh) for step in chosen]
    except RunspecError as error:
        print("\n".join(str(diagnostic) for diagnostic in error.diagnostics), file=sys.stderr)
        return error.exit_code
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        print_table(rows)
    return int(any(entry["value"] is None or entry["value"] > entry["bar"] for entry in rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="rows, or the whole report, as JSON")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name has this text")
    parser.add_argument("--fresh", action="store_true", help="compile again even where an answer is kept")
    parser.add_argument("--machine", help="one step of your own, on a machine of engine.protocol.machines")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an argument of train_sft")
    parser.add_argument("--model", type=Path, help="a config.json (default: Gemma 2B)")
    parser.add_argument("--live", type=int, default=0, metavar="N", help="name the N largest buffers at the peak")
    return parser.parse_args()


def row(step: Step, folder: Path | None, *, fresh: bool) -> dict[str, Any]:
    """One row; ``value`` is None where it cannot be built yet, ``says`` then says why."""
    found = {"name": step.name, "value": None, "unit": "GiB", "bar": step.bar, "peer": step.peer, "says": ""}
    if step.missing:
        return found | {"says": "not built"}
    # The bars are for the least memory; remat: auto would take the quickest policy that fits.
    args = DEFAULTS | {"per_device_batch_size": step.rows, "seq_len": step.seq_len, "remat": "block"} | dict(step.args)
    job = job_for(step.machine, step.config, args, folder)
    report = (None if fresh else cached_answer(ROOT, job)) or ask(ROOT, job)
    value = round(report["needed_bytes"] / GIB, 3)
    says = "" if report["fits"] else "does not fit"
    print(f"  {step.name}: {value:.3f} GiB {says} ({report['compile_seconds']:.0f} s)", file=sys.stderr)
    return found | {"value": value, "says": says}


def print_table(rows: list[dict[str, Any]]) -> None:
    """Ours beside the bar and the peer."""
    print(f"{'peak GiB per device':<36}{'ours':>8}{'bar':>8}{'peer':>8}")
    for entry in rows:
        ours, bar, peer = ("–" if entry[key] is None else f"{entry[key]:.2f}" for key in ("value", "bar", "peer"))
        met = entry["value"] is not None and entry["value"] <= entry["bar"]
        print(f"{entry['name']:<36}{ours:>8}{bar:>8}{peer:>8}  {'ok' if met else entry['says'] or 'missed'}")


def one(options: argparse.Namespace, folder: Path | None) -> int:
    """The report of one step of one's own."""
    config = json.loads(options.model.read_text(encoding="utf-8")) if options.model else GEMMA_2B
    args = dict(DEFAULTS) | {"per_device_batch_size": 1}
    for text in options.set:
        key, _, value = text.partition("=")
        args[key] = _typed(value)
    with tempfile.TemporaryDirectory() as work:
        job = replace(job_for(options.machine, config, args, folder), dump=work if options.live else None)
        report = dict(run_trainer(job, Host(Path(work), ROOT)))
    live = report.pop("live", [])[: options.live]
    if options.json:
        print(json.dumps({**report, "live": live}, indent=2))
        return 0
    for key, value in report.items():
        print(f"{key:<18}{f'{value / GIB:.3f} GiB' if key.endswith('_bytes') and value is not None else value}")
    for buffer in live:
        print(f"{buffer['size'] / (1 << 20):9.1f} MiB  {buffer['kind']:<10}{buffer['shape']:<32}{buffer['op']}")
    return 0


def _typed(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


if __name__ == "__main__":
    sys.exit(main())
