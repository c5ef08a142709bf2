"""How the weights of a training step are sharded over the devices of a target: computed by the trainer, in a child process.

In: a model's configuration, the arguments of train_sft, the number of devices. Out: {mesh, batch, rows} as
engine.trainer.cost.shardings makes them, and the same as a table for people.

    report = ask_shardings(root, config, args, devices=8)
    print(shardings_text("train", report))
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.protocol.jobs import ShardingsJob, train_args
from engine.temporary import working_folder
from engine.trainer_process.host import Host
from engine.trainer_process.process import run_trainer

MIB = 1 << 20


def ask_shardings(root: Path, config: Mapping[str, Any], args: Mapping[str, Any], *, devices: int) -> dict[str, Any]:
    """Raises what the child reports: T164 where mesh and devices do not match, T165, T166 for the batch, M codes."""
    job = ShardingsJob(config=dict(config), args=train_args(args), devices=devices)
    with working_folder("runspec-shardings-") as work:
        return dict(run_trainer(job, Host(work, root)))


def shardings_text(step: str, report: Mapping[str, Any]) -> str:
    """The mesh, the batch, and a line for each weight: how each axis is sharded, and what one device holds of it."""
    mesh, batch = report["mesh"], report["batch"]
    empty = f", {batch['empty']} of them empty" if batch["empty"] else ""
    head = (
        f"{step}: mesh {{fsdp: {mesh['fsdp']}, tp: {mesh['tp']}}}; a train step takes {batch['sequences']} sequences, in "
        f"{batch['micro_batches']} x {batch['rows']} rows{empty}"
    )
    lines = [("weight", "cut", "MiB per device", "optimizer", "")]
    weights = statistics = 0
    for row in report["rows"]:
        lines.append((row["leaf"], row["words"], *_sizes(row), row["note"]))
        weights, statistics = weights + row["bytes_per_device"], statistics + row["optimizer_bytes_per_device"]
    together = {"bytes_per_device": weights, "optimizer_bytes_per_device": statistics}
    lines.append(("together", "", *_sizes(together), ""))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    table = "\n".join(
        f"  {leaf:<{widths[0]}}  {words:<{widths[1]}}  {weight:>{widths[2]}}  {optimizer:>{widths[3]}}  {note}".rstrip()
        for leaf, words, weight, optimizer, note in lines
    )
    return f"{head}\n{table}"


def _sizes(row: Mapping[str, Any]) -> tuple[str, str]:
    """MiB on one device: of the weight, and of the optimizer's state for it."""
    return f"{row['bytes_per_device'] / MIB:.2f}", f"{row['optimizer_bytes_per_device'] / MIB:.2f}"
