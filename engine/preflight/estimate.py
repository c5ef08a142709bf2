"""The memory of a train step on one device, by arithmetic on the model's shapes, for each remat policy: an estimate.

In: a configuration with Hugging Face's keys, the arguments of ``train_sft``, a machine, and what a run may take of one
device. Out: :class:`Estimate`. With ``remat: auto`` it is for the policy that the run would take: the first that fits,
by the order and the rule of the trainer. No JAX; engine.preflight.exact has the compilers' answers, and
``python benchmarks/estimates.py`` prints both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from engine.model_config.shapes import DTYPE_BYTES
from engine.preflight.shards import Leaf, Mesh, adapters, leaf_of, leaves, mesh_of
from engine.preflight.working_memory import accumulates, saved_bytes, sizes_of, working_bytes
from engine.protocol.device_memory import fits
from engine.protocol.machines import Machine
from engine.protocol.train_args import remat_policies


class Estimate(NamedTuple):
    """``terms``: bytes on one device at the peak, by name; ``remat``: the policy that they are for.

    ``weights``      what one device holds of the weights, and of adapters
    ``optimizer``    its statistics, and master weights
    ``accumulated``  float32 gradients, where those of several micro-batches are summed
    ``saved``        what the forward pass saves of every layer for the backward pass
    ``working``      the larger of what lives at the two ends of the backward pass: at the head, and at a layer
    """

    remat: str
    terms: Mapping[str, int]

    @property
    def needed_bytes(self) -> int:
        """Their sum."""
        return sum(self.terms.values())


def estimate(config: Mapping[str, Any], args: Mapping[str, Any], machine: Machine, limit_bytes: int | None) -> Estimate:
    """Of the declared policy, or of the first that fits; of the last where none does. None: no limit is known."""
    declared, update = str(args.get("remat", "auto")), str(args.get("update", "after_backward"))
    *others, last = remat_policies(declared, update, machine.platform)
    for remat in others:
        found = Estimate(remat, _terms(config, args, machine, remat))
        if limit_bytes is None or fits(found.needed_bytes, limit_bytes):
            return found
    return Estimate(last, _terms(config, args, machine, last))


def _terms(config: Mapping[str, Any], args: Mapping[str, Any], machine: Machine, remat: str) -> dict[str, int]:
    mesh = mesh_of(args, machine.devices)
    sizes = sizes_of(config, args, machine, mesh)
    trained = _trained(config, args, mesh)
    return {
        **state_bytes(config, args, mesh),
        "accumulated": 4 * sum(leaf.on_device for leaf in trained) * accumulates(args, mesh),
        "saved": saved_bytes(sizes, remat),
        "working": working_bytes(sizes, trained),
    }


def state_bytes(config: Mapping[str, Any], args: Mapping[str, Any], mesh: Mesh) -> dict[str, int]:
    """Weights and optimizer's state on one device. Adapters are float32, beside weights that have no state."""
    item = DTYPE_BYTES[str(args["dtype"])]
    model, trained = leaves(config, mesh), _trained(config, args, mesh)
    more = 0 if args.get("method") != "lora" else 4 * sum(leaf.on_device for leaf in trained)
    optimizer = sum(_statistics(config, mesh, leaf, str(args["optimizer"])) for leaf in trained)
    if args.get("master_weights") and item != 4 and args.get("method") != "lora":
        optimizer += 4 * sum(leaf.on_device for leaf in trained)
    return {"weights": item * sum(leaf.on_device for leaf in model) + more, "optimizer": optimizer}


def _trained(config: Mapping[str, Any], args: Mapping[str, Any], mesh: Mesh) -> list[Leaf]:
    if args.get("method") != "lora":
        return leaves(config, mesh)
    return list(adapters(config, mesh, int(args["lora_rank"]), list(args["lora_targets"])))


def _statistics(config: Mapping[str, Any], mesh: Mesh, leaf: Leaf, optimizer: str) -> int:
    """float32 bytes on one device: two of each number for AdamW; for Adafactor a row and a column of a matrix, else one."""
    if optimizer == "adamw":
        return 8 * leaf.on_device
    if not leaf.is_factored:
        return 4 * leaf.on_device
    return 4 * sum(leaf_of(config, mesh, name, leaf.copies).on_device for name in leaf.axes.split())
