"""The weights that a reader has: V31 they are the recorded ones, V32 somebody signed them.

In: the evidence, and the folder that the reader named (:mod:`engine.evidence.signing.weights`). Out: each check's answer. Neither raises the
level of trust: that the weights are those of the evidence says nothing of the answers, and who signed the weights has not signed the
evidence.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.evidence.about.dependencies import exported_folders
from engine.evidence.checks.recorded import recorded_run
from engine.evidence.contents import Answer, Evidence, answer

NO_WEIGHTS = "no weights: --weights FOLDER"
NO_SIGNATURE = (
    "none was asked for: runspec verify --signature FILE --trust KEY (pip install 'runspec-engine[model-signing]')"
)


def weights_are_the_recorded(evidence: Evidence) -> Answer:
    """V31."""
    weights = evidence.reader.weights
    if weights is None:
        return "n/a", NO_WEIGHTS
    folders = exported_folders(recorded_run(evidence))
    if not folders:
        return "n/a", "the run exported no model"
    name, wanted = min(folders.items(), key=lambda item: -_equal(item[1], weights.files))
    problems = [
        f"{file} has other bytes than {name}/{file} of the evidence" for file in _changed(wanted, weights.files)
    ]
    problems += [f"{file} is missing" for file in sorted(wanted.keys() - weights.files.keys())]
    problems += [f"{file} is no file of {name}/" for file in sorted(weights.files.keys() - wanted.keys())]
    return answer(problems, f"{len(wanted)} files, each with the digest that the evidence records for {name}/")


def weights_are_signed(evidence: Evidence) -> Answer:
    """V32."""
    weights = evidence.reader.weights
    if weights is None or weights.signature is None:
        return "n/a", NO_SIGNATURE
    return weights.signature


def _equal(wanted: Mapping[str, str], files: Mapping[str, str]) -> int:
    return sum(files.get(name) == digest for name, digest in wanted.items())


def _changed(wanted: Mapping[str, str], files: Mapping[str, str]) -> list[str]:
    return [name for name in sorted(wanted.keys() & files.keys()) if wanted[name] != files[name]]
