"""``runspec``: the one place where an answer is printed and an exception becomes an exit code.

In: the words after ``runspec``. Out: the command's answer on standard output (text, or
one JSON document with ``--json``), everything else on standard error, and the exit code of
:mod:`engine.errors`. Nothing heavy is imported before a command needs it: ``runspec validate`` stays under
0.3 s from cold.

    $ runspec validate runspecs/quickstart.yaml
    runspecs/quickstart.yaml: ok
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engine import __version__
from engine.canonical import pretty_json
from engine.commands import Reply
from engine.commands.parsing import command_help, find_command, parse, top_help
from engine.commands.table import COMMANDS
from engine.errors import INTERNAL_ERROR_EXIT_CODE, Diagnostic, RunFailed, RunspecError, render
from engine.os_errors import hint_for
from engine.redact import redact, redact_value

INTERRUPTED_EXIT_CODE = 130
BROKEN_PIPE_EXIT_CODE = 0  # `runspec … | head` has closed the pipe: not a failure


def answer(words: Sequence[str]) -> Reply:
    """Parse and run one command. Raises what the command raises."""
    if not words or words[0] in ("--help", "-h", "help"):
        if words[1:]:
            return Reply({"ok": True}, command_help(find_command(words[1:], COMMANDS)[0]))
        names = {command.name: command.does for command in COMMANDS}
        return Reply({"ok": True, "version": __version__, "commands": names}, top_help(COMMANDS, __version__))
    if words[0] in ("--version", "-V"):
        return Reply({"ok": True, "version": __version__}, f"runspec {__version__}")
    command, arguments = parse(words, COMMANDS)
    if arguments.help:
        return Reply({"ok": True, "help": command_help(command)}, command_help(command))
    arguments.typed = _typed(words)
    try:
        return command.function()(arguments)
    except OSError as error:
        hint = hint_for(error.errno, unforeseen=True)
        if hint is None:  # what may be a fault of ours
            raise
        what = f"{error.filename}: " if error.filename else ""
        message = f"the system refused what this command needs: {what}{error.strerror or error}"
        raise RunFailed("R113", message, hint=hint) from error


def _typed(words: Sequence[str]) -> str:
    """What was typed, quoted so that it can be typed again; it goes into the evidence, so secrets are masked."""
    return redact(shlex.join(["runspec", *words]))


def _print_reply(reply: Reply, as_json: bool) -> int:
    if as_json:
        _write(pretty_json(reply.document))
        return reply.exit_code
    _print_problems(reply.problems)
    _write(f"{reply.text}\n" if reply.text else "")
    if reply.exit_code:
        _print_more(reply.problems)
    return reply.exit_code


def _write(text: str) -> None:
    """To standard output. Raises _Unwritable where it is closed or full; BrokenPipeError where the reader has closed the pipe."""
    try:
        if sys.stdout is None:  # closed before the process started
            raise OSError("it is closed")
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _Unwritable(error.strerror or str(error)) from error


class _Unwritable(Exception):
    """Standard output cannot be written."""


def _print_problems(diagnostics: Sequence[Diagnostic]) -> None:
    """Errors and warnings as text on standard error; a person's own line can contain a secret."""
    text = "\n\n".join(render(_relative_to_here(diagnostic)) for diagnostic in diagnostics)
    sys.stderr.write(f"{redact(text)}\n" if text else "")


def _print_more(diagnostics: Sequence[Diagnostic]) -> None:
    """Where to read more, once after all errors: of the first code that the documents explain."""
    from engine.commands.manual import explained

    code = explained(tuple(diagnostics))
    if code is not None:
        sys.stderr.write(f"more: runspec docs {code}\n")


def _relative_to_here(diagnostic: Diagnostic) -> Diagnostic:
    """With the file's path relative to this folder."""
    where = diagnostic.where
    if where is None or not Path(where.file).is_relative_to(Path.cwd()):
        return diagnostic
    return replace(diagnostic, where=replace(where, file=str(Path(where.file).relative_to(Path.cwd()))))


def _print_failure(diagnostics: Sequence[Diagnostic], as_json: bool) -> None:
    """Errors as one JSON document on standard output, or as text on standard error; secrets are masked."""
    if not as_json:
        _print_problems(diagnostics)
        return
    rows = [diagnostic.as_json() for diagnostic in diagnostics]
    _write(pretty_json(redact_value({"ok": False, "diagnostics": rows})))


def _project(words: Sequence[str]) -> Path | None:
    """The project that the command is about: that of the run-spec it names, else the one around this folder."""
    from engine.runspec import marked_root

    named = [Path(word) for word in words if word.endswith((".yaml", ".yml"))]
    try:
        return marked_root(named[0].parent if named else Path())
    except OSError:  # the working folder was deleted
        return None


def _internal(error: Exception, words: Sequence[str]) -> Diagnostic:
    """A fault of the engine: one sentence on the screen, the redacted traceback in a file."""
    return Diagnostic(
        "X301",
        f"internal error: {type(error).__name__}; this is a fault in runspec, not in your input",
        hint=_where_logged(error, words),
    )


def _where_logged(error: Exception, words: Sequence[str]) -> str:
    """What to do with the log. Whatever else is broken, the one sentence comes."""
    try:
        from engine.display.log import write_traceback

        path = write_traceback(error, _typed(words), _project(words))
    except Exception as another:  # noqa: BLE001 - the last resort met an unforeseen exception, too
        return f"no log could be written: {type(another).__name__}"
    if path is None:
        return "no log could be written, neither in the project nor in the temporary folder: free some disk space and run it again"
    return f"the details are in {path}\nplease report it with that file: secrets are masked in it"


def _interrupted(words: Sequence[str]) -> Diagnostic:
    hint = f"to resume, type it again: {_typed(words)}" if words[:1] == ["run"] else None
    return Diagnostic("U130", "interrupted", hint=hint)


def _is_json(words: Sequence[str]) -> bool:
    """Whether ``--json`` was typed; found without the parser, which may itself have failed."""
    before = words[: words.index("--")] if "--" in words else words
    return "--json" in before


def _handle_stop_signals() -> None:
    """SIGTERM and SIGHUP interrupt like Ctrl-C from the start, until a run installs its own handlers."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) == signal.SIG_DFL:  # a signal that nohup ignores stays ignored
                signal.signal(number, signal.default_int_handler)


def main(words: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if words is None else words)
    try:
        _handle_stop_signals()
        return _run(words)
    except _Unwritable as error:
        if sys.stdout is not None:  # Python flushes it at exit, and would report the same error again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _print_problems([Diagnostic("U133", f"the answer cannot be written to standard output: {error}")])
        return 1


def _run(words: Sequence[str]) -> int:
    """Print the answer; an exception becomes an exit code."""
    as_json = _is_json(words)
    try:
        return _print_reply(answer(words), as_json)
    except RunspecError as error:
        _print_failure(error.diagnostics, as_json)
        if not as_json:
            _print_more(error.diagnostics)
        return error.exit_code
    except KeyboardInterrupt:
        _print_failure([_interrupted(words)], as_json)
        return INTERRUPTED_EXIT_CODE
    except BrokenPipeError:
        # Python flushes standard output at exit; a closed pipe would make it report an error again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE_EXIT_CODE
    except _Unwritable:
        raise
    except Exception as error:  # noqa: BLE001 - the last resort for unforeseen exceptions
        _print_failure([_internal(error, words)], as_json)
        return INTERNAL_ERROR_EXIT_CODE


if __name__ == "__main__":
    sys.exit(main())
