"""What a notebook can ask inside its session: user secrets by label, and kagglehub's attaching of a source."""

from __future__ import annotations

from pathlib import Path

from tests.kaggle.platform.api.calls import Call, Handlers
from tests.kaggle.platform.session.mounts import mount_model, mount_named
from tests.kaggle.platform.web.messages import ApiError, Json, Reply, json_reply
from tests.kaggle.platform.world.kernels import KernelVersion
from tests.kaggle.platform.world.sources import framework_word


def _version(call: Call) -> KernelVersion:
    token = call.incoming.headers.get("x-kaggle-authorization", "").removeprefix("Bearer ")
    version = call.world.passes.get(token)
    if version is None:
        raise ApiError(401, "Unauthenticated")
    return version


def get_user_secret(call: Call) -> Reply:
    """The value, where the user has made it and it is attached to this notebook; both lacks get the same sentence."""
    kernel = _version(call).kernel
    label = call.body.get("Label", "")
    value = call.world.user_secrets.get(kernel.owner, {}).get(label)
    if value is None or label not in kernel.attached_secrets:
        said = f"No user secrets exist for kernel id {kernel.number} and label {label}"
        return json_reply({"wasSuccessful": False, "errors": [said]})
    return json_reply({"wasSuccessful": True, "result": {"secret": value}})


def attach_datasource(call: Call) -> Reply:
    """Mount a source in the running session; the answer says where below `input`."""
    version = _version(call)
    root = getattr(version.session, "root", None)
    if root is None:
        raise ApiError(400, "This session has no file system")
    mounted = _attach(call, version, root / "input")
    return json_reply({"wasSuccessful": True, "result": mounted})


def _attach(call: Call, version: KernelVersion, folder: Path) -> Json:
    body, world = call.body, call.world
    if "modelRef" in body:
        ref = body["modelRef"]
        number = int(ref["VersionNumber"]) if ref.get("VersionNumber") else None
        words = ref["OwnerSlug"], ref["ModelSlug"], framework_word(ref["Framework"]), ref["InstanceSlug"]
        model = world.model(*words, number)
        if model is None or not model.is_open_to(version.kernel.owner):
            raise ApiError(403, "Permission 'models.get' was denied")
        return {"mountSlug": mount_model(model, folder), "versionNumber": model.version}
    kind, ref = ("datasets", body["datasetRef"]) if "datasetRef" in body else ("notebooks", body["kernelRef"])
    name = f"{ref['OwnerSlug']}/{ref.get('DatasetSlug') or ref.get('KernelSlug')}"
    files = world.datasets[name].files if kind == "datasets" and name in world.datasets else world.latest_output(name)
    if files is None:
        raise ApiError(403, f"Permission '{kind}.get' was denied")
    return {"mountSlug": mount_named(kind, name, files, folder)}


HANDLERS: Handlers = {"GetUserSecretByLabel": get_user_secret, "AttachDatasource": attach_datasource}
