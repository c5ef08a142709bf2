"""The parts of a model folder, judged by file names and first bytes: nothing heavy is read or imported.

In: a folder. Out: the parts that are missing or are other files, and advice by the files that are there instead. The trainer, which reads the
files, has these names too, and imports nothing from here: a test in tests/trainer compares the two.

    missing_parts(folder)   # ["weights (model.safetensors or flax_model.msgpack)"]
    other_files(folder)     # [("model.safetensors", "is a Git LFS pointer, not the file itself", "run `git lfs pull` …")]
    advice(folder)          # "adapter_config.json makes this a folder of adapters: give the model they were …"
"""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path

from engine.runspec.file_heads import stand_in

CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"
OTHER_TOKENIZERS = (
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
)  # transformers makes that file of them
SAFETENSORS = "model.safetensors"
MSGPACK = "flax_model.msgpack"
INDEX = ".index.json"  # suffix of the weights' name, where they are sharded into files
MOST_NAMES = 6

# What is often mistaken for a model folder: a name in it -> what to do.
MISTAKEN = {
    "adapter_config.json": "makes this a folder of adapters: give the model they were trained over, or merge them first",
    "*.gguf": "is of a format for inference: use the model's safetensors",
    "pytorch_model*.bin": "is a pickle, which is not read: load it once with transformers and save_pretrained it",
    "*.pt*": "is a pickle, which is not read: load it once with transformers and save_pretrained it",
    "snapshots": "makes this the hub's cache of the model: give the folder of one commit below it, or the model's id",
}


def missing_parts(folder: Path) -> list[str]:
    """The parts of a model that are missing: configuration, tokenizer, weights."""
    missing = [] if (folder / CONFIG_FILE).is_file() else [CONFIG_FILE]
    missing += (
        [] if any((folder / name).is_file() for name in (TOKENIZER_FILE, *OTHER_TOKENIZERS)) else [TOKENIZER_FILE]
    )
    weights = [f"{name}{ending}" for name in (SAFETENSORS, MSGPACK) for ending in ("", INDEX)]
    if not any((folder / name).is_file() for name in weights):
        missing.append(f"weights ({SAFETENSORS} or {MSGPACK})")
    return missing


def other_files(folder: Path) -> list[tuple[str, str, str]]:
    """(name, what it is, what to do) for each part whose file is not that part; the folder has all parts."""
    names = [CONFIG_FILE, next(name for name in (TOKENIZER_FILE, *OTHER_TOKENIZERS) if (folder / name).is_file())]
    found = [(name, stand_in(folder / name)) for name in (*names, *_weights(folder))]
    return [(name, *what) for name, what in found if what is not None]


def _weights(folder: Path) -> list[str]:
    """The weight files that the trainer will read: of the first name that is there, with the shards that its index names."""
    for name in (SAFETENSORS, MSGPACK):
        if (folder / name).is_file():
            return [name]
        if (folder / f"{name}{INDEX}").is_file():
            return [f"{name}{INDEX}", *_shards(folder / f"{name}{INDEX}")]
    return []


def _shards(index: Path) -> list[str]:
    try:
        files = set(json.loads(index.read_bytes())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []  # the trainer says what is wrong with it (M206)
    return sorted(name for name in files if isinstance(name, str) and Path(name).name == name)


def advice(folder: Path) -> str:
    """What to do about a folder that is not a model folder."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    for pattern, sentence in MISTAKEN.items():
        match = next((name for name in names if fnmatch(name, pattern)), None)
        if match:
            return f"{match} {sentence}"
    more = ", …" if len(names) > MOST_NAMES else ""
    contents = f"has {', '.join(names[:MOST_NAMES])}{more}" if names else "is empty"
    return f"a model folder has {CONFIG_FILE}, {TOKENIZER_FILE} and {SAFETENSORS} or {MSGPACK}; this one {contents}"
