"""hpc-launch inside allocations of a real Slurm: four nodes in network namespaces of this machine.

The test bed of tests/schedulers makes the Slurm (root and Debian's packages are needed); without it this part is
skipped with the reason. Rejected: timing the queue (that measures Slurm's configuration).
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.children import PROBES, MeasureError, hpc_launch, parse
from bench.machine import compile_ours
from bench.metrics import SALLOC_READY, SBATCH_READY

BEDS = Path(__file__).resolve().parents[1] / "tests" / "schedulers"
NODES = 4
JOB_S = 60.0


class NoSlurm(Exception):
    """No Slurm here; the text says why."""


@contextmanager
def bed(nodes: int = NODES, **options: Any) -> Iterator[Any]:
    """A running Slurm of so many nodes, with options of the bed; raises NoSlurm."""
    if str(BEDS) not in sys.path:
        sys.path.insert(0, str(BEDS))
    try:
        import slurm_bed
    except ImportError as error:
        raise NoSlurm(f"no test bed: {error}") from None
    why = slurm_bed.reason_to_skip()
    if why:
        raise NoSlurm(why)
    made = slurm_bed.SlurmBed(nodes, **options)
    try:
        made.__enter__()
    except slurm_bed.BedError as error:
        raise NoSlurm(str(error).splitlines()[0]) from None
    try:
        made.env = {name: value for name, value in made.env.items() if not name.startswith("PYTHON")}
        compile_ours()
        yield made
    finally:
        made.close()


def ready_s(slurm: Any, name: str) -> float:
    """From the exec of hpc-launch in a fresh allocation until all its raylets accept work."""
    command = [*hpc_launch(), "--nodes", str(NODES), str(PROBES / "ready.py")]
    if name == SALLOC_READY:
        done = slurm.run(["salloc", f"--nodes={NODES}", "--time=2", "-Q", *command], timeout_s=JOB_S)
        output = done.stdout + done.stderr
    else:
        assert name == SBATCH_READY
        out = slurm.scratch / "work" / "bench.out"
        out.unlink(missing_ok=True)
        wrapped = ["sbatch", "--wait", f"--nodes={NODES}", "--time=2", f"--output={out}", "--wrap", shlex.join(command)]
        done = slurm.run(wrapped, timeout_s=JOB_S)
        output = (out.read_text() if out.exists() else "") + done.stderr
    slurm.wait_idle(30)
    records = parse(output)
    if not records:
        raise MeasureError(f"exit code {done.returncode}: {' | '.join(output.strip().splitlines()[-3:])}")
    return float(records[0]["ready_s"])
