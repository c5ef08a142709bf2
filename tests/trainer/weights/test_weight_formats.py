"""The two formats of weights, compared with their own libraries: every byte, every kind of damage, every family."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from flax import serialization
from huggingface_hub.serialization import split_state_dict_into_shards_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputInvalid
from engine.trainer.models import config_from_hf, family_of
from engine.trainer.text.tokenizer import build_chars
from engine.trainer.weights import load_folder, msgpack_file, safetensors_file, save_folder
from engine.trainer.weights import save as writing
from engine.trainer.weights.filling import cast, is_finite, transpose_into
from engine.trainer.weights.reading import FLOATS, WeightsFile
from tests.examples import examples

Contents = dict[str, bytes]
Tensors = dict[str, np.ndarray]
SIZES = {
    "vocab_size": 260, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 6, "max_position_embeddings": 64, "sliding_window": 8,
}  # fmt: skip
FAMILY = {
    "gemma": {key: size for key, size in SIZES.items() if key != "sliding_window"} | {"num_hidden_layers": 2},
    "gemma2": SIZES | {"num_hidden_layers": 3},
    "gemma3_text": SIZES | {"num_hidden_layers": 11},  # two digits: 10 comes after 9
}


def contents(folder: Path) -> Contents:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@functools.cache
def model_of(family: str, dtype: str = "float32") -> Any:
    """Weights drawn by numpy: nothing is compiled."""
    config = config_from_hf({"model_type": family} | FAMILY[family])
    draw = np.random.default_rng(3)
    shapes = family_of(config).weight_shapes(config)
    weights = {name: draw.normal(size=shape).astype(FLOATS[dtype]) for name, shape in shapes.items()}
    return family_of(config).MODEL(config, {name: jax.device_put(array) for name, array in weights.items()})


def save(folder: Path, model: Any, dtype: str = "float32", **options: Any) -> Contents:
    save_folder(folder, model, model.config, build_chars(), dtype=dtype, **options)
    return contents(folder)


def index_of(path: Path) -> Tensors:
    """Everything a file holds, by our reader."""
    with WeightsFile(path) as file:
        form = msgpack_file if path.suffix == ".msgpack" else safetensors_file
        return {one.name: one.rows(0, one.shape[0]).copy() for one in form.index(file) if one.dtype in FLOATS}


def flax_tree(tensors: Tensors) -> dict[str, Any]:
    """safetensors' names and layout -> the tree of a Flax checkpoint, keys sorted as any JAX function leaves them."""
    tree: dict[str, Any] = {}
    for name, array in tensors.items():
        *parents, leaf = name.split(".")
        is_kernel = parents[-1].endswith("_proj")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node["kernel" if is_kernel else "embedding" if parents[-1] == "embed_tokens" else leaf] = (
            np.ascontiguousarray(array.T) if is_kernel else array
        )
    sorted_tree: dict[str, Any] = jax.tree.map(lambda leaf: leaf, tree)
    return sorted_tree


@pytest.mark.parametrize("form", ["safetensors", "flax_msgpack"])
@pytest.mark.parametrize(
    ("family", "dtype"),
    [
        ("gemma", "float32"),
        ("gemma", "bfloat16"),
        ("gemma", "float16"),
        ("gemma2", "float32"),
        ("gemma3_text", "bfloat16"),
    ],
)
def test_export_import_export(tmp_path: Path, family: str, form: str, dtype: str) -> None:
    """Byte-equal: every family, format and dtype."""
    first = save(tmp_path / "a", model_of(family, dtype), dtype, formats=[form])
    loaded, _, _ = load_folder(tmp_path / "a")
    assert save(tmp_path / "b", loaded, dtype, formats=[form]) == first


def test_arrays_to_donate_are_taken_over(tmp_path: Path) -> None:
    """With may_donate each array is in memory that a compiled step takes over: the sum is where the weight was."""
    save(tmp_path, model_of("gemma"))
    loaded, _, _ = load_folder(tmp_path, may_donate=True)
    step = jax.jit(lambda array: array + jnp.ones((), array.dtype), donate_argnums=0)
    for name, array in loaded.weights().items():
        before = array.unsafe_buffer_pointer()
        assert step(array).unsafe_buffer_pointer() == before, name


def test_fetching_from_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slice by slice, as from a device whose memory is not the host's, in pieces that do not divide the rows."""
    model = model_of("gemma", "bfloat16")
    plain = save(tmp_path / "a", model, "bfloat16")
    monkeypatch.setattr(writing, "fetch_rows", writing.sliced_rows)
    monkeypatch.setattr(writing, "FETCH_BYTES", 3_000)
    assert save(tmp_path / "b", model, "bfloat16") == plain


@pytest.mark.parametrize("form", ["safetensors", "flax_msgpack"])
def test_shards_are_equal_to_one_file(tmp_path: Path, form: str) -> None:
    """Export into shards, import, export as one file: byte-equal to a direct export. And into shards again: byte-equal."""
    model = model_of("gemma3_text")
    whole = save(tmp_path / "whole", model, formats=[form])
    cut = save(tmp_path / "cut", model, formats=[form], max_shard_bytes=20_000)
    assert sum("-of-0000" in name for name in cut) > 2
    loaded, _, _ = load_folder(tmp_path / "cut")
    assert save(tmp_path / "again", loaded, formats=[form]) == whole
    assert save(tmp_path / "again", loaded, formats=[form], max_shard_bytes=20_000) == cut


def test_shards_are_cut_as_hugging_face_cuts(tmp_path: Path) -> None:
    """The same tensors in the same files, and the same sum, as huggingface_hub's own function."""
    cut = save(tmp_path, model_of("gemma3_text"), max_shard_bytes=5_000)  # the embedding alone is larger
    index = json.loads(cut["model.safetensors.index.json"])
    files = sorted(set(index["weight_map"].values()))
    tensors = [index_of(tmp_path / file) for file in files]
    order = [name for part in tensors for name in sorted(part, key=natural)]
    sizes = {name: array.nbytes for part in tensors for name, array in part.items()}
    theirs = split_state_dict_into_shards_factory(
        {name: sizes[name] for name in order},
        get_storage_size=lambda size: size,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=5_000,
    )
    assert index["weight_map"] == theirs.tensor_to_filename
    assert index["metadata"] == {**theirs.metadata, "total_parameters": theirs.metadata["total_size"] // 4}


def natural(name: str) -> list[tuple[int, int, str]]:
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in name.split(".")]


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_files_are_the_libraries_own(tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte for byte what safetensors and flax write, leaves split into chunks included."""
    model = model_of("gemma", dtype)
    both = save(tmp_path / "a", model, dtype, formats=["safetensors", "flax_msgpack"])
    tensors = index_of(tmp_path / "a" / "model.safetensors")
    assert safetensors.numpy.save(tensors, metadata={"format": "pt"}) == both["model.safetensors"]
    assert serialization.to_bytes(flax_tree(tensors)) == both["flax_model.msgpack"]
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 300)
    cut = save(tmp_path / "b", model, dtype, formats=["flax_msgpack"])["flax_model.msgpack"]
    assert b"__msgpack_chunked_array__" in cut
    assert serialization.to_bytes(flax_tree(tensors)) == cut


@pytest.mark.parametrize("chunk_bytes", [1 << 30, 256])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_checkpoint_of_flax_comes_back_as_it_was(
    tmp_path: Path, dtype: str, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What flax.serialization.to_bytes wrote, imported and exported again, is the original file."""
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", chunk_bytes)
    save(tmp_path, model_of("gemma2", dtype), dtype)
    original = serialization.to_bytes(flax_tree(index_of(tmp_path / "model.safetensors")))
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "flax_model.msgpack").write_bytes(original)
    loaded, _, _ = load_folder(tmp_path)
    assert save(tmp_path, loaded, dtype, formats=["flax_msgpack"])["flax_model.msgpack"] == original


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 116, 117, 118, 120, 500, 33_000])
def test_arrays_of_every_length_of_header(tmp_path: Path, size: int) -> None:
    """Each form of msgpack's length, fixed ones included, as flax writes it; and read back."""
    array = np.arange(size, dtype=np.float16)
    path = tmp_path / "x.msgpack"
    with path.open("wb") as stream:
        msgpack_file.write(stream, {"a/b": (size,), "c": (size,)}, array.dtype, lambda _: array)
    assert path.read_bytes() == serialization.to_bytes({"a": {"b": array}, "c": array})
    assert all(np.array_equal(found, array) for found in index_of(path).values())


def test_an_export_replaces_the_one_before(tmp_path: Path) -> None:
    """No weights of an earlier export stay, which a reader might prefer; other files of the folder do."""
    model, fresh = model_of("gemma"), model_of("gemma2")
    save(tmp_path, model, formats=["safetensors", "flax_msgpack"])
    save(tmp_path, model, max_shard_bytes=8_000)
    (tmp_path / "model_card.md").write_text("mine")
    names = set(save(tmp_path, fresh, formats=["flax_msgpack"]))
    assert {name for name in names if "model" in name} == {"flax_model.msgpack", "model_card.md"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One file of each format, small: three tensors."""
    folder = tmp_path_factory.mktemp("files")
    draw = np.random.default_rng(0)
    tensors = {f"model.{name}.weight": draw.normal(size=(3, 4)).astype(np.float32) for name in "abc"}
    path = folder / "x.msgpack"
    path.write_bytes(serialization.to_bytes(flax_tree(tensors)))
    return {".safetensors": safetensors.numpy.save(tensors), ".msgpack": path.read_bytes()}


@pytest.mark.parametrize("suffix", [".safetensors", ".msgpack"])
def test_a_cut_at_every_byte(files: dict[str, bytes], tmp_path: Path, suffix: str) -> None:
    """Truncated at any byte, it is M205; and nothing may follow the last tensor."""
    path = tmp_path / f"x{suffix}"
    whole = files[suffix]
    assert len(index_of_bytes(path, whole)) == 3
    for data in [*(whole[:size] for size in range(len(whole))), whole + b"\0"]:
        with pytest.raises(InputInvalid) as caught:
            index_of_bytes(path, data)
        assert caught.value.code == "M205"


def index_of_bytes(path: Path, data: bytes) -> Tensors:
    path.write_bytes(data)
    return index_of(path)


@given(st.data())
@settings(max_examples=examples(150), deadline=None)
def test_damage_is_an_error_or_harmless(files: dict[str, bytes], tmp_path_factory: Any, data: st.DataObject) -> None:
    """Some bytes changed: M205 or readable, never a traceback; and we refuse what the safetensors library refuses.

    A dtype that nobody knows is left to the matching, which knows the weight it belongs to (M204).
    """
    suffix = data.draw(st.sampled_from(sorted(files)))
    damaged = bytearray(files[suffix])
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    try:
        ours = index_of_bytes(path, bytes(damaged))
    except InputInvalid as error:
        ours = {}
        codes = {error.code}
    else:
        codes = set()
    assert codes <= {"M205"}
    if len(ours) == 3 and suffix == ".safetensors":
        theirs = safetensors.deserialize(bytes(damaged))
        assert set(ours) <= {name for name, _ in theirs}


HEADERS = {
    "a hole": '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}',
    "an overlap": '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}',
    "backwards": '{"a":{"dtype":"F32","shape":[3],"data_offsets":[12,0]}}',
    "beyond": '{"a":{"dtype":"F32","shape":[30],"data_offsets":[0,120]}}',
    "another size": '{"a":{"dtype":"F32","shape":[5],"data_offsets":[0,12]}}',
    "negative": '{"a":{"dtype":"F32","shape":[-3],"data_offsets":[0,12]}}',
    "no offsets": '{"a":{"dtype":"F32","shape":[3]}}',
    "no object": "[1, 2]",
    "an entry that is none": '{"a":7}',
    "no JSON": "{a}",
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_headers_that_make_no_sense(tmp_path: Path, header: str) -> None:
    """Twelve bytes of data under a false header: refused by the library, refused by us."""
    data = len(header).to_bytes(8, "little") + header.encode() + bytes(12)
    with pytest.raises(safetensors.SafetensorError):
        safetensors.deserialize(data)
    with pytest.raises(InputInvalid, match="damaged or truncated") as caught:
        index_of_bytes(tmp_path / "x.safetensors", data)
    assert caught.value.code == "M205"


@pytest.mark.parametrize(
    "tree",
    [
        {"a": 3},
        {"a": {"b": 1.5}},
        {"a": np.float32(2)},
        {"a": "text"},
        {"a": {"__msgpack_chunked_array__": True, "shape": {"0": 4}, "chunks": {"1": np.zeros(4, np.float32)}}},
        {"a": {"__msgpack_chunked_array__": True, "shape": {"0": 5}, "chunks": {"0": np.zeros(4, np.float32)}}},
        {"a": {"__msgpack_chunked_array__": True, "shape": 5, "chunks": 6}},
    ],
)
def test_trees_that_hold_no_weights(tmp_path: Path, tree: dict[str, Any]) -> None:
    """Valid msgpack that is not a tree of arrays is M205, and names the leaf."""
    with pytest.raises(InputInvalid) as caught:
        index_of_bytes(tmp_path / "x.msgpack", serialization.msgpack_serialize(tree))
    assert caught.value.code == "M205"
    assert "(in a" in str(caught.value)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_number_of_16_bits_is_judged(dtype: str) -> None:
    """is_finite agrees with numpy on each of the 65,536."""
    every = np.arange(1 << 16, dtype=np.uint16).view(FLOATS[dtype])
    expected = np.isfinite(every.astype(np.float32))
    assert is_finite(every[expected])
    assert not any(is_finite(every[at : at + 1]) for at in np.flatnonzero(~expected))


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40))
def test_finite_float32(patterns: list[int]) -> None:
    """is_finite agrees with numpy on any bits."""
    array = np.array(patterns, np.uint32).view(np.float32)
    assert is_finite(array) == bool(np.isfinite(array).all())


def test_widening_is_exact() -> None:
    """Each bfloat16 becomes the float32 of equal value, NaN included."""
    every = np.arange(1 << 16, dtype=np.uint16).view(FLOATS["bfloat16"])
    np.testing.assert_array_equal(cast(every, np.dtype(np.float32)), every.astype(np.float32))


@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from([np.uint16, np.uint32]))
@settings(max_examples=examples(30), deadline=None)
def test_transposing_in_tiles(rows: int, columns: int, kind: Any) -> None:
    """Equal to numpy's, with any remainder at the edges, into a part of a larger array."""
    source = np.random.default_rng(rows).integers(0, 60_000, (rows, columns)).astype(kind)
    target = np.zeros((columns + 2, rows + 3), kind)
    transpose_into(target[1:-1, 2:-1], source)
    np.testing.assert_array_equal(target[1:-1, 2:-1], source.T)
    assert not target[0].any()
    assert not target[:, :2].any()


@pytest.mark.parametrize("style", ["language_model.model.", "model.language_model."])
def test_the_text_part_of_a_larger_model(tmp_path: Path, style: str) -> None:
    """Gemma 3 4B's files: prefixes are replaced, the vision part is left out with a note, all else is an error."""
    sizes = FAMILY["gemma3_text"]
    saved = save(tmp_path / "text", model_of("gemma3_text"))
    folder = Path(shutil.copytree(tmp_path / "text", tmp_path / "larger"))
    tensors = {
        style + name.removeprefix("model."): array
        for name, array in safetensors.numpy.load(saved["model.safetensors"]).items()
    }
    seeing = "model." if style.startswith("model.") else ""
    tensors[f"{seeing}vision_tower.vision_model.encoder.layers.0.layer_norm1.bias"] = np.zeros(3, np.int8)
    tensors[f"{seeing}multi_modal_projector.mm_input_projection_weight"] = np.full((2, 2), np.nan, np.float32)
    tensors["language_model.lm_head.weight"] = tensors[f"{style}embed_tokens.weight"]
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": sizes | {"head_dim": 6}}))
    told: list[str] = []
    loaded, _, _ = load_folder(folder, tell=told.append)
    assert told == ["not read: 2 weights of parts that this family does not use (multi_modal_projector, vision_tower)"]
    reference, _, _ = load_folder(tmp_path / "text", tell=told.append)
    assert len(told) == 1
    for name, array in reference.weights().items():
        assert jnp.array_equal(array, loaded.weights()[name]), name
    safetensors.numpy.save_file(tensors | {"audio_tower.weight": np.zeros(3)}, folder / "model.safetensors")
    with pytest.raises(InputInvalid, match=r"the file has a weight this model does not: audio_tower\.weight"):
        load_folder(folder)
