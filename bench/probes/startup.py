"""Inside an allocation of N nodes: how long `srun -NN true` takes, then when each step of a session's start is reached.

python startup.py NODES RUNS: a record for each run, in seconds: "srun" (the bare step), "group" (Python is up and our
srun is started), "first" and "all" (the first and the last supervisor have said hello), "ready" (all nodes accept
work), "stop" (until all are gone).
"""

import json
import subprocess
import sys
import time

BEGUN = time.monotonic()


def one(nodes: int, begun: float) -> dict[str, float]:
    from hpc.launchers.registry import find_place, make_group
    from hpc.launchers.session import Session
    from hpc.launchers.session_nodes import Event

    times: dict[str, float] = {}

    def note(event: Event) -> None:
        now = time.monotonic() - begun
        if event.kind == "start":
            times["group"] = now
        elif event.kind == "hello":
            times.setdefault("first", now)
            times["all"] = now

    session = Session(make_group(find_place(), nodes), on_event=note, start_timeout_s=120.0)
    session.start()
    session.wait_ready(120.0)
    times["ready"] = time.monotonic() - begun
    before = time.monotonic()
    session.stop(5.0)
    times["stop"] = time.monotonic() - before
    return times


def main() -> None:
    nodes, runs = int(sys.argv[1]), int(sys.argv[2])
    for turn in range(runs):
        before = time.monotonic()
        subprocess.run(
            ["srun", f"-N{nodes}", f"-n{nodes}", "--ntasks-per-node=1", "--overlap", "--mpi=none", "true"],
            check=True, timeout=120, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        srun_s = time.monotonic() - before
        record = {"srun": srun_s, **one(nodes, BEGUN if turn == 0 else time.monotonic())}
        if turn == 0:  # its own srun came before the session
            record = {k: v if k in ("srun", "stop") else v - srun_s for k, v in record.items()}
        print("@bench " + json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
