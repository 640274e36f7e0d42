"""What `--dry-run` and `--test-only` print, byte by byte: for each option, in and out of an allocation.

dry_runs.txt holds the answers. The commands of a scheduler are small scripts here: none is needed, and none is asked.
After a change that is meant to change them: `python tests/unit/test_dry_runs.py`, and read what git shows.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest import mock

import pytest

ANSWERS = Path(__file__).with_name("dry_runs.txt")
LAUNCHER = "/opt/hpc/bin/hpc-launch"

#: Environments by name: what they add to that of a login node.
PLACES: dict[str, dict[str, str]] = {
    "login": {},
    "laptop": {"PATH": "/nowhere"},
    "allocation": {
        "SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "nid[0001-0003,0007]", "SLURM_JOB_CPUS_PER_NODE": "2(x3),1",
        "SLURM_JOB_PARTITION": "batch", "SLURMD_NODENAME": "nid0001", "SLURM_NTASKS": "4",
    },
    "salloc": {"SLURM_JOBID": "12", "SLURM_NODELIST": "a1"},
    "hadoop": {"HADOOP_HOME": "{folder}/hadoop"},
    "container": {
        "HPC_YARN_JOB": "application_1795957537452_0001", "HPC_YARN_HOSTS": "w3,w1,w7", "HPC_YARN_FOLDER": "/jobs/1/a",
        "CONTAINER_ID": "container_1795957537452_0001_01_000002", "YARN_SHELL_ID": "1",
    },
    "nonsense": {"SLURM_JOB_ID": "12", "SLURM_JOB_NODELIST": "a[1"},
    "settings": {"HPC_TIME": "2h", "HPC_SUBMIT_ARG": "--a='1 2' --b", "HPC_NODES": "3", "SBATCH_ACCOUNT": "x"},
    "refusing": {"SAY": "Requested time limit is invalid (missing or exceeds some limit)"},
    "unknown": {"SAY": "invalid partition specified: bacth"},
    "pbs": {"PBS_EXEC": "/opt/pbs", "PBS_SERVER": "s", "PBS_CONF_FILE": "/nowhere"},
    "pbs job": {"PBS_EXEC": "/opt/pbs", "PBS_JOBID": "47.s", "PBS_NODEFILE": "nodes", "PBS_NODENUM": "0"},
    "pbs job, another node": {"PBS_JOBID": "47.s", "PBS_NODEFILE": "nodes", "PBS_NODENUM": "2"},
    "torque": {"PBS_DEFAULT": "s", "PBS_CONF_FILE": "/nowhere", "PATH": "{folder}/torque"},
    "torque job": {"PBS_JOBID": "47.s", "PBS_NODEFILE": "nodes", "PBS_VERSION": "TORQUE-6.1"},
    "down": {"SAY": "Unable to contact slurm controller (connect failure)"},
}  # fmt: skip

#: (place, command line).
CASES: list[tuple[str, str]] = [
    ("login", "--dry-run x.py"),
    ("login", "--dry-run -N4 -t2h x.py --epochs=3"),
    ("login", "--dry-run -N2-8 -t 90 x.py"),
    ("login", "--dry-run -t 1-12 -p gpu -A acc -q high -C 'a100&ib' x.py"),
    ("login", "--dry-run -J 'my job' -o out-%j.txt -d afterok:4711 x.py"),
    ("login", "--dry-run -G 8 --gpus-per-node=a100:4 -c 16 --mem=16g x.py"),
    ("login", "--dry-run --exclusive --reservation=r1 --signal=B:USR1@300 --mail-type=END x.py"),
    ("login", "--dry-run --no-exclusive -N 1 x.py"),
    ("login", "--dry-run --submit-arg=--array=1-4%2 --submit-arg=--requeue x.py"),
    ("login", "--dry-run --min-nodes=3 -N4 --start-timeout=1m --interface=hsn0 --no-bulk-encryption x.py"),
    ("login", "--dry-run --ranks-per-node=4 -N2 x.py a 'b c'"),
    ("login", "--dry-run -m pkg.mod --flag"),
    ("login", "--dry-run --env=A='b c' --env=B=2 --setup='module load x' --setup='ulimit -n 4096' x.py"),
    ("login", "--dry-run --step-arg=--mem=0 --step-arg=-v -N2 x.py"),
    ("login", "--dry-run --tmpdir=/scratch --grace=30 --poll-interval=5 --detach -v -Q x.py"),
    ("login", "--dry-run --json -N2 -t30m x.py"),
    ("login", "--dry-run --chain=3 --signal=B:USR1@120 --drain=2m -t30m x.py"),
    ("login", "--dry-run --scheduler=local -N2 -c4 --mem=1G x.py"),
    ("login", "--dry-run -- -odd.py"),
    ("login", "--dry-run -t soon x.py"),
    ("login", "--dry-run --wckey=7 x.py"),
    ("login", "--dry-run --scheduler=lsf x.py"),
    ("login", "--dry-run y.py"),
    ("login", "--test-only -N2 -t5 x.py"),
    ("login", "--test-only --json x.py"),
    ("login", "--test-only -o nowhere/x.out x.py"),
    ("settings", "--dry-run x.py"),
    ("settings", "--dry-run -t1h --json x.py"),
    ("laptop", "--dry-run -N3 --gpus-per-node=1 x.py"),
    ("laptop", "--dry-run --scheduler=slurm -N3 x.py"),
    ("laptop", "--test-only x.py"),
    ("laptop", "--test-only --scheduler=slurm x.py"),
    ("allocation", "--dry-run x.py"),
    ("allocation", "--dry-run -N2 --ranks-per-node=2 --step-arg=-v x.py"),
    ("allocation", "--dry-run -N2-9 --json x.py"),
    ("allocation", "--dry-run -N9 x.py"),
    ("allocation", "--dry-run --scheduler=local x.py"),
    ("allocation", "--test-only -t5 -p other x.py"),
    ("salloc", "--dry-run x.py"),
    ("hadoop", "--dry-run --scheduler=yarn -N4 -t2h -c4 --mem=8G --gpus-per-node=a100:2 -p ml x.py --epochs=3"),
    ("hadoop", "--dry-run --scheduler=yarn -C fast -J 'my job' -o out-%j.txt --setup='module load x' x.py 'a b'"),
    ("hadoop", "--dry-run --scheduler=yarn --json -N2 --submit-arg=-priority --submit-arg=3 x.py"),
    ("hadoop", "--dry-run --scheduler=yarn -q high x.py"),
    ("hadoop", "--dry-run --scheduler=yarn --step-arg=-v x.py"),
    ("laptop", "--dry-run --scheduler=yarn -N2 x.py"),
    ("laptop", "--test-only --scheduler=yarn x.py"),
    ("container", "--dry-run x.py"),
    ("container", "--dry-run -N2 x.py"),
    ("container", "--dry-run -N4 x.py"),
    ("nonsense", "--dry-run x.py"),
    ("refusing", "--test-only -N2 -t99h x.py"),
    ("refusing", "--test-only x.py"),
    ("unknown", "--test-only -p bacth -N2 x.py"),
    ("unknown", "-p bacth -N2 x.py 'a b'"),
    ("down", "--test-only --json -N2 x.py"),
    ("pbs", "--dry-run x.py"),
    ("pbs", "--dry-run --scheduler=pbs -N4 -t2h x.py --epochs=3"),
    ("pbs", "--dry-run --scheduler=pbs -p gpu -A acc -C model=bro -J 'my job' -o out.txt -d afterok:47 x.py"),
    ("pbs", "--dry-run --scheduler=pbs --gpus-per-node=a100:4 -c 16 --mem=16g --exclusive --mail-type=END x.py"),
    ("pbs", "--dry-run --scheduler=pbs --submit-arg=-V --submit-arg=-ry --setup='module load x' x.py"),
    ("pbs", "--dry-run --scheduler=pbs -N2-8 x.py"),
    ("pbs", "--dry-run --scheduler=pbs -q high x.py"),
    ("pbs", "--test-only --scheduler=pbs x.py"),
    ("pbs job", "--dry-run x.py"),
    ("pbs job", "--dry-run -N2 --ranks-per-node=2 --step-arg=wrapper x.py"),
    ("pbs job", "--dry-run -N9 x.py"),
    ("pbs job, another node", "--dry-run x.py"),
    ("torque job", "--dry-run x.py"),
    ("torque", "--dry-run -N4 -c2 -t2h x.py --epochs=3"),
    ("torque", "--dry-run -p long -A acc -C ib -J 'my job' -o out.txt -d afterok:47 x.py"),
    ("torque", "--dry-run --gpus-per-node=k80:2 --mem=16g --exclusive --submit-arg=-Wx=QOS:high x.py"),
    ("laptop", "--test-only --scheduler=pbs x.py"),
]  # fmt: skip

SBATCH = """#!/bin/sh
[ -n "$SAY" ] && { echo "sbatch: error: Batch job submission failed: $SAY" >&2; exit 1; }
echo "sbatch: Job 8 to start at 2026-11-21T03:54:03 using 4 processors on nodes n[1-2] in partition batch" >&2
"""
SINFO = """#!/bin/sh
echo 'batch*|up|1:00:00|4|1-infinite|2|2000|gpu:2'
echo 'long|up|infinite|8|1-infinite|2|2000|(null)'
"""
SHELL_JAR = "hadoop/share/hadoop/yarn/hadoop-yarn-applications-distributedshell-3.4.2.jar"


def answer(folder: Path, place: str, line: str) -> str:
    """What one command prints, and its exit code; this machine's names are replaced."""
    from hpc.cli import launch
    from hpc.launch import plan

    env = {"PATH": f"{folder}/bin:/usr/bin:/bin", "HOME": str(folder / "home"), "SLURM_CONF": "/etc/slurm.conf"}
    env |= {"USER": "u", "LOGNAME": "u"}
    env |= {name: value.replace("{folder}", str(folder)) for name, value in PLACES[place].items()}
    argv = shlex.split(line)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, env, clear=True))
        stack.enter_context(mock.patch.object(sys, "argv", ["hpc-launch", *argv]))
        stack.enter_context(mock.patch.object(plan, "launcher", return_value=[LAUNCHER]))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        code = launch.main(argv)
    text = f"=== {place}: hpc-launch {line}\n{out.getvalue()}"
    text += "".join(f"stderr: {said}\n" for said in err.getvalue().splitlines()) + f"exit code: {code}\n"
    return text.replace(str(folder), "/home/u").replace(sys.executable, "/opt/hpc/bin/python")


@contextlib.contextmanager
def desk() -> Iterator[Path]:
    """A folder with scripts to run, and with the commands of a scheduler."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        for name, text in (
            ("x.py", ""),
            ("-odd.py", ""),
            ("bin/sbatch", SBATCH),
            ("nodes", "n1\nn1\nn2\n"),
            ("torque/qsub", "#!/bin/sh\necho 'Version: 6.1.2' >&2\n"),
            ("bin/sinfo", SINFO),
            (SHELL_JAR, ""),
        ):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755)
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(before)


def known() -> Mapping[str, str]:
    """The answers that are kept, by their first line."""
    blocks = ["=== " + block for block in ANSWERS.read_text().split("=== ")[1:]]
    return {block.partition("\n")[0]: block for block in blocks}


@pytest.fixture(scope="module")
def answers() -> Mapping[str, str]:
    return known()


@pytest.mark.parametrize(("place", "line"), CASES, ids=lambda value: str(value))
def test_the_same_bytes(answers: Mapping[str, str], place: str, line: str) -> None:
    with desk() as folder:
        said = answer(folder, place, line)
    assert said == answers[said.partition("\n")[0]]


def test_every_answer_is_asked_for(answers: Mapping[str, str]) -> None:
    assert list(answers) == [f"=== {place}: hpc-launch {line}" for place, line in CASES]


if __name__ == "__main__":
    texts = []
    for case in CASES:
        with desk() as here:
            texts.append(answer(here, *case))
    ANSWERS.write_text("".join(texts))
