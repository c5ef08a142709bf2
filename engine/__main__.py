"""``runspec`` and ``python -m engine``: the process's first and last lines. The rest is :mod:`engine.cli`.

$ python -m engine validate runspecs/quickstart.yaml
runspecs/quickstart.yaml: ok

Nothing is imported before ``main`` is called, so that a Ctrl-C during the imports is an interruption like any other.
"""

from __future__ import annotations

import gc
import os
import sys

INTERRUPTED_EXIT_CODE = 130
# New objects after which the garbage collector looks through them: with Python's own 700 it does so 150 times while a command is imported.
COLLECT_AFTER = 50_000
# What engine.cli says of a Ctrl-C, which may be half imported here.
INTERRUPTED_TEXT = "error[U130]: interrupted\n"
INTERRUPTED_JSON = """{
  "ok": false,
  "diagnostics": [
    {
      "code": "U130",
      "severity": "error",
      "message": "interrupted",
      "file": null,
      "line": null,
      "column": null,
      "path": null,
      "hint": null
    }
  ]
}
"""


def main() -> int:
    """Run the command that was typed; returns its exit code."""
    gc.set_threshold(COLLECT_AFTER)
    try:
        from engine.cli import main as command

        code = command()
    except BaseException as error:
        if not _is_interruption(error):
            raise
        code = _interrupted()
    _settle()
    return code


def _is_interruption(error: BaseException | None) -> bool:
    """Whether a Ctrl-C is among the causes: Python makes other errors of one in the middle of an import."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _interrupted() -> int:
    number, text = (1, INTERRUPTED_JSON) if "--json" in sys.argv else (2, INTERRUPTED_TEXT)
    try:  # noqa: SIM105 - contextlib may be what is half imported
        os.write(number, text.encode())
    except OSError:
        pass  # closed, or full: the exit code says it
    return INTERRUPTED_EXIT_CODE


def _settle() -> None:
    """All is done and said. A later Ctrl-C would only print a traceback while Python puts itself away.

    CPython notes an interruption inside ``exec`` of a text (a namedtuple is made so) as one that nobody handled, and ends
    with the signal in place of the exit code; the next ``exec`` takes the note away.
    """
    if (signal := sys.modules.get("signal")) is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    exec("")  # noqa: S102
    gc.freeze()  # nor is garbage looked for, among all that was imported, in a process that ends


def _leave_the_folder() -> None:
    """Take the working folder off the import path, where ``python -m`` puts it: a project may have a json.py or a random.py.

    Where the package itself lies in the working folder, as in a checkout, it stays.
    """
    try:
        home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - pathlib could be the project's own
        if not sys.flags.safe_path and sys.path[0] == os.getcwd() != home:  # noqa: PTH109
            del sys.path[0]
    except OSError:
        pass  # the working folder was deleted, and Python has not put it there


if __name__ == "__main__":
    _leave_the_folder()
    sys.exit(main())
