"""``python -m engine``: the same as ``runspec``.

$ python -m engine validate runspecs/quickstart.yaml
runspecs/quickstart.yaml: ok
"""

from __future__ import annotations

import sys

from engine.cli import main

if __name__ == "__main__":
    sys.exit(main())
