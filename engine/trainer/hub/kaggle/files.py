"""Which files of a model on Kaggle are read: those of a Hugging Face folder, or of a Flax variation.

In: the names of a folder or of Kaggle's list. Out: the names that are read, and so fetched and digested.

    >>> wanted_files(["2b/_METADATA", "2b/d/0a", "tokenizer.model", "README.md"], None, None)
    ['2b/_METADATA', '2b/d/0a', 'tokenizer.model']
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from engine.canonical import files_below
from engine.model_config.folder_files import orbax_folders
from engine.trainer.hub.choice import INDEX, choose_weights, index_shards, no_weights, small_files
from engine.trainer.hub.client import Source

MOST_NAMES = 100_000  # more than any model has: a folder of something else


def wanted_files(names: Collection[str], index: Callable[[str], Path] | None, source: Source | None) -> list[str]:
    """Sorted. ``index``: the index of sharded weights, by its name; it and ``source`` are needed for those only.

    Raises InputInvalid M404 where there are no weights, or the index is broken.
    """
    wanted, weights = small_files(names), choose_weights(names)
    if weights is not None:
        wanted.append(weights)
        if weights.endswith(INDEX):
            assert index is not None
            assert source is not None
            wanted += index_shards(index(weights), names, source)
        return sorted(wanted)
    checkpoints = orbax_folders(names)
    if not checkpoints:
        assert source is not None
        raise no_weights(source, names, ())
    return sorted([*wanted, *(name for name in names if name.split("/")[0] in checkpoints)])


def names_below(folder: Path) -> list[str]:
    """The names of the files of a folder, as Kaggle lists them. Raises OSError."""
    return [path.relative_to(folder).as_posix() for path in files_below(folder)][:MOST_NAMES]
