"""Types, limits and examples in words, and how to write what was meant."""

from __future__ import annotations

from collections.abc import Sequence

from engine.runspec.kinds import Schema
from engine.runspec.nodes import Items, Mapping, Node, Scalar
from engine.runspec.scalars import MEANT_AS_BOOL, as_number

TYPE_WORDS = {
    "integer": "a whole number", "number": "a number", "string": "text", "boolean": "true or false",
    "object": "a mapping of keys", "array": "a list", "null": "null",
}  # fmt: skip


def number_text(value: object) -> str:
    """A number as people write it: 1e-05 is 1e-5, 0.001 stays."""
    text = repr(value)
    if "e-0" in text or "e+0" in text:
        text = text.replace("e-0", "e-").replace("e+0", "e+")
    return text


def described(value: object) -> str:
    """A value of a schema as it would be written in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return value if value else '""'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {described(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(described(item) for item in value) + "]"
    return number_text(value)


def example_line(key: str, schema: Schema) -> str:
    """A correct line: ``seq_len: 512``."""
    if schema.get("examples"):
        value = described(schema["examples"][0])
    elif schema.get("default") is not None:
        value = described(schema["default"])
    elif schema.get("enum"):
        value = described(schema["enum"][0])
    else:
        value = "…"
    return f"{key}: {value}"


def listing(words: Sequence[str]) -> str:
    """``a, b or c``."""
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def limits(schema: Schema) -> str:
    """``at least 1 (train steps)``, ``above 0 and at most 10``."""
    words = []
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        words.append(f"between {number_text(low)} and {number_text(high)}")
    else:
        words += [f"at least {number_text(low)}"] if low is not None else []
        words += [f"at most {number_text(high)}"] if high is not None else []
    if "exclusiveMinimum" in schema:
        words.insert(0, f"above {number_text(schema['exclusiveMinimum'])}")
    if "exclusiveMaximum" in schema:
        words.append(f"below {number_text(schema['exclusiveMaximum'])}")
    if "multipleOf" in schema:
        words.append(f"a multiple of {number_text(schema['multipleOf'])}")
    unit = f" ({schema['x-unit']})" if schema.get("x-unit") else ""
    return " and ".join(words) + unit


def type_hint(node: Node, types: Sequence[str], schema: Schema) -> str | None:
    """How to write what was probably meant, else the schema's description of the key."""
    hint = _scalar_hint(node, types) if isinstance(node, Scalar) else _structure_hint(node, types)
    return hint or schema.get("description")


def _scalar_hint(node: Scalar, types: Sequence[str]) -> str | None:
    text, value = node.text.strip(), node.value
    if "boolean" in types and text.casefold() in MEANT_AS_BOOL:
        quotes = ", without quotes" if node.quoted else ""
        return f"write {MEANT_AS_BOOL[text.casefold()]}{quotes} (in YAML 1.2, yes, no, on and off are text)"
    if isinstance(value, str) and {"integer", "number"} & set(types):
        number = as_number(text)
        if number == text and node.quoted:
            return f"remove the quotes: {number}"
        if number:
            return f"write {number}" + (", without quotes" if node.quoted else "")
        return None
    if isinstance(value, float) and "integer" in types:
        return "round it: this counts whole things"
    if "string" in types and value is not None and not isinstance(value, str):
        return f'put it in quotes: "{text}"'
    if "array" in types and isinstance(value, str):
        return f"write a list: [{text}]"
    return None


def _structure_hint(node: Node, types: Sequence[str]) -> str | None:
    if isinstance(node, Mapping) and "array" in types:
        return "begin each entry with a dash: - {id: …, uses: …}" if node.entries else "a list is written [a, b]"
    if isinstance(node, Items) and "object" in types:
        return "remove the brackets or dashes: a mapping is written key: value"
    if isinstance(node, Items) and len(node.items) == 1:
        return "remove the brackets or the dash: it takes one value"
    if isinstance(node, Mapping) and "string" in types and any(key.startswith("{") for key in node.entries):
        return "put text with braces in quotes"
    return None
