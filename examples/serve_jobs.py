"""A service that outlives its jobs: each job serves for its walltime, and the gateway leads to the one that does.

On a login or service node, once:

    hpc serve gateway demo --lead 2min --next-lead 15min \\
        --next 'hpc-launch --detach --time 1h examples/serve_jobs.py --gateway demo'

The gateway submits the first job, and each next one before the last one ends. Requests go to its socket, or to the line
of ssh that it prints. The jobs' doors are ports with keys, since the gateway is on another machine.
"""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import time
from pathlib import Path

import hpc
from hpc import serve
from hpc.serve.config import HTTPOptions

STREAM_S = 60.0


@serve.deployment(max_ongoing_requests=100, graceful_shutdown_timeout_s=STREAM_S)
class Hello:
    def __call__(self) -> str:
        return f"hello from job {os.environ.get('SLURM_JOB_ID', '-')} on {socket.gethostname()}\n"


def keys_file(name: str) -> str:
    """A file with one key for all jobs, on the file system that they share."""
    path = Path(name).expanduser()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32) + "\n")
    except FileExistsError:
        pass
    return str(path)


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--gateway", default="default")
    options.add_argument("--host", default="0.0.0.0", help="the address of the jobs' doors")
    options.add_argument("--keys", default="~/.hpc/serve/keys", help="a file for the key of the jobs' doors")
    given = options.parse_args()
    hpc.init()
    serve.start(http_options=HTTPOptions(host=given.host, port=0, api_keys_file=keys_file(given.keys)))
    serve.run(Hello.bind())
    serve.announce(given.gateway)
    print("serves", flush=True)
    context = hpc.get_runtime_context()
    while context.draining() is None:  # --drain says how long before the walltime's end that is
        time.sleep(0.2)
    serve.withdraw()
    serve.shutdown()
    print("has served", flush=True)
