"""The notebook of a run-spec: one .ipynb with the engine, the run-spec and its files in it, for Kaggle, Colab and Jupyter.

    notebook = make_notebook(spec, NotebookRequest(session_limit="8h30m"))
    Path("m36.ipynb").write_text(notebook.text)

Codes: G100 to G149.
"""

from __future__ import annotations

from engine.kaggle.notebook.make import MOST_BYTES, Notebook, NotebookRequest, make_notebook

__all__ = ["MOST_BYTES", "Notebook", "NotebookRequest", "make_notebook"]
