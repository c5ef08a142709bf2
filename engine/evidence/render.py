"""View + template -> the text of an evidence file, checked against its schema; the same bytes every time.

    text = render_text("eval_summary.json", view, template_dirs)

jinja2 and jsonschema are imported when something is rendered or checked: a run with nothing to do needs neither.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path

from engine.assets import asset
from engine.canonical import JsonMapping, JsonObject, pretty_json
from engine.errors import EvidenceIncomplete, InputInvalid
from engine.evidence.checks.json_schema import ValidationError, schema_errors
from engine.printable import printable

DATASET_MANIFEST = "dataset_manifest.json"  # of a part that can be used alone, and so is its schema
MOST_ERRORS = 20  # of a schema: a list of 100,000 wrong values has as many


def render_text(
    name: str,
    view: JsonMapping,
    sources: Sequence[Path | Mapping[str, str]],
    used: dict[str, str] | None = None,
) -> str:
    """One evidence file; ``used`` gets the templates that it was made from (name -> text).

    Raises InputInvalid (E103 to E107) and EvidenceIncomplete (E102, E111).
    """
    from engine.evidence.templates import fill

    text = fill(name, view, sources, used)
    if not name.endswith(".json"):
        return printable(text)
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputInvalid(
            "E107", f"the template of {name} does not render JSON: {error}", hint="write values with | tojson"
        ) from error
    problems = schema_problems(name, value)
    if problems:
        raise EvidenceIncomplete(
            "E111",
            f"{name} breaks its schema: {problems[0]}",
            hint="the template or the step that makes the value is at fault",
        )
    return pretty_json(value)


def schema_problems(name: str, value: object) -> list[str]:
    """Where a value breaks the shipped schema of its evidence file; [] where there is no schema."""
    schema = schema_of(name)
    if schema is None:
        return []
    first = islice(schema_errors(value, schema), MOST_ERRORS)
    return [error_text(error) for error in sorted(first, key=lambda error: list(map(str, error.absolute_path)))]


def error_text(error: ValidationError) -> str:
    """The path in the document, and what is wrong there."""
    return f"{'.'.join(map(str, error.absolute_path)) or 'the document'}: {error.message[:200]}"


@cache
def schema_of(name: str) -> JsonObject | None:
    """The shipped schema of a file of the evidence, of a JSONL file that of its rows; None where there is none."""
    folder = () if name == DATASET_MANIFEST else ("evidence",)
    path = asset("schemas", *folder, f"{Path(name).stem}.schema.json")
    if not path.is_file():
        return None
    schema: JsonObject = json.loads(path.read_text(encoding="utf-8"))
    return schema


def require_template(name: str, sources: Sequence[Path | Mapping[str, str]]) -> None:
    """An evidence file has a template, and it is Jinja. Raises InputInvalid (E104, E106)."""
    from engine.evidence.templates import load_template

    load_template(name, sources)
