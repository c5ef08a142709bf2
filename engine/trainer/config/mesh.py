"""The mesh that a job declares, and the one it gets: the sizes of the axes ``fsdp`` and ``tp``.

In: ``mesh: {fsdp: N, tp: M}`` of the job and the number of devices. Out: both sizes, or an error that says which would
fit. No JAX here.

    >>> mesh_size(MeshArgs(tp=2), 8)
    MeshSize(fsdp=4, tp=2)

Along ``fsdp`` the sequences of a batch are sharded, and weights are sharded for storage: each is gathered where it is
used. Along ``tp`` the heads and the width of the MLP are sharded, and the devices of one group work on the same sequences
 (Shoeybi et al. 2019, arXiv 1909.08053).
"""

from __future__ import annotations

from typing import NamedTuple

from engine.errors import InputInvalid
from engine.protocol.train_args import MeshArgs

MOST_NAMED = 6  # meshes in a hint


ALL_ON_FSDP = MeshArgs()


class MeshSize(NamedTuple):
    """The size of each axis."""

    fsdp: int
    tp: int

    @property
    def devices(self) -> int:
        """All of them."""
        return self.fsdp * self.tp


def mesh_size(declared: MeshArgs, devices: int) -> MeshSize:
    """The mesh over this many devices. Raises InputInvalid T164 where its sizes do not multiply to that number."""
    fsdp, tp = declared.fsdp, declared.tp
    size = MeshSize(max(1, devices // tp) if fsdp is None else fsdp, tp)
    if size.devices == devices:
        return size
    fitting = [f"{{fsdp: {devices // width}, tp: {width}}}" for width in range(1, devices + 1) if devices % width == 0]
    # The ones nearest to the declared mesh come first.
    fitting.sort(key=lambda text: (f"tp: {tp}}}" not in text, f"fsdp: {fsdp}," not in text))
    some = ", ".join(fitting[:MOST_NAMED]) + (", …" if len(fitting) > MOST_NAMED else "")
    needs = f"{{tp: {tp}}} needs a multiple of {tp}" if fsdp is None else f"{_as_yaml(size)} needs {size.devices}"
    raise InputInvalid(
        "T164",
        f"the mesh {needs} devices, and there {'is' if devices == 1 else 'are'} {devices}",
        hint=f"what would do: {some}; without fsdp it is all that tp leaves",
    )


def _as_yaml(size: MeshSize) -> str:
    return f"{{fsdp: {size.fsdp}, tp: {size.tp}}}"
