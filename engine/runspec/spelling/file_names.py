"""Names in a run-spec that become files, and that Windows or any file system cannot make (code S321).

Evidence is committed and checked out by strangers, some of them on Windows: one such name breaks their checkout.

    >>> problem_of("con"), problem_of("v1."), problem_of("a:b"), problem_of("conrad_v1")
    ('Windows keeps the name con for a device', 'Windows drops the dot at its end', 'Windows has no ":" in names', None)
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.runspec.findings import Case
from engine.runspec.nodes import Items, Path, Scalar, SourcePosition

CODE = "S321"
MOST_BYTES = 255  # of one name, on every common file system
DEVICES = frozenset(
    {
        "con",
        "prn",
        "aux",
        "nul",
        "conin$",
        "conout$",
        *(f"{port}{n}" for port in ("com", "lpt") for n in "123456789¹²³"),
    }
)
FORBIDDEN = '<>:"|?*'
_NAMES: tuple[Path, ...] = (("run_version",), ("package", "name"))
_FOLDERS: tuple[Path, ...] = (("evidence", "dir"), ("package", "dir"))


def problem_of(name: str) -> str | None:
    """Why one name (no path) cannot be made everywhere, or None."""
    stem = name.split(".", maxsplit=1)[0].rstrip().casefold()
    if stem in DEVICES:
        return f"Windows keeps the name {stem} for a device"
    if name.endswith((".", " ")) and name not in (".", ".."):
        return f"Windows drops the {'dot' if name[-1] == '.' else 'space'} at its end"
    bad = next((character for character in name if character in FORBIDDEN or character < " "), None)
    if bad is not None:
        return (
            f'Windows has no "{bad}" in names'
            if bad >= " "
            else f"Windows has no control character (U+{ord(bad):04X}) in names"
        )
    if len(name.encode(errors="surrogatepass")) > MOST_BYTES:
        return f"it has {len(name.encode(errors='surrogatepass'))} bytes, and a file's name has at most {MOST_BYTES}"
    return None


def check_file_names(case: Case) -> None:
    """A finding for each name that cannot be made, and for files that are one on a disk that ignores case."""
    for path, name, position in _names(case):
        problem = problem_of(name)
        if problem is not None:
            message = f'{path[-1] if isinstance(path[-1], str) else "files"} cannot be "{name[:60]}": {problem}'
            case.findings.error(
                CODE, message, path, position, "choose another name: evidence is checked out everywhere"
            )
    _check_case(case)


def _names(case: Case) -> Iterator[tuple[Path, str, SourcePosition]]:
    for path in (*_NAMES, *_FOLDERS, *_files(case)):
        node, text = case.at(*path), case.good_text(*path)
        if isinstance(node, Scalar) and text:
            parts = text.split("/") if path in _FOLDERS else [text]
            yield from ((path, part, node.position) for part in parts if part)


def _files(case: Case) -> list[Path]:
    files = case.at("evidence", "files")
    return [("evidence", "files", index) for index in range(len(files.items))] if isinstance(files, Items) else []


def _check_case(case: Case) -> None:
    seen: dict[str, str] = {}
    for path in _files(case):
        node, text = case.at(*path), case.good_text(*path)
        if text is None or not isinstance(node, Scalar):
            continue
        first = seen.setdefault(text.casefold(), text)
        if first != text:
            message = f"files has {first} and {text}, which are one file where case does not count (Windows, macOS)"
            case.findings.error(CODE, message, path, node.position, "rename one of them")
