"""The real `kaggle` command against a platform on loopback: the environment that keeps it from the internet, and one call.

`KAGGLE_API_ENVIRONMENT=LOCALHOST` makes its base `http://localhost/api`; `HTTP_PROXY` sends that to our port. `HTTPS_PROXY` is
the same port, where everything but localhost is refused: the command cannot reach the internet from here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "COLUMNS")


def environment(url: str, home: Path, token: str | None, variables: Mapping[str, str]) -> dict[str, str]:
    """For a subprocess. ``KAGGLE_API_TOKEN`` is the user's token unless ``variables`` say otherwise ("" leaves one out)."""
    found = {name: os.environ[name] for name in KEPT if name in os.environ}
    found |= {
        "HOME": str(home),
        "TMPDIR": str(home),  # where it keeps the state of uploads
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "HTTP_PROXY": url,
        "HTTPS_PROXY": url,
        "ALL_PROXY": url,
        "http_proxy": url,
        "https_proxy": url,
        "NO_PROXY": "",
        "no_proxy": "",
    }
    found |= {"KAGGLE_API_TOKEN": token} if token else {}
    found |= variables
    return {name: value for name, value in found.items() if value or name.lower() == "no_proxy"}
