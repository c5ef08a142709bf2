"""Secrets in what a person wrote for a run: said by ``validate``, and refused before the first step.

In: names and bytes. Out: X341 for each place, with file and line, never the value. Light, since ``validate`` is: what is read here
is the text of a run-spec, whatever else is wrong with it.

    >>> secret_findings({"a.yaml": b"# hf_" + b"aB3" * 11})[0].message
    'a.yaml:1 looks like a secret (a Hugging Face token)'
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from engine.errors import Diagnostic
from engine.redact import find_secrets

HINT = "the evidence of the run would hold it: remove it there, and give it to the run as an environment variable"


def secret_findings(files: Mapping[str, bytes]) -> list[Diagnostic]:
    """One finding for each place."""
    found = find_secrets(files, os.environ)
    return [Diagnostic("X341", f"{place} looks like a secret ({kind})", hint=HINT) for place, kind in found]
