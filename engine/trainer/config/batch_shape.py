"""How the sequences of a train step are split into micro-batches and sharded over the devices.

In: ``global_batch_size``, ``per_device_batch_size``, ``grad_accum_steps`` and the data-parallel size (the size of the fsdp axis). Out:
how many sequences a train step takes (G), in how many micro-batches (A) of how many rows (B).

With a declared ``global_batch_size`` G is that on any number of devices: the same sequences in the same order, and the
same loss up to rounding. ``per_device_batch_size`` then says how many rows a device takes at most, and the number of
micro-batches follows. Rows that are left over in the last one are empty sequences: none of their tokens counts.

    >>> batch_shape(10, 4, 1, data_parallel_size=1), batch_shape(10, 4, 1, data_parallel_size=2)
    (BatchShape(sequences=10, micro_batches=3, rows=4), BatchShape(sequences=10, micro_batches=2, rows=6))

Without it G is per_device_batch_size x grad_accum_steps x data-parallel size, and another number of devices is another batch.
"""

from __future__ import annotations

from typing import NamedTuple

from engine.errors import InputInvalid
from engine.protocol.train_args import TrainArgs


class BatchShape(NamedTuple):
    """``sequences`` G of a train step, in ``micro_batches`` A of ``rows`` B each, over all devices together."""

    sequences: int
    micro_batches: int
    rows: int

    @property
    def empty(self) -> int:
        """Rows of the last micro-batch that no sequence fills."""
        return self.micro_batches * self.rows - self.sequences


def batch_shape(
    declared: int | None,
    per_device: int,
    micro_batches: int,
    *,
    data_parallel_size: int,
    most_micro_batches: int | None = None,
) -> BatchShape:
    """``declared`` is the job's global_batch_size; the devices of one tp group take the same rows.

    Raises InputInvalid: T165 where some data-parallel rank would never see a sequence, T166 where the batch takes more than
    ``most_micro_batches``.
    """
    size = data_parallel_size
    if declared is None:
        rows = per_device * size
        return BatchShape(rows * micro_batches, micro_batches, rows)
    if declared < size:
        raise InputInvalid(
            "T165",
            f"global_batch_size is {declared}, and fsdp is {size}: {size - declared} of its ranks would never see a sequence",
            hint=f"global_batch_size: {size} would do, or fsdp: {_divisor(size, declared)} in the mesh and the "
            "other devices on tp",
        )
    needed = -(-declared // (per_device * size))
    if most_micro_batches is not None and needed > most_micro_batches:
        raise InputInvalid(
            "T166",
            f"global_batch_size {declared} takes {needed} micro-batches of {per_device} x {size} sequences, and "
            f"update: in_backward takes at most {most_micro_batches}",
            hint=f"per_device_batch_size: {-(-declared // size)} would do, or update: after_backward",
        )
    # As even as possible: with a limit of 8 rows, 9 sequences are 5 and 4, not 8 and 1.
    rows = size * -(-declared // (needed * size))
    return BatchShape(declared, needed, rows)


def batch_of(args: TrainArgs, data_parallel_size: int) -> BatchShape:
    """The batch that these arguments give over so many devices along fsdp. Raises InputInvalid T165, T166."""
    return batch_shape(
        args.global_batch_size,
        args.per_device_batch_size,
        args.grad_accum_steps,
        data_parallel_size=data_parallel_size,
        most_micro_batches=1 if args.update == "in_backward" else None,
    )


def _divisor(number: int, most: int) -> int:
    """The largest divisor that is not above ``most``."""
    return max(divisor for divisor in range(1, most + 1) if number % divisor == 0)
