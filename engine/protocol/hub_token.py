"""Where the hub's token comes from: one order, which the engine, ``doctor``, the errors and the notebook share.

>>> token_file({"HF_HOME": "/data/hf"}).as_posix(), token_file({"HF_TOKEN_PATH": "/t"}).as_posix()
('/data/hf/token', '/t')
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

LABEL = "HF_TOKEN"
# In the order in which it is looked for; on Kaggle a model of Kaggle's own needs none.
ON_KAGGLE = "on Kaggle: model: {kaggle: …} needs no token; else Add-ons > Secrets, one named HF_TOKEN, attached to this notebook"


def token_file(environ: Mapping[str, str]) -> Path:
    """The file that huggingface_hub reads: by its documented variables, in its order."""
    if named := environ.get("HF_TOKEN_PATH"):
        return Path(named).expanduser()
    cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(environ.get("HF_HOME") or f"{cache}/huggingface").expanduser() / "token"
