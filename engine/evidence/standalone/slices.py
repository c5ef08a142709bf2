"""What a program needs of the engine's modules, cut out of them: whole definitions, with their comments and docstrings.

In: names to begin with. Out: for each module that they need the text of just those definitions, in the module's own order.
A module or a definition may have a stand-in (:mod:`engine.evidence.standalone.parts`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from engine.evidence.standalone.statements import Imported, ModuleText, Statement, read_statements

PACKAGE = "engine"
Read = Callable[[str], "str | None"]  # name of a module -> its text, None where there is no such module
MOST_COLUMNS = 120


@dataclass
class _Module:
    """A module and what is kept of it."""

    name: str
    text: ModuleText
    kept: set[int] = field(default_factory=set)  # statements, by their number
    names: set[str] = field(default_factory=set)  # of imports: the names that are kept

    @cached_property
    def binders(self) -> Mapping[str, list[int]]:
        """Name -> the statements that bind it."""
        binders: dict[str, list[int]] = {}
        for number, statement in enumerate(self.text.statements):
            for name in statement.binds:
                binders.setdefault(name, []).append(number)
        return binders


@dataclass
class Slicer:
    """Collects what is needed; ``read`` gives the text of a module, ``replaced`` the text of single definitions."""

    read: Read
    replaced: Mapping[tuple[str, str], str]
    modules: dict[str, _Module] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)

    def need(self, module: str, name: str) -> None:
        """A name of a module, and everything that it needs."""
        waiting = [(module, name)]
        done = set()
        while waiting:
            pair = waiting.pop()
            if pair not in done:
                done.add(pair)
                waiting += self._needed_by(*pair)

    def _needed_by(self, module_name: str, name: str) -> Iterable[tuple[str, str]]:
        module = self._module(module_name)
        if module is None:
            return
        if name not in module.binders:
            if self._module(f"{module_name}.{name}") is None:
                raise LookupError(f"{module_name} has no {name}")
            return
        effects = {number for number, statement in enumerate(module.text.statements) if statement.is_effect}
        for number in {*module.binders[name], *effects}:
            statement = module.text.statements[number]
            if statement.imports:
                module.names.add(name)
                yield from self._imported(next(one for one in statement.imports if one.bound == name))
            if number not in module.kept:
                module.kept.add(number)
                yield from self._needed_inside(module, statement)

    def _needed_inside(self, module: _Module, statement: Statement) -> Iterable[tuple[str, str]]:
        for one in statement.local_imports:
            yield from self._imported(one)
        for name in statement.needs & module.binders.keys():
            yield module.name, name
            target = self._module_bound_to(module, name)
            if target is not None:
                yield from ((target, attribute) for owner, attribute in statement.attributes if owner == name)

    def _module_bound_to(self, module: _Module, name: str) -> str | None:
        """The module that an imported name stands for, where it is one of ours."""
        for number in module.binders[name]:
            for one in module.text.statements[number].imports:
                full = f"{one.module}.{one.name}" if one.name else one.module
                if one.bound == name and self._module(full) is not None:
                    return full
        return None

    def _imported(self, one: Imported) -> Iterable[tuple[str, str]]:
        if self._module(one.module) is not None and one.name is not None:
            yield one.module, one.name

    def _module(self, name: str) -> _Module | None:
        """A module of ours, with its parents; None for the standard library's."""
        if name in self.modules or name in self.missing:
            return self.modules.get(name)
        text = self.read(name)
        if text is None:
            self.missing.add(name)
            return None
        self.modules[name] = _Module(name, read_statements(self._with_stand_ins(name, text)))
        parent = name.rpartition(".")[0]
        if parent:
            self._module(parent)
        return self.modules[name]

    def _with_stand_ins(self, name: str, text: str) -> str:
        if name not in {module for module, _ in self.replaced}:
            return text
        module = read_statements(text)
        lines = list(module.lines)
        for statement in reversed(module.statements):
            for bound in statement.binds:
                if (name, bound) in self.replaced:
                    lines[statement.first - 1 : statement.last] = self.replaced[name, bound].rstrip("\n").split("\n")
        return "\n".join(lines)

    def texts(self) -> dict[str, str]:
        """Module -> what is kept of it; empty text where only its name is needed."""
        return {name: _text(module) for name, module in sorted(self.modules.items())}


def _text(module: _Module) -> str:
    lines, parts = module.text.lines, []
    if not module.kept:
        return ""
    if module.text.docstring is not None:
        first, last = module.text.docstring
        parts.append("\n".join(lines[first - 1 : last]) + "\n\n")
    parts.append("from __future__ import annotations\n\n")
    for number in sorted(module.kept):
        statement = module.text.statements[number]
        if statement.imports:
            parts.append(_import(statement, module.names))
        else:
            blank = _blank_before(lines, statement.first)
            parts.append("\n" * blank + "\n".join(lines[statement.first - 1 : statement.last]) + "\n")
    return "".join(parts)


def _blank_before(lines: Iterable[str], first: int) -> int:
    before = list(lines)[: first - 1]
    count = 0
    while count < len(before) and not before[-1 - count].strip():
        count += 1
    return min(count, 2)


def _import(statement: Statement, names: set[str]) -> str:
    """The import with the names that are kept."""
    kept = [one for one in statement.imports if one.bound in names]
    if kept[0].name is None:
        return "".join(
            f"import {one.module}" + (f" as {one.bound}" if one.bound != one.module.split(".")[0] else "") + "\n"
            for one in kept
        )
    words = [f"{one.name} as {one.bound}" if one.bound != one.name else str(one.name) for one in kept]
    line = f"from {kept[0].module} import {', '.join(words)}"
    return f"{line}\n" if len(line) <= MOST_COLUMNS else f"from {kept[0].module} import (\n    {', '.join(words)},\n)\n"
