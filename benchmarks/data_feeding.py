"""The input pipeline at the size of a million traces: tokenised once, started warm, started in the middle of an epoch.

In: nothing, or a number of rows. Out: a table, or with ``--json`` rows {name, value, unit, bar,
peer}; exit code 1 if a bar is missed.

    $ python benchmarks/data_feeding.py [--rows 1000000] [--folder DIR] [--json]

The traces are those of dev-reasoning-v2 for as many seeds as it takes, tokenised a character a token (the longest
way). ``cold`` builds the token store and the plan; ``warm`` and ``restart`` are processes of their own, from their
start to the batch; ``walk`` takes 2,000 batches from all over the data and reports the memory used (anonymous pages are
the process's own; the system can evict the pages of mapped files). ``trainer`` is the full trainer with a micro model.
``quickstart`` is sixty steps of the quickstart's training run. With ``--folder`` the rows are kept and reused; the store
is built again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from parts.table import Fact, report

ROWS = 1_000_000
FEW_ROWS = 10_000
ROWS_PER_SEED = 550
WALK_BATCHES = 2_000
MEMORY_BAR, START_BAR, SHARE_BAR, WAIT_BAR = 1500.0, 3.0, 0.95, 0.01
ARGS = {
    "num_train_steps": 60, "per_device_batch_size": 16, "grad_accum_steps": 1, "seq_len": 512, "optimizer": "adamw",
    "learning_rate": 4e-3, "lr_schedule": "cosine", "warmup_steps": 20, "weight_decay": 0.0, "max_grad_norm": 1.0,
    "adam_b1": 0.9, "adam_b2": 0.99, "adam_eps": 1e-8, "dtype": "float32", "packing": True, "on_long_row": "fail",
    "eval_rows": 64, "eval_every_steps": 0, "save_every_steps": 1000, "keep_checkpoints": 2, "log_every_steps": 10,
    "seed": 42,
}  # fmt: skip
MICRO = {
    "model_type": "gemma", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 512,
}  # fmt: skip
QUICKSTART = {
    **MICRO, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4,
    "head_dim": 32,
}  # fmt: skip
Row = dict[str, Any]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=2, metavar=("WHAT", "ROWS_JSONL"))
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child[0], Path(options.child[1]))))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        return report(measure(options.rows, folder), as_json=options.json)


def measure(count: int, folder: Path) -> list[Fact]:
    """Everything, one process after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    few, many = (write_rows(folder / f"{number}" / "rows.jsonl", number) for number in (FEW_ROWS, count))
    own = write_rows(folder / "dev-reasoning-v2" / "rows.jsonl", ROWS_PER_SEED)
    for path in (few, many, own):
        shutil.rmtree(path.parent / "cache", ignore_errors=True)
    found = [Fact("rows.jsonl", many.stat().st_size / 1e6, "MB"), Fact("rows", count, "rows")]
    share = _child("cold", own)["real_token_share"]
    found.append(Fact("dev-reasoning-v2 at 512: real tokens", share, "of all token positions", least=SHARE_BAR))
    cold = _child("cold", many)
    _child("cold", few)
    found += [
        Fact("cold: tokenised", count / cold["store_seconds"], "rows/s"),
        Fact("cold: tokenised", cold["tokens"] / cold["store_seconds"], "tokens/s"),
        Fact("cold: of all cores' time", cold["cpu"], "s"),
        Fact("cold: planned", cold["plan_seconds"], "s"),
        Fact("cold: peak memory", cold["peak"], "MB", most=MEMORY_BAR),
        Fact("cold: peak memory of a worker", cold["worker_peak"], "MB"),
        Fact("real tokens", cold["real_token_share"], "of all token positions"),
        Fact("store on disk", sum(path.stat().st_size for path in many.parent.glob("cache/**/*")) / 1e6, "MB"),
    ]
    for name in ("warm", "restart"):
        seen = _child(name, many)
        found.append(Fact(f"{name}: process start to batch", seen["wall"], "s", most=START_BAR))
        found.append(Fact(f"{name}: of it loading and the batch", seen["seconds"], "s"))
        found.append(Fact(f"{name}: of a core's time", seen["cpu"], "s"))
    for name, path in ((f"{count:,} rows", many), (f"{FEW_ROWS:,} rows", few)):
        walk = _child("walk", path)
        found += [
            Fact(f"walk, {name}: a batch", walk["seconds"] / WALK_BATCHES * 1e3, "ms"),
            Fact(f"walk, {name}: peak memory", walk["peak"], "MB", most=MEMORY_BAR),
            Fact(f"walk, {name}: its own pages", walk["anonymous"], "MB"),
        ]
    return found + _trainer(many, folder, "trainer", MICRO, {"num_train_steps": 20}) + _quickstart(folder)


def write_rows(path: Path, count: int) -> Path:
    """Traces of dev-reasoning-v2, rendered, of as many seeds as it takes; an existing file is reused."""
    from engine.data import render_row, trace_rows
    from engine.data.builders import dev_reasoning

    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as stream:
        for number in range(count):
            if number % ROWS_PER_SEED == 0:
                rows = [render_row(row) for row in trace_rows(dev_reasoning.make(42 + number, ROWS_PER_SEED))]
            row = rows[number % ROWS_PER_SEED]
            segments = [{"text": segment.text, "train": segment.train} for segment in row.segments]
            stream.write(json.dumps({"id": f"trace-{number}", "segments": segments}, ensure_ascii=False) + "\n")
    partial.rename(path)
    return path


def _child(what: str, path: Path) -> Row:
    started = time.perf_counter()
    command = [sys.executable, __file__, "--child", what, str(path)]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    return {**json.loads(said), "wall": time.perf_counter() - started}


def child(what: str, path: Path) -> Row:
    """What one process does: cold, warm, restart or walk."""
    from engine.protocol.jobs import train_args as train_args_of
    from engine.trainer.input_pipeline.batches import DataOrder, batch_at
    from engine.trainer.input_pipeline.dataset import load_data
    from engine.trainer.input_pipeline.token_store import open_store
    from engine.trainer.text.tokenizer import build_chars

    args, tokenizer, cache = train_args_of(ARGS), build_chars(), path.parent / "cache"
    started = time.perf_counter()
    if what == "cold":
        store = open_store(path, tokenizer, cache, render="reasoning@v1", emit=_to_stderr)
        stored = time.perf_counter()
        data = load_data(path, tokenizer, args, cache=cache, render="reasoning@v1")
        return {
            "store_seconds": stored - started,
            "plan_seconds": time.perf_counter() - stored,
            "tokens": len(store.table.tokens),
            "real_token_share": data.packed.real_token_share,
            **used(),
        }
    data = load_data(path, tokenizer, args, cache=cache, render="reasoning@v1")
    order = DataOrder(data.packed.n_sequences, args.per_device_batch_size, args.seed)
    steps = data.packed.n_sequences // args.per_device_batch_size
    if what == "walk":
        started = time.perf_counter()
        for number in range(WALK_BATCHES):
            batch_at(data.packed, order, 1 + number * steps // WALK_BATCHES, 1)
    else:
        batch_at(data.packed, order, 1 if what == "warm" else max(1, 3 * steps // 2), 1)
    return {"seconds": time.perf_counter() - started, **used()}


def _to_stderr(event: Any) -> None:
    print(event, file=sys.stderr)


def used() -> Row:
    """Seconds of the processor, peak resident MB (of the largest child, too), and its own (anonymous) pages now; Linux.

    Seconds of the processor say the same on a busy machine as on an idle one.
    """
    import resource

    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in status if line.endswith(" kB")}
    return {
        "peak": kilobytes["VmHWM"] / 1e3,
        "anonymous": kilobytes["RssAnon"] / 1e3,
        "worker_peak": children.ru_maxrss / 1e3,
        "cpu": sum(one.ru_utime + one.ru_stime for one in (own, children)),
    }


def _quickstart(folder: Path) -> list[Fact]:
    from engine.data import build, render_row, trace_rows

    path = folder / "quickstart" / "rows.jsonl"
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8") as stream:
        for row in map(render_row, trace_rows(build("quickstart-reasoning", seed=42))):
            segments = [{"text": segment.text, "train": segment.train} for segment in row.segments]
            stream.write(json.dumps({"id": row.id, "segments": segments}) + "\n")
    return _trainer(path, folder, "quickstart", QUICKSTART, {"seq_len": 128})


def _trainer(rows: Path, folder: Path, name: str, config: Row, args: Row) -> list[Fact]:
    """The trainer's process: its loading time, its waits for input, its peak memory."""
    work = folder / f"{name}-work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    job = {
        "model": {"init": "random", "id": "tiny", "revision": None, "path": None, "config": config,
                  "tokenizer": "chars"},
        "rows": str(rows), "render": "reasoning@v1", "work": str(work), "out": str(work / "out"), "device": "cpu",
        "cache": str(rows.parent / "cache"), "args": {**ARGS, **args},
    }  # fmt: skip
    (work / "job.json").write_text(json.dumps(job), encoding="utf-8")
    started = time.perf_counter()
    command = [sys.executable, "-m", "engine.trainer", "train", str(work / "job.json")]
    seconds, peak = {}, 0.0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        for line in run.stdout:
            event = json.loads(line)
            seconds.setdefault(event["event"], time.perf_counter() - started)
            status = Path(f"/proc/{run.pid}/status").read_text(encoding="utf-8")
            peak = max(peak, int(status.split("VmHWM:")[1].split()[0]) / 1e3)
    report = event["report"]
    return [
        Fact(f"{name}: process start to loaded", seconds["started"], "s"),
        Fact(f"{name}: peak memory, JAX included", peak, "MB", most=MEMORY_BAR),
        Fact(f"{name}: waited for input", report["input_wait_share"], "of the time", most=WAIT_BAR),
        Fact(f"{name}: tokens", report["tokens_per_second"], "tokens/s"),
    ]


if __name__ == "__main__":
    sys.exit(main())
