"""The job file that runs a run-spec on a cluster, rendered from the spec: a pure function, nothing is submitted.

What goes in: a Spec with a launch section. What comes out: the text, the name to save it under, and what to type then.

    job = job_file(spec)                 # JobFile("slurm", "m36_v1.sbatch", "#!/bin/bash…", "sbatch m36_v1.sbatch")
    job = job_file(spec, "skypilot")     # for another scheduler than the spec's own

One process on each machine, all devices of the machine in it. The processes find each other

- through SLURM's own variables, which JAX knows (``cluster: auto`` of train_sft: jax.distributed's auto-detection),
- on Cloud TPUs through the TPU's own metadata (``cluster: auto``, too),
- elsewhere by RUNSPEC_COORDINATOR (host:port of the first), RUNSPEC_NUM_PROCESSES and RUNSPEC_PROCESS_ID.

Interrupted or at its time limit, a run saves a checkpoint and ends with 130 or 7 (docs/exit-codes.md): these the
scheduler is told to begin again. Sources: the manuals of sbatch and srun; SkyPilot's YAML reference and
sky/utils/schemas.py; JobSet's API (jobset.x-k8s.io/v1alpha2); jax/_src/clusters.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.assets import asset
from engine.errors import Diagnostic, InputInvalid, Where
from engine.redact import redact
from engine.runspec.model import LaunchSpec, Spec

RESUMABLE_EXIT_CODES = (7, 130)
GRACE_SECONDS = 180  # between the wish to stop and the kill: the train step under way, then a checkpoint
COORDINATOR_PORT = 55527
EXAMPLE = "launch: {scheduler: slurm, machines: 2, devices_per_machine: 4, time_limit_minutes: 720}"
# What a device is called there; a device that is missing is not had there.
DEVICES: Mapping[str, Mapping[str, str]] = {
    "slurm": {"cpu": "", "gpu": "gpu"},
    "skypilot": {"cpu": "", "gpu": "gpu", "tpu": "tpu"},
    "jobset": {"cpu": "", "gpu": "nvidia.com/gpu", "tpu": "google.com/tpu"},
}
TEMPLATES: Mapping[str, tuple[str, str, str]] = {  # scheduler -> template, ending of the file, how it is submitted
    "slurm": ("slurm.sh.j2", "sbatch", "sbatch {}"),
    "skypilot": ("skypilot.yaml.j2", "sky.yaml", "sky jobs launch {}"),
    "jobset": ("jobset.yaml.j2", "jobset.yaml", "kubectl apply -f {}"),
}
_SECRET_NAME = re.compile(r"TOKEN|SECRET|KEY|PASSWORD", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class JobFile:
    """``name`` is what to save ``text`` as, ``submit`` what to type then."""

    scheduler: str
    name: str
    text: str
    submit: str


def job_file(spec: Spec, scheduler: str | None = None) -> JobFile:
    """Render it. Raises InputInvalid L101 to L105 with every finding at once."""
    launch = _launch_of(spec, scheduler)
    findings = list(_findings(spec, launch))
    if findings:
        raise InputInvalid.of(findings)
    template, ending, submit = TEMPLATES[launch.scheduler]
    name = f"{spec.run_version}.{ending}"
    # SkyPilot takes values of secrets from the environment of who submits, for the names that are typed.
    typed = "".join(f" --secret {secret}" for secret in launch.secrets) if launch.scheduler == "skypilot" else ""
    return JobFile(launch.scheduler, name, _render(template, _view(spec, launch)), submit.format(name) + typed)


def _launch_of(spec: Spec, scheduler: str | None) -> LaunchSpec:
    if spec.launch is None:
        raise InputInvalid("L101", "the run-spec does not say which machines: it has no launch section",
                           where=_where(spec, "launch"), hint=f"add one, say\n{EXAMPLE}")  # fmt: skip
    return replace(spec.launch, scheduler=scheduler or spec.launch.scheduler)  # type: ignore[arg-type]


def _where(spec: Spec, path: str) -> Where:
    file = spec.path.relative_to(spec.root) if spec.path.is_relative_to(spec.root) else spec.path
    return Where(file.as_posix(), path=path)


def _findings(spec: Spec, launch: LaunchSpec) -> Iterator[Diagnostic]:
    had = DEVICES[launch.scheduler]
    if spec.device not in had:
        says = "device is auto" if spec.device == "auto" else f"a {spec.device} is not had through {launch.scheduler}"
        yield Diagnostic("L102", f"a job file has to ask for its devices, and {says}", _where(spec, "device"),
                         f"write device: {' or '.join(had)}")  # fmt: skip
    elif (launch.devices_per_machine == 0) != (spec.device == "cpu"):
        message = f"device is {spec.device}, and devices_per_machine {launch.devices_per_machine}"
        yield Diagnostic("L102", message, _where(spec, "launch.devices_per_machine"),
                         "0 goes with device: cpu, and with no other")  # fmt: skip
    for key, why in _needed(spec, launch):
        yield Diagnostic("L103", f"{launch.scheduler} needs {key}: {why}", _where(spec, f"launch.{key}"))
    if launch.machines > 1 and (launch.scheduler == "slurm" or spec.device == "tpu"):
        for step in spec.steps:
            if step.args.get("cluster") == "none":  # elsewhere RUNSPEC_COORDINATOR goes before what is declared
                message = f'step "{step.id}" trains on one machine (cluster: none), and the job has {launch.machines}'
                yield Diagnostic("L105", message, step.where, "write cluster: auto under its `with:`")
    for variable in launch.environment:
        name = variable.split("=", 1)[0]
        if _SECRET_NAME.search(name) or redact(variable) != variable:
            yield Diagnostic("L104", f"{name} looks like a secret, and the job file would show its value",
                             _where(spec, "launch.environment"), f"take it out and write secrets: [{name}]")  # fmt: skip


def _needed(spec: Spec, launch: LaunchSpec) -> Iterator[tuple[str, str]]:
    """What this scheduler cannot do without, of what the spec leaves open."""
    named = {f"{launch.scheduler}.{key}": value for key, value in launch.own[launch.scheduler].items()}
    if launch.scheduler in ("skypilot", "jobset") and spec.device in ("gpu", "tpu") and not launch.accelerator:
        yield "accelerator", "it has several kinds"
    if launch.scheduler == "jobset":
        if not named.get("jobset.image"):
            yield "jobset.image", "a container has nothing installed"
        if not named.get("jobset.volume_claim"):
            yield "jobset.volume_claim", "the project and its checkpoints have to outlive the containers"
        if launch.secrets and not named.get("jobset.secret"):
            yield "jobset.secret", "that is where the values of secrets are"
        if spec.device == "tpu" and not named.get("jobset.tpu_topology"):
            yield "jobset.tpu_topology", "a slice has a shape"


def _view(spec: Spec, launch: LaunchSpec) -> dict[str, Any]:
    """What the templates see: plain values."""
    minutes = launch.time_limit_minutes
    return {
        "name": spec.run_version,
        "dns_name": dns_name(spec.run_version),
        "spec_path": _where(spec, "").file,
        "command": shlex.join(["runspec", "run", _where(spec, "").file, *_overrides(spec)]),
        "device": spec.device,
        "resource": DEVICES[launch.scheduler][spec.device],
        "machines": launch.machines,
        "devices": launch.devices_per_machine,
        "accelerator": launch.accelerator,
        "cpus": launch.cpus_per_machine,
        "memory_gib": launch.memory_gib_per_machine,
        "seconds": minutes * 60,
        "slurm_time": f"{minutes // 1440}-{minutes % 1440 // 60:02}:{minutes % 60:02}:00",
        "grace_seconds": GRACE_SECONDS,
        "max_restarts": launch.max_restarts,
        "resumable": list(RESUMABLE_EXIT_CODES),
        "setup": list(launch.setup),
        "environment": [tuple(variable.split("=", 1)) for variable in launch.environment],
        "secrets": list(launch.secrets),
        "port": COORDINATOR_PORT,
        "only": dict.fromkeys(_keys_of(launch.scheduler)) | dict(launch.own[launch.scheduler]),
    }


def _keys_of(scheduler: str) -> tuple[str, ...]:
    from engine.runspec.kinds import base_schema

    return tuple(base_schema()["properties"]["launch"]["properties"][scheduler]["properties"])


def _overrides(spec: Spec) -> list[str]:
    """Those of the run; those of the launch section are in the job file already."""
    return [one.text for one in spec.overrides if one.path.split(".")[0] != "launch"]


def dns_name(text: str) -> str:
    """A name that Kubernetes and SkyPilot take: lower case, digits and '-', at most 40 characters.

    >>> dns_name("M36_v1.final")
    'm36-v1-final'
    """
    return re.sub(r"[^a-z0-9]+", "-", f"r{text}".lower() if text[:1].isdigit() else text.lower())[:40].strip("-")


def _render(template: str, view: Mapping[str, Any]) -> str:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        loader=jinja2.FileSystemLoader(asset("templates", "launch")),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # shell and YAML, quoted by the two filters below
    )
    environment.filters |= {"sh": lambda value: shlex.quote(str(value)), "q": _json, "literal": _literal}
    return environment.get_template(template).render(**view)


def _literal(value: str) -> str:
    """As it has to stand in a pod's command or environment for Kubernetes to leave it alone.

    >>> _literal("$(HOME) $$ $USER")
    '$$(HOME) $$$ $USER'
    """
    return re.sub(r"\$(?=[$(])", "$$", value)


def _json(value: Any) -> str:
    """A scalar or a list as YAML: JSON is a part of it."""
    return json.dumps(value, ensure_ascii=False)
