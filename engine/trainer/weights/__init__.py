"""A model folder in Hugging Face's format: read and written, streamed, one canonical layout on disk.

In: a folder with config.json, tokenizer files and weights as ``model.safetensors`` or ``flax_model.msgpack``,
in one file or in shards with an index; or a model to save. Out: a model, its configuration and tokenizer; or
a folder that transformers loads with equal logits, byte-identical for equal weights.

    save_folder(folder, model, config, tokenizer, dtype="float32")
    model, config, tokenizer = load_folder(folder, param_dtype="float32", compute_dtype="float32")

Every tensor of the files must match a parameter of the model, and every parameter a tensor; one error names all that
have no match. The host never holds a full model: leaves (the stacked weights of all layers) are filled from pieces of
files and put on their devices one by one, and written tensor by tensor. docs/reference/model-folder.md has the
layouts, the bounds and the figures.

    reading.py           a file of weights open for random access; one tensor in it: name, dtype, shape, offsets
    safetensors_file.py  reads and writes the safetensors format
    msgpack_file.py      reads and writes the Flax msgpack format
    orbax_folder.py      the arrays of a folder that orbax wrote; einsum.py: those of a Flax variation as tensors of this kind
    flax_variation.py    a Flax variation as a model folder: config.json from names and shapes
    folder.py            which files a folder has, the index, the names of other layouts
    table.py             stored tensors <-> our leaves; names without a match
    filling.py           pieces of files -> leaves on their devices
    load.py, save.py     the public functions
"""

from engine.model_config import read_config, stored_dtype
from engine.trainer.weights.flax_variation import ModelFolder, model_folder
from engine.trainer.weights.load import load_folder
from engine.trainer.weights.save import FORMATS, save_companions, save_folder

__all__ = [
    "FORMATS",
    "ModelFolder",
    "load_folder",
    "model_folder",
    "read_config",
    "save_companions",
    "save_folder",
    "stored_dtype",
]
