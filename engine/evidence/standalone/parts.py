"""What verify.py is made of: where it begins, and what stands in it for what it does not have.

It has no third-party library, no files beside it and no steps to run. So it gets readers of YAML and of templates
of ours (:mod:`engine.evidence.standalone.stand_ins`), its schemas and templates as text, and of a step the description alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from engine.assets import asset
from engine.canonical import pretty_json

BEGIN = (("engine.evidence.standalone.command", "main"),)
LOADER = "engine.evidence.standalone.stand_ins.loader"
_STAND_INS = "engine.evidence.standalone.stand_ins"
# module as it is imported -> the module whose text stands for it
STAND_INS: Mapping[str, str] = {
    "ruamel": f"{_STAND_INS}.empty",
    "ruamel.yaml": f"{_STAND_INS}.yaml_events",
    "ruamel.yaml.error": f"{_STAND_INS}.ruamel_error",
    "jinja2": f"{_STAND_INS}.empty",
    "jinja2.exceptions": f"{_STAND_INS}.jinja_exceptions",
    "engine.assets": f"{_STAND_INS}.assets",
    "engine.evidence.templates": f"{_STAND_INS}.templates",
}
_NEVER_RUN = '''def run(ctx):
    """Left out: verify.py describes steps, and runs none."""
    raise NotImplementedError("verify.py runs no step")
'''
_NO_PLUGINS = '''def _discover():
    """The built-in kinds. Plug-ins of this machine are not loaded: verify.py runs no code but its own."""
    return HANDLERS, ()
'''
_THIS_FILE = '''def verify_py():
    """The file that runs."""
    with open(THIS_FILE, "rb") as stream:
        return stream.read()
'''
_PAGE_ENVIRONMENT = '''def _environment():
    """The reader of templates that stands for jinja2's."""
    from engine.evidence.standalone.stand_ins.page_environment import PageEnvironment

    return PageEnvironment(_visible)
'''
_NO_METADATA = '''def installed_version(distribution):
    """Left out: versions of this machine say nothing about somebody's evidence."""
    raise NotImplementedError("verify.py asks for no version")
'''
_NO_PLUGIN_SCHEMA = '''def _check_by_jsonschema(node, schema, path, case):
    """Left out: only the schemas of plug-ins need it, and verify.py has none."""
    raise NotImplementedError("verify.py knows the built-in kinds of steps")
'''
# (module, name) -> the text of the definition that stands for it
REPLACED: Mapping[tuple[str, str], str] = {
    **{
        (f"engine.steps.{kind}", "run"): _NEVER_RUN
        for kind in ("build_dataset", "smoke_run", "train_sft", "generate", "score", "result_summary")
    },
    ("engine.steps.registry", "_discover"): _NO_PLUGINS,
    ("engine.evidence.standalone", "verify_py"): _THIS_FILE,
    ("engine.evidence.report.page", "_environment"): _PAGE_ENVIRONMENT,
    ("engine.steps", "installed_version"): _NO_METADATA,
    ("engine.runspec.schema", "_check_by_jsonschema"): _NO_PLUGIN_SCHEMA,
}
# folders of shipped files that the checks read -> the endings of what is taken
ASSETS: Mapping[tuple[str, ...], str | tuple[str, ...]] = {
    ("schemas",): ("runspec.base.schema.json", "dataset_manifest.schema.json"),
    ("schemas", "evidence"): ".json",
    ("schemas", "steps"): ".json",
    ("templates",): ".j2",
    ("templates", "former"): ".j2",
}


def assets() -> dict[str, str]:
    """Path below the shipped folders -> text."""
    texts = {}
    for parts, ending in ASSETS.items():
        folder = asset(*parts)
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.name.endswith(ending) and path.is_file():
                text = path.read_text(encoding="utf-8")
                is_of_files = parts == ("schemas", "evidence") or path.name == "dataset_manifest.schema.json"
                texts["/".join((*parts, path.name))] = (
                    pretty_json(_without_prose(json.loads(text))) if is_of_files else text
                )
    return texts


def _without_prose(schema: Any) -> Any:
    """A schema of a file of the evidence without what it says to people, which no check reads."""
    if isinstance(schema, list):
        return [_without_prose(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: _without_prose(value)
        for name, value in schema.items()
        if not (name in ("title", "description") and isinstance(value, str))
    }


def read_module(module: str) -> str | None:
    """The text of a module that goes into the file, or None where it is the standard library's."""
    name = STAND_INS.get(module, module)
    first, *parts = name.split(".")
    if first != "engine":
        return None
    path = resources.files("engine").joinpath(*parts)
    for file in (
        path.joinpath("__init__.py"),
        resources.files("engine").joinpath(*parts[:-1], f"{name.rpartition('.')[2]}.py"),
    ):
        if file.is_file():
            return file.read_text(encoding="utf-8").replace("\r\n", "\n")
    return None
