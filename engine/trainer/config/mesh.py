"""The mesh that a job declares, and the one it gets: how many devices lie along ``fsdp`` and along ``tp``.

In: ``mesh: {fsdp: N, tp: M}`` of the job and the number of devices. Out: both sizes, or an error that says which would
do. Nothing here knows a device or JAX.

    >>> mesh_size(MeshArgs(tp=2), 8)
    MeshSize(fsdp=4, tp=2)

Along ``fsdp`` the sequences of a batch are dealt out, and weights are cut for storage: each is put together again
where it is used. Along ``tp`` the heads and the width of the MLP are cut, and the devices of one group work on the same
sequences (Shoeybi et al. 2019, arXiv 1909.08053).
"""

from __future__ import annotations

from typing import NamedTuple

from engine.errors import InputInvalid
from engine.protocol.train_args import MeshArgs

MOST_NAMED = 6  # meshes in a hint


ALL_ON_FSDP = MeshArgs()


class MeshSize(NamedTuple):
    """How many devices lie along each axis."""

    fsdp: int
    tp: int

    @property
    def devices(self) -> int:
        """All of them."""
        return self.fsdp * self.tp


def mesh_size(declared: MeshArgs, devices: int) -> MeshSize:
    """The mesh over this many devices. Raises InputInvalid T164 where it does not have just as many places."""
    fsdp, tp = declared.fsdp, declared.tp
    size = MeshSize(max(1, devices // tp) if fsdp is None else fsdp, tp)
    if size.devices == devices:
        return size
    would = [f"{{fsdp: {devices // width}, tp: {width}}}" for width in range(1, devices + 1) if devices % width == 0]
    # The ones nearest to what was asked for come first.
    would.sort(key=lambda text: (f"tp: {tp}}}" not in text, f"fsdp: {fsdp}," not in text))
    some = ", ".join(would[:MOST_NAMED]) + (", …" if len(would) > MOST_NAMED else "")
    there = f"there {'is 1 device' if devices == 1 else f'are {devices} devices'}"
    asked = (
        f"mesh {{tp: {tp}}} takes devices by {tp}" if fsdp is None else f"mesh {_said(size)} has {size.devices} places"
    )
    raise InputInvalid(
        "T164", f"the {asked}, and {there}", hint=f"what would do: {some}; without fsdp it is all that tp leaves"
    )


def _said(size: MeshSize) -> str:
    return f"{{fsdp: {size.fsdp}, tp: {size.tp}}}"
