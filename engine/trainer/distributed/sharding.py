"""Which axis of a weight lies on which axis of the mesh: one rule, by the words of the family's table.

In: a model's configuration and a mesh. Out: for every leaf of a train state how each of its axes is cut. Nothing is
placed here (:class:`engine.trainer.distributed.placement.Placement` does that); :mod:`engine.trainer.cost.shardings` makes
a table for people of it.

    layout = Layout(config, MeshSize(fsdp=4, tp=2))
    layout.cut("layers.q", (18, 2048, 2048))        # ((), ("fsdp",), ("tp",)): L whole, D over 4, heads over 2

The rule, in this order (V vocabulary, D model, F ffn, L layers, H head dim, NH all query heads, KH all kv heads, R rank):

1. V is cut over all devices, fsdp and tp together, where they divide it: the head's loss goes over each device's rows.
2. tp cuts NH where it divides the number of heads, KH where it divides the number of kv heads, F where it divides it. A
   head is never cut in two. So a single kv head (Gemma 2B) is on every device of a tp group.
3. fsdp cuts the longest of the axes that are left and that it divides, the first of equals. L is never cut, since the
   walk takes one layer at a time, nor is R.
4. What cannot be cut is on every device.

Masters and AdamW's statistics lie as their weight does. Adafactor's row and column lie as the axes that they keep; one
that would not be cut by fsdp is, by rule 3. An adapter is cut as the axis that it shares with its weight.
"""

from __future__ import annotations

import math
from typing import Any

from engine.trainer.config.mesh import MeshSize
from engine.trainer.lora.adapters import TARGETS
from engine.trainer.models import family_of

Cut = tuple[tuple[str, ...], ...]  # for each axis of a leaf the axes of the mesh that cut it

WHOLE_WORDS = frozenset(["L", "R"])
STATE_PARTS = ("params.", "frozen.", "opt_state.master.")
STATISTICS = "opt_state.stats."


class Layout:
    """The rule for one model on one mesh."""

    def __init__(self, config: Any, size: MeshSize) -> None:
        self.config, self.size = config, size
        table = family_of(config).MODEL.TABLE
        self.words = {leaf.name: tuple(leaf.shape.split()) for leaf in table.leaves}
        for ours in TARGETS.values():
            depth, rows, columns = self.words[f"layers.{ours}"]
            self.words |= {f"lora.{ours}_a": (depth, rows, "R"), f"lora.{ours}_b": (depth, "R", columns)}
        # What tp counts by: it never cuts a head.
        self.units = {
            "NH": config.num_attention_heads,
            "KH": config.num_key_value_heads,
            "F": config.intermediate_size,
        }

    def cut(self, name: str, shape: tuple[int, ...]) -> Cut:
        """Of a weight or an adapter by its dotted name ("layers.q", "lora.q_a"). Raises KeyError for another name."""
        return self._by_words(self.words[name], shape)

    def cut_in_state(self, name: str, shape: tuple[int, ...]) -> Cut:
        """Of a leaf of the train state by its dotted path; counters are everywhere."""
        if name.startswith(STATISTICS):
            owner, kind = name.removeprefix(STATISTICS).rsplit(".", 1)
            return self._of_statistic(owner, kind, shape)
        for part in STATE_PARTS:
            if name.startswith(part):
                return self.cut(name.removeprefix(part), shape)
        return ((),) * len(shape)

    def _of_statistic(self, owner: str, kind: str, shape: tuple[int, ...]) -> Cut:
        words = self.words[owner]
        if kind not in ("row", "col"):
            return self.cut(owner, shape)
        kept = words[:-1] if kind == "row" else (*words[:-2], words[-1])
        return self._by_words(kept, shape)

    def _by_words(self, words: tuple[str, ...], shape: tuple[int, ...]) -> Cut:
        fsdp, tp = self.size
        found: list[tuple[str, ...]] = [()] * len(shape)
        if "V" in words and shape[words.index("V")] % self.size.devices == 0:
            found[words.index("V")] = ("fsdp", "tp")
            return tuple(found)
        if tp > 1:
            able = [axis for axis, word in enumerate(words) if word in self.units and self.units[word] % tp == 0]
            for axis in able[:1]:
                found[axis] = ("tp",)
        if fsdp > 1:
            able = [
                axis
                for axis, (word, length) in enumerate(zip(words, shape, strict=True))
                if not found[axis] and word not in WHOLE_WORDS and length % fsdp == 0
            ]
            if able:
                found[max(able, key=lambda axis: (shape[axis], -axis))] = ("fsdp",)
        return tuple(found)

    def share(self, cut: Cut, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what one device has of it."""
        sizes = self.size._asdict()
        return tuple(length // math.prod(sizes[axis] for axis in axes) for length, axes in zip(shape, cut, strict=True))
