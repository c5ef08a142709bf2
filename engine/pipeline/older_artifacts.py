"""Artifacts of an engine whose ``artifact.json`` had no digest of itself: checked, sealed and said once.

In: an artifact as the store found it. Out: a sentence for the person where it was one of these, and is none any more.
"""

from __future__ import annotations

from engine.artifacts.refusals import changed_on_disk
from engine.artifacts.store import Artifact, Store
from engine.pipeline.plan import relative
from engine.runspec.model import Spec


def check_artifact(store: Store, spec: Spec, maker: str, artifact: Artifact) -> None:
    """Raises RunFailed R105 where a file of it is not what the step ``maker`` published. Reads every byte."""
    damaged = store.damage(artifact)
    if damaged:
        raise changed_on_disk(artifact.type, maker, damaged, relative(spec.path, spec.root))


def take_over(store: Store, spec: Spec, maker: str, artifact: Artifact) -> str | None:
    """Check all files of an artifact without a seal, and seal it. The caller holds the run's lock."""
    if artifact.is_sealed:
        return None
    check_artifact(store, spec, maker, artifact)
    store.seal(artifact)
    return (
        f'step "{maker}": an earlier engine made its {artifact.type}, without a digest of artifact.json: every file of it is as '
        "published, its facts are taken as they stand, and it has that digest from now on"
    )
