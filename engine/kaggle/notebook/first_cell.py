"""What the first cell says where it must stop: it runs before the engine is there, on any Python, so its errors are written into it.

Out: name -> the text of an error, with ``%s`` where the cell fills something in.

    >>> print(MESSAGES["damaged"] % "the engine")
    error[G168]: the engine of this notebook is damaged: its digest is another one
       = help: generate the notebook again: runspec kaggle notebook
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.errors import Diagnostic, render
from engine.kaggle.session.python import NEWER, OLDEST

_AGAIN = "generate the notebook again: runspec kaggle notebook"
_ERRORS = {
    "old_python": Diagnostic(
        "G150",
        f"this image has Python %s; the engine needs {OLDEST[0]}.{OLDEST[1]} or later",
        hint=f"{NEWER}, then start the session again",
    ),
    "damaged": Diagnostic("G168", "%s of this notebook is damaged: its digest is another one", hint=_AGAIN),
    "other_wheel": Diagnostic(
        "G169",
        "the wheel in the dataset %s is not the engine that this notebook was made with",
        hint=f"upload the wheel that was written beside the notebook, or {_AGAIN}",
    ),
    "no_wheel": Diagnostic(
        "G170",
        "the dataset %s, with runspec_engine-*.whl in it, is not mounted",
        hint="attach it: Add input, in the notebook's editor",
    ),
}
MESSAGES: Mapping[str, str] = {name: render(error) for name, error in _ERRORS.items()}
