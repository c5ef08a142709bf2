"""Model folders: four layouts in, one out, byte-equal round trips, and every kind of damage."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import serialization

from engine.errors import Diagnostic, InputInvalid, render
from engine.runspec.model_folder import missing_parts
from engine.trainer.models.gemma import Gemma
from engine.trainer.text.tokenizer import build_chars
from engine.trainer.weights import FORMATS, load, load_folder, save_folder, stored_dtype

Make = Callable[..., Gemma]
Tensors = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def saved(make_model: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny model."""
    folder = tmp_path_factory.mktemp("saved")
    model = make_model()
    save_folder(folder, model, model.config, build_chars(), dtype="float32")
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def tensors_of(folder: Path) -> Tensors:
    return dict(safetensors.numpy.load_file(folder / "model.safetensors"))


def write_tensors(folder: Path, tensors: Tensors) -> None:
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def flax_tree(tensors: Tensors) -> dict[str, Any]:
    """The tree that transformers' Flax Gemma saved: kernels [in, out], embedding, norms called weight."""
    tree: dict[str, Any] = {}
    for name, array in tensors.items():
        path = name.split(".")
        if path[-2].endswith("_proj"):
            path[-1] = "kernel"
        elif path[-2] == "embed_tokens":
            path[-1] = "embedding"
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = np.ascontiguousarray(array.T) if path[-1] == "kernel" else array
    return tree


def assert_equal_models(one: Gemma, two: Gemma) -> None:
    assert one.config == two.config
    for name, array in one.weights().items():
        assert jnp.array_equal(array, two.weights()[name]), name


def findings_of(folder: Path) -> list[Diagnostic]:
    """Every finding."""
    with pytest.raises(InputInvalid) as caught:
        load_folder(folder)
    return list(caught.value.diagnostics)


def errors_of(folder: Path) -> list[str]:
    """ "CODE message" of every finding."""
    return [f"{one.code} {one.message}" for one in findings_of(folder)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_save_load_save_is_byte_equal(make_model: Make, tmp_path: Path, dtype: str) -> None:
    """A folder loaded and saved again is the same folder, in f32 and bf16."""
    model = make_model(param_dtype=jnp.dtype(dtype))
    save_folder(tmp_path / "a", model, model.config, build_chars(), dtype=dtype)
    loaded, config, tokenizer = load_folder(tmp_path / "a")
    save_folder(tmp_path / "b", loaded, config, tokenizer, dtype=dtype)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert_equal_models(model, loaded)
    assert loaded.compute_dtype == jnp.dtype(dtype)


def test_a_folder_holds_what_hugging_face_expects(saved: Path) -> None:
    """The file names, and config.json and generation_config.json agree on the special ids."""
    files = contents(saved)
    assert set(files) == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    config, generation = json.loads(files["config.json"]), json.loads(files["generation_config.json"])
    assert {key: config[key] for key in generation} == generation


def test_names_and_layout_are_pytorchs(golden: SimpleNamespace, tmp_path: Path) -> None:
    """Weights that transformers named and laid out are read, and written back under the same names and values."""
    build_chars().save(tmp_path / "theirs")
    config = golden.config | {"vocab_size": 260}
    draw = np.random.default_rng(0).normal(size=(260, config["hidden_size"])).astype(np.float32)
    weights = golden.weights | {"model.embed_tokens.weight": draw}
    (tmp_path / "theirs" / "config.json").write_text(json.dumps(config))
    write_tensors(tmp_path / "theirs", weights)
    model, read, tokenizer = load_folder(tmp_path / "theirs")
    save_folder(tmp_path / "ours", model, read, tokenizer, dtype="float32")
    ours = tensors_of(tmp_path / "ours")
    assert ours.keys() == weights.keys()
    for name, array in weights.items():
        assert np.array_equal(ours[name], array), name


def test_casting_while_reading(saved: Path) -> None:
    """Requested dtypes override the stored ones."""
    model, _, _ = load_folder(saved, param_dtype=jnp.bfloat16, compute_dtype=jnp.float32)
    assert model.embed[...].dtype == jnp.bfloat16
    assert model.compute_dtype == jnp.float32


def shard(folder: Path, stem: str, suffix: str, parts: list[Tensors], write: Callable[[Path, Tensors], None]) -> None:
    """Replace the weights by numbered files and their index."""
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for number, part in enumerate(parts, start=1):
        name = f"{stem}-{number:05}-of-{len(parts):05}{suffix}"
        write(folder / name, part)
        weight_map |= dict.fromkeys(part, name)
    (folder / f"{stem}{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def halves(tensors: Tensors) -> list[Tensors]:
    """Two parts that split a layer."""
    names = sorted(tensors)
    return [{name: tensors[name] for name in part} for part in (names[:7], names[7:])]


def test_sharded_safetensors(saved: Path, copy: Path) -> None:
    """Two files and an index equal one file."""
    shard(
        copy,
        "model",
        ".safetensors",
        halves(tensors_of(copy)),
        lambda path, part: safetensors.numpy.save_file(part, path),
    )
    assert_equal_models(load_folder(copy)[0], load_folder(saved)[0])


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_flax_msgpack(saved: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, chunked: bool) -> None:
    """The Flax layout is read, leaves split into chunks included."""
    tensors = {name: array.astype(jnp.dtype(dtype)) for name, array in tensors_of(copy).items()}
    (copy / "model.safetensors").unlink()
    if chunked:
        monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 256)
    data = serialization.to_bytes(flax_tree(tensors))
    assert (b"__msgpack_chunked_array__" in data) == chunked
    (copy / "flax_model.msgpack").write_bytes(data)
    assert_equal_models(load_folder(copy, param_dtype=dtype)[0], load_folder(saved, param_dtype=dtype)[0])


def test_sharded_flax_msgpack(saved: Path, copy: Path) -> None:
    """Flax shards with an index of slash-joined names equal one file."""

    def flat(tensors: Tensors) -> Tensors:
        """Slash-joined names, arrays as Flax has them."""
        found: Tensors = {}

        def walk(node: dict[str, Any], prefix: str) -> None:
            for key, value in node.items():
                if isinstance(value, dict):
                    walk(value, f"{prefix}{key}/")
                else:
                    found[f"{prefix}{key}"] = value

        walk(flax_tree(tensors), "")
        return found

    def write(path: Path, part: Tensors) -> None:
        tree: dict[str, Any] = {}
        for name, array in part.items():
            node = tree
            *parents, leaf = name.split("/")
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = array
        path.write_bytes(serialization.to_bytes(tree))

    shard(copy, "flax_model", ".msgpack", [flat(part) for part in halves(tensors_of(copy))], write)
    assert_equal_models(load_folder(copy)[0], load_folder(saved)[0])


def test_an_alias_of_the_tied_head_is_dropped(saved: Path, copy: Path) -> None:
    """lm_head.weight equal to the embedding is fine; a different one is an error."""
    tensors = tensors_of(copy)
    write_tensors(copy, tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]})
    assert_equal_models(load_folder(copy)[0], load_folder(saved)[0])
    write_tensors(copy, tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"] + 1})
    assert errors_of(copy) == [
        "M204 lm_head.weight differs from model.embed_tokens.weight, but the head of this family is tied"
    ]


def test_unknown_and_missing_weights_are_all_named(copy: Path) -> None:
    """Both sides at once: names the model lacks, names the file lacks."""
    tensors = tensors_of(copy)
    tensors["model.layers.0.self_attn.q_proj.bias"] = np.zeros(24, np.float32)
    tensors["model.layers.2.mlp.up_proj.weight"] = tensors.pop("model.layers.1.mlp.up_proj.weight")
    del tensors["model.norm.weight"]
    write_tensors(copy, tensors)
    assert sorted(errors_of(copy)) == [
        "M202 the file has a weight this model does not: model.layers.0.self_attn.q_proj.bias",
        "M202 the file has a weight this model does not: model.layers.2.mlp.up_proj.weight",
        "M202 the files lack a weight this model has: model.layers.1.mlp.up_proj.weight",
        "M202 the files lack a weight this model has: model.norm.weight",
    ]


def test_a_wrong_shape_names_leaf_and_both_shapes(copy: Path) -> None:
    """The file's shape and the configuration's, in the file's layout."""
    tensors = tensors_of(copy)
    tensors["model.layers.1.mlp.up_proj.weight"] = np.zeros((25, 16), np.float32)
    write_tensors(copy, tensors)
    assert errors_of(copy) == [
        "M203 model.layers.1.mlp.up_proj.weight has shape [25, 16], the configuration needs [24, 16]"
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_weights_are_named(copy: Path, value: float) -> None:
    """A single NaN or infinity names its tensor."""
    tensors = tensors_of(copy)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 2] = value
    write_tensors(copy, tensors)
    assert errors_of(copy) == ["M204 model.layers.1.mlp.up_proj.weight holds NaN or infinity"]


def test_integer_weights_are_refused(copy: Path) -> None:
    """A quantised tensor is not silently cast."""
    tensors = tensors_of(copy)
    tensors["model.norm.weight"] = np.zeros(16, np.int8)
    write_tensors(copy, tensors)
    assert errors_of(copy) == ["M204 model.norm.weight holds I8, not one of float32, bfloat16, float16"]


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
@pytest.mark.parametrize("kind", ["model.safetensors", "flax_model.msgpack"])
def test_a_truncated_file_is_named(copy: Path, kind: str, keep: int) -> None:
    """Truncated anywhere, a weights file is M205."""
    data = (copy / "model.safetensors").read_bytes()
    if kind == "flax_model.msgpack":
        data = serialization.to_bytes(flax_tree(tensors_of(copy)))
        (copy / "model.safetensors").unlink()
    (copy / kind).write_bytes(data[:keep])
    found = errors_of(copy)
    assert len(found) == 1
    assert found[0].startswith("M205 the weights file is damaged or truncated")


def test_garbage_is_named(copy: Path) -> None:
    """A file that is not safetensors is M205."""
    (copy / "model.safetensors").write_bytes(b"<html>not found</html>" * 100)
    assert errors_of(copy)[0].startswith("M205")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_git_lfs_pointer_is_called_that(copy: Path, name: str) -> None:
    """A clone without git-lfs has a hundred bytes instead of a large file."""
    (copy / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:9fa1\nsize 4969626832\n")
    (found,) = findings_of(copy)
    assert found.message == "this is a Git LFS pointer, not the file itself"
    assert "git lfs pull" in str(found.hint)


@pytest.mark.parametrize(
    ("lost", "code"), [("model.safetensors", "M201"), ("config.json", "M106"), ("tokenizer.json", "M301")]
)
def test_what_is_not_there_is_named(copy: Path, lost: str, code: str) -> None:
    """Each has its code; and a folder that the run-spec's validation accepts is read here."""
    assert missing_parts(copy) == []
    (copy / lost).unlink()
    assert errors_of(copy)[0].startswith(code)
    assert lost in missing_parts(copy)[0]


def test_the_nearest_name_is_of_the_same_layer(copy: Path) -> None:
    """For a layer beyond the configuration's, the hint is the number of layers."""
    tensors = tensors_of(copy)
    name = "model.layers.0.self_attn.q_proj.weight"
    tensors["model.layers.0.self_attn.q_prj.weight"] = tensors[name.replace(".0.", ".7.")] = tensors.pop(name)
    write_tensors(copy, tensors)
    hints = [one.hint for one in findings_of(copy)]
    assert f'did you mean "{name}"?' in hints
    assert (
        f"config.json says num_hidden_layers {json.loads((copy / 'config.json').read_text())['num_hidden_layers']}"
        in hints
    )


@pytest.mark.parametrize(
    "index",
    [
        "",
        "[]",
        '{"weight_map": []}',
        '{"weight_map": {"a": "../x.safetensors"}}',
        '{"weight_map": {"a": "gone.safetensors"}}',
    ],
)
def test_a_broken_index_is_named(copy: Path, index: str) -> None:
    """A file that is not an index, or an index that leads outside the folder or names an absent file, is M206."""
    (copy / "model.safetensors").rename(copy / "x.safetensors")
    (copy / "model.safetensors.index.json").write_text(index)
    assert errors_of(copy)[0].startswith("M206")


def test_an_index_must_agree_with_its_files(copy: Path) -> None:
    """A name that the index has and the file lacks is M206."""
    shard(
        copy,
        "model",
        ".safetensors",
        halves(tensors_of(copy)),
        lambda path, part: safetensors.numpy.save_file(part, path),
    )
    index = copy / "model.safetensors.index.json"
    stored = json.loads(index.read_text())
    stored["weight_map"]["model.extra"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(stored))
    assert errors_of(copy) == ["M206 the index names model.extra, the file lacks it"]


def said(folder: Path, **options: Any) -> str:
    """The full text as a person reads it, without the folder's name."""
    with pytest.raises(InputInvalid) as caught:
        load_folder(folder, **options)
    return "\n".join(render(one) for one in caught.value.diagnostics).replace(str(folder), "FOLDER")


def test_what_a_person_reads_of_a_cut_file(copy: Path) -> None:
    """Which file, which weight, the byte, the hint."""
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-40])
    assert said(copy) == (
        "error[M205]: the weights file is damaged or truncated (in model.norm.weight): "
        "its bytes end at 37416, the file has 37376 bytes\n"
        "  --> FOLDER/model.safetensors\n"
        "   = help: fetch or copy the file again"
    )


def test_what_a_person_reads_of_another_vocabulary(copy: Path) -> None:
    """Both shapes, and a hint with both sizes."""
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"vocab_size": 264}))
    assert said(copy) == (
        "error[M203]: model.embed_tokens.weight has shape [260, 16], the configuration needs [264, 16]\n"
        "  --> FOLDER/model.safetensors\n"
        "   = help: config.json says vocab_size 264, the embedding has 260 rows"
    )


def test_what_a_person_reads_of_a_missing_shard(copy: Path) -> None:
    """The index, the file it names, the hint."""
    (copy / "model.safetensors").unlink()
    index = {"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert said(copy) == (
        'error[M206]: the index names "model-00002-of-00002.safetensors", which is not in the folder\n'
        "  --> FOLDER/model.safetensors.index.json\n"
        "   = help: fetch that file, or the whole folder again"
    )


def test_a_dtype_that_is_too_small(copy: Path) -> None:
    """A value that the requested dtype cannot represent is an error, not an infinity."""
    tensors = tensors_of(copy)
    tensors["model.layers.1.mlp.down_proj.weight"][2, 3] = -1e6
    write_tensors(copy, tensors)
    assert said(copy, param_dtype="float16") == (
        "error[M204]: model.layers.1.mlp.down_proj.weight holds a value that float16 cannot represent\n"
        "  --> FOLDER/model.safetensors\n"
        "   = help: choose a dtype with a larger range"
    )
    assert load_folder(copy, param_dtype="bfloat16")


def test_every_tensor_with_nan_is_named(copy: Path) -> None:
    """All of them, in the order of the model."""
    tensors = tensors_of(copy)
    for name in ("model.norm.weight", "model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight"):
        tensors[name][-1] = np.nan
    write_tensors(copy, tensors)
    assert errors_of(copy) == [
        "M204 model.embed_tokens.weight holds NaN or infinity",
        "M204 model.layers.0.mlp.up_proj.weight holds NaN or infinity",
        "M204 model.norm.weight holds NaN or infinity",
    ]


def test_a_file_that_shrinks_while_it_is_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Truncated after the header was read: an error with a code, where a memory map would give a signal."""
    fill = load.fill_leaves

    def shrink(*arguments: Any, **options: Any) -> Any:
        os.truncate(copy / "model.safetensors", 20_000)
        return fill(*arguments, **options)

    monkeypatch.setattr(load, "fill_leaves", shrink)
    (message,) = errors_of(copy)
    assert message.startswith("M205 the weights file is damaged or truncated (in model.")
    assert message.endswith("while it is read")


@pytest.mark.parametrize("content", [None, "folder", "", "[]", "\x00", "[" * 100_000])
def test_a_broken_config_is_named(copy: Path, content: str | None) -> None:
    """No file config.json, or one that is not a JSON object (a deeply nested one is not read at all), is M106."""
    (copy / "config.json").unlink()
    if content == "folder":
        (copy / "config.json").mkdir()
    elif content is not None:
        (copy / "config.json").write_text(content)
    assert errors_of(copy)[0].startswith("M106")


def test_a_tokenizer_larger_than_the_model_is_refused(copy: Path) -> None:
    """Ids without a row in the embedding are M207 before anything is read."""
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"vocab_size": 200}))
    assert errors_of(copy) == ["M207 the tokenizer has 260 tokens, the model's vocab_size is 200"]


def test_stored_dtype_in_both_styles() -> None:
    """dtype, torch_dtype, neither; and one that is not a float."""
    assert stored_dtype({"dtype": "bfloat16"}) == "bfloat16"
    assert stored_dtype({"torch_dtype": "bfloat16"}) == "bfloat16"
    assert stored_dtype({}) == "float32"
    for wrong in ("int8", ["float32"]):
        with pytest.raises(InputInvalid, match="M105"):
            stored_dtype({"dtype": wrong})


@pytest.mark.parametrize("formats", [["safetensors"], ["flax_msgpack"], ["safetensors", "flax_msgpack"]])
def test_a_failed_save_leaves_the_old_weights(
    make_model: Make, saved: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, formats: list[str]
) -> None:
    """Disk full at the end of the last file: the error is passed on, the old files are unchanged, no temporary file stays."""
    form = formats[-1]
    whole, write = FORMATS[form]

    def full(*arguments: Any) -> None:
        write(*arguments)
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(FORMATS, form, (whole, full))
    model = make_model(seed=1)
    with pytest.raises(OSError, match="No space"):
        save_folder(copy, model, model.config, build_chars(), dtype="float32", formats=formats)
    assert contents(copy) == contents(saved)
