"""Torque's dialect on a real scheduler: Slurm, behind the wrappers of Debian's package slurm-wlm-torque.

The wrappers are qsub, qstat, qdel and pbsnodes as Torque has them, and they are all that is left of Torque in
distributions. A job of theirs is one of Slurm's, though. So the bed adds what they lack, as Torque's own sources and
manual pages tell it: the version, the environment of a job (with the node file that the package can make), pbsdsh,
and refusals in Torque's words. By hand:

    python tests/schedulers/torque_bed.py -- qstat -f
    python tests/schedulers/torque_bed.py -- bash        # a shell on the "login node"
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import slurm_bed
from bed import by_hand
from netbed import missing
from slurm_bed import SlurmBed

WRAPPERS = ("qsub", "qstat", "qdel", "pbsnodes", "generate_pbs_nodefile")

#: A job begins in an environment of its own, as Torque's do: nothing of the login shell's, and nothing of Slurm's.
QSUB = """\
#!/bin/sh
[ "$1" = --version ] && { printf 'Version: 6.1.2\\nCommit: 661e092552de43a785c15d39a3634a541d86898e\\n' >&2; exit 0; }
said=$(env -i PATH=/usr/bin:/bin HOME="$HOME" USER="$USER" LOGNAME="$LOGNAME" SLURM_CONF={conf} /usr/bin/qsub "$@")
code=$?
[ $code = 0 ] && { echo "$said"; exit 0; }
case $said in
    *"nvalid partition"*) said="Unknown queue MSG=cannot locate queue" ;;
    *"node configuration is not available"* | *"ore processors requested than permitted"* | *"Node count spec"*)
        said="Job exceeds queue resource limits MSG=cannot locate feasible nodes"
        said="$said (nodes file is empty or requested nodes exceed all systems)" ;;
esac
echo "qsub: submit error ($said)" >&2
exit 170
"""
#: qstat asks for this machine's whole name, which takes ten seconds where no name server answers.
HOSTNAME = """\
#!/bin/sh
uname -n
"""
WRAPPER = """\
#!/bin/sh
PATH={lib}:$PATH SLURM_CONF={conf} exec /usr/bin/{name} "$@"
"""
#: Slurm runs it before the job script and before each task, and does what it prints to their environment.
PROLOG = """\
#!/bin/sh
env | sed -n 's/^\\(SLURM[A-Z0-9_]*\\)=.*/unset \\1/p'
[ -z "$BED_TASK" ] || { echo "unset BED_TASK"; exit 0; }
cd {jobs} || exit
[ -e "$SLURM_JOB_ID" ] || mv "$(TMPDIR={jobs} /usr/bin/generate_pbs_nodefile)" "$SLURM_JOB_ID"
echo "export PBS_JOBID=$SLURM_JOB_ID"
echo "export PBS_NODEFILE={jobs}/$SLURM_JOB_ID"
echo "export PBS_NUM_NODES=$(uniq "$SLURM_JOB_ID" | wc -l)"
echo "export PBS_NUM_PPN=$(uniq -c "$SLURM_JOB_ID" | awk 'NR == 1 { print $1 }')"
echo "export PBS_NP=$(wc -l < "$SLURM_JOB_ID")"
echo "export PBS_VERSION=TORQUE-6.1.2"
echo "export PBS_ENVIRONMENT=PBS_BATCH"
echo "export PBS_NODENUM=0"
echo "export PBS_TASKNUM=1"
"""
#: Ends with 0 however its task did, and says so.
PBSDSH = """\
#!/bin/sh
[ "$1" = -n ] || exit 1
host=$(sed -n "$(($2 + 1))p" "$PBS_NODEFILE")
number=$(uniq "$PBS_NODEFILE" | grep -n -x "$host" | cut -d: -f1)
shift 2
for name in PBS_JOBID PBS_NODEFILE PBS_NUM_NODES PBS_NUM_PPN PBS_NP PBS_VERSION PBS_ENVIRONMENT; do
    eval "set -- $name=\\"\\$$name\\" \\"\\$@\\""
done
env -i PATH=/usr/bin:/bin HOME="$HOME" USER="$USER" SLURM_CONF={conf} BED_TASK=1 \\
    srun --jobid="$PBS_JOBID" --overlap --mem=0 --mpi=none --cpu-bind=none --wait=0 --quiet --chdir=/ \\
    --nodes=1 --ntasks=1 --nodelist="$host" \\
    env PBS_NODENUM=$((number - 1)) PBS_TASKNUM=2 "$@" < /dev/null > /dev/null 2>&1
code=$?
[ $code = 0 ] || echo "pbsdsh(): task 0 exit status $code" >&2
exit 0
"""

#: Kept too, as HPC_TEST_SLOW=1 shows.
SLOW = {"cheap": "it depends on the dialect least, and is run on Slurm: HPC_TEST_SLOW=1 runs it"}


@dataclass
class TorqueBed(SlurmBed):
    """`with TorqueBed() as bed:`, as SlurmBed."""

    scheduler: ClassVar[str] = "pbs"
    may_run_twice: ClassVar[Sequence[str]] = ("--submit-arg=-ry",)
    lacks: ClassVar[Mapping[str, str]] = {
        "estimates": "PBS says that there is no such queue once a job is submitted",
        "requeue": "Slurm lets such a job wait for two minutes",
        "signal": "there is no qsig among the wrappers",
        "look": "there is no ssh to its nodes",
        "codes": "the wrapper of qstat says nothing of how a job ended",
        "crash": "Slurm ends a job that loses a node, but for an option that the wrapper has not",
        "first node": "as with any node: Slurm ends the job",
        **({} if os.environ.get("HPC_TEST_SLOW") else SLOW),
    }

    def why_not(self) -> str | None:
        return reason_to_skip()

    def _configure(self) -> None:
        root = self.scratch
        for name in ("bin", "lib", "jobs", "home"):
            (root / name).mkdir()
            (root / name).chmod(0o1777)
        self.options = [*self.options, f"TaskProlog={root}/prolog"]
        super()._configure()
        conf = root / "slurm.conf"
        scripts = {"bin/qsub": QSUB, "bin/pbsdsh": PBSDSH, "lib/hostname": HOSTNAME, "prolog": PROLOG}
        scripts |= {f"bin/{name}": WRAPPER.replace("{name}", name) for name in ("qstat", "qdel", "pbsnodes")}
        for name, text in scripts.items():
            for word, path in (("{conf}", conf), ("{jobs}", root / "jobs"), ("{lib}", root / "lib")):
                text = text.replace(word, str(path))
            (root / name).write_text(text)
            (root / name).chmod(0o755)
        path = f"{root}/bin:{Path(sys.executable).parent}"
        (root / "home" / ".profile").write_text(f'PATH="{path}:$PATH"\n')  # as sites do in /etc/profile.d
        user = {"HOME": str(root / "home"), "PBS_DEFAULT": "bed", "USER": "root", "LOGNAME": "root"}
        self.env = {**self.env, **user, "PATH": f"{root}/bin:{self.env['PATH']}"}

    def submit(self, script: Path, nodes: int, out: Path) -> str:
        shape = f"nodes={nodes}:ppn={self.cpus},walltime=00:05:00"
        return self.run(["qsub", "-l", shape, "-j", "oe", "-o", str(out), str(script)], check=True).stdout.strip()

    def record(self, job_id: str) -> str:
        return super().record(job_id) + self.run(["qstat", "-f", job_id]).stdout

    def end(self, job_id: str) -> None:
        self.run(["qdel", job_id], check=True)

    @contextmanager
    def aside(self) -> Iterator[SlurmBed]:
        with TorqueBed(nodes=1, cpus=self.cpus) as bed:
            yield bed


def reason_to_skip() -> str | None:
    """Why there can be none here (in words), or None."""
    why = slurm_bed.reason_to_skip() or missing(WRAPPERS)
    if why is None and os.path.realpath("/usr/bin/qsub") != "/usr/bin/qsub":
        why = "/usr/bin/qsub is not the wrapper of slurm-wlm-torque"
    return f"no bed for Torque's dialect: {why}" if why else None


def main() -> int:
    return by_hand(TorqueBed, __doc__, {"nodes": 4, "cpus": 2})


if __name__ == "__main__":
    sys.exit(main())
