"""The rules of a push: what is refused, what is dropped without a word, what becomes a version.

In: the body of SaveKernel and the user. Out: the answer. A refusal of capacity, quota or name is an answer with ``error`` and
HTTP 200, as on the platform, where the real command exits 0 on it.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.kaggle.platform.web.messages import ApiError, Json
from tests.kaggle.platform.world.kernels import SOURCE_KINDS, Kernel, KernelVersion, title_slug
from tests.kaggle.platform.world.quota import CPU, IMAGES, TPU, Machine, machine_for
from tests.kaggle.platform.world.sources import model_ref
from tests.kaggle.platform.world.world import World

MOST_SOURCE_BYTES = 1_000_000
QUICK_SAVE = "QUICK_SAVE"


def push(world: World, user: str, body: Json) -> Json:
    """Save a version and, unless it is a quick save, begin its session."""
    if len(body.get("text", "").encode()) >= MOST_SOURCE_BYTES:
        raise ApiError(400, "The kernel source must be less than 1 megabytes in size.")
    kernel, refusal = kernel_of(world, user, body)
    runs = body.get("kernelExecutionType") != QUICK_SAVE
    machine = world.forced_machine or machine_of(body)
    if refusal is None and runs:
        refusal = world.quota.refusal(
            machine.kind, world.used(user).get(machine.kind, 0), world.under_way(machine.kind, user)
        )
    if refusal is not None or kernel is None:
        return {"error": refusal}
    return save(world, kernel, body, machine, runs=runs)


def save(world: World, kernel: Kernel, body: Json, machine: Machine, *, runs: bool) -> Json:
    """A new version of a kernel."""
    sources, invalid = _sources(world, kernel.owner, body)
    limit = min(body.get("sessionTimeoutSeconds") or machine.session_seconds, machine.session_seconds)
    number = kernel.latest.number + 1 if kernel.versions else 1
    version = KernelVersion(kernel, number, body.get("text", ""), body, sources, machine, limit, world.clock.now())
    kernel.versions.append(version)
    kernel.is_private = body.get("isPrivate", True)
    kernel.title = body.get("newTitle") or kernel.title
    world.kernels[kernel.ref] = kernel
    if world.push_detaches_secrets:
        kernel.attached_secrets.clear()
    if runs:
        world.begin(version)
    answer = {"ref": f"/code/{kernel.ref}", "url": kernel.url, "versionNumber": number, "kernelId": kernel.number}
    return answer | {key: names for key, names in invalid.items() if names}


def kernel_of(world: World, user: str, body: Json) -> tuple[Kernel | None, str | None]:
    """The kernel that a push is for, new or not, or the sentence that refuses it."""
    ref = body.get("slug") or next((key for key, one in world.kernels.items() if one.number == body.get("id")), "")
    owner, _, slug = ref.partition("/")
    title = body.get("newTitle") or ""
    if not slug or owner != user or (title and title_slug(title) != slug):
        return None, "Notebook not found"
    return world.kernels.get(ref) or Kernel(owner, slug, title or slug, world.next_number(), True), None


def machine_of(body: Json) -> Machine:
    """The machine that a push gets; a TPU with the image of another kind is the TPU trap."""
    machine = machine_for(body.get("machineShape"), body.get("enableGpu", False), body.get("enableTpu", False))
    image = _image_kind(body)
    return Machine(machine.shape, machine.kind, image) if machine.kind == TPU and image else machine


def _image_kind(body: Json) -> str | None:
    """The image that a push picks by accident: by ``dockerImage``, or by a `kaggle` key in the notebook's metadata."""
    named = next((kind for kind, image in IMAGES.items() if image == body.get("dockerImage")), None)
    if named is not None or body.get("dockerImage"):
        return named or CPU
    try:
        metadata = json.loads(body.get("text") or "{}").get("metadata", {}).get("kaggle", {})
    except (ValueError, AttributeError):
        return None
    return CPU if {"dockerImageVersionId", "accelerator"} & set(metadata) else None


def _sources(world: World, user: str, body: Json) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """What is attached, and what is not valid, each by the name of its field."""
    checks: dict[str, Callable[[str], bool]] = {
        "datasetDataSources": lambda ref: _has_dataset(world, user, ref),
        "competitionDataSources": lambda ref: ref in world.competitions,
        "kernelDataSources": lambda ref: ref.count("/") in (1, 2) and world.latest_output(ref) is not None,
        "modelDataSources": lambda ref: _has_model(world, user, ref),
    }
    valid = {kind: [ref for ref in body.get(kind, []) if checks[kind](ref)] for kind in SOURCE_KINDS}
    invalid = {
        invalid_key(kind): [ref for ref in body.get(kind, []) if ref not in valid[kind]] for kind in SOURCE_KINDS
    }
    invalid["invalidTags"] = [tag for tag in body.get("categoryIds", []) if " " in tag]
    return valid, invalid


def invalid_key(kind: str) -> str:
    """``datasetDataSources`` is ``invalidDatasetSources`` in the answer."""
    return f"invalid{kind[0].upper()}{kind[1:].replace('DataSources', 'Sources')}"


def _has_dataset(world: World, user: str, ref: str) -> bool:
    dataset = world.datasets.get("/".join(ref.split("/")[:2]))
    return dataset is not None and (not dataset.is_private or dataset.owner == user)


def _has_model(world: World, user: str, ref: str) -> bool:
    try:
        model = world.model(*model_ref(ref))
    except ApiError:
        return False
    return model is not None and model.is_open_to(user)
