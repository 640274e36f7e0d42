"""The end of a job whose first node is gone: the other nodes see to it.

A job of ours goes on without a node that fails (--no-kill). If that is the one where its script ran, nothing goes on,
and Slurm would keep the other nodes for it until the time limit. So a few of them ask Slurm whether that is so, once
their part of the session has ended for want of the launcher. Then they end the job, or put it back into the queue where
that was asked for. Slurm's word is needed: a node that is cut off from the first one knows nothing.

Rejected: doing without --no-kill, since each node that fails would end the job. Rejected too: ending it at once.
hpc-launch may have been killed by its owner, who wants to go on with the allocation.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from hpc.launchers.run import CommandAnswer, run_command
from hpc.launchers.scheduler import JobInfo
from hpc.launchers.slurm import commands

#: Slurm may need some minutes to find that a node has failed (SlurmdTimeout, 300 s by default).
GIVE_UP_S = 1200.0
ASK_S, ASK_MOST_S = 3.0, 15.0

PROGRAM = (
    "import sys; sys.path[:]=[p for p in sys.path if p]; from hpc.launchers.slurm.abandoned import main; "
    "main(sys.argv[1])"
)


def watcher(env: Mapping[str, str], pid: int) -> list[str]:
    """The command that sees to the end of our job; none where the job's script goes on without this process.

    hpc-launch that is the job's script itself (`exec hpc-launch`, as in all job scripts of ours) is what Slurm calls
    the task of the batch step.
    """
    is_script = env.get("SLURM_TASK_PID") == str(pid) and "SLURM_STEP_ID" not in env
    return [sys.executable, "-c", PROGRAM, env[commands.JOB_ID]] if is_script and commands.JOB_ID in env else []


def what_to_do(answer: CommandAnswer) -> list[str] | None:
    """After an answer to the question about the job: a command; [] nothing any more; None: ask again."""
    if not answer.ok:
        return [] if commands.no_such_job(answer.err) else None
    info: JobInfo | None = commands.parse_job(answer.out)
    if info is None:
        return None
    if info.phase != "running":
        return []
    if info.ending != "lost":
        return None
    return commands.requeue_command(info.job_id) if info.runs_again else commands.cancel_command(info.job_id)


def see_to_it(
    job_id: str,
    run: Callable[[Sequence[str]], CommandAnswer],
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Until the job is over or the time for it; whether a command was given that Slurm took."""
    waited, pause = 0.0, ASK_S
    while waited < GIVE_UP_S:
        todo = what_to_do(run(commands.job_command(job_id)))
        if todo == []:
            return False
        if todo is not None and run(todo).ok:
            return True
        sleep(pause)
        waited += pause
        pause = min(ASK_MOST_S, pause * 1.3)
    return False


def main(job_id: str) -> None:
    """The program."""
    env = commands.query_env(os.environ)
    see_to_it(job_id, lambda argv: run_command(argv, env=env))
