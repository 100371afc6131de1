"""The examples for clusters: they can be read, and what they start takes the arguments they give."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

import main

ROOT = Path(__file__).parents[1]
SBATCH = ROOT / "docker" / "slurm" / "train.sbatch"
YAMLS = sorted((ROOT / "docker" / "kubernetes").glob("*.yaml"))
STUBS = {
    "srun": 'shift\nSLURM_NODEID=1 "$@"\n',
    "scontrol": 'echo "scontrol $*" >> "$SAID"\n[ "$1" = show ] && printf "node7\\nnode8\\n"\nexit 0\n',
    "python": 'echo "python $*" >> "$SAID"\nexit "$LEAVES"\n',
}


def submit(folder, code):
    """The batch script with stand-ins for SLURM and python; its exit code, and what they were asked."""
    for name, text in STUBS.items():
        (folder / name).write_text("#!/bin/bash\n" + text)
        (folder / name).chmod(0o755)
    said = folder / "said.txt"
    slurm = {"SLURM_JOB_ID": "41234", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "node[7-8]", "SAID": str(said)}
    environment = {**os.environ, **slurm, "LEAVES": str(code), "PATH": f"{folder}:{os.environ['PATH']}"}
    ended = subprocess.run(["bash", str(SBATCH), "configs/a b.json"], env=environment, check=False)
    return ended.returncode, said.read_text().splitlines()


@pytest.mark.parametrize(("code", "queued"), [(0, False), (143, True), (2, False)])
def test_slurm_starts_every_node_and_queues_again_only_what_was_told_to_leave(code, queued, tmp_path):
    ended, said = submit(tmp_path, code)
    assert ended == code
    assert ("scontrol requeue 41234" in said) is queued
    started = next(line for line in said if line.startswith("python main.py"))
    args = main.parse_args(started.replace("a b", "a_b").split()[2:])
    assert (args.num_machines, args.machine_rank, args.dist_url) == (2, 1, "tcp://node7:21234")
    assert (args.devices, args.resume, args.exp_file) == ("auto", "auto", "configs/a_b.json")


def test_slurm_sends_the_signal_that_saves():
    text = SBATCH.read_text()
    assert "#SBATCH --signal=TERM@120" in text and "#SBATCH --requeue" in text and "#SBATCH --ntasks-per-node=1" in text
    assert subprocess.run(["bash", "-n", str(SBATCH)], check=False).returncode == 0


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_kubernetes_files_start_what_exists(path):
    documents = list(yaml.safe_load_all(path.read_text()))
    job = documents[-1]
    spec = job["spec"]
    template = spec["template"] if job["kind"] == "Job" else spec["pytorchReplicaSpecs"]["Worker"]["template"]
    container = template["spec"]["containers"][0]
    assert container["command"] == ["torchrun"] and template["spec"]["terminationGracePeriodSeconds"] >= 60
    options, arguments = container["args"], container["args"][container["args"].index("main.py") + 1 :]
    args = main.parse_args(arguments)
    assert args.resume == "auto" and args.exp_file.startswith("/data/")
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"/data", "/work/runs", "/dev/shm"} <= mounts
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in template["spec"]["volumes"]}
    if job["kind"] == "Job":
        service = documents[0]
        name = job["metadata"]["name"]
        assert service["spec"]["clusterIP"] == "None" and service["spec"]["selector"] == {"job-name": name}
        assert template["spec"]["subdomain"] == service["metadata"]["name"]
        port = service["spec"]["ports"][0]["port"]
        assert f"--rdzv-endpoint={name}-0.{service['metadata']['name']}:{port}" in options
        assert f"--nnodes={spec['completions']}" in options and spec["parallelism"] == spec["completions"]
    else:
        assert container["name"] == "pytorch" and spec["elasticPolicy"]["maxRestarts"] > 0


def test_there_are_both_kinds():
    assert [path.stem for path in YAMLS] == ["pytorchjob", "torchrun-job"]
