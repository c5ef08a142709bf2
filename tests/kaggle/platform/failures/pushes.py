"""Failures of a push."""

from __future__ import annotations

from tests.kaggle.platform.api.calls import Call
from tests.kaggle.platform.failures.table import Collection
from tests.kaggle.platform.web.messages import ApiError, Go, Reply, json_reply
from tests.kaggle.platform.world.kernels import SOURCE_KINDS
from tests.kaggle.platform.world.pushing import QUICK_SAVE, invalid_key, kernel_of, machine_of, save
from tests.kaggle.platform.world.quota import CPU, GPU, TPU, Machine

PUSHES = Collection()
SAVE = "SaveKernel"


def _refuse(sentence: str) -> Reply:
    return json_reply({"error": sentence})


def _saved(call: Call) -> Reply:
    """The version is saved and never run."""
    kernel, refusal = kernel_of(call.world, call.identity.required(), call.body)
    if kernel is None:
        return _refuse(refusal or "")
    with call.world.lock:
        return json_reply(save(call.world, kernel, call.body, machine_of(call.body), runs=False))


@PUSHES.add(SAVE, fact='"Maximum batch GPU session count of 2 reached."')
def gpu_capacity(call: Call, go: Go) -> Reply:
    """An answer with `error` and HTTP 200; nothing is saved."""
    return _refuse("Maximum batch GPU session count of 2 reached.")


@PUSHES.add(SAVE, fact="TPU **1**, queued ones included")
def tpu_capacity(call: Call, go: Go) -> Reply:
    """The same for a TPU."""
    return _refuse("Maximum batch TPU session count of 1 reached.")


@PUSHES.add(SAVE, fact="CPU 5")
def cpu_capacity(call: Call, go: Go) -> Reply:
    """The same for a CPU."""
    return _refuse("Maximum batch CPU session count of 5 reached.")


@PUSHES.add(SAVE, fact="A refused run may still have saved the source as a new version")
def capacity_but_saved(call: Call, go: Go) -> Reply:
    """The refusal, and a new version all the same."""
    _saved(call)
    return _refuse("Maximum batch GPU session count of 2 reached.")


@PUSHES.add(SAVE, "GetAcceleratorQuotaStatistics", fact='"Maximum weekly GPU quota of 30.00 hours reached."')
def gpu_quota_empty(call: Call, go: Go) -> Reply:
    """The week's GPU hours are used up: in the figures too."""
    return _quota_empty(call, go, GPU)


@PUSHES.add(SAVE, "GetAcceleratorQuotaStatistics", fact="TPU 20.00")
def tpu_quota_empty(call: Call, go: Go) -> Reply:
    """The week's TPU hours are used up: in the figures too."""
    return _quota_empty(call, go, TPU)


def _quota_empty(call: Call, go: Go, kind: str) -> Reply:
    quota = call.world.quota
    quota.used[kind] = quota.allowed[kind]
    return go()


@PUSHES.add("GetAcceleratorQuotaStatistics", fact="None/[] left out")
def quota_absent(call: Call, go: Go) -> Reply:
    """The answer has neither quota nor refresh time."""
    return json_reply({})


@PUSHES.add(SAVE, fact='"Notebook not found" = slug not yours, or title and slug differ')
def notebook_not_found(call: Call, go: Go) -> Reply:
    """The name is refused with HTTP 200."""
    return _refuse("Notebook not found")


def _drop(call: Call, kind: str, go: Go) -> Reply:
    """All sources of this kind are not valid: the version runs without them."""
    asked = call.body.pop(kind, [])
    answer = go()
    return json_reply(answer.json | {invalid_key(kind): asked})


@PUSHES.add(SAVE, fact="invalid sources 0 (dataset, competition, kernel, tags printed")
def invalid_dataset_sources(call: Call, go: Go) -> Reply:
    """All datasets are dropped and listed; the version runs without them."""
    return _drop(call, SOURCE_KINDS[0], go)


@PUSHES.add(SAVE, fact="invalid sources 0 (dataset, competition, kernel, tags printed")
def invalid_competition_sources(call: Call, go: Go) -> Reply:
    """All competitions are dropped and listed."""
    return _drop(call, SOURCE_KINDS[1], go)


@PUSHES.add(SAVE, fact="invalid sources 0 (dataset, competition, kernel, tags printed")
def invalid_kernel_sources(call: Call, go: Go) -> Reply:
    """All outputs of kernels are dropped and listed."""
    return _drop(call, SOURCE_KINDS[2], go)


@PUSHES.add(SAVE, fact="**invalidModelSources never printed**")
def invalid_model_sources(call: Call, go: Go) -> Reply:
    """All models are dropped and listed, where the real client never looks."""
    return _drop(call, SOURCE_KINDS[3], go)


@PUSHES.add(SAVE, fact="invalid sources 0 (dataset, competition, kernel, tags printed")
def invalid_tags(call: Call, go: Go) -> Reply:
    """The tags are dropped and listed."""
    answer = go()
    return json_reply(answer.json | {"invalidTags": call.body.get("categoryIds") or ["no-such-tag"]})


def _on_machine(call: Call, go: Go, machine: Machine) -> Reply:
    """The version gets another machine than it asked for; the answer does not say so."""
    with call.world.lock:
        call.world.forced_machine = machine
        try:
            return go()
        finally:
            call.world.forced_machine = None


@PUSHES.add(SAVE, fact="Server substitutes silently")
def accelerator_substituted(call: Call, go: Go) -> Reply:
    """The version runs on a CPU, whatever it asked for; the answer does not say so."""
    return _on_machine(call, go, Machine("", CPU, CPU))


@PUSHES.add(SAVE, fact="with TpuV5E8 runs on the CPU image, without an error")
def tpu_on_cpu_image(call: Call, go: Go) -> Reply:
    """A TPU with the CPU's image; the answer does not say so."""
    return _on_machine(call, go, Machine("TpuV5E8", TPU, CPU))


@PUSHES.add(SAVE, fact='HTTP 400 "The kernel source must be less than 1 megabytes in size."')
def source_too_large(call: Call, go: Go) -> Reply:
    """The source is refused for its size, whatever that is."""
    raise ApiError(400, "The kernel source must be less than 1 megabytes in size.")


@PUSHES.add(SAVE, fact="from a version that was saved but not run")
def saved_not_run(call: Call, go: Go) -> Reply:
    """The version is there, a session is not."""
    call.body["kernelExecutionType"] = QUICK_SAVE
    return go()


@PUSHES.add(SAVE, fact="write intent first, then reconcile by listing versions")
def push_answer_lost(call: Call, go: Go) -> Reply:
    """The push is taken; the connection is closed before the answer."""
    go()
    return Reply(cut=0)


@PUSHES.add(SAVE, fact="version and URL from the answer")
def push_without_version(call: Call, go: Go) -> Reply:
    """The answer has a URL and no number."""
    return json_reply({key: value for key, value in go().json.items() if key != "versionNumber"})


@PUSHES.add(SAVE, fact="slug or title that Kaggle would change")
def slug_changed(call: Call, go: Go) -> Reply:
    """The kernel gets another slug than the one that was asked for."""
    owner, _, slug = call.body.get("slug", "").partition("/")
    call.body.update({"slug": f"{owner}/{slug}-1", "newTitle": f"{call.body.get('newTitle') or slug} 1"})
    return go()


@PUSHES.add(
    "CreateDataset",
    "GetDatasetStatus",
    fact="`datasets create` of a taken slug: `Dataset creation error: …`, exit **0**",
)
def slug_taken(call: Call, go: Go) -> Reply:
    """Somebody has a dataset of this name."""
    if call.incoming.operation == "GetDatasetStatus":
        return json_reply({"status": "READY"})
    slug = call.body.get("slug", "")
    said = f'The requested slug "{slug}" is already in use by a dataset. Please choose another slug.'
    return json_reply({"status": "error", "error": said, "hasError": True})


@PUSHES.add("GetDatasetStatus", fact="`datasets status` prints `ready` without newline")
def dataset_never_ready(call: Call, go: Go) -> Reply:
    """It stays in processing."""
    return json_reply(go().json | {"status": "BLOBS_RECEIVED"})


@PUSHES.add("Upload", fact="`blobs.BlobApiService/StartBlobUpload` then `PUT createUrl`")
def upload_expired(call: Call, go: Go) -> Reply:
    """The address of the upload is not there any more."""
    raise ApiError(404, "Not found")


@PUSHES.add("Upload", fact="`blobs.BlobApiService/StartBlobUpload` then `PUT createUrl`")
def upload_interrupted(call: Call, go: Go) -> Reply:
    """503 in the middle: the first half has arrived."""
    blob = call.world.blobs.get(call.incoming.arguments[0])
    if blob is not None and not blob.content:
        blob.content = call.incoming.body[: len(call.incoming.body) // 2]
    return Reply(503, b"", "")
