"""Job files: what they request, that their bytes are always the same, and what their scripts do when they run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from engine import launch
from engine.cli import main
from engine.errors import InputInvalid, render
from engine.launch import TEMPLATES, job_file
from engine.runspec.model import Spec

MakeSpec = Callable[..., Spec]
GOLDEN = Path(__file__).parent / "golden"
COMMON = (
    "machines: 2, devices_per_machine: 4, accelerator: h100, cpus_per_machine: 16, memory_gib_per_machine: 64, "
    'time_limit_minutes: 1575, max_restarts: 3, setup: ["source .venv/bin/activate", "echo \\"ready: $HOSTNAME\\""], '
    'environment: ["HF_HOME=/scratch/it\'s \\"here\\": $HOME $(date)", "A="], secrets: [HF_TOKEN, WANDB_API_KEY]'
)
OWN = {
    "slurm": "slurm: {partition: gpu, account: research}",
    "skypilot": "skypilot: {infra: gcp/us-central1, spot: true, bucket: 's3://my-runs'}",
    "jobset": "jobset: {image: 'registry.example/runspec:1.0', namespace: training, volume_claim: runspec-project, "
              "secret: runspec-secrets}",
}  # fmt: skip
SECTIONS = {name: f"{{scheduler: {name}, {COMMON}, {own}}}" for name, own in OWN.items()}
TPU = "accelerator: {kind}, machines: 2, devices_per_machine: 4"
CASES = {
    **{name: (section, "gpu") for name, section in SECTIONS.items()},
    "slurm_least": ("{scheduler: slurm, devices_per_machine: 0}", "cpu"),
    "skypilot_tpu": (f"{{scheduler: skypilot, {TPU.format(kind='tpu-v5litepod-8')}}}", "tpu"),
    "jobset_tpu": (
        f"{{scheduler: jobset, {TPU.format(kind='tpu-v5-lite-podslice')}, jobset: {{image: i, volume_claim: v, "
        "tpu_topology: 2x4}}",
        "tpu",
    ),
    "jobset_least": ("{scheduler: jobset, devices_per_machine: 0, jobset: {image: i, volume_claim: v}}", "cpu"),
}  # fmt: skip


def text_of(make_spec: MakeSpec, case: str) -> str:
    section, device = CASES[case]
    return job_file(make_spec(section, device=device)).text


@pytest.mark.parametrize("case", CASES)
def test_golden(make_spec: MakeSpec, case: str) -> None:
    """The whole file as a person reads it; twice the same bytes. (Copy what this prints after reading it.)"""
    text = text_of(make_spec, case)
    assert text == text_of(make_spec, case)
    assert text == (GOLDEN / f"{case}.txt").read_text(encoding="utf-8"), text
    assert all(line == line.rstrip() for line in text.splitlines())


# --- SLURM ---

# Options of sbatch that are used, as its manual writes them.
SBATCH = {
    "job-name": r"\S+", "nodes": r"\d+", "ntasks-per-node": "1", "cpus-per-task": r"\d+", "mem": r"\d+G",
    "gpus-per-node": r"(\w+:)?\d+", "time": r"\d+-\d\d:\d\d:\d\d", "partition": r"\S+", "account": r"\S+",
    "signal": r"TERM@\d+", "requeue": "", "open-mode": "append", "output": r"\S+-%j\.log",
}  # fmt: skip


@pytest.mark.parametrize("case", ["slurm", "slurm_least"])
def test_sbatch_reads_what_is_asked_for(make_spec: MakeSpec, case: str) -> None:
    """Options are known, well formed, each once, and stand before the first command, where sbatch stops looking."""
    lines = text_of(make_spec, case).splitlines()
    assert lines[0] == "#!/bin/bash"
    options = [line.removeprefix("#SBATCH --").partition("=") for line in lines if line.startswith("#SBATCH ")]
    names = [name for name, _, _ in options]
    assert len(names) == len(set(names))
    for name, _, value in options:
        assert re.fullmatch(SBATCH[name], value), name
    last = max(index for index, line in enumerate(lines) if line.startswith("#SBATCH "))
    assert all(line.startswith("#") for line in lines[: last + 1])


def test_the_time_limit_is_slurm_s(make_spec: MakeSpec) -> None:
    """1575 minutes are one day, two hours and a quarter."""
    assert "#SBATCH --time=1-02:15:00\n" in text_of(make_spec, "slurm")


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[..., tuple[int, list[str], str]]:
    """Run a script with stand-ins for the programs it calls: (exit code, their arguments, the output)."""

    def run(script: str, *, status: int = 0, **environment: str) -> tuple[int, list[str], str]:
        tools, calls = tmp_path / "tools", tmp_path / "calls"
        tools.mkdir(exist_ok=True)
        calls.write_text("")
        kept = "RUNSPEC_COORDINATOR RUNSPEC_NUM_PROCESSES RUNSPEC_PROCESS_ID JAX_LOCAL_DEVICE_IDS HF_HOME A"
        says = "".join(f'[ -z "${{{name}+x}}" ] || echo "{name}=${name}" >> {calls}\n' for name in kept.split())
        called = f'#!/bin/sh\necho $(basename $0) "$@" >> {calls}\n'
        texts = {
            # It does what it is told on this machine.
            "srun": f'#!/bin/sh\nwhile [ "${{1#--}}" != "$1" ]; do echo "srun $1" >> {calls}; shift; done\nexec "$@"\n',
            "runspec": f"{called}{says}exit {status}\n",
            "scontrol": called,
        }
        for tool, text in texts.items():
            (tools / tool).write_text(text)
            (tools / tool).chmod(0o755)
        (tmp_path / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
        (tmp_path / ".venv" / "bin" / "activate").write_text("true\n")
        given = {"PATH": f"{tools}{os.pathsep}/usr/bin{os.pathsep}/bin", "SLURM_SUBMIT_DIR": str(tmp_path),
                 "SLURM_JOB_ID": "77", "HOME": "/nowhere", **environment}  # fmt: skip
        done = subprocess.run(
            ["bash", "-c", script], env=given, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
        )
        return done.returncode, calls.read_text().splitlines(), done.stderr

    return run


SECRETS = {"HF_TOKEN": "x", "WANDB_API_KEY": "y"}


@pytest.mark.parametrize(
    ("status", "restarts", "requeued"),
    [
        (0, None, False),
        (1, None, False),
        (2, "0", False),
        (7, None, False),
        (130, None, True),
        (130, "2", True),
        (130, "3", False),
    ],
)
def test_slurm_begins_again_what_can_be_resumed(
    make_spec: MakeSpec, run_script: Callable[..., Any], status: int, restarts: str | None, requeued: bool
) -> None:
    """The time limit and a stop signal requeue the job, max_restarts times; failures do not; the exit code is passed on."""
    count = {} if restarts is None else {"SLURM_RESTART_COUNT": restarts}
    code, calls, _ = run_script(text_of(make_spec, "slurm"), status=status, **SECRETS, **count)
    assert code == status
    assert ("scontrol requeue 77" in calls) is requeued
    assert calls[:3] == ["srun --kill-on-bad-exit=1", "srun --cpus-per-task=16", "runspec run runspecs/cluster.yaml"]


def test_slurm_hands_the_environment_on(make_spec: MakeSpec, run_script: Callable[..., Any]) -> None:
    """Values arrive as they were written, quotes and dollars included; one process has all four devices."""
    _, calls, _ = run_script(text_of(make_spec, "slurm"), **SECRETS)
    assert calls[3:] == ["JAX_LOCAL_DEVICE_IDS=0,1,2,3", 'HF_HOME=/scratch/it\'s "here": $HOME $(date)', "A="]


def test_slurm_asks_for_secrets_that_are_not_there(make_spec: MakeSpec, run_script: Callable[..., Any]) -> None:
    """Nothing is run without them, and the one that is missing is named."""
    code, calls, said = run_script(text_of(make_spec, "slurm"), HF_TOKEN="x")
    assert code != 0
    assert calls == []
    assert "WANDB_API_KEY: is needed: export it before sbatch" in said


def test_slurm_stops_where_setup_fails(make_spec: MakeSpec, run_script: Callable[..., Any]) -> None:
    """A run never starts in a broken environment."""
    spec = make_spec('{scheduler: slurm, devices_per_machine: 1, setup: ["false"]}')
    code, calls, _ = run_script(job_file(spec).text)
    assert (code, calls) == (1, ["srun --kill-on-bad-exit=1"])


def test_slurm_runs_the_setup_on_each_machine(make_spec: MakeSpec, run_script: Callable[..., Any]) -> None:
    """In the shell that srun starts there, however it is quoted; without any, srun starts the run itself."""
    setup = """setup: ["A='it''s $HOME'", 'export A="$A$SLURM_JOB_ID"']"""
    _, calls, _ = run_script(job_file(make_spec("{scheduler: slurm, devices_per_machine: 1, " + setup + "}")).text)
    assert calls[1:] == ["runspec run runspecs/cluster.yaml", "A=its $HOME77"]
    text = job_file(make_spec("{scheduler: slurm, devices_per_machine: 1}")).text
    assert "\nsrun --kill-on-bad-exit=1 runspec run runspecs/cluster.yaml ||" in text


# --- SkyPilot and JobSet ---

TEXT, WHOLE = {"type": "string"}, {"type": "integer", "minimum": 0}


def closed(**properties: Any) -> dict[str, Any]:
    optional = {name.removesuffix("_"): schema for name, schema in properties.items()}
    needed = [name for name in properties if not name.endswith("_")]
    return {"type": "object", "additionalProperties": False, "properties": optional, "required": needed}


def mapping_of(schema: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": schema}


# The fields that are used, as SkyPilot's YAML reference and its sky/utils/schemas.py have them.
SKYPILOT = closed(
    name={"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"}, workdir=TEXT, num_nodes={"type": "integer"},
    setup_=TEXT, run=TEXT, envs_=mapping_of(TEXT), secrets_=mapping_of({"type": "null"}),
    file_mounts_=mapping_of(closed(source=TEXT, mode={"enum": ["MOUNT", "COPY", "MOUNT_CACHED"]})),
    resources=closed(
        infra_=TEXT, accelerators_={"type": "object", "maxProperties": 1, "additionalProperties": {"type": "number"}},
        cpus_=TEXT, memory_=TEXT, use_spot={"type": "boolean"}, job_recovery=closed(max_restarts_on_errors=WHOLE),
    ),
)  # fmt: skip
# Those of JobSet v1alpha2, of Job batch/v1 and of Pod v1.
DNS = {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
SECRET_REF = closed(secretKeyRef=closed(name=TEXT, key=TEXT))
CONTAINER = closed(
    name=DNS, image=TEXT, workingDir=TEXT, command={"type": "array", "items": TEXT},
    env_={"type": "array", "items": closed(name=TEXT, value_=TEXT, valueFrom_=SECRET_REF)},
    resources_=closed(requests=mapping_of({"type": ["integer", "string"]}), limits_=mapping_of(WHOLE)),
    volumeMounts={"type": "array", "items": closed(name=DNS, mountPath=TEXT)},
)  # fmt: skip
POD = closed(
    restartPolicy={"const": "Never"}, terminationGracePeriodSeconds=WHOLE, nodeSelector_=mapping_of(TEXT),
    containers={"type": "array", "items": CONTAINER},
    volumes={"type": "array", "items": closed(name=DNS, persistentVolumeClaim=closed(claimName=TEXT))},
)  # fmt: skip
JOB = closed(
    completionMode={"const": "Indexed"}, completions=WHOLE, parallelism=WHOLE, backoffLimit={"const": 0},
    activeDeadlineSeconds=WHOLE, template=closed(spec=POD),
)  # fmt: skip
JOBSET = closed(
    apiVersion={"const": "jobset.x-k8s.io/v1alpha2"}, kind={"const": "JobSet"},
    metadata=closed(name=DNS, namespace_=DNS, annotations_=mapping_of(TEXT)),
    spec=closed(
        failurePolicy=closed(maxRestarts=WHOLE),
        network=closed(enableDNSHostnames={"const": True}, publishNotReadyAddresses={"const": True}),
        replicatedJobs={"type": "array", "items": closed(name=DNS, replicas=WHOLE, template=closed(spec=JOB))},
    ),
)  # fmt: skip


def parsed(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("slurm")])
def test_the_yaml_is_what_its_reader_takes(make_spec: MakeSpec, case: str) -> None:
    """Every field exists in the API and has its type."""
    jsonschema.validate(parsed(text_of(make_spec, case)), SKYPILOT if case.startswith("skypilot") else JOBSET)


def test_skypilot_finds_the_first_machine(make_spec: MakeSpec, run_script: Callable[..., Any]) -> None:
    """Its own variables become the coordinator's address, the number of processes and this one's."""
    document = parsed(text_of(make_spec, "skypilot"))
    native = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1"}
    code, calls, _ = run_script(document["run"], status=130, **native, **document["envs"])
    assert code == 130  # what the run says passes on to who decides about another attempt
    assert calls == [
        "runspec run runspecs/cluster.yaml", "RUNSPEC_COORDINATOR=10.0.0.1:55527", "RUNSPEC_NUM_PROCESSES=2",
        "RUNSPEC_PROCESS_ID=1", "HF_HOME=/scratch/it's \"here\": $HOME $(date)", "A=",
    ]  # fmt: skip
    assert document["secrets"] == {"HF_TOKEN": None, "WANDB_API_KEY": None}
    assert "setup" not in document  # what a shell of its own had activated would not be active in the run's


def test_skypilot_stops_where_setup_fails(make_spec: MakeSpec, run_script: Callable[..., Any]) -> None:
    """The run does not start in an environment that does not exist."""
    spec = make_spec('{scheduler: skypilot, devices_per_machine: 1, accelerator: T4, setup: ["false"]}')
    code, calls, _ = run_script(parsed(job_file(spec).text)["run"])
    assert (code, calls) == (1, [])


def expanded(text: str) -> str:
    """What Kubernetes makes of a pod's text: $(NAME) is a variable, and the job file uses none; $$ is $."""
    assert "$(" not in text.replace("$$", "")
    return text.replace("$$", "$")


def test_dollars_reach_a_pod_as_they_were_written(make_spec: MakeSpec) -> None:
    """In the environment, the setup and the overrides."""
    texts = ["a$$b", "$(HOME)", "$$(X)$", "$y $$$"]
    section = f"{{scheduler: jobset, devices_per_machine: 0, setup: {texts}, environment: ['A={texts[2]}'], "
    spec = make_spec(section + "jobset: {image: i, volume_claim: v}}", f"notes={texts[1]}", device="cpu")
    job = parsed(job_file(spec).text)["spec"]["replicatedJobs"][0]
    (container,) = job["template"]["spec"]["template"]["spec"]["containers"]
    assert expanded(container["env"][0]["value"]) == texts[2]
    lines = expanded(container["command"][2]).splitlines()
    assert lines[:4] == texts
    assert lines[-1].endswith(shlex.quote(f"notes={texts[1]}"))


def test_one_spec_serves_all_schedulers(make_spec: MakeSpec) -> None:
    """It can have the keys of each; missing ones are named."""
    own = ", ".join(OWN.values())
    spec = make_spec(f"{{scheduler: slurm, {COMMON}, {own}}}")
    for name in TEMPLATES:
        assert job_file(spec, name).text == job_file(make_spec(SECTIONS[name])).text
    assert job_file(spec, "skypilot").submit.endswith(".sky.yaml --secret HF_TOKEN --secret WANDB_API_KEY")
    with pytest.raises(InputInvalid, match=r"L103.*jobset\.image"):
        job_file(make_spec(SECTIONS["slurm"]), "jobset")


def test_a_jobset_finds_its_first_machine(make_spec: MakeSpec, run_script: Callable[..., Any]) -> None:
    """By the name that JobSet gives the first pod; the index of a pod is its process's."""
    document = parsed(text_of(make_spec, "jobset"))
    job = document["spec"]["replicatedJobs"][0]
    container = job["template"]["spec"]["template"]["spec"]["containers"][0]
    values = {entry["name"]: expanded(entry["value"]) for entry in container["env"] if "value" in entry}
    name = document["metadata"]["name"]
    assert values["RUNSPEC_COORDINATOR"] == f"{name}-{job['name']}-0-0.{name}:55527"
    assert container["command"][:2] == ["/bin/bash", "-ec"]
    code, calls, _ = run_script(shlex.join(container["command"]), status=7, JOB_COMPLETION_INDEX="1", **values)
    assert code == 7
    assert calls[0] == "runspec run runspecs/cluster.yaml"
    assert {"RUNSPEC_NUM_PROCESSES=2", "RUNSPEC_PROCESS_ID=1", 'HF_HOME=/scratch/it\'s "here": $HOME $(date)'} <= set(
        calls
    )


@pytest.mark.parametrize("case", [case for case in CASES if case.endswith(("_tpu", "_least"))])
def test_no_coordinator_where_none_is_needed(make_spec: MakeSpec, case: str) -> None:
    """TPUs find each other, and a single machine needs no coordinator."""
    assert "RUNSPEC_" not in text_of(make_spec, case)
    assert "JAX_LOCAL_DEVICE_IDS" not in text_of(make_spec, case)


@pytest.mark.parametrize("scheduler", TEMPLATES)
def test_every_shell_text_parses(make_spec: MakeSpec, scheduler: str) -> None:
    """`bash -n` has nothing to say about a script or a command in a YAML."""
    text = text_of(make_spec, scheduler)
    scripts = [text]
    if scheduler == "skypilot":
        scripts = [parsed(text)["run"]]
    elif scheduler == "jobset":
        pod = parsed(text)["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
        scripts = [pod["containers"][0]["command"][2]]
    for script in scripts:
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


# --- refusals, and the command ---

LACKS = "  --> runspecs/cluster.yaml\n"


@pytest.mark.parametrize(
    ("section", "device", "says"),
    [
        (None, "gpu", "error[L101]: the run-spec names no machines: it has no launch section\n" + LACKS +
                      "   = help: add one, say\n"
                      "           launch: {scheduler: slurm, machines: 2, devices_per_machine: 4, time_limit_minutes: 720}"),
        ("{scheduler: slurm}", "auto", "error[L102]: a job file must request its devices, and device is auto\n" + LACKS +
                                       "   = help: write device: cpu or gpu"),
        ("{scheduler: slurm}", "tpu", "error[L102]: a job file must request its devices, and slurm has no tpu\n" + LACKS + "   = help: write device: cpu or gpu"),
        ("{scheduler: slurm}", "cpu", "error[L102]: device is cpu, but devices_per_machine is 1\n" + LACKS +
                                      "   = help: write 0 with device: cpu, and at least 1 with any other device"),
        ("{scheduler: skypilot}", "gpu", "error[L103]: skypilot needs accelerator: there are several kinds\n" + LACKS.rstrip()),
        ("{scheduler: slurm, environment: [WANDB_API_KEY=abc]}", "gpu",
         "error[L104]: WANDB_API_KEY looks like a secret, and the job file would show its value\n" + LACKS +
         "   = help: remove it and write secrets: [WANDB_API_KEY]"),
        ("{scheduler: slurm, environment: [X=hf_" + "ab" * 17 + "]}", "gpu",
         "error[L104]: X looks like a secret, and the job file would show its value\n" + LACKS +
         "   = help: remove it and write secrets: [X]"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(make_spec: MakeSpec, section: str | None, device: str, says: str) -> None:
    """The sentence, the key and what to write."""
    with pytest.raises(InputInvalid) as caught:
        job_file(make_spec(section, device=device))
    assert render(caught.value.diagnostics[0]) == says


def test_no_line_of_a_job_file_shows_a_secret(make_spec: MakeSpec) -> None:
    """X342 names the line and the kind: a setup command is copied into the job file as it is."""
    token = "hf_" + "Ab1" * 10
    with pytest.raises(InputInvalid) as caught:
        job_file(make_spec("{scheduler: slurm, setup: [login " + token + "]}", device="gpu"))
    assert [row.code for row in caught.value.diagnostics] == ["X342"]
    assert "of the job file would show a secret (a Hugging Face token)" in str(caught.value)
    assert token not in str(caught.value)


def test_all_findings_come_at_once(make_spec: MakeSpec) -> None:
    """A spec for SLURM, rendered as a JobSet, lacks all options of Kubernetes."""
    with pytest.raises(InputInvalid) as caught:
        job_file(make_spec(SECTIONS["slurm"]), "jobset")
    assert [finding.message.split(":")[0] for finding in caught.value.diagnostics] == [
        "jobset needs jobset.image", "jobset needs jobset.volume_claim", "jobset needs jobset.secret",
    ]  # fmt: skip


@pytest.mark.parametrize(("scheduler", "machines", "found"), [("slurm", 2, 1), ("slurm", 1, 0), ("skypilot", 2, 0)])
def test_a_training_that_declares_itself_alone_is_refused_on_many(
    make_spec: MakeSpec, scheduler: str, machines: int, found: int
) -> None:
    """Where nothing else tells the processes of each other, `cluster: none` would train the same thing on each machine."""
    spec = make_spec(SECTIONS[scheduler], f"launch.machines={machines}", "train.cluster=none")
    findings = list(launch._findings(spec, spec.launch))
    assert [finding.code for finding in findings] == ["L105"] * found
    for finding in findings:
        assert render(finding).startswith(
            'error[L105]: step "train" trains on one machine (cluster: none), and the job has 2\n  --> '
        )
        assert finding.hint == "write cluster: auto under its `with:`"


def test_overrides_go_along(make_spec: MakeSpec) -> None:
    """Overrides of the run are in the job's command; overrides of the launch section are in the job file already."""
    spec = make_spec(SECTIONS["slurm"], "train.num_train_steps=50", "launch.machines=3", "notes=a b")
    text = job_file(spec).text
    assert "exec runspec run runspecs/cluster.yaml train.num_train_steps=50 '\"'\"'notes=a b'\"'\"'' ||" in text
    assert "#SBATCH --nodes=3\n" in text


def test_the_command_prints_the_file_and_nothing_else(
    make_spec: MakeSpec, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard output is the job file, byte for byte; without --print an error says that nothing is submitted."""
    spec = make_spec(SECTIONS["slurm"])
    monkeypatch.chdir(spec.root)
    assert main(["launch", "runspecs/cluster.yaml", "--print"]) == 0
    assert capsys.readouterr() == (job_file(spec).text, "")
    assert main(["launch", "runspecs/cluster.yaml", "--for", "skypilot", "--print"]) == 0
    assert capsys.readouterr().out == job_file(spec, "skypilot").text
    assert main(["launch", "runspecs/cluster.yaml"]) == 2
    assert (
        "error[U140]: runspec launch writes job files and does not submit them: add --print" in capsys.readouterr().err
    )
    assert main(["launch", "runspecs/cluster.yaml", "--for", "slum", "--print"]) == 2
    assert 'did you mean "slurm"?' in capsys.readouterr().err


def test_no_framework_is_loaded(make_spec: MakeSpec) -> None:
    """A job file is made on a login node, by the light core."""
    spec = make_spec(SECTIONS["slurm"])
    code = "import sys; from engine.cli import main; main(sys.argv[1:]); print(sorted({'jax', 'numpy'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code, "launch", "runspecs/cluster.yaml", "--print"], cwd=spec.root, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(launch.__file__).parents[1])}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"


def test_what_a_launch_section_says_is_no_part_of_a_result(make_spec: MakeSpec) -> None:
    """The launch section is no part of any fingerprint: the same run on another machine is the same run."""
    from engine.artifacts.store import Store
    from engine.pipeline.plan import make_plan, step_ingredients
    from engine.steps.registry import handlers

    def ingredients(section: str | None) -> dict[str, Any]:
        spec = make_spec(section)
        plan = make_plan(spec, handlers(), Store(spec.root))
        return {
            entry.step.id: step_ingredients(spec, entry.step, entry.handler, {}, entry.ahead, Store(spec.root))
            for entry in plan.steps
        }

    assert ingredients(None) == ingredients(SECTIONS["slurm"])
