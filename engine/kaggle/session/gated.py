"""Whether a model of the hub is gated: asked in the first seconds of a session that has found no token.

In: the model's id, the environment. Out: True where the hub says so; False where it is open, and where the hub cannot be asked:
the download then says why. A session that would end at the download after minutes of setting up ends here.

    is_gated("google/gemma-2b", os.environ)     # True
"""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Mapping

DEFAULT_ENDPOINT, ENDPOINT_VARIABLE = "https://huggingface.co", "HF_ENDPOINT"
TIMEOUT_SECONDS, MAX_BYTES = 10.0, 4 << 20


def is_gated(model: str, environ: Mapping[str, str]) -> bool:
    """One request, without any token."""
    address = (environ.get(ENDPOINT_VARIABLE) or DEFAULT_ENDPOINT).rstrip("/")
    url = f"{address}/api/models/{urllib.parse.quote(model)}"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310 - the hub's, or its mirror's
            answer = json.loads(response.read(MAX_BYTES))
    except (OSError, ValueError):  # no connection, a refusal, no JSON
        return False
    return isinstance(answer, dict) and bool(answer.get("gated"))
