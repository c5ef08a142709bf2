"""The parts of a model folder, judged by file names: nothing is opened, nothing heavy is imported.

In: a folder. Out: the parts that are missing, and advice by the files that are there instead. The trainer, which reads the
files, has these names too, and imports nothing from here: a test in tests/trainer compares the two.

    missing_parts(folder)   # ["weights (model.safetensors or flax_model.msgpack)"]
    advice(folder)          # "adapter_config.json makes this a folder of adapters: give the model they were …"
"""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from engine.model_config.folder_files import orbax_folders

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
WEIGHTS = tuple(f"{name}{ending}" for name in (SAFETENSORS, MSGPACK) for ending in ("", INDEX))
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
    """The parts of a model whose names are missing; what else than a file has such a name, folder_findings says."""
    names = {path.name for path in folder.iterdir()}
    # The configuration of a Flax variation is in its shapes.
    is_flax = not names.intersection(WEIGHTS) and bool(
        orbax_folders(f"{one.parent.name}/{one.name}" for one in folder.glob("*/*"))
    )
    missing = [] if CONFIG_FILE in names or is_flax else [CONFIG_FILE]
    missing += [] if names.intersection((TOKENIZER_FILE, *OTHER_TOKENIZERS)) else [TOKENIZER_FILE]
    if not names.intersection(WEIGHTS) and not is_flax:
        missing.append(f"weights ({SAFETENSORS} or {MSGPACK})")
    return missing


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
