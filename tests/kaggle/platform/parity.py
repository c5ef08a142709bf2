"""Two clients beside each other: what one says to the platform and the other does not.

>>> differences({"slug": "a/b", "enableGpu": False, "text": "{ }"}, {"slug": "a/c", "text": "{}"})
{'enableGpu': (False, '<absent>'), 'slug': ('a/b', 'a/c')}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tests.kaggle.platform.web.messages import Recorded

ABSENT = "<absent>"


def bodies(requests: Iterable[Recorded], operation: str) -> list[Any]:
    """What was said in each request of this operation, in order."""
    return [one.body for one in requests if one.operation == operation]


def operations(requests: Iterable[Recorded], *, without: tuple[str, ...] = ("IntrospectToken",)) -> list[str]:
    """What was asked, in order; a client that runs several processes asks again whose token it has."""
    return [one.operation for one in requests if one.operation not in without]


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Field -> (ours, theirs), where they differ; the source of a notebook is compared as JSON."""
    here, there = _parsed(ours), _parsed(theirs)
    keys = sorted(set(here) | set(there))
    pairs = {key: (here.get(key, ABSENT), there.get(key, ABSENT)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _parsed(body: Mapping[str, Any]) -> dict[str, Any]:
    """With the notebook's source as a value, its cells' lines joined: the real command sends them so."""
    if "text" not in body:
        return dict(body)
    notebook = json.loads(body["text"])
    for cell in notebook.get("cells", []):
        cell["source"] = "".join(cell["source"])
    return {**body, "text": notebook}
