"""The update inside the backward pass: each layer's weights are updated as soon as its gradient exists.

What goes in and comes out: as :func:`engine.trainer.train_step.make_train_step`. At any time at most one layer's gradient
exists, and never the embedding's (LOMO, Lv et al. 2023, arXiv 2306.09782; AdaLomo with factored statistics,
arXiv 2310.10195): Gemma 2B with all its weights trained in bfloat16 needs little more memory than its weights.

The forward pass saves the inputs of all layers [L, M, D]. Then backward:

1. the gradient of the loss with respect to the final states, from the head's blocks;
2. the layers from last to first: the gradient of one layer by ``jax.vjp``, its weights and statistics updated in the
   carry of the loop; each layer is recomputed once from its saved input, as with remat "block";
3. the tied embedding, block by block of its rows, with the head's share recomputed
   (:mod:`engine.trainer.optim.tied_embedding`): it needs the gradient with respect to the embedded inputs first.

Limits that follow from the method: no clipping by global norm (the norm is known only after all updates), one
micro-batch (gradients are not accumulated), full training only. A layer with a non-finite gradient is not updated, nor
is any layer below it; layers above it are updated already, unlike in a skipped step of the other method. ``grad_norm``
is that of all weights but the embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from engine.trainer.guard import is_finite, skipped_metric
from engine.trainer.loss import ComputePolicy, head_of, target_states
from engine.trainer.models.decoder import Context, Decoder
from engine.trainer.ops.cross_entropy import Targets, head_forward, head_input_gradient
from engine.trainer.optim.hyperparameters import Hyperparameters
from engine.trainer.optim.optimizer import named_leaves
from engine.trainer.optim.rules import Rule, StepInputs, update_slice
from engine.trainer.optim.tied_embedding import Tied, tied_embedding_update
from engine.trainer.pytree import PyTree

Arrays = dict[str, jax.Array]
State = dict[str, Any]


def make_in_backward_step(
    graphdef: nnx.GraphDef[Decoder], policy: ComputePolicy
) -> Callable[[State, Arrays], tuple[State, Arrays]]:
    """The uncompiled step; its metrics are those of the other method."""

    def step(state: State, batch: Arrays) -> tuple[State, Arrays]:
        (part,) = ({name: array[0] for name, array in batch.items()},)  # one micro-batch
        tokens = jnp.sum(part["target_weights"])
        shares = part["target_weights"].reshape(-1).astype(jnp.float32) / jnp.maximum(tokens, 1).astype(jnp.float32)
        numbers: Hyperparameters = state["hyperparameters"]
        step_inputs = numbers.step_inputs(state["step"], state["opt_state"]["count"], None, jnp.asarray(True))
        walk = _Walk(nnx.merge(graphdef, state["params"]), state, numbers.rule, step_inputs)
        loss, squares, finite = walk.run(part, shares, policy)
        new = walk.updated(state, finite)
        metrics = {
            "loss": loss,
            "grad_norm": jnp.sqrt(squares),
            "learning_rate": step_inputs.rate,
            "tokens": tokens,
            "real_tokens": jnp.sum(part["segment_ids"] != 0),
            **skipped_metric(finite),
        }
        return new, metrics

    return step


class _Walk:
    """Weights, statistics and masters by dotted name while they are being updated."""

    def __init__(self, model: Decoder, state: State, rule: Rule, step_inputs: StepInputs) -> None:
        self.model, self.rule, self.step_inputs = model, rule, step_inputs
        self.params = named_leaves(state["params"])
        self.stats = dict(state["opt_state"]["stats"])
        self.masters = dict(state["opt_state"].get("master", {}))

    def run(self, part: Arrays, shares: jax.Array, policy: ComputePolicy) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(loss, sum of squared gradients without the embedding's, whether everything is finite)."""
        model = self.model
        context = model.sequence_context(
            part["positions"], part["segment_ids"], blocked=policy.blocked, mesh=policy.mesh
        )
        names = [name for name in self.params if name.startswith("layers.")]
        stacks = {name.removeprefix("layers."): self.params[name] for name in names}
        kinds = model.layer_kinds()

        def forward(x: jax.Array, item: tuple[Arrays, Arrays]) -> tuple[jax.Array, jax.Array]:
            kind, weights = item
            return model.layer(x, kind, weights, context), x

        last, inputs = jax.lax.scan(forward, model.embed_tokens(part["tokens"]), (kinds, stacks))  # [M, D], [L, M, D]
        shape = (*part["tokens"].shape, last.shape[-1])

        def final(x: jax.Array, gain: jax.Array) -> jax.Array:
            normed = model.final_norm_by(x, gain).reshape(shape)
            return target_states(normed, part["target_positions"])

        states, back = jax.vjp(final, last, self.params["norm"])
        if policy.replicated is not None:
            states = jax.lax.with_sharding_constraint(states, policy.replicated)
        labels, head = part["target_ids"].reshape(-1), head_of(model, states.shape[0], policy)
        losses, log_sum = head_forward(states, self.params["embed"], labels, head)
        loss = jnp.sum(losses * shares)
        targets = Targets(states, labels, log_sum, shares)
        by_states = head_input_gradient(targets, self.params["embed"], head).astype(states.dtype)
        by_x, by_gain = back(by_states)
        ok = is_finite(loss, jnp.sum(jnp.square(by_gain.astype(jnp.float32))))
        squares = jnp.sum(jnp.square(by_gain.astype(jnp.float32)))
        self._update("norm", by_gain, ok)
        by_x, squares, ok = self._layers(inputs, kinds, context, by_x, squares, ok)
        scaled = by_x * jnp.asarray(model.config.hidden_size**0.5, by_x.dtype)
        tied = Tied(targets, part["tokens"].reshape(-1), scaled)
        ok = jnp.logical_and(ok, jnp.isfinite(jnp.sum(jnp.square(by_x.astype(jnp.float32)))))
        self.params["embed"], self.stats["embed"], master = tied_embedding_update(
            self.rule,
            self.step_inputs._replace(ok=ok),
            tied,
            self.params["embed"],
            self.stats["embed"],
            self.masters.get("embed"),
            head=head,
        )
        self._keep_master("embed", master)
        return loss, squares, ok

    def updated(self, state: State, finite: jax.Array) -> State:
        """The train state with every update in it."""
        params = jax.tree.unflatten(jax.tree.structure(state["params"]), list(self.params.values()))
        opt_state = {**state["opt_state"], "stats": self.stats}
        opt_state["count"] = state["opt_state"]["count"] + finite.astype(jnp.int32)
        if "master" in opt_state:
            opt_state["master"] = self.masters
        return {**state, "params": params, "opt_state": opt_state, "step": state["step"] + 1}

    def _update(self, name: str, grad: jax.Array, ok: jax.Array) -> None:
        self.params[name], self.stats[name], master = update_slice(
            self.rule,
            self.step_inputs._replace(ok=ok),
            grad,
            self.stats[name],
            self.params[name],
            self.masters.get(name),
            name=name,
        )
        self._keep_master(name, master)

    def _keep_master(self, name: str, master: jax.Array | None) -> None:
        if master is not None:
            self.masters[name] = master

    def _layers(
        self, inputs: jax.Array, kinds: Arrays, context: Context, by_x: jax.Array, squares: jax.Array, ok: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """From last to first layer: its gradient, its update in the carry, the gradient with respect to its input."""
        names = [name for name in self.params if name.startswith("layers.")]
        depth = inputs.shape[0]
        stacks = (
            {name: self.params[name] for name in names},
            {name: self.stats[name] for name in names},
            {name: self.masters[name] for name in names if name in self.masters},
        )

        def body(done: jax.Array, carry: PyTree) -> PyTree:
            by_x, squares, ok, stacks = carry
            layer = depth - 1 - done

            def of_layer(leaf: jax.Array) -> jax.Array:
                part: jax.Array = jax.lax.dynamic_index_in_dim(leaf, layer, keepdims=False)
                return part

            weights, stats, masters = jax.tree.map(of_layer, stacks)
            kind = jax.tree.map(of_layer, kinds)

            def forward(x: jax.Array, weights: Arrays) -> jax.Array:
                short = {name.removeprefix("layers."): leaf for name, leaf in weights.items()}
                return self.model.layer(x, kind, short, context)

            _, back = jax.vjp(forward, of_layer(inputs), weights)
            by_x, grads = back(by_x)
            norm = sum(
                (jnp.sum(jnp.square(grad.astype(jnp.float32))) for grad in grads.values()), jnp.zeros((), jnp.float32)
            )
            ok = jnp.logical_and(ok, jnp.isfinite(norm))
            step_inputs = self.step_inputs._replace(ok=ok)
            for name in names:
                weights[name], stats[name], master = update_slice(
                    self.rule,
                    step_inputs,
                    grads[name],
                    stats[name],
                    weights[name],
                    masters.get(name),
                    name=name,
                    layer=layer,
                )
                if master is not None:
                    masters[name] = master

            def put(stack: jax.Array, part: jax.Array) -> jax.Array:
                written: jax.Array = jax.lax.dynamic_update_index_in_dim(stack, part, layer, 0)
                return written

            return by_x, squares + norm, ok, jax.tree.map(put, stacks, (weights, stats, masters))

        by_x, squares, ok, stacks = jax.lax.fori_loop(0, depth, body, (by_x, squares, ok, stacks))
        for leaves, updated in zip((self.params, self.stats, self.masters), stacks, strict=True):
            leaves.update(updated)
        return by_x, squares, ok
