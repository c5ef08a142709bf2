"""The shipped schema of a built-in step's ``with``.

>>> step_schema("score")["additionalProperties"]
False
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from engine.assets import asset


def step_schema(kind: str) -> Mapping[str, Any]:
    """``schemas/steps/<kind>.schema.json`` as a value."""
    text = asset("schemas", "steps", f"{kind}.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
