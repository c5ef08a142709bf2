#!/usr/bin/env python3
# -*- coding: utf-8 -*-
"""verify.py: checks the evidence of a run of runspec-engine. Python 3.9 or later is all it needs: nothing to install, no network.

    python verify.py             the folder that this file lies in
    python verify.py PATH        an evidence folder, or the zip as it came
    python verify.py --json      one JSON document; --explain: also what nobody checks; -h: help

Exit code 0: every check passed. 5: a check failed. 2: there is no evidence that could be checked.

It runs no code of what it checks, unpacks nothing to disk and writes no file. Who does not trust the sender takes this file from
the project's own release instead: every release has the same bytes everywhere, and its SHA-256 is in the release's notes.

How this file is made: SOURCES below has the definitions of the engine's own modules that the checks need, cut out word for word by
engine/evidence/standalone, so that `runspec verify` and this file run the same checks; beside them small readers of YAML and
templates (in "ruamel.yaml" and "engine.evidence.templates"), where the engine uses libraries.
ASSETS has the schemas and templates that they read. The end of the file loads a module when it is first imported.
"""

import sys

if sys.version_info < (
    3,
    9,
):  # each line outside the texts is grammar of Python 2.7 too, which must be able to read up to here
    sys.stderr.write("verify.py needs Python 3.9 or later, and this is Python %d.%d\n" % sys.version_info[:2])
    sys.exit(2)

if __name__ == "__main__" and not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
    del sys.path[0]  # first of all: a json.py beside this file must not be taken for the standard library's

import importlib
import importlib.abc
import importlib.machinery
import itertools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import CodeType, ModuleType
    from typing import Any, Dict, Optional

THIS_FILE = __file__
SOURCES = {}  # type: Dict[str, str]
ASSETS = {}  # type: Dict[str, str]

# ---- the engine's modules ----


def zip_strict(*lists, **options):
    # type: (Iterable[Any], bool) -> Iterator[Any]
    """zip as Python 3.10 and later have it."""
    if not options.get("strict"):
        return zip(*lists)
    return _of_one_length(lists)


def _of_one_length(lists):
    # type: (Sequence[Iterable[Any]]) -> Iterator[Any]
    end = object()
    for row in itertools.zip_longest(*lists, fillvalue=end):
        if any(value is end for value in row):
            raise ValueError("zip() arguments have different lengths")
        yield row


class Loader(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules of SOURCES, before any of that name which this machine may have."""

    def find_spec(self, name, path=None, target=None):
        # type: (str, object, object) -> Optional[importlib.machinery.ModuleSpec]
        """A module of SOURCES."""
        if name not in SOURCES:
            return None
        is_package = any(other.startswith(name + ".") for other in SOURCES)
        return importlib.machinery.ModuleSpec(name, self, origin="verify.py", is_package=is_package)

    def create_module(self, spec):
        # type: (importlib.machinery.ModuleSpec) -> None
        """As Python does it."""
        return

    def exec_module(self, module):
        # type: (ModuleType) -> None
        """Run its text."""
        code = compile(SOURCES[module.__name__], "verify.py:" + module.__name__, "exec", dont_inherit=True)  # type: CodeType
        given = {"ASSETS": ASSETS, "THIS_FILE": THIS_FILE}  # type: Dict[str, object]
        if sys.version_info < (3, 10):
            given["zip"] = zip_strict
        module.__dict__.update(given)
        exec(code, module.__dict__)


sys.meta_path.insert(0, Loader())
sys.dont_write_bytecode = True


def main(words):
    # type: (Sequence[str]) -> int
    """Check what the words name; returns the exit code."""
    command = importlib.import_module("engine.evidence.standalone.command")  # type: Any
    return int(command.main(words, THIS_FILE))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
