"""The train step of google-tunix's `PeftTrainer`, compiled for a machine that is only described; in its own environment.

In: one JSON argument {machine, compilers, rows, seq_len, method}. Out: one JSON line {peak_bytes, work}, or {does_not_fit}
with the compiler's sentence; ``rows`` are those of all devices. With ``hlo``, a path, the program is written there.

    $ .venv-tunix/bin/python benchmarks/parts/tunix_step.py '{"machine": "v5e-8", "compilers": ".compilers", …}'

Its Gemma 2B, its loss, its donation (of the optimizer, not of the weights), its sharding over a mesh (fsdp, tp), bfloat16
weights. Full fine-tuning with optax's Adafactor, LoRA of rank 16 on all matrices with optax's AdamW, by qwix as its
examples do. Nothing is made or run: shapes alone are lowered.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

ADAPTED = ".*q_einsum|.*kv_einsum|.*gate_proj|.*down_proj|.*up_proj|.*attn_vec_einsum"
RANK, ALPHA, VOCABULARY, RATE = 16, 32.0, 256_000, 1e-5


def main() -> None:
    """Compile and print."""
    from engine.trainer.cost.machines import described_devices, machine_named, prepare

    job = json.loads(sys.argv[1])
    prepare(job["machine"], Path(job["compilers"]))
    from jax.errors import JaxRuntimeError

    from engine.trainer.cost.modelled import modelled

    machine = machine_named(job["machine"])
    try:
        compiled = compiled_step(described_devices(machine.name), job)
    except JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        said = re.search(r"(?:Used|temporaries)[^.]*\.\d+\S* (?:of|exceeds)[^.]*\.\d+\S*", str(error))
        print(json.dumps({"does_not_fit": said[0] if said else str(error)[:300]}))
        return
    if "hlo" in job:
        Path(job["hlo"]).write_text(compiled.as_text(), encoding="utf-8")
    peak = compiled.memory_analysis().peak_memory_in_bytes
    print(json.dumps({"peak_bytes": peak, "work": modelled(compiled, machine.kind).report()}))


def compiled_step(devices: list[Any], job: dict[str, Any]) -> Any:
    """What ``PeftTrainer.jit_train_and_eval_step`` would compile on these devices."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax
    from flax import nnx
    from tunix.models.gemma import model as gemma
    from tunix.sft.peft_trainer import PeftTrainer, TrainingConfig, TrainingInput

    from parts.tunix_inputs import model_inputs

    # It leaves its constraints on activations out where jax.devices() are CPUs, which they are in this process.
    gemma.shard = lambda x, axes: jax.lax.with_sharding_constraint(x, jax.NamedSharding(mesh, jax.P(*axes)))
    mesh = jax.sharding.Mesh(np.array(devices).reshape(-1, 1), ("fsdp", "tp"))
    is_lora = job["method"] == "lora"
    config = gemma.ModelConfig.gemma_2b()
    config.num_embed = VOCABULARY
    optimizer = optax.adamw(RATE) if is_lora else optax.adafactor(RATE)
    wanted = nnx.LoRAParam if is_lora else nnx.Param

    def build() -> tuple[Any, Any]:
        peer = gemma.Gemma(config, rngs=nnx.Rngs(0))
        graph, state = nnx.split(peer)
        peer = nnx.merge(graph, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), state))
        if is_lora:
            peer = adapted(peer)
        return peer, nnx.Optimizer(peer, optimizer, wrt=wanted)

    with mesh:
        peer, moments = nnx.eval_shape(build)
        small = gemma.Gemma(tiny(gemma), rngs=nnx.Rngs(0))
        trainer = PeftTrainer(small, optimizer, TrainingConfig(eval_every_n_steps=10**6, max_steps=1))
        trainer._lora_enabled = is_lora  # noqa: SLF001  # as it finds it in a model with adapters

        trainer = trainer.with_gen_model_input_fn(model_inputs)
        rows = jax.ShapeDtypeStruct(
            (job["rows"], job["seq_len"]), jnp.int32, sharding=jax.NamedSharding(mesh, jax.P("fsdp"))
        )
        batch = TrainingInput(input_tokens=rows, input_mask=rows)
        step = nnx.jit(trainer.create_train_step_fn(), donate_argnames=("optimizer",))
        return step.lower(placed(peer, mesh), placed(moments, mesh), batch).compile()


def placed(module: Any, mesh: Any) -> Any:
    """The module of shapes with the shardings of its own variables; replicated where a variable names none that fits."""
    import jax
    from flax import nnx

    graph, state = nnx.split(module)
    specs = nnx.get_partition_spec(state)

    def sharded(leaf: Any, spec: Any) -> Any:
        axes = tuple(spec) if isinstance(spec, jax.P) else ()
        sizes = [mesh.shape.get(axis, 1) if axis else 1 for axis in axes]
        fits = len(axes) <= leaf.ndim and all(n % size == 0 for n, size in zip(leaf.shape, sizes, strict=False))
        return jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=jax.NamedSharding(mesh, jax.P(*axes) if fits else jax.P())
        )

    shapes = jax.tree.map(
        sharded, jax.tree.leaves(state), jax.tree.leaves(specs, is_leaf=lambda x: isinstance(x, jax.P))
    )
    return nnx.merge(graph, jax.tree.unflatten(jax.tree.structure(state), shapes))


def adapted(peer: Any) -> Any:
    """With qwix's adapters, as tunix's examples attach them."""
    import qwix

    provider = qwix.LoraProvider(module_path=ADAPTED, rank=RANK, alpha=ALPHA)
    return qwix.apply_lora_to_model(peer, provider, **peer.get_model_input())


def tiny(gemma: Any) -> Any:
    """A model that is small enough to be made: the trainer wants one when it is constructed."""
    return gemma.ModelConfig(
        num_layers=1, num_embed=8, embed_dim=8, hidden_dim=8, num_heads=8, head_dim=8, num_kv_heads=8,
        final_logit_softcap=None, use_post_attn_norm=False, use_post_ffw_norm=False,
        attention_types=(gemma.AttentionType.GLOBAL,),
    )  # fmt: skip


if __name__ == "__main__":
    main()
