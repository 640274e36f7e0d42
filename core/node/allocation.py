"""The allocation that a process runs in, from the variables that schedulers set."""

from __future__ import annotations

from collections.abc import Mapping

#: The variable with the job's id, and the scheduler's name.
SCHEDULERS = {
    "SLURM_JOB_ID": "slurm",
    "PBS_JOBID": "pbs",
    "LSB_JOBID": "lsf",
    "JOB_ID": "sge",
    "OAR_JOB_ID": "oar",
    "FLUX_JOB_ID": "flux",
}


def allocation(environ: Mapping[str, str]) -> dict[str, str]:
    """``{"scheduler": ..., "job_id": ...}``; empty outside any allocation."""
    for name, scheduler in SCHEDULERS.items():
        if environ.get(name):
            return {"scheduler": scheduler, "job_id": environ[name]}
    return {}
