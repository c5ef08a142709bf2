"""Every family, live against transformers in PyTorch, on fresh random weights: what `make test` cannot do."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from engine.trainer.generation.sampler import generate
from engine.trainer.lora.adapter_files import load_adapter, save_adapter
from engine.trainer.lora.adapters import LoraArgs, LoraParam, attach
from engine.trainer.models import config_from_hf, decoder, family_of
from engine.trainer.models.decoder import Decoder
from engine.trainer.text.tokenizer import build_chars
from engine.trainer.weights import load_folder, save_folder
from engine.trainer.weights.table import slots

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # torch's and transformers' own
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

NEW_TOKENS = 16
# Root mean square of (bf16 - f32) logits, as a share of the f32 logits' spread, and beside transformers' own.
BF16_BOUND, BF16_TIMES_THEIRS = 0.05, 1.5


@pytest.fixture(scope="session")
def theirs(oracle: ModuleType, mapping: dict[str, Any], seed: int) -> Any:
    """transformers' model with fresh weights."""
    return oracle.build(mapping, seed)


@pytest.fixture(scope="session")
def folder(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What transformers saves, and a tokenizer beside it."""
    path = tmp_path_factory.mktemp("theirs")
    theirs.save_pretrained(path)
    build_chars().save(path)
    return path


@pytest.fixture(scope="session")
def ours(folder: Path) -> Decoder:
    """Our model, read from what transformers saved."""
    return load_folder(folder)[0]


@pytest.fixture(scope="session")
def tokens(oracle: ModuleType, mapping: dict[str, Any], seed: int) -> np.ndarray:
    """i32[2, T], T drawn too: longer than any window."""
    length = int(np.random.default_rng(seed).integers(12, 40))
    drawn: np.ndarray = oracle.draw_tokens(mapping, seed + 1, 2, length)
    return drawn


def positions_of(tokens: np.ndarray) -> jax.Array:
    return jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32)[None, :], tokens.shape)


@pytest.fixture(scope="session")
def computed(ours: Decoder, tokens: np.ndarray, compare: ModuleType) -> SimpleNamespace:
    """Our logits, loss, and gradients by Hugging Face's names; the layers unrolled, as the shallow models train."""
    graph, state = nnx.split(ours)

    def both(state: Any) -> tuple[jax.Array, jax.Array]:
        logits = nnx.merge(graph, state)(jnp.asarray(tokens), positions=positions_of(tokens))
        return compare.mean_loss(logits, jnp.asarray(tokens)), logits

    (loss, logits), grads = jax.jit(jax.value_and_grad(both, has_aux=True))(state)
    stored, leaves = {}, nnx.merge(graph, grads).weights()
    for slot in slots(family_of(ours.config), ours.config):
        part = np.asarray(leaves[slot.leaf] if slot.layer is None else leaves[slot.leaf][slot.layer])
        stored[slot.stored_name] = part.T if slot.is_matrix else part
    return SimpleNamespace(logits=np.asarray(logits), loss=float(loss), grads=stored)


def test_modules(ours: Decoder, theirs: Any, oracle: ModuleType, compare: ModuleType, tokens: np.ndarray) -> None:
    """Norms, rotary tables, MLP, attention and a layer of each type, each on its input in the reference."""
    seen = compare.modules(ours, oracle.modules(theirs, tokens[:1]))
    assert min(seen.values()) >= 1
    assert {"norm", "rope", "mlp", "attention", "layer"} == set(seen)


def test_logits(
    theirs: Any, oracle: ModuleType, tokens: np.ndarray, computed: SimpleNamespace, figures: dict[str, float]
) -> None:
    """Within 1e-5 in f32."""
    expected = oracle.logits_of(theirs, tokens)
    figures["logits"] = float(np.abs(computed.logits - expected).max())
    np.testing.assert_allclose(computed.logits, expected, atol=1e-5, rtol=0)


def test_gradients(
    theirs: Any, oracle: ModuleType, tokens: np.ndarray, computed: SimpleNamespace, figures: dict[str, float]
) -> None:
    """Of every weight within 1e-4; the loss within 1e-5."""
    loss, grads = oracle.loss_and_gradients(theirs, tokens)
    assert computed.loss == pytest.approx(loss, abs=1e-5)
    assert computed.grads.keys() == grads.keys()
    figures["gradients"] = max(float(np.abs(computed.grads[name] - grads[name]).max()) for name in grads)
    for name, expected in grads.items():
        np.testing.assert_allclose(computed.grads[name], expected, atol=1e-4, rtol=0, err_msg=name)


def test_packed_rows(
    ours: Decoder, theirs: Any, oracle: ModuleType, tokens: np.ndarray, figures: dict[str, float]
) -> None:
    """Two rows packed into one, and padding after them, have transformers' logits for each alone, 1e-5."""
    length = tokens.shape[1]
    rows = (tokens[0], tokens[1, : length - 5])
    packed = jnp.asarray(np.concatenate([*rows, np.zeros(3, np.int32)]))[None, :]
    positions = jnp.asarray(np.concatenate([np.arange(len(row), dtype=np.int32) for row in (*rows, range(3))]))[None, :]
    segments = jnp.asarray(np.repeat([1, 2, 0], [len(rows[0]), len(rows[1]), 3]).astype(np.int32))[None, :]
    found = np.asarray(jax.jit(ours.__call__)(packed, positions=positions, segment_ids=segments))[0]
    expected = np.concatenate([oracle.logits_of(theirs, row[None, :])[0] for row in rows])
    figures["packed"] = float(np.abs(found[: len(expected)] - expected).max())
    np.testing.assert_allclose(found[: len(expected)], expected, atol=1e-5, rtol=0)


def test_greedy_generation(ours: Decoder, theirs: Any, mapping: dict[str, Any], seed: int) -> None:
    """A ragged batch of ours gives the tokens of transformers' generate, each prompt alone, and past every window."""
    draws = np.random.default_rng(seed + 2)
    prompts = [[2, *draws.integers(4, mapping["vocab_size"], size).tolist()] for size in (0, 3, 9, 21)]
    found = generate(ours, prompts, max_new_tokens=NEW_TOKENS, ends={}, pad_id=0, batch_size=4)
    for prompt, one in zip(prompts, found, strict=True):
        given = torch.tensor([prompt])
        out = theirs.generate(
            given, attention_mask=torch.ones_like(given), max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None
        )
        assert one.ids == out[0, len(prompt) :].tolist()


def test_bf16_drift(
    folder: Path, oracle: ModuleType, compare: ModuleType, tokens: np.ndarray, figures: dict[str, float]
) -> None:
    """Ours is bounded, and no worse than one and a half times transformers' own."""
    read = {
        name: AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, name), attn_implementation="eager")
        for name in ("float32", "bfloat16")
    }
    exact, rounded = (oracle.logits_of(read[name].eval(), tokens) for name in ("float32", "bfloat16"))
    model, _, _ = load_folder(folder, param_dtype="bfloat16", compute_dtype="bfloat16")
    found = jax.jit(model.__call__)(jnp.asarray(tokens), positions=positions_of(tokens))
    figures["bf16 ours"], figures["bf16 theirs"] = (compare.drift(given, exact) for given in (found, rounded))
    assert 1e-4 < figures["bf16 ours"] < min(BF16_BOUND, BF16_TIMES_THEIRS * figures["bf16 theirs"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_we_save_transformers_loads(
    ours: Decoder, theirs: Any, oracle: ModuleType, tokens: np.ndarray, tmp_path: Path, dtype: str
) -> None:
    """The same class, the same weights, logits equal to the bit: the reference is PyTorch's arithmetic only."""
    save_folder(tmp_path, ours, ours.config, build_chars(), dtype=dtype)
    back, report = AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert type(back) is type(theirs)
    assert not any(report.values()), report
    # The oracle's weights are exact in bf16.
    assert np.array_equal(oracle.logits_of(back.eval(), tokens), oracle.logits_of(theirs, tokens))


def test_what_we_save_in_shards_transformers_loads(
    ours: Decoder, theirs: Any, oracle: ModuleType, tokens: np.ndarray, tmp_path: Path
) -> None:
    """Shards with an index are the same model."""
    save_folder(tmp_path, ours, ours.config, build_chars(), dtype="float32", max_shard_bytes=100_000)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    back = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager")
    assert np.array_equal(oracle.logits_of(back.eval(), tokens), oracle.logits_of(theirs, tokens))


def test_adapters_we_save_peft_loads(
    ours: Decoder, folder: Path, oracle: ModuleType, tokens: np.ndarray, tmp_path: Path, figures: dict[str, float]
) -> None:
    """Over the same base, with our logits: 1e-5. Their own effect is far larger."""
    adapted = moved(attach(ours, LoraArgs(4, 16.0, rslora=True), seed=1))
    save_adapter(tmp_path, adapted, base={"id": "acme/tiny", "revision": None, "weights": "w"})
    peft = PeftModel.from_pretrained(_base(folder), tmp_path).eval()
    expected = oracle.logits_of(peft, tokens)
    found = np.asarray(jax.jit(adapted.__call__)(jnp.asarray(tokens), positions=positions_of(tokens)))
    figures["adapters"] = float(np.abs(found - expected).max())
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    assert float(np.abs(expected - oracle.logits_of(_base(folder), tokens)).max()) > 1e-2


def test_adapters_that_peft_saves_we_load(
    ours: Decoder, folder: Path, oracle: ModuleType, tokens: np.ndarray, tmp_path: Path, seed: int
) -> None:
    """Some targets only, as peft itself names and writes them."""
    torch.manual_seed(seed)
    targets = ["q_proj", "v_proj", "down_proj"]
    peft = get_peft_model(_base(folder), LoraConfig(r=3, lora_alpha=6, target_modules=targets, task_type="CAUSAL_LM"))
    for name, weight in peft.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    peft.save_pretrained(tmp_path)
    adapted = load_adapter(tmp_path, ours)
    found = jax.jit(adapted.__call__)(jnp.asarray(tokens), positions=positions_of(tokens))
    np.testing.assert_allclose(found, oracle.logits_of(peft.eval(), tokens), atol=1e-5, rtol=0)


def moved(model: Decoder) -> Decoder:
    """Adapters with an effect: fresh ones have b = 0."""
    graph, adapters, rest = nnx.split(model, LoraParam, ...)
    keys = iter(jax.random.split(jax.random.key(2), len(jax.tree.leaves(adapters))))
    drawn = jax.tree.map(lambda leaf: leaf + 0.02 * jax.random.normal(next(keys), leaf.shape, leaf.dtype), adapters)
    both: Decoder = nnx.merge(graph, drawn, rest)
    return both


def _base(folder: Path) -> Any:
    """A new copy of transformers' model: peft modifies the one it is given."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


def test_both_styles_of_the_configuration(folder: Path, ours: Decoder, mapping: dict[str, Any], tmp_path: Path) -> None:
    """What transformers 5 wrote and the same in the style of 4 are the same model; the folder loads with either."""
    new = json.loads((folder / "config.json").read_text())
    assert "rope_parameters" in new
    assert "rope_theta" not in new
    assert config_from_hf(new) == config_from_hf(mapping) == ours.config
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(mapping | {"torch_dtype": "float32"}))
    model, config, _ = load_folder(tmp_path)
    assert config == ours.config
    for name, array in model.weights().items():
        assert jnp.array_equal(array, ours.weights()[name]), name


def test_a_loop_over_the_layers_is_held_too(
    ours: Decoder, theirs: Any, oracle: ModuleType, tokens: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deep models scan over their layers: the same 1e-5."""
    monkeypatch.setattr(decoder, "MAX_UNROLLED_LAYERS", 0)
    found = jax.jit(lambda tokens: ours(tokens, positions=positions_of(tokens)))(jnp.asarray(tokens))
    np.testing.assert_allclose(found, oracle.logits_of(theirs, tokens), atol=1e-5, rtol=0)
