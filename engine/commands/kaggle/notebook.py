"""``kaggle notebook``: writes the notebook of a run-spec. Nothing is uploaded by it."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from engine.canonical import JsonObject, write_atomic
from engine.commands import Reply
from engine.commands.loading import load, refuse_evidence
from engine.errors import InputInvalid, RunFailed
from engine.kaggle.notebook import NotebookRequest, make_notebook
from engine.kaggle.notebook.embed import engine_files
from engine.kaggle.notebook.wheel import wheel
from engine.kaggle.notebook.written import edited_in_file
from engine.os_errors import hint_for
from engine.steps.registry import HANDLERS


def notebook(arguments: Namespace) -> Reply:
    """Write the notebook of a run-spec and, for a dataset, the wheel that it looks for."""
    spec, _ = load(arguments.spec, arguments.overrides)
    out = Path(arguments.out or f"{spec.run_version}.ipynb")
    if out.suffix != ".ipynb":
        raise InputInvalid(
            "U103", f"runspec kaggle notebook: --out {out} is not an .ipynb", hint=f"--out {out.with_suffix('.ipynb')}"
        )
    refuse_evidence(out.parent, "kaggle notebook SPEC --out FILE")
    _require_own_place(out)
    request = NotebookRequest(
        session_limit=arguments.session_limit,
        earlier=arguments.continue_from,
        wheel_dataset=arguments.wheel_dataset,
        offline=arguments.offline,
        target=arguments.target,
    )
    made = make_notebook(spec, request, HANDLERS.__contains__)
    written = {out: made.text.encode()}
    if request.wheel_dataset is not None:
        name, data = wheel(engine_files())
        written[out.parent / name] = data
    _write(written)
    document: JsonObject = {"ok": True, "notebook": str(out), "wheel": next((str(path) for path in written if path != out), None),
                            "sha256": made.sha256, "bytes": made.n_bytes, "engine_sha256": made.engine_sha256, "cells_sha256": made.cells_sha256}  # fmt: skip
    return Reply(document, _text(document, request))


def _require_own_place(out: Path) -> None:
    """G107: nobody's work is replaced, neither another notebook nor one of this command that was edited since."""
    if not os.path.lexists(out):
        return
    edited = edited_in_file(out)
    if edited is None or edited:
        what = "is not a notebook that this command wrote" if edited is None else f"was edited: {', '.join(edited)}"
        raise InputInvalid(
            "G107", f"{out} is there already and {what}", hint="name another file: --out FILE, or move this one away"
        )


def _write(files: dict[Path, bytes]) -> None:
    """Raises RunFailed U115."""
    for path, data in files.items():
        try:
            write_atomic(path, data)
        except OSError as error:
            raise RunFailed("U115", f"cannot write {path}: {error.strerror or error}",
                            hint=hint_for(error.errno) or "name another file: --out FILE") from error  # fmt: skip


def _text(document: JsonObject, request: NotebookRequest) -> str:
    lines = [f"wrote {document['notebook']} ({document['bytes']:,} bytes, engine {document['engine_sha256'][:12]})"]
    if document["wheel"] is not None:
        lines.append(f"wrote {document['wheel']}: upload it as the dataset {request.wheel_dataset}")
    lines += ["", "next, in the browser:", "  kaggle.com/code > New Notebook > File > Import Notebook, choose the accelerator, Save Version",
              "  or open it in Colab or Jupyter, and run all cells"]  # fmt: skip
    return "\n".join(lines)
