"""``python -m engine``: the same as ``runspec``.

$ python -m engine validate runspecs/quickstart.yaml
runspecs/quickstart.yaml: ok
"""

from __future__ import annotations

import os
import sys


def run() -> int:
    """The command line, without the working folder on the import path.

    ``python -m`` puts it first, and a project may have a json.py or a random.py of its own. Where the package itself lies in the
    working folder, as in a checkout, it stays.
    """
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - pathlib could be the project's own
    if not sys.flags.safe_path and sys.path[0] != home:
        del sys.path[0]
    from engine.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(run())
