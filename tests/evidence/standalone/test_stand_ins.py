"""The small readers in verify.py against the libraries that they stand for: the same answer, or a refusal, never another one."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator as LibraryValidator
from ruamel import yaml as library_yaml

from engine.errors import RunspecError
from engine.evidence import templates as library_templates
from engine.evidence.checks.json_schema import schema_errors
from engine.evidence.contents import NeedsEngine
from engine.evidence.standalone.stand_ins import templates as own_templates
from engine.evidence.standalone.stand_ins.yaml_error import YAMLError
from engine.evidence.standalone.stand_ins.yaml_events import YAML
from tests.fixtures import version_1

REPOSITORY = Path(__file__).parents[3]

# ---- YAML ----

YAML_TEXTS = (
    "a: 1\nb:\n  c: d\n  e:\n  - 1\n  - x: y\n    z: w\n", "- - 1\n  - 2\n- 3\n", "a: [1, 2, {b: c, d}, [e: f]]\n",
    "a: |\n  x\n   y\n\n  z\n\nb: >-\n  a\n  b\n\n  c\n   d\n  e\n", "a: 'it''s'\nb: \"x\\ty\\u00e9\\\n  z\"\n", "a: &x [1]\nb: *x\n",
    "a: b\n  c\n\n  d\ne: f # c\n", "# c\n---\na: 1\n...\n", "a: \"multi\n  line\n\n  text\"\nb: 'x\n y'\n", "a: {b: 1,\n  c: [x,\n y]}\nd:\n",
    "a: |2\n   x\n  y\n", "a: |+\n  x\n\n\nb: 1\n", "a: >+\n  x\n\n", "a: |-\n  x", "a:\n- b\n- c\nd: e\n", "-\n  a\n-\n",
    "a: http://x.y/z#w\nb: x #c\nc: a#b\n", "a : b\n\"c\" : d\n", "{\"a\":1, b: 2}\n", "[a, b,]\n", "*b : c\n", "a:\n  - &x 1\n  - *x\n",
    "a: >\n\n  x\n  y\n\n\n", "a: |\n\n\n   x\n",
)  # fmt: skip
SIGNS = (" ", "\n", "  ", ": ", "- ", "[", "]", "{", "}", ",", "#", '"', "'", "|", ">", "*a", "a", "b: c\n", "\n- x", "\n\n", "\n  ", "@",
         "---\n", "0x1", "~", "\\", "|-\n", ">\n  ")  # fmt: skip


def _events(events: Iterator[Any]) -> list[object]:
    """What the loader reads of each event: kind, anchor, value, style, position."""
    found: list[object] = []
    for event in events:
        kind, is_value = type(event).__name__, type(event).__name__ == "ScalarEvent"
        place = (event.start_mark.line, event.start_mark.column) if is_value and (event.value or event.style) else None
        found.append((kind, getattr(event, "anchor", None) or None, is_value and (event.value, event.style), place))
    return found


def _by_library(text: str) -> list[object] | None:
    try:
        return _events(library_yaml.YAML(typ="safe", pure=True, plug_ins=[]).parse(text))
    except Exception:  # noqa: BLE001 - the library has exceptions of its own, and of bugs of its own
        return None


def _by_us(text: str) -> list[object] | None:
    try:
        return _events(YAML().parse(text))
    except YAMLError:
        return None


def _yaml_files() -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted((REPOSITORY / "runspecs").rglob("*.yaml"))]


def test_run_specs_are_read_as_the_library_reads_them() -> None:
    """Every run-spec of the project, and texts of every form that is read."""
    texts = [*_yaml_files(), *YAML_TEXTS]
    assert len(texts) > 25
    for text in texts:
        assert _by_us(text) == _by_library(text) is not None, text


def test_damaged_yaml_is_never_read_in_another_way() -> None:
    """2,000 texts with signs put in and left out: the same events, or a refusal; few that the library reads are refused."""
    rng, bases, n_read, n_refused = random.Random(11), [*YAML_TEXTS * 3, *_yaml_files()], 0, 0
    for _ in range(2000):
        lines = rng.choice(bases).split("\n")
        begin = rng.randrange(len(lines))
        text = "\n".join(lines[begin : begin + rng.randint(1, 12)])
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(text) + 1)
            text = text[:at] + (rng.choice(SIGNS) + text[at:] if rng.random() < 0.6 else text[at + rng.randint(1, 2) :])
        ours, theirs = _by_us(text), _by_library(text)
        if theirs is not None:
            n_read += 1
            n_refused += ours is None
            is_root_block = text.lstrip().startswith(("|", ">"))  # no run-spec either way
            assert ours in (None, theirs) or is_root_block, text
    assert n_read > 800
    assert n_refused < n_read / 10


# ---- JSON Schema ----


def _mutants(value: Any, rng: random.Random) -> Iterator[Any]:
    """The value with something in it changed."""
    others = [None, True, 1, 1.0, -3, 0.5, "", "x", [], {}, ["x"], {"x": 1}, "0" * 64, "2026-01-02T03:04:05Z"]
    for _ in range(150):
        copy = json.loads(json.dumps(value))
        target = copy
        while isinstance(target, dict) and target:
            key = rng.choice(sorted(target))
            if isinstance(target[key], dict) and target[key] and rng.random() < 0.7:
                target = target[key]
                continue
            if rng.random() < 0.3:
                del target[key]
            elif rng.random() < 0.2:
                target[f"{key}x"] = rng.choice(others)
            else:
                target[key] = rng.choice(others)
            break
        yield copy


@pytest.mark.parametrize("name", ["run_manifest.json", "eval_summary.json", "scorecard.json"])
def test_schemas_find_the_same_errors_in_the_same_order(name: str) -> None:
    """Messages and places, of the committed evidence and of 150 changed ones."""
    schema = json.loads((REPOSITORY / "schemas" / "evidence" / f"{name.removesuffix('.json')}.schema.json").read_text())
    good = json.loads((version_1.EVIDENCE / name).read_text())
    n_found = 0
    for value in (good, *_mutants(good, random.Random(3)), [], None, 1):
        ours = [(error.message, error.absolute_path) for error in schema_errors(value, schema)]
        theirs = [(error.message, tuple(error.absolute_path)) for error in LibraryValidator(schema).iter_errors(value)]
        assert ours == theirs
        n_found += bool(theirs)
    assert n_found > 50


def test_a_keyword_that_is_not_known_is_no_silent_pass() -> None:
    """A schema that grows needs the reader to grow."""
    with pytest.raises(ValueError, match="keyword oneOf"):
        list(schema_errors({}, {"oneOf": []}))


# ---- templates ----

VIEW = {
    "a": 1, "b": 2.5, "text": "it's <b>&", "none": None, "yes": True, "names": ["x", "Y", "z"], "empty": [], "m": {"k": 1, "j": {"l": 2}},
    "rows": [{"n": 1, "loss": 0.5}, {"n": 2, "loss": None}], "pairs": [["p", 1], ["q", 2]], "zero": 0,
}  # fmt: skip
TEMPLATES = (
    "{{ a }} {{ b }} {{ text }} {{ none }} {{ yes }} {{ names }} {{ m }}", "{{ a + b * 2 - 1 }} {{ 7 // 2 }} {{ 7 % 4 }} {{ 2 ** 3 }} {{ -a }} {{ 1 / 4 }}",
    "{{ a ~ text ~ b }}", "{{ 'x' if a else 'y' }}{{ 'x' if zero }}|", "{{ a == 1 and b > 2 or not yes }}", "{{ 1 < a + 1 <= 2 }} {{ 'x' in names }} {{ 'k' not in m }}",
    "{{ m.k }} {{ m['k'] }} {{ m.j.l }} {{ names[0] }} {{ names[-1] }} {{ pairs[1][0] }} {{ pairs.1.1 }}", "{{ m.items() | list }} {{ m.get('q', 3) }} {{ m.keys() | list }}",
    "{% for n in names %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ n }} {% endfor %}",
    "{% for n in empty %}x{% else %}none{% endfor %}", "{% for p, q in pairs %}{{ p }}={{ q }};{% endfor %}", "{% for n in rows if n.loss is not none %}{{ n.n }}{% endfor %}",
    "{% set x = a + 1 %}{{ x }}{% for n in names %}{% set x = n %}{{ x }}{% endfor %}{{ x }}", "{% if zero %}0{% elif a == 1 %}1{% else %}2{% endif %}",
    "{% macro f(x, y) %}[{{ x }}{{ y }}]{% endmacro %}{{ f(1, 2) }}{{ f('a', b) }}", "{# a comment #}a{#- b -#} c", "a\n  {% if a %}\nb\n  {% endif %}\nc\n", "a \n {%- if a -%} \n b {%- endif %}\n",
    "{{ text | upper }} {{ text | lower }} {{ text | length }} {{ text | replace('b', 'c') }} {{ '  x ' | trim }}|", "{{ names | join(', ') }} {{ names | join }} {{ names | first }} {{ names | last }}",
    "{{ names | sort }} {{ [3, 1, 2] | sort(reverse=true) }} {{ m | dictsort }} {{ {'b': 1, 'A': 2} | dictsort }} {{ [1, 2] | sum }}",
    "{{ text | tojson }} {{ m | tojson }} {{ none | tojson }} {{ b | tojson }} {{ 'é\u2028' | tojson }} {{ m | tojson(indent=2) }}",
    "{{ b | round }} {{ 2.567 | round(1) }} {{ 7 | round(1) }} {{ 2.1 | round(0, 'ceil') }} {{ 2.15 | round(1, 'floor') }}",
    "{{ '%.3f|%5d|%s' | format(b, a, text) }} {{ '%.1f' | format(100 * b) }}", "{{ rows | map(attribute='n') | list }} {{ names | map('upper') | join }}",
    "{{ missing is defined }} {{ a is defined }} {{ none is none }} {{ a is number }} {{ text is string }} {{ m is mapping }} {{ a is odd }} {{ a is eq 1 }} {{ a is not none }}",
    "{{ missing | default('d') }} {{ none | default('d', true) }} {{ a | string }} {{ '3' | int }} {{ 'x' | int(7) }} {{ '2.5' | float }}", "{{ [1, [2, 'x'], (3,), {'k': a}] }}",
    "{{ range(3) | list }} {% for n in range(1, 4) %}{{ n }}{% endfor %}", "{{ 'a' 'b' }} {{ \"q\\\"\\n\" }} {{ 1.5e3 }} {{ true }} {{ None }}", "{{ (a, b) }} {{ (a) }} {{ () }}", "x{{ '}}' }}y {{ {'a': {'b': 1}} }}",
    "{% for n in names %}{{ n }}{{ ',' if not loop.last }}{% endfor %}", "{{ missing }}", "{{ missing.x }}", "{{ m.q }}", "{{ m.q.r }}", "{{ none.x }}", "{{ missing + 1 }}", "{% for n in missing %}{% endfor %}",
    "{% if missing %}{% endif %}", "{{ 1 / 0 }}", "{{ a +", "{% if a %}", "{% for %}", "{{ 'a' * 3 }}", "{{ text.upper() }}", "{{ m.update({}) }}", "{{ a.real }}", "{{ names[9] }}", "{% for x, y in names %}{% endfor %}",
    "{% for n in a %}{% endfor %}", "{{ a | nothing }}", "{{ ''.__class__ }}", "{% include 'x' %}", "{% raw %}{{ a }}{% endraw %}", "{{ names[1:] }}", "{% set x %}y{% endset %}", "{{ a if }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% for n in range(99999) %}{% for k in range(99999) %}{% endfor %}{% endfor %}", "{{ namespace(a=1).a }}", "{{ loop }}", "{{ names | tojson | length }}", "{{ 10 ** 500 }}", "{{ text ~ missing }}", "{{ not missing is defined }}",
)  # fmt: skip


def _filled(fill: Any, text: str) -> tuple[str, str]:
    """(what came of it, text or sentence)."""
    try:
        return "text", fill("x.txt", VIEW, [{"x.txt.j2": text}])
    except NeedsEngine as error:
        return "needs the engine", str(error)
    except RunspecError as error:
        return error.code, error.diagnostics[0].message


@pytest.mark.parametrize("text", TEMPLATES)
def test_a_template_is_filled_as_jinja_fills_it_or_not_at_all(text: str) -> None:
    """The same text; a refusal where Jinja refuses, with the same code unless more than the plain part is used."""
    ours, theirs = _filled(own_templates.fill, text), _filled(library_templates.fill, text)
    if theirs[0] == "text":
        assert ours == theirs or ours[0] == "needs the engine"
    else:
        assert ours[0] in (theirs[0], "needs the engine")


def test_the_plain_part_is_most_of_it() -> None:
    """Of the templates above that Jinja fills few need the engine."""
    filled = [text for text in TEMPLATES if _filled(library_templates.fill, text)[0] == "text"]
    beyond = [text for text in filled if _filled(own_templates.fill, text)[0] != "text"]
    assert len(filled) > 35
    assert len(beyond) <= 6, beyond
