"""A worker in an interpreter of its own: what `hpc.core.runenv.interpreters` has started goes on as a worker here.

It costs the imports that a forked worker finds done, a few hundred ms. In return libraries see the environment from
their first import on.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import msgspec

from hpc._version import __version__
from hpc.core.node.output import begin_logs, standard_streams
from hpc.core.node.process import die_with, set_name
from hpc.core.node.spec import NodeSpec
from hpc.core.process.context import process
from hpc.core.runenv.interpreters import START
from hpc.core.runenv.setup import WorkerPaths, apply
from hpc.core.worker import threads


def main(start: dict[str, Any]) -> None:
    """Never returns."""
    path = os.environ.pop(START)
    os.unlink(path)
    if start["hpc"] != __version__:
        sys.exit(f"the environment has hpc {__version__} ({__file__}), and the session has {start['hpc']}")
    die_with(os.getppid(), signal.SIGKILL)
    sys.stdout, sys.stderr = standard_streams()
    begin_logs()
    spec = msgspec.convert(start["spec"], NodeSpec)
    set_name(f"hpc-worker-{start['proc']}")
    process.env = dict(start["env"])
    apply(WorkerPaths(start["working_dir"], start["paths"]))
    threads.limit()
    from hpc.core.worker.main import worker_main

    worker_main(spec, int(start["proc"]))
