"""A model folder in Hugging Face's format: in and out, streamed, one canonical layout on disk.

What goes in: a folder with config.json, tokenizer files and weights as ``model.safetensors`` or ``flax_model.msgpack``,
whole or sharded with an index; or a model to save. What comes out: a model, its configuration and tokenizer; or a
folder that transformers loads with equal logits, byte-identical for equal weights.

    save_folder(folder, model, config, tokenizer, dtype="float32")
    model, config, tokenizer = load_folder(folder, param_dtype="float32", compute_dtype="float32")

Every name in the files must be used and every weight of the model must be found; all that is left over on either
side is named in one error. Nobody holds a whole model on the host: leaves (the stacked weights of all layers) are
filled from pieces of files and put on their devices one by one, and written tensor by tensor. docs/reference/model-folder.md has the
layouts, the bounds and the figures.

    reading.py           a file of weights open for random access; one tensor in it: name, dtype, shape, where
    safetensors_file.py  the safetensors format, both ways
    msgpack_file.py      the Flax msgpack format, both ways
    folder.py            which files a folder has, the index, the names of other layouts
    table.py             stored tensors <-> our leaves; what is left over
    filling.py           pieces of files -> leaves on their devices
    load.py, save.py     the two doors
"""

from engine.trainer.weights.load import load_folder, read_config, stored_dtype
from engine.trainer.weights.save import FORMATS, save_companions, save_folder

__all__ = ["FORMATS", "load_folder", "read_config", "save_companions", "save_folder", "stored_dtype"]
