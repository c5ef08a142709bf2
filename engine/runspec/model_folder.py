"""What a model folder holds, told from the names in it: nothing is opened, nothing heavy is imported.

In: a folder. Out: what it lacks of a model, and what to do about it by what lies there instead. The trainer, which reads the
files, has these names too, and knows nobody here: tests/trainer holds the two together.

    missing_parts(folder)   # ["weights (model.safetensors or flax_model.msgpack)"]
    advice(folder)          # "adapter_config.json makes this a folder of adapters: give the model they were …"
"""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"
SAFETENSORS = "model.safetensors"
MSGPACK = "flax_model.msgpack"
INDEX = ".index.json"  # behind the name of the weights, where they are in shards
SHOWN = 6

# What people take for a model folder: a name in it -> what to do.
INSTEAD = {
    "adapter_config.json": "makes this a folder of adapters: give the model they were trained over, or merge them first",
    "*.gguf": "is of a format for inference: use the model's safetensors",
    "pytorch_model*.bin": "is a pickle, which is not read: load it once with transformers and save_pretrained it",
    "*.pt*": "is a pickle, which is not read: load it once with transformers and save_pretrained it",
    "snapshots": "makes this the hub's cache of the model: give the folder of one commit below it, or the model's id",
}


def missing_parts(folder: Path) -> list[str]:
    """The parts of a model that are not there: configuration, tokenizer, weights."""
    lacking = [name for name in (CONFIG_FILE, TOKENIZER_FILE) if not (folder / name).is_file()]
    weights = [f"{name}{ending}" for name in (SAFETENSORS, MSGPACK) for ending in ("", INDEX)]
    if not any((folder / name).is_file() for name in weights):
        lacking.append(f"weights ({SAFETENSORS} or {MSGPACK})")
    return lacking


def advice(folder: Path) -> str:
    """What to do about a folder that is no model folder."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    for pattern, sentence in INSTEAD.items():
        found = next((name for name in names if fnmatch(name, pattern)), None)
        if found:
            return f"{found} {sentence}"
    more = ", …" if len(names) > SHOWN else ""
    holds = f"holds {', '.join(names[:SHOWN])}{more}" if names else "is empty"
    return f"a model folder holds {CONFIG_FILE}, {TOKENIZER_FILE} and {SAFETENSORS} or {MSGPACK}; this one {holds}"
