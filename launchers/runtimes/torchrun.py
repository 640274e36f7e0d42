"""The user's script under torch.distributed.run on all nodes at once: one agent on each, which starts its processes.

The agents meet at the first node's address, on a port that its supervisor has kept free for that. With a least number
of nodes the run is elastic: it goes on with the nodes that are left, from the script's own checkpoint.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hpc.launchers.node_program import NodeProgram
from hpc.launchers.runtimes.face import RuntimeNode

#: How long an elastic run waits for nodes beyond the least. They all are there, or lost: none is granted later.
LATE_S = 10
#: How often processes are started again in an elastic run, where the user says nothing.
ELASTIC_RESTARTS = 3


def agents(
    nodes: Sequence[RuntimeNode],
    port: int,
    script: Sequence[str],
    *,
    session: str,
    per_node: int | None = None,
    least: int | None = None,
    args: Sequence[str] = (),
    threads_said: bool = False,
) -> list[NodeProgram]:
    """One agent for each node. script: a command line as the launcher would run it. least: of an elastic run.

    threads_said: the user has said how many threads a process may have (OMP_NUM_THREADS).
    """
    first, found = nodes[0], []
    count = str(len(nodes)) if least is None else f"{least}:{len(nodes)}"
    for node in nodes:
        processes = per_node or len(node.gpus) or 1
        argv = [
            sys.executable, "-m", "torch.distributed.run", f"--nnodes={count}", f"--nproc-per-node={processes}",
            "--rdzv-backend=c10d", f"--rdzv-endpoint={first.addr}:{port}", f"--rdzv-id={session}",
            f"--rdzv-conf=is_host={int(node is first)},last_call_timeout={LATE_S}", f"--local-addr={node.addr}",
            f"--max-restarts={0 if least is None else ELASTIC_RESTARTS}", *args, *_script_words(script),
        ]  # fmt: skip
        threads = {} if threads_said else {"OMP_NUM_THREADS": str(max(1, node.cpus // processes))}
        found.append(NodeProgram(tuple(argv), threads))
    return found


def _script_words(script: Sequence[str]) -> list[str]:
    if script[0] != sys.executable:
        return ["--no-python", *script]
    return ["--module", *script[2:]] if script[1] == "-m" else list(script[1:])
