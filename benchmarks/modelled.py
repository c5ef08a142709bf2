"""Operations, bytes and modelled time of our train step beside google-tunix's, by the TPU and GPU compilers without the device.

In: the compilers (``make compilers``, or a folder of them in RUNSPEC_COMPILERS), and the Python of an environment with
google-tunix; without it only ours is printed. Out: a table, or with ``--json`` rows {name, value, unit, bar, peer}; exit
code 1 if a bar is missed.

    $ python -m venv .venv-tunix && .venv-tunix/bin/pip install google-tunix==0.1.7 jax==0.10.2
    $ python benchmarks/modelled.py --tunix .venv-tunix/bin/python [--only v5e] [--remat block] [--json]

Both compile the train step of one Gemma 2B for one mesh (all devices on fsdp) and one batch, bfloat16 weights, each with
its own model, loss, optimizer and donation: ours from engine.trainer, theirs as their `PeftTrainer` compiles it
(benchmarks/parts/tunix_step.py). Figures are of one device and one step, counted from each program's optimised text by
one and the same code (engine.trainer.cost.work); ``modelled time`` is that of engine.trainer.cost.modelled: on a TPU by
the compiler's estimated cycles, on a GPU by the data sheet's peaks. It is no measurement.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memory import BF16, DEFAULTS, GEMMA_2B, LORA, ROOT
from parts.table import Fact, report

from engine.errors import RunspecError
from engine.preflight.exact import ask, cached_answer, compilers_folder, job_for
from engine.protocol.machines import MACHINES

BAR = 0.8  # of their bytes and of their time
THEIRS = Path(__file__).parent / "parts" / "tunix_step.py"


@dataclass(frozen=True)
class Compared:
    """One train step of both: ``rows`` sequences a device."""

    name: str
    machine: str
    method: str
    rows: int = 1
    seq_len: int = 512

    def args(self, remat: str) -> Mapping[str, Any]:
        """Ours, as train_sft has them."""
        own = BF16 | LORA if self.method == "lora" else BF16
        return DEFAULTS | {"per_device_batch_size": self.rows, "seq_len": self.seq_len, "remat": remat} | own


STEPS = (
    Compared("v5e-8 full 512 x 8", "v5e-8", "full"),
    Compared("v5e-8 LoRA 512 x 8", "v5e-8", "lora"),
    Compared("T4 full 512 x 1", "t4", "full"),
    Compared("T4 x2 full 512 x 2", "t4x2", "full"),
)
# What is printed: title, unit, factor, whether it has a bar. ``collective``: what a device sends to others.
FIGURES = {
    "flops": ("matmul operations", "TFLOP", 1e-12, False),
    "moved_bytes": ("bytes moved", "GB", 1e-9, True),
    "collective_bytes": ("bytes sent", "GB", 1e-9, False),
    "modelled_seconds": ("modelled time", "ms", 1e3, True),
    "peak_bytes": ("peak", "GiB", 2.0**-30, False),
}


def main() -> int:
    """Ask both, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tunix", type=Path, metavar="PYTHON", help="the Python of an environment with google-tunix")
    parser.add_argument("--only", default="", metavar="TEXT", help="steps whose name has this text")
    parser.add_argument("--remat", default="block", help="of our step; block is what the bars of memory.py are for")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = compilers_folder(ROOT)
    if folder is None:
        print("modelled.py: the compilers are not installed (make compilers); nothing measured", file=sys.stderr)
        return 0
    facts: list[Fact] = []
    try:
        for step in STEPS:
            if options.only.lower() in step.name.lower():
                peer = theirs(step, folder, options.tunix) if options.tunix else None
                facts += compared(step, ours(step, folder, options.remat), peer)
    except RunspecError as error:
        print("\n".join(str(diagnostic) for diagnostic in error.diagnostics), file=sys.stderr)
        return error.exit_code
    return report(facts, as_json=options.json)


def ours(step: Compared, folder: Path, remat: str) -> dict[str, float]:
    """Our step's figures by the names of FIGURES."""
    job = job_for(step.machine, GEMMA_2B, step.args(remat), folder)
    found = cached_answer(ROOT, job) or ask(ROOT, job)
    if found["work"] is None:
        sys.exit(f"modelled.py: {step.name} does not fit: {found['compiler_says']}")
    say(step, "ours", found["work"], found["how"])
    return {**found["work"], "peak_bytes": found["peak_bytes"]}


def theirs(step: Compared, folder: Path, python: Path) -> dict[str, float] | None:
    """Theirs; None where it does not fit, which is said."""
    job = {
        "machine": step.machine, "compilers": str(folder), "seq_len": step.seq_len, "method": step.method,
        "rows": step.rows * MACHINES[step.machine].devices,
    }  # fmt: skip
    run = subprocess.run([str(python), str(THEIRS), json.dumps(job)], capture_output=True, text=True, check=False)
    if run.returncode:
        sys.exit(f"modelled.py: google-tunix's step cannot be compiled: {run.stderr[-2000:]}")
    found = json.loads(run.stdout.splitlines()[-1])
    if "does_not_fit" in found:
        print(f"{step.name}: google-tunix's step does not fit: {found['does_not_fit']}", file=sys.stderr)
        return None
    say(step, "google-tunix", found["work"], {})
    return {**found["work"], "peak_bytes": found["peak_bytes"]}


def say(step: Compared, whose: str, work: Mapping[str, Any], how: Mapping[str, str]) -> None:
    """Which model the time is, and what bounds it."""
    parts = [f"{name} {work[f'{name}_seconds'] or 0:.4f} s" for name in ("compute", "memory", "link")]
    by = f"time by {work['modelled_by']}, {100 * work['compiler_share']:.0f} % of it the compiler's figures"
    print(f"{step.name}, {whose}: {by}; {', '.join(parts)}; {dict(how)}", file=sys.stderr)


def compared(step: Compared, own: Mapping[str, float], peer: Mapping[str, float] | None) -> Iterator[Fact]:
    """The rows of one step; a bar stands where there is a peer."""
    for key, (title, unit, factor, has_bar) in FIGURES.items():
        other = None if peer is None else peer[key] * factor
        most = BAR * other if has_bar and other is not None else None
        yield Fact(f"{step.name}: {title}", own[key] * factor, unit, peer=other, most=most)


if __name__ == "__main__":
    sys.exit(main())
