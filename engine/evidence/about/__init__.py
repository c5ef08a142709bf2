"""The second stage of rendering: the files that say what the evidence is, made from the files of the first stage.

    contents |= make_about(Inputs(record, view, contents), present_sources())

The files of the first stage are what is attested: rendered files, attachments, run_record.json, run-spec, eval set, the
project's templates. Those of the second stage are *about* them: the statement with the digest of each, the crate, the card, the page. They
are in every folder and zip, made by the engine's own templates only, so that a project cannot word them.
"""

from engine.evidence.about.table import (
    ABOUT,
    ABOUT_NAMES,
    SIGNATURE_FILES,
    SIGNATURES,
    SIGSTORE,
    STATEMENT,
    Inputs,
    digests_of_sources,
    make_about,
    present_sources,
    refuse_look_alikes,
    refuse_own_templates,
)

__all__ = [
    "ABOUT",
    "ABOUT_NAMES",
    "SIGNATURES",
    "SIGNATURE_FILES",
    "SIGSTORE",
    "STATEMENT",
    "Inputs",
    "digests_of_sources",
    "make_about",
    "present_sources",
    "refuse_look_alikes",
    "refuse_own_templates",
]
