"""Where the bytes go: the reader of XLA's dump, on a dump small enough to check by hand."""

from __future__ import annotations

from engine.trainer.cost.buffers import Buffer, at_peak

STEM = "module_0001.jit_step.after_optimizations"
# Two arguments (one donated: the loop's result is written over it), a loop that carries what it adds up, a value in
# on-chip memory, and two temporaries in one slot, one after the other.
ASSIGNMENT = """BufferAssignment:
allocation 0: size 400, parameter 0, shape |f32[100]| at ShapeIndex {}:
 value: <1 x.1 @0> (size=400,offset=0): f32[100]{0}
allocation 1: size 800, output shape is |f32[200]|, maybe-live-out, parameter 1, shape |f32[200]| at ShapeIndex {}:
 value: <2 w.1 @0> (size=800,offset=0): f32[200]{0}
 value: <9 new.7{0} @0> (size=800,offset=0): f32[200]{0}
allocation 2: size 64, color 1, preallocated-temp:
 value: <3 fast.2 @1> (size=64,offset=0): f32[16]{0:S(1)}
allocation 3: size 2000, preallocated-temp:
 value: <4 zero.3 @0> (size=1000,offset=0): f32[250]{0}
 value: <5 sum.4{1} (phi) @0> (size=1000,offset=0): f32[250]{0}
 value: <6 early.5 @0> (size=500,offset=1000): f32[125]{0}
 value: <7 late.6 @0> (size=1000,offset=1000): bf16[500]{0}
 value: <8 never.8 @0> (size=9999,offset=0): f32[1]{0}
"""
LIVE = """HloLiveRange (max 9):
  InstructionSequence:
    0:x.1
  BufferLiveRange:
    x.1{}:0-9
    w.1{}:0-6
    fast.2{}:1-9
    zero.3{}:2-3
    sum.4{1}:3-6
    early.5{}:3-4
    late.6{}:5-6
    new.7{0}:6-9
  Live ranges at 3 (peak):
    w.1{}: 800 bytes (cumulative: 800 bytes)
"""
PROGRAM = """HloModule jit_step
%body (p: f32[250]) -> f32[250] {
  ROOT %late.6 = bf16[500]{0} fusion(%p), metadata={op_name="jit(step)/mul" stack_frame_id=2}
}
ENTRY %main {
  %x.1 = f32[100]{0} parameter(0), metadata={op_name="state[\\'x\\']"}
  %zero.3 = f32[250]{0} broadcast(), metadata={op_name="jit(step)/zeros"}
  %copy.9 = f32[1]{0} copy(%x.1)
}
"""


def _dump(folder, assignment=ASSIGNMENT, live=LIVE, stem=STEM):
    (folder / f"{stem}-buffer-assignment.txt").write_text(assignment)
    (folder / f"{stem}-live-range.txt").write_text(live)
    (folder / f"{stem}.txt").write_text(PROGRAM)


def test_the_peak_is_counted_with_what_loops_carry(tmp_path):
    """At moment 5: x and w, the loop's sum and the later temporary, each slot once: 400 + 800 + 1000 + 1000."""
    _dump(tmp_path)
    peak, buffers = at_peak(tmp_path)
    assert peak == 3200
    assert sum(buffer.size for buffer in buffers) == peak
    assert buffers == [
        Buffer(1000, "bf16[500]", "temporary", "jit(step)/mul", "late.6{}"),
        Buffer(1000, "f32[250]", "temporary", "jit(step)/zeros", "sum.4{1}"),
        Buffer(800, "f32[200]", "argument", "", "w.1{}"),
        Buffer(400, "f32[100]", "argument", "state['x']", "x.1{}"),
    ]


def test_a_donated_slot_counts_once(tmp_path):
    """When the new value is written into the slot of the old one, both are live for a moment, in the same bytes."""
    _dump(tmp_path, live=LIVE.replace("late.6{}:5-6", "late.6{}:5-5").replace("early.5{}:3-4", "early.5{}:3-3"))
    assert at_peak(tmp_path)[0] == 3200
    _dump(tmp_path, live="    w.1{}:0-6\n    new.7{0}:6-9\n")
    assert at_peak(tmp_path)[0] == 800


def test_the_largest_program_is_reported(tmp_path):
    """A dump holds every program that was compiled; the small ones beside the train step are left out."""
    _dump(tmp_path)
    _dump(tmp_path, live="    x.1{}:0-9\n", stem="module_0002.jit_add.after_optimizations")
    assert at_peak(tmp_path)[0] == 3200


def test_an_empty_folder_has_no_peak(tmp_path):
    """Nothing dumped: zero bytes and no buffers."""
    assert at_peak(tmp_path) == (0, [])
