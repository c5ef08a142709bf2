"""The declared mesh and the batch that is sharded over it: laws, and the messages for those that do not fit."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputInvalid
from engine.trainer.config.batch_shape import batch_of, batch_shape
from engine.trainer.config.mesh import MeshArgs, MeshSize, mesh_size


def _said(error: pytest.ExceptionInfo[InputInvalid]) -> list[str | None]:
    (found,) = error.value.diagnostics
    return [found.code, found.message, *(found.hint or "").split("\n")]


def _number(key: str, error: pytest.ExceptionInfo[InputInvalid]) -> int:
    """What the hint proposes for a key."""
    found = re.search(rf"\b{key}: (\d+)", error.value.hint or "")
    assert found, error.value.hint
    return int(found[1])


def test_fsdp_takes_what_tp_leaves():
    """Without a mesh fsdp takes all devices; with tp alone it takes the others."""
    assert mesh_size(MeshArgs(), 8) == MeshSize(8, 1)
    assert mesh_size(MeshArgs(tp=4), 8) == MeshSize(2, 4)
    assert mesh_size(MeshArgs(4, 2), 8) == MeshSize(4, 2)


def test_a_mesh_of_another_size_is_refused_with_both_numbers():
    """The message has both numbers, the hint those that would do, the nearest first."""
    with pytest.raises(InputInvalid) as error:
        mesh_size(MeshArgs(4, 4), 8)
    assert _said(error) == [
        "T164",
        "the mesh {fsdp: 4, tp: 4} needs 16 devices, and there are 8",
        "what would do: {fsdp: 2, tp: 4}, {fsdp: 4, tp: 2}, {fsdp: 8, tp: 1}, {fsdp: 1, tp: 8}; "
        "without fsdp it is all that tp leaves",
    ]
    with pytest.raises(InputInvalid) as error:
        mesh_size(MeshArgs(tp=3), 8)
    assert _said(error)[:2] == ["T164", "the mesh {tp: 3} needs a multiple of 3 devices, and there are 8"]
    with pytest.raises(InputInvalid) as error:
        mesh_size(MeshArgs(8, 1), 1)
    assert _said(error) == [
        "T164",
        "the mesh {fsdp: 8, tp: 1} needs 8 devices, and there is 1",
        "what would do: {fsdp: 1, tp: 1}; without fsdp it is all that tp leaves",
    ]


def test_a_batch_smaller_than_fsdp_is_refused():
    """A rank that never sees a sequence is a wasted device: the message says so, the hint says what would do."""
    with pytest.raises(InputInvalid) as error:
        batch_shape(5, 2, 1, data_parallel_size=8)
    assert _said(error) == [
        "T165",
        "global_batch_size is 5, and fsdp is 8: 3 of its ranks would never see a sequence",
        "global_batch_size: 8 would do, or fsdp: 4 in the mesh and the other devices on tp",
    ]


def test_several_micro_batches_are_refused_with_the_update_inside():
    """The update inside the backward pass takes one micro-batch; the hint says which size would do."""
    with pytest.raises(InputInvalid) as error:
        batch_shape(33, 2, 1, data_parallel_size=8, most_micro_batches=1)
    assert _said(error) == [
        "T166",
        "global_batch_size 33 takes 3 micro-batches of 2 x 8 sequences, and update: in_backward takes at most 1",
        "per_device_batch_size: 5 would do, or update: after_backward",
    ]


@given(st.integers(1, 500), st.integers(1, 20), st.integers(1, 64))
def test_a_declared_batch_is_the_same_for_any_data_parallel_size(sequences: int, per_device: int, size: int):
    """Every sequence is used, no device gets more rows than declared, and no micro-batch is entirely empty."""
    if sequences < size:
        with pytest.raises(InputInvalid, match="would never see a sequence"):
            batch_shape(sequences, per_device, 1, data_parallel_size=size)
        return
    shape = batch_shape(sequences, per_device, 1, data_parallel_size=size)
    assert shape.sequences == sequences
    assert shape.rows % size == 0
    assert shape.rows // size <= per_device
    assert (shape.micro_batches - 1) * shape.rows < sequences <= shape.micro_batches * shape.rows
    # One row less on each rank would take another micro-batch: no needless row is computed.
    assert shape.empty < shape.micro_batches * size


def test_without_a_declared_batch_it_follows_the_devices():
    """per_device_batch_size x grad_accum_steps x data-parallel size."""
    assert batch_shape(None, 2, 3, data_parallel_size=4) == (24, 3, 8)


@pytest.mark.parametrize(
    ("sequences", "per_device", "size", "expected"),
    [
        (10, 4, 1, (10, 3, 4)),  # 4 4 2
        (9, 8, 1, (9, 2, 5)),  # 5 4, not 8 1
        (10, 4, 2, (10, 2, 6)),  # 3 + 3, 2 + 2: a row of the last is left over on each of the two
        (16, 2, 8, (16, 1, 16)),
        (8, 4, 8, (8, 1, 8)),
    ],
)
def test_micro_batches_are_as_even_as_can_be(sequences: int, per_device: int, size: int, expected: tuple[int, ...]):
    """The limit of rows says how many micro-batches there are; then they share the sequences evenly, and so do the ranks."""
    shape = batch_shape(sequences, per_device, 1, data_parallel_size=size)
    assert shape == expected
    assert shape.empty == sum([shape.rows] * shape.micro_batches) - sequences


@given(st.integers(1, 64), st.integers(2, 64))
def test_the_hint_for_a_small_batch_works(sequences: int, size: int):
    """T165: with either proposal the batch is taken; fsdp still divides the number of devices, and is the largest value that does."""
    if sequences >= size:
        return
    with pytest.raises(InputInvalid) as error:
        batch_shape(sequences, 2, 1, data_parallel_size=size)
    larger, fewer = _number("global_batch_size", error), _number("fsdp", error)
    assert batch_shape(larger, 2, 1, data_parallel_size=size).sequences == larger
    assert batch_shape(sequences, 2, 1, data_parallel_size=fewer).sequences == sequences
    assert size % fewer == 0
    assert [more for more in range(fewer + 1, sequences + 1) if size % more == 0] == []


@given(st.integers(1, 64), st.integers(1, 4), st.integers(1, 8))
def test_the_hint_for_too_many_micro_batches_works(sequences: int, per_device: int, size: int):
    """T166: with as many rows a device as proposed one micro-batch is enough, with one less it is not."""
    if sequences < size:
        return
    if sequences <= per_device * size:
        assert batch_shape(sequences, per_device, 1, data_parallel_size=size, most_micro_batches=1).micro_batches == 1
        return
    with pytest.raises(InputInvalid) as error:
        batch_shape(sequences, per_device, 1, data_parallel_size=size, most_micro_batches=1)
    enough = _number("per_device_batch_size", error)
    assert batch_shape(sequences, enough, 1, data_parallel_size=size, most_micro_batches=1).micro_batches == 1
    with pytest.raises(InputInvalid, match="T166"):
        batch_shape(sequences, enough - 1, 1, data_parallel_size=size, most_micro_batches=1)


def test_a_limit_that_is_met_is_no_error():
    """Three micro-batches where three are allowed; two where they would be too few."""
    assert batch_shape(12, 4, 1, data_parallel_size=1, most_micro_batches=3).micro_batches == 3
    with pytest.raises(InputInvalid, match="T166"):
        batch_shape(12, 4, 1, data_parallel_size=1, most_micro_batches=2)


def _args(**changes: object) -> SimpleNamespace:
    """The arguments that decide a batch."""
    known = {"global_batch_size": None, "per_device_batch_size": 2, "grad_accum_steps": 3, "update": "after_backward"}
    return SimpleNamespace(**{**known, **changes})


def test_the_batch_of_arguments_is_that_of_their_three_numbers():
    """Each in its place; an update inside the backward pass takes one micro-batch, and no more."""
    assert batch_of(_args(), 4) == (24, 3, 8)
    assert batch_of(_args(global_batch_size=20), 4) == (20, 3, 8)
    assert batch_of(_args(global_batch_size=8, update="in_backward"), 4) == (8, 1, 8)
    with pytest.raises(InputInvalid) as error:
        batch_of(_args(global_batch_size=9, update="in_backward"), 4)
    assert error.value.code == "T166"
