"""Programs that jobs of the promises run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from desk import Desk

#: Says where it and its tasks ran, once tasks ran on as many nodes as its argument says.
HOSTS = """
    import json, os, socket, sys, time
    import hpc as ray

    ray.init()

    @ray.remote
    def host():
        time.sleep(0.1)
        return socket.gethostname()

    seen = set()
    end = time.monotonic() + 20
    while len(seen) < int(sys.argv[1]) and time.monotonic() < end:
        seen |= set(ray.get([host.remote() for _ in range(16)]))
    nodes = [n["NodeManagerHostname"] for n in ray.nodes()]
    print(json.dumps({
        "hosts": sorted(seen), "nodes": nodes, "cpus": ray.cluster_resources()["CPU"], "here": socket.gethostname(),
    }))
"""
#: Ends at once with its first argument as the exit code.
PLAIN = """
    import os, sys
    print("ran on", os.uname().nodename, sys.argv[1:], flush=True)
    sys.exit(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
"""
#: Waits for a signal, or for the file "go" in its folder; says what it knows of its job.
WAITS = """
    import os, sys, time
    import hpc
    hpc.init()
    context = hpc.get_runtime_context()
    job = context.get_scheduler(), context.get_scheduler_job_id(), context.time_left_s()
    print("waits", os.getpid(), *job, flush=True)
    try:
        while not os.path.exists("go"):
            time.sleep(0.05)
    except KeyboardInterrupt:
        print("script got KeyboardInterrupt", flush=True)
        sys.exit(5)
    print("went", flush=True)
"""
#: Says of itself what a Jupyter server says; a real one is tried by the unit tests.
JUPYTER = """
    import json, os, pathlib, signal
    path = pathlib.Path(os.environ["JUPYTER_RUNTIME_DIR"], f"jpserver-{os.getpid()}.json")
    path.write_text(json.dumps({"port": 4711, "token": os.environ["JUPYTER_TOKEN"]}))
    signal.pause()
"""


def pretend_jupyter(desk: Desk) -> dict[str, str]:
    """A package in the desk's folder that is taken for JupyterLab; with the variable by which it is found."""
    (desk.folder / "jupyterlab").mkdir(mode=0o755)
    desk.script("jupyterlab/__init__.py", "")
    desk.script("jupyterlab/__main__.py", JUPYTER)
    return {"PYTHONPATH": str(desk.folder)}
