"""The mesh that is declared and the batch that is dealt out over it: laws, and what is said of those that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputInvalid
from engine.trainer.config.batch_shape import batch_shape
from engine.trainer.config.mesh import MeshArgs, MeshSize, mesh_size
from engine.trainer.input_pipeline.batches import DataOrder, batch_at
from engine.trainer.input_pipeline.packing import pack_rows


def _said(error: pytest.ExceptionInfo[InputInvalid]) -> list[str | None]:
    (found,) = error.value.diagnostics
    return [found.code, found.message, *(found.hint or "").split("\n")]


def test_fsdp_takes_what_tp_leaves():
    """Without a mesh all devices lie on fsdp; with tp alone the others do."""
    assert mesh_size(MeshArgs(), 8) == MeshSize(8, 1)
    assert mesh_size(MeshArgs(tp=4), 8) == MeshSize(2, 4)
    assert mesh_size(MeshArgs(4, 2), 8) == MeshSize(4, 2)


def test_a_mesh_of_another_size_is_refused_with_both_numbers():
    """The message has both numbers, the hint those that would do, the nearest first."""
    with pytest.raises(InputInvalid) as error:
        mesh_size(MeshArgs(4, 4), 8)
    assert _said(error) == [
        "T164",
        "the mesh {fsdp: 4, tp: 4} has 16 places, and there are 8 devices",
        "what would do: {fsdp: 2, tp: 4}, {fsdp: 4, tp: 2}, {fsdp: 8, tp: 1}, {fsdp: 1, tp: 8}; "
        "without fsdp it is all that tp leaves",
    ]
    with pytest.raises(InputInvalid) as error:
        mesh_size(MeshArgs(tp=3), 8)
    assert _said(error)[:2] == ["T164", "the mesh {tp: 3} takes devices by 3, and there are 8 devices"]
    with pytest.raises(InputInvalid) as error:
        mesh_size(MeshArgs(8, 1), 1)
    assert _said(error) == [
        "T164",
        "the mesh {fsdp: 8, tp: 1} has 8 places, and there is 1 device",
        "what would do: {fsdp: 1, tp: 1}; without fsdp it is all that tp leaves",
    ]


def test_a_batch_smaller_than_fsdp_is_refused():
    """A place that never sees a sequence is a device that is wasted: it is said, with what would do."""
    with pytest.raises(InputInvalid) as error:
        batch_shape(5, 2, 1, places=8)
    assert _said(error) == [
        "T165",
        "global_batch_size is 5, and fsdp has 8 places: 3 would never see a sequence",
        "global_batch_size: 8 would do, or fsdp: 4 in the mesh and the other devices on tp",
    ]


def test_a_batch_of_several_micro_batches_does_not_go_with_the_update_inside():
    """The update inside the backward pass knows one micro-batch; which size of it would do is said."""
    with pytest.raises(InputInvalid) as error:
        batch_shape(33, 2, 1, places=8, most_micro_batches=1)
    assert _said(error) == [
        "T166",
        "global_batch_size 33 takes 3 micro-batches of 2 x 8 sequences, and update: in_backward knows 1",
        "per_device_batch_size: 5 would do, or update: after_backward",
    ]


@given(st.integers(1, 500), st.integers(1, 20), st.integers(1, 64))
def test_a_declared_batch_is_the_same_on_any_number_of_places(sequences: int, per_device: int, places: int):
    """All of it is dealt out, no device gets more rows than declared, and no micro-batch is empty as a whole."""
    if sequences < places:
        with pytest.raises(InputInvalid, match="would never see a sequence"):
            batch_shape(sequences, per_device, 1, places=places)
        return
    shape = batch_shape(sequences, per_device, 1, places=places)
    assert shape.sequences == sequences
    assert shape.rows % places == 0
    assert shape.rows // places <= per_device
    assert (shape.micro_batches - 1) * shape.rows < sequences <= shape.micro_batches * shape.rows
    # One row a place less would take another micro-batch: nothing is computed that could be left out.
    assert shape.empty < shape.micro_batches * places


def test_without_a_declared_batch_it_follows_the_devices():
    """per_device_batch_size x grad_accum_steps x places, as it always was."""
    assert batch_shape(None, 2, 3, places=4) == (24, 3, 8)


@pytest.mark.parametrize(("per_device", "places"), [(1, 1), (2, 1), (3, 2), (2, 4), (10, 1), (1, 8)])
def test_the_same_sequences_in_the_same_order_however_they_are_dealt(make_rows: Any, per_device: int, places: int):
    """The rows that count are those of the plain batch, in its order; what fills up has no segment and no weight."""
    packed = pack_rows(make_rows(30), 24, packing=True, seed=0)
    shape = batch_shape(10, per_device, 1, places=places)
    order = DataOrder(packed.n_sequences, 10, 7)
    for train_step in (1, 2, 5):
        plain = packed.take(order.indices(train_step))
        dealt = batch_at(packed, order, train_step, shape.micro_batches, rows=shape.rows)
        for name, array in dealt.items():
            assert array.shape[:2] == shape[1:]
            flat = array.reshape(-1, array.shape[-1])
            np.testing.assert_array_equal(flat[:10], plain[name])
            assert not flat[10:].any()


def test_a_process_makes_its_own_columns(make_rows: Any):
    """A part of the columns is that part of the whole batch."""
    packed = pack_rows(make_rows(30), 24, packing=True, seed=0)
    order, shape = DataOrder(packed.n_sequences, 10, 7), batch_shape(10, 2, 1, places=4)
    whole = batch_at(packed, order, 3, shape.micro_batches, rows=shape.rows)
    for first in range(0, shape.rows, 2):
        part = batch_at(packed, order, 3, shape.micro_batches, rows=shape.rows, columns=slice(first, first + 2))
        for name, array in part.items():
            np.testing.assert_array_equal(array, whole[name][:, first : first + 2])
