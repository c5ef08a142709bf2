"""The arrays of a folder that orbax wrote, by their names; nothing is read until it is requested.

In: the folder. Out: name -> :class:`tensorstore.TensorStore`, whichever of orbax's layouts it is in: one database (OCDBT) or a folder for each
array, zarr 2 or 3. Names are the tree's keys joined by "/", orbax's own "." included.

    arrays = open_arrays(Path("2b"))
    arrays["transformer/layer_0/attn/q_einsum/w"].shape

Why not orbax's own reader: it restores a tree into memory or onto devices, and takes every version of itself to have written its own metadata.
The names of the arrays stand in the store itself. An array is stored in chunks, mostly one; a chunk is decoded once and kept in a pool
while pieces of it are taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path

import tensorstore as ts

from engine.errors import InputInvalid, Where

DATABASE = "manifest.ocdbt"
# What stands beside the chunks of an array -> the driver that reads it.
FORMATS = {".zarray": "zarr", "zarr.json": "zarr3"}
LEAST_POOL_BYTES = 64 << 20
TOP = ("params", "transformer")  # trees are written with or without these
READ_ERRORS = (ValueError, RuntimeError, OSError)  # how tensorstore's C++ reports what it cannot read

Arrays = Mapping[str, ts.TensorStore]


def open_arrays(folder: Path) -> dict[str, ts.TensorStore]:
    """Every array of the folder by its short name. Raises InputInvalid M205 (damaged), M202 (two of one name)."""
    with reading(folder):
        paths = _paths(folder)
        sizes = [prod(one.shape) * one.dtype.numpy_dtype.itemsize for one in _opened(folder, paths, LEAST_POOL_BYTES)]
        # Two of the largest: the one that pieces are taken of, and the next one.
        opened = _opened(folder, paths, max(LEAST_POOL_BYTES, 2 * max(sizes, default=0)))
    arrays: dict[str, ts.TensorStore] = {}
    for (path, _), array in zip(paths, opened, strict=True):
        name = short_name(path)
        if name in arrays:
            raise InputInvalid("M202", f"the weight {name} comes twice", where=Where(file=str(folder), path=path))
        arrays[name] = array
    return arrays


def short_name(path: str) -> str:
    """The tree's keys, without those that every name begins with.

    >>> short_name("transformer/layer_0/attn/q_einsum.w"), short_name("params.layer_0.mlp.linear")
    ('layer_0/attn/q_einsum/w', 'layer_0/mlp/linear')
    """
    parts = path.replace(".", "/").split("/")
    while parts[0] in TOP and len(parts) > 1:
        parts = parts[1:]
    return "/".join(parts)


@contextmanager
def reading(folder: Path, name: str = "") -> Iterator[None]:
    """What tensorstore raises becomes InputInvalid M205."""
    try:
        yield
    except READ_ERRORS as error:
        at = f" (in {name})" if name else ""
        reason = str(error).split(" [source", maxsplit=1)[0].splitlines()[0]
        raise InputInvalid(
            "M205",
            f"the checkpoint is damaged or truncated{at}: {reason[:200]}",
            where=Where(file=str(folder), path=name),
            hint="fetch or copy the folder again",
        ) from error


def _store(folder: Path) -> dict[str, str]:
    place = folder.absolute().as_posix()
    if (folder / DATABASE).is_file():
        return {"driver": "ocdbt", "base": f"file://{place}/"}
    return {"driver": "file", "path": f"{place}/"}


def _paths(folder: Path) -> list[tuple[str, str]]:
    """(path, driver) of each array."""
    keys = [key.decode() for key in ts.KvStore.open(_store(folder)).result().list().result()]
    ends = [(key.rpartition("/")[0], FORMATS.get(key.rpartition("/")[2])) for key in keys]
    return sorted((path, driver) for path, driver in ends if driver is not None and path)


def _opened(folder: Path, paths: list[tuple[str, str]], pool_bytes: int) -> list[ts.TensorStore]:
    context = ts.Context({"cache_pool": {"total_bytes_limit": pool_bytes}})
    store = _store(folder)
    inside = store["path"] if store["driver"] == "file" else ""
    specs = [{"driver": driver, "kvstore": {**store, "path": f"{inside}{path}/"}} for path, driver in paths]
    return [future.result() for future in [ts.open(spec, read=True, open=True, context=context) for spec in specs]]
