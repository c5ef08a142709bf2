"""Low-rank adapters: they start without effect, merge into the same function, and only they are trained and saved."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy
from flax import nnx

from engine.errors import InputInvalid
from engine.trainer.generation.generate import load_trained
from engine.trainer.lora.adapter_files import load_adapter, save_adapter
from engine.trainer.lora.adapters import TARGETS, Lora, LoraArgs, LoraParam, adapter_shapes, attach, merged
from engine.trainer.models import config_from_hf, create
from engine.trainer.models.decoder import Decoder
from tests.fixtures.events import model_source

BASE = {
    "id": "acme/tiny",
    "name_or_path": "acme/tiny",
    "revision": "a" * 40,
    "weights": "w",
    "init": "pretrained",
    "dtype": "float32",
    "seed": 0,
}
SIZES = {
    "vocab_size": 260, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "initializer_range": 0.15,
}  # fmt: skip
TOKENS = jnp.asarray(np.random.default_rng(0).integers(4, 260, (2, 9)), jnp.int32)
POSITIONS = jnp.broadcast_to(jnp.arange(9, dtype=jnp.int32)[None, :], (2, 9))
FAMILIES = ("gemma", "gemma2", "gemma3_text")


def base_model(model_type: str = "gemma", dtype: Any = jnp.float32, **sizes: int) -> Decoder:
    config = config_from_hf({"model_type": model_type, **SIZES, **sizes})
    return create(config, seed=0, param_dtype=dtype, compute_dtype=dtype)


def adapted(model: Decoder, **args: Any) -> Decoder:
    """Adapters with an effect."""
    graph, adapters, rest = nnx.split(attach(model, LoraArgs(4, 8.0, **args), seed=1), LoraParam, ...)
    moved = jax.tree.map(lambda leaf: leaf + 0.05 * jax.random.normal(jax.random.key(2), leaf.shape), adapters)
    return nnx.merge(graph, moved, rest)


def logits(model: Decoder) -> jax.Array:
    """Exact roundings: XLA may otherwise omit roundings to bfloat16, and not the same ones in two programs."""
    said = jax.jit(lambda tokens: model(tokens, positions=POSITIONS)).lower(TOKENS)
    return said.compile(compiler_options={"xla_allow_excess_precision": False})(TOKENS)


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_fresh_adapters_change_no_bit(model_type: str, dtype: Any) -> None:
    """Step 0 equals the base exactly, in either dtype; the adapters are float32 over both."""
    model = base_model(model_type, dtype)
    lora = attach(model, LoraArgs(4, 8.0), seed=1)
    assert jnp.array_equal(logits(lora), logits(model))
    assert {leaf.dtype for leaf in lora.lora.weights().values()} == {jnp.dtype("float32")}


@pytest.mark.parametrize(("model_type", "rslora"), [("gemma", True), ("gemma2", False), ("gemma3_text", False)])
def test_merged_equals_unmerged(model_type: str, rslora: bool) -> None:
    """W + scale A B computes what x W + scale (x A) B does, and differs from the base."""
    model = base_model(model_type)
    lora = adapted(model, rslora=rslora)
    np.testing.assert_allclose(logits(merged(lora)), logits(lora), atol=1e-5)
    assert float(jnp.abs(logits(lora) - logits(model)).max()) > 0.1
    assert merged(lora).lora is None


def test_a_merge_keeps_the_bases_dtype() -> None:
    """A bfloat16 base stays one; each weight is the float32 sum rounded once."""
    lora = adapted(base_model(dtype=jnp.bfloat16), targets=("q_proj",))
    weights, adapters = lora.weights(), lora.lora.weights()
    expected = weights["layers.q"].astype(jnp.float32) + 2.0 * (adapters["q.a"] @ adapters["q.b"])
    assert jnp.array_equal(merged(lora).weights()["layers.q"], expected.astype(jnp.bfloat16))
    assert jnp.array_equal(merged(lora).weights()["layers.k"], weights["layers.k"])


def test_the_scale_is_alpha_over_rank_or_its_root() -> None:
    """rsLoRA divides by the root."""
    assert LoraArgs(16, 32.0).scale == 2.0
    assert LoraArgs(16, 32.0, rslora=True).scale == 8.0


def test_only_the_named_targets_get_adapters() -> None:
    """Two targets, four leaves; another target does not change the draws of the others."""
    few = attach(base_model(), LoraArgs(4, 8.0, targets=("q_proj", "down_proj")), seed=1).lora.weights()
    assert list(few) == ["q.a", "q.b", "down.a", "down.b"]
    every = attach(base_model(), LoraArgs(4, 8.0), seed=1).lora.weights()
    assert all(jnp.array_equal(every[name], array) for name, array in few.items())
    assert float(jnp.abs(few["q.a"]).max()) <= 1 / 8.0  # 1 / sqrt(64)


def test_an_unknown_target_names_the_nearest() -> None:
    """M601, with a suggestion."""
    with pytest.raises(
        InputInvalid, match=r'(?s)M601.*no projection is called .q_prj.*did you mean "q_proj"'
    ) as caught:
        LoraArgs(4, 8.0, targets=("q_prj",))
    assert caught.value.exit_code == 2


def test_dropout_is_a_function_of_its_key() -> None:
    """The same key drops the same inputs, another key others, no key none; the mean stays."""
    lora = adapted(base_model(), dropout=0.5)

    def hidden(seed: int | None) -> jax.Array:
        key = None if seed is None else jax.random.key(seed)
        return jax.jit(lambda tokens: lora.hidden(tokens, positions=POSITIONS, dropout_key=key))(TOKENS)

    assert jnp.array_equal(hidden(0), hidden(0))
    assert not jnp.array_equal(hidden(0), hidden(1))
    assert jnp.array_equal(hidden(None), jax.jit(lambda t: lora.hidden(t, positions=POSITIONS))(TOKENS))


def test_the_folder_is_read_back_and_written_the_same(tmp_path: Path) -> None:
    """save -> load -> save: equal logits, equal bytes."""
    model = base_model("gemma2")
    lora = adapted(model, rslora=True, targets=("o_proj", "up_proj"))
    save_adapter(tmp_path / "a", lora, base=BASE)
    back = load_adapter(tmp_path / "a", model, base=BASE)
    save_adapter(tmp_path / "b", back, base=BASE)
    assert jnp.array_equal(logits(back), logits(lora))
    for name in ("adapter_config.json", "adapter_model.safetensors", "runspec_base.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_names_and_layout_are_pefts(tmp_path: Path) -> None:
    """lora_A [r, in] and lora_B [out, r] under PEFT's names, with the keys of its configuration."""
    lora = adapted(base_model(), targets=("q_proj",))
    save_adapter(tmp_path, lora, base=BASE)
    tensors = safetensors.numpy.load_file(tmp_path / "adapter_model.safetensors")
    module = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"
    assert sorted(tensors) == sorted(module.format(layer, part) for layer in (0, 1) for part in "AB")
    np.testing.assert_array_equal(tensors[module.format(1, "A")], np.asarray(lora.lora.weights()["q.a"][1]).T)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config | {"r": 4, "lora_alpha": 8.0, "peft_type": "LORA", "target_modules": ["q_proj"]} == config
    assert (config["base_model_name_or_path"], config["revision"]) == ("acme/tiny", "a" * 40)


def _edit(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _tensors(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    change(tensors)
    safetensors.numpy.save_file(tensors, path)


FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "M602 there is no adapter_model.safetensors"),
    "truncated": (
        lambda f: (f / "adapter_model.safetensors").write_bytes((f / "adapter_model.safetensors").read_bytes()[:90]),
        "M602 the adapter's weights are damaged or truncated",
    ),
    "no JSON": (lambda f: (f / "adapter_config.json").write_text("{"), "M602 adapter_config.json cannot be read"),
    "DoRA": (lambda f: _edit(f, "adapter_config.json", use_dora=True), 'M603 "use_dora": True is not supported'),
    "no rank": (lambda f: _edit(f, "adapter_config.json", r=0), 'M603 "r" must be a whole number above 0, not 0'),
    "other targets": (
        lambda f: _edit(f, "adapter_config.json", target_modules=["embed_tokens"]),
        'M603 "target_modules" must name projections of this family',
    ),
    **{
        f"{key} {value!r}": (
            lambda f, key=key, value=value: _edit(f, "adapter_config.json", **{key: value}),
            f'M603 "{key}"',
        )
        for key, value in (
            ("alora_invocation_tokens", [1, 2]),
            ("use_bdlora", {"blocks": 2}),
            ("velora_config", {"rank": 1}),
            ("init_lora_weights", "pissa"),
            ("of_tomorrow", 3),
            ("lora_alpha", float("nan")),
            ("lora_alpha", True),
            ("use_rslora", "no"),
            ("lora_dropout", "x"),
            ("lora_dropout", 1.5),
            ("target_modules", [{}]),
            ("r", 2.0),
            ("peft_type", "LOHA"),
            ("target_modules", "q_proj"),
        )
    },
    "no base": (lambda f: (f / "runspec_base.json").write_text("[]"), "M602 runspec_base.json cannot be read"),
    "a weight more": (
        lambda f: _tensors(f, lambda t: t.update({FIRST.replace("0", "7"): t[FIRST]})),
        "M604 the adapter has a weight this base does not: base_model.model.model.layers.7",
    ),
    "a weight less": (lambda f: _tensors(f, lambda t: t.pop(FIRST)), f"M604 the adapter lacks {FIRST}"),
    "NaN": (lambda f: _tensors(f, lambda t: t[FIRST].fill(np.nan)), f"M204 {FIRST} holds NaN or infinity"),
    "another base": (
        lambda f: _edit(f, "runspec_base.json", weights="v"),
        "M605 the adapter was made for another base: weights was v, here it is w",
    ),
    "another base, said by PEFT": (
        lambda f: (f / "runspec_base.json").unlink() or _edit(f, "adapter_config.json", revision="b" * 40),
        "M605 the adapter was made for another base: revision was bbbb",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_adapter_is_named(case: str, tmp_path: Path) -> None:
    """Each error has its code, names what and where, and is not a traceback."""
    model = base_model()
    save_adapter(tmp_path, adapted(model, targets=("q_proj",)), base=BASE)
    BAD[case][0](tmp_path)
    with pytest.raises(InputInvalid) as caught:
        load_adapter(tmp_path, model, base=BASE)
    found = [f"{one.code} {one.message}" for one in caught.value.diagnostics]
    assert any(line.startswith(BAD[case][1]) for line in found), found


def test_an_adapter_for_a_wider_base_says_both_shapes(tmp_path: Path) -> None:
    """M604 names the leaf and both shapes; the configuration's digest is compared first where it is known."""
    save_adapter(tmp_path, adapted(base_model(), targets=("q_proj",)), base=BASE)
    other = base_model(hidden_size=32)
    with pytest.raises(InputInvalid, match=r"M605.*config_sha256"):
        load_adapter(tmp_path, other, base=BASE)
    with pytest.raises(InputInvalid, match=r"M604.*has shape \[4, 64\], this base needs \[4, 32\]"):
        load_adapter(tmp_path, other)


# --- through the trainer's process ---

LORA = {"method": "lora", "lora_rank": 2, "lora_alpha": 4.0, "lora_dropout": 0.1, "learning_rate": 2e-2}


@pytest.mark.slow
def test_a_killed_lora_run_ends_the_same(make_job: Any, child: Any) -> None:
    """Only adapters are in the checkpoints; a SIGKILL later the result is byte-identical, dropout included."""
    whole, broken = make_job("whole", **LORA), make_job("broken", **LORA)
    assert child(whole).finish() == 0
    run = child({**broken, "stop_after_saves": 2})
    run.until("ready_to_die")
    run.kill()
    again = child(broken)
    assert again.finish() == 0
    assert [event["train_step"] for event in again.events if event["event"] == "restored"] == [6]
    for name in ("adapter_model.safetensors", "adapter_config.json", "runspec_base.json", "config.json"):
        assert (Path(whole["out"]) / "model" / name).read_bytes() == (Path(broken["out"]) / "model" / name).read_bytes()
    report = json.loads((Path(whole["out"]) / "train_report.json").read_text())
    shapes = adapter_shapes(base_config(whole), LoraArgs(2, 4.0))
    assert report["trained_params"] == sum(np.prod(shape) for shape in shapes.values()) < report["params"]
    saved = final_arrays(whole)
    kept = [name for name in saved if "params" in name]
    assert len(kept) == 2 * len(TARGETS)
    assert all("lora" in name for name in kept)
    assert not any("frozen" in name for name in saved)


def final_arrays(job: dict[str, Any]) -> list[str]:
    """The names in a job's newest checkpoint."""
    newest = sorted((Path(job["work"]) / "checkpoints").iterdir())[-1]
    return list(ocp.StandardCheckpointer().restore(newest / "state"))


def base_config(job: dict[str, Any]) -> Any:
    return config_from_hf({**job["model"]["config"], "vocab_size": 260})


def test_adapters_find_their_base_again(make_job: Any, train_here: Any) -> None:
    """generate merges them into the base that training drew; the merged export, in the declared format, is the same."""
    job = make_job(**LORA, lora_merge=True, export_formats=["flax_msgpack"])
    train_here(job)
    out = Path(job["out"])
    assert [path.suffix for path in (out / "merged").glob("*model.*")] == [".msgpack"]
    model, config, _ = load_trained(out / "model", model_source(job["model"]), print, bool)
    whole, _, _ = load_trained(out / "merged", None, print, bool)
    for name, array in model.weights().items():
        assert jnp.array_equal(array, whole.weights()[name]), name
    fresh = create(config, seed=42).weights()
    assert not jnp.array_equal(model.weights()["layers.q"], fresh["layers.q"])
    assert jnp.array_equal(model.weights()["embed"], fresh["embed"])
    assert not list((out / "model").glob("model*.safetensors"))


def test_adapters_without_their_base_are_refused(make_job: Any, train_here: Any) -> None:
    """Another seed of the base is another base."""
    job = make_job(**LORA)
    train_here(job)
    folder = Path(job["out"]) / "model"
    found = json.loads((folder / "runspec_base.json").read_text())
    (folder / "runspec_base.json").write_text(json.dumps({**found, "seed": 7}))
    with pytest.raises(InputInvalid, match=r"M605.*random, seed 42.*random, seed 7"):
        load_trained(folder, model_source(job["model"]), print, bool)
    (folder / "runspec_base.json").write_text("{}")
    with pytest.raises(InputInvalid, match=r"M602.*lacks revision, dtype, seed"):
        load_trained(folder, model_source(job["model"]), print, bool)


def test_micro_batches_are_one_batch_for_adapters(make_args: Any, micro_model: Any) -> None:
    """Every target takes part in the gradient, and frozen weights are bit for bit unchanged."""
    from engine.trainer.train_step import init_state, make_train_step

    args = make_args(method="lora", lora_rank=2, lora_alpha=4.0)
    graphdef, state = init_state(attach(micro_model(), LoraArgs(2, 4.0), seed=0), args)
    tokens = jnp.asarray(np.random.default_rng(1).integers(4, 260, (1, 2, 12)), jnp.int32)
    ones = jnp.ones_like(tokens)
    places = jnp.broadcast_to(jnp.arange(11, dtype=jnp.int32), (1, 2, 11))
    batch = {
        "tokens": tokens, "segment_ids": ones, "positions": jnp.broadcast_to(jnp.arange(12, dtype=jnp.int32), (1, 2, 12)),
        "target_positions": places, "target_ids": tokens[:, :, 1:], "target_weights": jnp.ones_like(places),
    }  # fmt: skip
    split = {name: array.reshape(2, 1, *array.shape[2:]) for name, array in batch.items()}
    step = jax.jit(make_train_step(graphdef, args))
    one, two = step(state, batch), step(state, split)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one[0]["params"], two[0]["params"])
    jax.tree.map(np.testing.assert_array_equal, one[0]["frozen"], state["frozen"])
    again, _ = step(one[0], batch)  # a's gradient is 0 as long as b is 0
    lora = nnx.merge(graphdef, again["params"], again["frozen"]).lora
    before = nnx.merge(graphdef, state["params"], state["frozen"]).lora
    assert isinstance(lora, Lora)
    moved = [name for name, array in lora.weights().items() if not jnp.array_equal(array, before.weights()[name])]
    assert moved == [f"{ours}.{part}" for ours in TARGETS.values() for part in "ab"]


def test_the_work_folder_of_a_full_run_is_refused(make_job: Any, train_here: Any) -> None:
    """method is part of a checkpoint's identity: T120 says so."""
    job = make_job()
    train_here({**job, "stop_at": 3})
    shutil.rmtree(job["out"], ignore_errors=True)
    with pytest.raises(InputInvalid, match=r"T120.*argument method was full, now it is lora"):
        train_here({**job, "args": {**job["args"], **LORA}})
