"""``runspec``: the one place where an answer is printed and an exception becomes an exit code.

In: the words after ``runspec``. Out: the command's answer on standard output (text, or
one JSON document with ``--json``), everything else on standard error, and the exit code of
:mod:`engine.errors`. Nothing heavy is imported before a command needs it: ``runspec validate`` stays under
0.3 s from cold.

    $ runspec validate runspecs/quickstart.yaml
    runspecs/quickstart.yaml: ok
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from engine import __version__
from engine.canonical import shell_words
from engine.commands import Reply
from engine.commands.parsing import command_help, find_command, parse, top_help
from engine.commands.table import COMMANDS
from engine.errors import INTERNAL_ERROR_EXIT_CODE, Diagnostic, InputInvalid, RunFailed, RunspecError, render
from engine.interrupt import handle, requested
from engine.os_errors import hint_for, machine_fault
from engine.redact import redact, redact_value
from engine.streams import Output, prepare

INTERRUPTED_EXIT_CODE = 130


def answer(words: Sequence[str]) -> Reply:
    """Parse and run one command. Raises what the command raises."""
    if not words or words[0] in ("--help", "-h", "help"):
        named = [word for word in words[1:] if word not in ("--json", "--help", "-h")]
        if named:
            text = command_help(find_command(named, COMMANDS)[0])
            return Reply({"ok": True, "help": text}, text)
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
    except (MemoryError, OverflowError) as error:
        fault = machine_fault(error)
        if fault is None:
            raise
        raise RunFailed("R113", fault[0], hint=fault[1]) from error


def _typed(words: Sequence[str]) -> str:
    """What was typed, quoted so that it can be typed again; it goes into the evidence, so secrets are masked."""
    return redact(shell_words(["runspec", *words]))


def _print_reply(reply: Reply, as_json: bool, output: Output) -> None:
    if as_json:
        output.write_json(reply.document)
    else:
        _print_problems(reply.problems)
        write = output.write_styled if reply.styled else output.write
        write(f"{reply.text}\n" if reply.text else "")
        if reply.exit_code not in (0, INTERNAL_ERROR_EXIT_CODE, INTERRUPTED_EXIT_CODE):
            _print_more(reply.problems)
    if output.error is not None:
        reason = output.error.strerror or output.error
        _print_problems([Diagnostic("U133", f"the answer cannot be written to standard output: {reason}",
                                    hint="the exit code is that of the command itself", severity="warning")])  # fmt: skip
    elif output.lacking:
        _print_problems([_lacking(output.lacking)])


def _lacking(characters: Collection[str]) -> Diagnostic:
    """The warning that the terminal's encoding has not all characters of the answer."""
    some = " ".join(f"U+{ord(character):04X}" for character in sorted(characters)[:3])
    if all(
        0xD800 <= ord(character) <= 0xDFFF for character in characters
    ):  # Python's stand-ins for bytes, in any encoding
        return Diagnostic(
            "X321",
            f"the answer has bytes that are not UTF-8, as in a path ({some})",
            hint="they are written as escapes; a file whose name is UTF-8 is shown as it is",
            severity="warning",
        )
    return Diagnostic(
        "X321",
        f"standard output has the encoding {sys.stdout.encoding}, which lacks characters of the answer ({some})",
        hint="they are written as escapes; PYTHONIOENCODING=utf-8 prints them",
        severity="warning",
    )


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
    where, here = diagnostic.where, _here()
    if where is None or here is None or not Path(where.file).is_relative_to(here):
        return diagnostic
    return replace(diagnostic, where=replace(where, file=str(Path(where.file).relative_to(here))))


def _project(words: Sequence[str]) -> Path | None:
    """The project that the command is about: that of the run-spec it names, else the one around this folder."""
    from engine.runspec import marked_root

    named = [Path(word) for word in words if word.endswith((".yaml", ".yml"))]
    try:
        return marked_root(named[0].parent if named else Path())
    except OSError:  # the working folder was deleted
        return None


def _internal(error: Exception, words: Sequence[str]) -> Reply:
    """A fault of the engine: one sentence on the screen, the redacted traceback in a file."""
    fault = Diagnostic(
        "X301",
        f"internal error: {type(error).__name__}; this is a fault in runspec, not in your input",
        hint=_where_logged(error, words),
    )
    return _failure(INTERNAL_ERROR_EXIT_CODE, fault)


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
    hint = (
        f"to resume, type it again: {_typed(words)}" if words[:1] == ["run"] or words[:2] == ["kaggle", "run"] else None
    )
    return Diagnostic("U130", "interrupted", hint=hint)


def _is_json(words: Sequence[str]) -> bool:
    """Whether ``--json`` was typed; found without the parser, which may itself have failed."""
    before = words[: words.index("--")] if "--" in words else words
    return "--json" in before


def main(words: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if words is None else words)
    output = prepare()
    handle()
    reply = _reply(words)
    if requested():
        reply = _failure(INTERRUPTED_EXIT_CODE, _interrupted(words))
    try:
        _print_reply(reply, _is_json(words), output)
    except KeyboardInterrupt:  # while a slow reader holds up the pipe; a second document would not be JSON
        return INTERRUPTED_EXIT_CODE
    return reply.exit_code


def _reply(words: Sequence[str]) -> Reply:
    """The command's answer; an exception becomes an exit code and its diagnostics."""
    try:
        reply = answer(words)
        return _with_gone_folder(reply) if reply.exit_code == InputInvalid.exit_code else reply
    except RunspecError as error:
        return _with_gone_folder(_failure(error.exit_code, *error.diagnostics))
    except KeyboardInterrupt:
        return _failure(INTERRUPTED_EXIT_CODE, _interrupted(words))
    except Exception as error:  # noqa: BLE001 - the last resort for unforeseen exceptions
        if requested():  # Python has made another error of a Ctrl-C
            return _failure(INTERRUPTED_EXIT_CODE, _interrupted(words))
        gone = _gone_folder() if isinstance(error, FileNotFoundError) else []
        return _failure(InputInvalid.exit_code, *gone) if gone else _internal(error, words)


def _failure(exit_code: int, *diagnostics: Diagnostic) -> Reply:
    """Errors as one JSON document, or as text on standard error; secrets are masked."""
    rows = [diagnostic.as_json() for diagnostic in diagnostics]
    return Reply(redact_value({"ok": False, "diagnostics": rows}), "", exit_code, diagnostics)


def _gone_folder() -> list[Diagnostic]:
    """X320 where the current folder has been deleted: a relative path then names nothing."""
    if _here() is not None:
        return []
    return [Diagnostic("X320", "the folder that this command was started in has been deleted",
                       hint="cd into a folder that exists (in a notebook: %cd), and type it again")]  # fmt: skip


def _with_gone_folder(reply: Reply) -> Reply:
    """The findings, and X320 where it explains them."""
    gone = _gone_folder()
    if not gone:
        return reply
    rows = [*reply.document.get("diagnostics", ()), *(row.as_json() for row in gone)]
    return replace(reply, document={**reply.document, "diagnostics": rows}, problems=(*reply.problems, *gone))


def _here() -> Path | None:
    """The current folder; None where it has been deleted."""
    try:
        return Path.cwd()
    except OSError:
        return None


if __name__ == "__main__":
    sys.exit(main())
