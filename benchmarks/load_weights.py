"""Loading a model folder against reading its file once.

In: a size. Out: a table, or with ``--json`` rows {name, value, unit, bar, peer}.

    $ python benchmarks/load_weights.py [--gigabytes 1.0] [--rounds 5] [--dtype bfloat16] [--json]

The folder is generated: Gemma 2B's sizes with fewer layers and few tokens, a pool of normal numbers in place of trained
ones. ``read`` puts the file into fresh memory, as loading must; ``read, 1 MiB again and again`` keeps nothing: the best
that the page cache can do. ``load`` is load_folder to arrays that are ready: read, checked for NaN, transposed, placed on
the CPU device. ``to donate`` adds the copy that training on CPU needs; on other devices it costs nothing.

Warm: the file is in the page cache. Cold: the kernel is asked to drop it before every reading (a host below a virtual
machine may still have it). Reads and loads take turns, and the fastest of each counts: other load can only add.
Exit code 1 if the bar is missed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from parts.table import Fact, report

from engine.canonical import write_atomic
from engine.trainer.models import config_from_hf, family_of, param_count
from engine.trainer.text.tokenizer import build_chars
from engine.trainer.weights import FORMATS, load_folder
from engine.trainer.weights.reading import FLOATS
from engine.trainer.weights.table import flax_name, slots

BAR = 1.3
SMALL_BUFFER_BYTES = 1 << 20
GEMMA_2B = {
    "model_type": "gemma", "hidden_size": 2048, "intermediate_size": 16384, "num_attention_heads": 8,
    "num_key_value_heads": 1, "head_dim": 256,
}  # fmt: skip
LAYER_OF_2B = 110e6


def generate(folder: Path, form: str, dtype: str, gigabytes: float) -> Path:
    """A folder of about that size; returns the file of its weights.

    The tokenizer made here is small, and so must the embedding be: nearly all of it is matrices of layers, which
    safetensors has transposed. The width of the MLP makes the size right.
    """
    wanted = gigabytes * 1e9 / FLOATS[dtype].itemsize
    sizes = GEMMA_2B | {"num_hidden_layers": max(1, round(wanted / LAYER_OF_2B)), "vocab_size": 1024}
    none = param_count(config_from_hf(sizes | {"intermediate_size": 1}))
    width = (wanted - none) / (3 * GEMMA_2B["hidden_size"] * sizes["num_hidden_layers"])
    config = config_from_hf(sizes | {"intermediate_size": max(64, int(width) // 64 * 64)})
    by_name = {flax_name(slot) if form == "flax_msgpack" else slot.stored_name: slot
               for slot in slots(family_of(config), config)}  # fmt: skip
    shapes = {name: slot.stored_shape(is_flax=form == "flax_msgpack") for name, slot in by_name.items()}
    pool = np.random.default_rng(0).normal(size=1 << 22).astype(np.float32).astype(FLOATS[dtype])
    whole, write = FORMATS[form]
    with (folder / whole).open("wb") as stream:
        write(stream, shapes, FLOATS[dtype], lambda name: np.resize(pool, shapes[name]))
        stream.flush()
        os.fsync(stream.fileno())  # the kernel drops clean pages only
    write_atomic(folder / "config.json", json.dumps(config.to_hf(dtype=dtype)))
    build_chars().save(folder)
    return folder / whole


def read_small(path: Path) -> None:
    """Every byte, into the same memory."""
    buffer = bytearray(SMALL_BUFFER_BYTES)
    with path.open("rb", buffering=0) as stream:
        while stream.readinto(buffer):
            pass


def load(folder: Path, *, may_donate: bool = False, param_dtype: str | None = None) -> None:
    """To arrays that are ready."""
    model, _, _ = load_folder(folder, may_donate=may_donate, param_dtype=param_dtype)
    jax.block_until_ready(list(model.weights().values()))


def drop(path: Path) -> None:
    """Ask the kernel to forget the file."""
    with path.open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def fastest(cases: dict[str, Callable[[], Any]], rounds: int, before: Callable[[], None]) -> dict[str, float]:
    """Name -> seconds; the cases take turns."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            gc.collect()
            before()
            started = time.perf_counter()
            case()
            found[name].append(time.perf_counter() - started)
    return {name: min(seconds) for name, seconds in found.items()}


def measure(form: str, options: argparse.Namespace) -> list[Fact]:
    """One format, warm and cold."""
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        path = generate(folder, form, options.dtype, options.gigabytes)
        other = "float32" if options.dtype != "float32" else "bfloat16"
        cases: dict[str, Callable[[], Any]] = {
            "read": path.read_bytes,
            "load": lambda: load(folder),
            "read, 1 MiB again and again": lambda: read_small(path),
            "load, to donate": lambda: load(folder, may_donate=True),
            f"load, as {other}": lambda: load(folder, param_dtype=other),
        }
        path.read_bytes()
        load(folder)
        warm = fastest(cases, options.rounds, lambda: None)
        rows = [Fact(f"{form}: size", path.stat().st_size / 1e9, "GB")]
        rows += [Fact(f"{form}, warm: {case}", seconds, "s") for case, seconds in warm.items()]
        rows.append(Fact(f"{form}, warm: load / read", warm["load"] / warm["read"], "×", most=BAR))
        if hasattr(os, "posix_fadvise"):
            first = {case: cases[case] for case in ("read", "load")}
            cold = fastest(first, options.rounds, lambda: drop(path))
            rows += [Fact(f"{form}, cold: {case}", seconds, "s") for case, seconds in cold.items()]
            rows.append(Fact(f"{form}, cold: load / read", cold["load"] / cold["read"], "×", most=BAR))
        return rows


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", choices=list(FLOATS), default="bfloat16", help="of the stored weights")
    parser.add_argument("--folder", type=Path, help="where to generate (default: the system's temporary folder)")
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    options = parser.parse_args()
    jax.block_until_ready(jnp.zeros(1))  # what starting JAX costs is not what loading costs
    facts = [fact for form in FORMATS for fact in measure(form, options)]
    if not options.json:
        print(f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores, weights stored as {options.dtype}")
    return report(facts, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
