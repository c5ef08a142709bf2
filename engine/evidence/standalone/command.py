"""The command line of verify.py: what `runspec verify` prints, with the same exit codes.

In: the words after ``verify.py``. Out: text or one JSON document on standard output, errors on standard error, and the exit code.
Nothing here is imported by the engine: :mod:`engine.evidence.standalone` puts it into the file.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.canonical import JsonMapping, pretty_json
from engine.errors import INTERNAL_ERROR_EXIT_CODE, Diagnostic, InputInvalid, RunspecError, VerificationFailed, render
from engine.evidence.contents import Reader
from engine.evidence.signing.trust import read_trusted_keys
from engine.evidence.signing.weights import read_weights
from engine.evidence.standalone.outcome import verification_json, verification_text
from engine.evidence.verify import verify
from engine.evidence.witness import read_witness
from engine.printable import escaped_json, printable
from engine.redact import redact, redact_value

HELP = """\
usage: python verify.py [PATH] [--trust KEYS] [--witness FOLDER] [--weights FOLDER] [--json] [--explain]

Checks the evidence of a run of runspec-engine as `runspec verify` does, with the standard library of Python 3.9 or later alone.

  PATH              an evidence folder, or the zip as it came; left out: the folder that verify.py lies in
  --trust KEYS      the keys that you trust (allowed_signers of OpenSSH, or public keys): whose signatures count
  --witness FOLDER  what you downloaded of a platform's output
  --weights FOLDER  a model folder: are its files the recorded ones?
  --json            print one JSON document
  --explain         also list what the run states and nobody checks
  -h, --help        print this

Exit code 0: every check passed. 4: the run is not finished. 5: a check failed. 2: there is no evidence that could be checked.
"""
OPTIONS = ("--json", "--explain", "-h", "--help")
WITH_A_VALUE = ("--trust", "--witness", "--weights")
# Options of `runspec verify` that need a library.
NEED_THE_ENGINE = ("--signature", "--trust-identity", "--trust-issuer", "--trust-config", "--staging", "--offline")
INTERRUPTED_EXIT_CODE = 130


def main(words: Sequence[str], this_file: str) -> int:
    """Check, print, and give the exit code."""
    as_json = "--json" in words
    try:
        return _answer(words, this_file, as_json)
    except RunspecError as error:
        return _fail(error.diagnostics, error.exit_code, as_json)
    except KeyboardInterrupt:
        return _fail([Diagnostic("U130", "interrupted")], INTERRUPTED_EXIT_CODE, as_json)
    except BrokenPipeError:  # the reader has closed its pipe: `verify.py | head`
        _no_more_output()
        return VerificationFailed.exit_code
    except Exception as error:  # noqa: BLE001 - the last resort for unforeseen exceptions
        fault = Diagnostic("X301", f"internal error: {type(error).__name__}; this is a fault in verify.py, not in your input",
                           hint="`runspec verify` makes the same checks: please report both")  # fmt: skip
        return _fail([fault], INTERNAL_ERROR_EXIT_CODE, as_json)


def _answer(words: Sequence[str], this_file: str, as_json: bool) -> int:
    paths, values = _parsed(words)
    if "-h" in words or "--help" in words:
        if as_json:
            _write_json({"ok": True, "help": HELP})
        else:
            _write(HELP)
        return 0
    path = Path(paths[0]) if paths else Path(this_file).parent
    if not path.exists():
        raise InputInvalid("U114", f"{path} does not exist", hint="name an evidence folder or a zip")
    verification = verify(path, _reader(values))
    if as_json:
        _write_json(verification_json(verification))
    else:
        _write(verification_text(str(path), verification, explain="--explain" in words) + "\n")
    return 0 if verification.ok else VerificationFailed.exit_code


def _parsed(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The paths, and the options that have a value. Raises InputInvalid U102, U103."""
    paths: list[str] = []
    values: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, sign, value = word.partition("=")
        if name in WITH_A_VALUE:
            if not sign and not rest:
                raise InputInvalid("U103", f"{name} needs a value", hint="python verify.py --help")
            values[name] = value if sign else rest.pop(0)
        elif name in NEED_THE_ENGINE:
            raise InputInvalid("U102", f"{name} needs the engine, with a library", hint=f"runspec verify PATH {name} …")
        elif word.startswith("-") and word not in OPTIONS:
            raise InputInvalid("U102", f"there is no option {word}", hint="python verify.py --help")
        elif not word.startswith("-"):
            paths.append(word)
    if len(paths) > 1:
        what = f"one path can be checked, and {len(paths)} are named"
        raise InputInvalid("U103", what, hint="python verify.py --help")
    return paths, values


def _reader(values: Mapping[str, str]) -> Reader:
    """What the reader brings: which keys he trusts, and what he downloaded."""
    trust, witness, weights = (values.get(name) for name in WITH_A_VALUE)
    return Reader(
        trust=read_trusted_keys(Path(trust)) if trust is not None else None,
        witness=read_witness(Path(witness)) if witness is not None else None,
        weights=read_weights(Path(weights)) if weights is not None else None,
    )


def _fail(diagnostics: Sequence[Diagnostic], exit_code: int, as_json: bool) -> int:
    if as_json:
        _write_json(redact_value({"ok": False, "diagnostics": [one.as_json() for one in diagnostics]}))
    else:
        text = redact("\n\n".join(render(one) for one in diagnostics))
        sys.stderr.buffer.write(f"{printable(text)}\n".encode(sys.stderr.encoding or "utf-8", "backslashreplace"))
    return exit_code


def _write_json(document: JsonMapping) -> None:
    """Where the encoding lacks a character, with escapes, so that its values stay the same."""
    text, encoding = escaped_json(pretty_json(document)), sys.stdout.encoding or "utf-8"
    try:
        _write_bytes(text.encode(encoding))
    except UnicodeEncodeError:
        _write_bytes(pretty_json(document, ascii_only=True).encode(encoding))


def _write(text: str) -> None:
    """With no character that acts."""
    _write_bytes(printable(text).encode(sys.stdout.encoding or "utf-8", "backslashreplace"))


def _write_bytes(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _no_more_output() -> None:
    """Python flushes the stream once more at its end, and would complain there."""
    try:
        sys.stdout.close()
    except BrokenPipeError:
        return
