"""Small notebooks of code cells, to be pushed.

>>> import json; json.loads(notebook("print(1)"))["cells"][0]["source"]
'print(1)'
"""

from __future__ import annotations

import json
from typing import Any


def notebook(*cells: str) -> str:
    """A valid notebook of these cells, for the kernel `python3`."""
    written: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": f"cell-{number}",
            "metadata": {},
            "outputs": [],
            "source": cell,
        }
        for number, cell in enumerate(cells)
    ]
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    return json.dumps({"cells": written, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5})
