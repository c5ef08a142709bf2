"""The train step: a pure function over split state, compiled once, its state donated.

    state, metrics = step(state, batch)

State is {"params", "opt_state", "step", "hyperparameters"}, and "frozen" where only adapters are trained: these weights and
the hyperparameters pass through unchanged (donated, they stay in their buffers) and are not part of a checkpoint. batch is what
:func:`engine.trainer.input_pipeline.batches.batch_at` gives, [A, B, …]. In every micro-batch each target's loss is
weighted by 1 / trained tokens of the whole step, and gradients are summed in float32: k micro-batches give the
gradient of one batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.stages import Compiled

from engine.protocol.train_args import TrainArgs
from engine.trainer.guard import is_finite, skipped_metric
from engine.trainer.in_backward import make_in_backward_step
from engine.trainer.lora.adapters import LoraArgs, LoraParam, attach
from engine.trainer.loss import ComputePolicy, target_losses, weighted_loss
from engine.trainer.models.decoder import Decoder
from engine.trainer.ops.fused_attention import attention_of
from engine.trainer.ops.matmul import matmul_rule
from engine.trainer.optim.hyperparameters import Hyperparameters
from engine.trainer.optim.optimizer import apply_updates, global_norm, init_opt_state
from engine.trainer.pytree import PyTree

State = dict[str, Any]
Arrays = dict[str, jax.Array]
GraphDef = nnx.GraphDef[Decoder]
UNCHANGED = ("frozen", "hyperparameters")


def init_state(model: Decoder, args: TrainArgs) -> tuple[GraphDef, State]:
    """Split the module once: (graphdef, state). Optimizer statistics are float32 in any weight dtype."""
    state: State = {"step": jnp.zeros((), jnp.int32), "hyperparameters": Hyperparameters.of(args)}
    if args.method == "lora":
        graphdef, state["params"], *rest = nnx.split(model, LoraParam, ...)
        (state["frozen"],) = rest
    else:
        graphdef, state["params"] = nnx.split(model)
    return graphdef, state | {"opt_state": init_opt_state(state["params"], args, master_weights=args.master_weights)}


def saved_part(state: State) -> State:
    """What a checkpoint holds: what training changes."""
    return {name: part for name, part in state.items() if name not in UNCHANGED}


def merge(graphdef: GraphDef, params: PyTree, frozen: PyTree = None) -> Decoder:
    """The module of its trained and its frozen weights."""
    return nnx.merge(graphdef, params) if frozen is None else nnx.merge(graphdef, params, frozen)


def make_train_step(
    graphdef: GraphDef, args: TrainArgs, policy: ComputePolicy | None = None
) -> Callable[[State, Arrays], tuple[State, Arrays]]:
    """The uncompiled step.

    Metrics are loss, grad_norm, learning_rate, tokens (trained tokens), real_tokens, skipped (1: the loss or a gradient
    was non-finite, and the state is unchanged).
    """
    policy = policy or ComputePolicy(blocked=args.blocked)
    if args.update == "in_backward":
        return make_in_backward_step(graphdef, policy)

    def step(state: State, batch: Arrays) -> tuple[State, Arrays]:
        tokens = jnp.sum(batch["target_weights"])
        share = 1.0 / jnp.maximum(tokens, 1).astype(jnp.float32)
        numbers: Hyperparameters = state["hyperparameters"]
        drops = args.lora_dropout and args.method == "lora"
        frozen, dropout_key = state.get("frozen"), numbers.key(state["step"]) if drops else None
        loss, grads = accumulated_gradients(
            graphdef, state["params"], batch, share, policy, frozen=frozen, dropout_key=dropout_key
        )
        finite = is_finite(loss, global_norm(grads))
        params, opt_state, metrics = apply_updates(
            grads, state["params"], state["opt_state"], state["step"], numbers, ok=finite
        )
        metrics |= skipped_metric(finite)
        metrics |= {"loss": loss, "tokens": tokens, "real_tokens": jnp.sum(batch["segment_ids"] != 0)}
        return {**state, "params": params, "opt_state": opt_state, "step": state["step"] + 1}, metrics

    return step


def accumulated_gradients(
    graphdef: GraphDef,
    params: PyTree,
    batch: Arrays,
    share: jax.Array,
    policy: ComputePolicy,
    *,
    frozen: PyTree = None,
    dropout_key: jax.Array | None = None,
) -> tuple[jax.Array, PyTree]:
    """(loss, gradients) over all micro-batches: in the weights' dtype for one, summed in float32 for more."""

    def micro_loss(params: PyTree, part: Arrays, index: jax.Array) -> jax.Array:
        key = None if dropout_key is None else jax.random.fold_in(dropout_key, index)
        return weighted_loss(merge(graphdef, params, frozen), part, share, policy, key)

    n_micro_batches = batch["tokens"].shape[0]
    if n_micro_batches == 1:
        only = {name: array[0] for name, array in batch.items()}
        return jax.value_and_grad(micro_loss)(params, only, jnp.zeros((), jnp.int32))

    def add(carry: PyTree, item: tuple[Arrays, jax.Array]) -> tuple[PyTree, None]:
        loss, grads = jax.value_and_grad(micro_loss)(params, *item)
        return jax.tree.map(lambda total, part: total + part.astype(jnp.float32), carry, (loss, grads)), None

    zero = (jnp.zeros((), jnp.float32), jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), params))
    (loss, grads), _ = jax.lax.scan(add, zero, (batch, jnp.arange(n_micro_batches, dtype=jnp.int32)))
    return loss, grads


def compile_train_step(
    graphdef: GraphDef, args: TrainArgs, state: State, batch: Arrays, policy: ComputePolicy | None = None
) -> Compiled:
    """Compile for these shapes and shardings, donating the state: its bytes are reused for the new one.

    The shardings are declared on both sides: arrays that JAX may move (fresh ones) and those that it may not (restored ones)
    then have one program.
    """
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    replicated = None if policy is None else policy.replicated  # metrics: every process reads them
    step = jax.jit(
        make_train_step(graphdef, args, policy),
        donate_argnums=0,
        in_shardings=(shardings, None),
        out_shardings=(shardings, replicated),
    )
    return step.lower(state, batch).compile()


def make_eval_loss(
    graphdef: GraphDef, policy: ComputePolicy | None = None
) -> Callable[[State, Arrays], tuple[jax.Array, jax.Array]]:
    """A jitted (state, batch [B, …]) -> (summed loss, number of trained tokens)."""

    policy = policy or ComputePolicy()

    @jax.jit
    def eval_loss(params: PyTree, frozen: PyTree, batch: Arrays) -> tuple[jax.Array, jax.Array]:
        weights = batch["target_weights"].astype(jnp.float32)
        return jnp.sum(target_losses(merge(graphdef, params, frozen), batch, policy) * weights), jnp.sum(weights)

    return lambda state, batch: eval_loss(state["params"], state.get("frozen"), batch)


def with_method(module: Decoder, args: TrainArgs, device: jax.Device) -> Decoder:
    """The module itself, or with fresh adapters; its matmuls in the dtype, and its attention by the kernel, for ``device``.

    Raises InputInvalid T175 where ``attention: fused`` is declared and there is no kernel for it.
    """
    module.matmul = matmul_rule(args.matmul_dtype, args.dtype, device)
    module.kernel = attention_of(args, module.config, device).kernel
    if args.method == "full":
        return module
    lora = LoraArgs(args.lora_rank, args.lora_alpha, args.lora_rslora, args.lora_dropout, args.lora_targets)
    return attach(module, lora, seed=args.seed)
