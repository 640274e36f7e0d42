"""How a plain script's rank comes to tell what it is at, without a change to it: a `sitecustomize` that is found first.

Python imports that module by itself when it starts, from the first folder of PYTHONPATH. Ours lets the user's own one
follow, takes itself out of the environment, so that further programs are left alone, and begins to serve.
Rejected: a wrapper that runs the script, which would be its `__main__` and in each of its tracebacks.
"""

from __future__ import annotations

import os

from hpc.core.node import rank_recorder

#: The descriptor by which the first Python of the rank tells what it is at.
VARIABLE = "HPC_RANK_WATCH_FD"
FOLDER = "rank-site"
_TEXT = """\
import os
import sys


def _begin():
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [one for one in sys.path if os.path.abspath(one or ".") != here]
    paths = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.abspath(one or ".") != here]
    if paths:
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    else:
        os.environ.pop("PYTHONPATH", None)
    fd = os.environ.pop({variable!r}, "")
    try:
        if fd and sys.version_info >= (3, 9):
            import importlib.util

            os.set_inheritable(int(fd), False)
            spec = importlib.util.spec_from_file_location("_hpc_rank_recorder", {recorder!r})
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
            module.serve(int(fd))
    except Exception as error:
        sys.stderr.write("hpc: a rank that hangs will not be found out: %r\\n" % (error,))
    import importlib.machinery

    own = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
    if own is not None and own.loader is not None:
        import importlib.util

        module = importlib.util.module_from_spec(own)
        sys.modules["sitecustomize"] = module
        own.loader.exec_module(module)


_begin()
"""


def prepare(env: dict[str, str], directory: str, fd: int) -> None:
    """Put it into the environment of a rank. ``directory``: the node's own; ``fd``: what the rank tells by."""
    folder = os.path.join(directory, FOLDER)
    path = os.path.join(folder, "sitecustomize.py")
    if not os.path.exists(path):
        os.makedirs(folder, exist_ok=True)
        scratch = f"{path}.{os.getpid()}"
        with open(scratch, "w") as file:
            file.write(_TEXT.format(variable=VARIABLE, recorder=os.path.abspath(rank_recorder.__file__)))
        os.replace(scratch, path)
    env[VARIABLE] = str(fd)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, env.get("PYTHONPATH", "")]))
