"""The environments of those that are measured: hpc in this one, each peer in .bench/<peer>/, made when missing.

A peer that cannot be installed (no network, no wheel for this Python) is not an error: it is named with the reason.
Rejected: extras of this package (a peer's dependencies would choose the versions that hpc is measured with).
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from bench.metrics import DASK, FUTURES, HPC, PARSL, RAY

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".bench"
INSTALL_S = 900.0
RAY_DATA, OTHERS_DATA = "ray-data", "others-data"
RAY_RL, SB3_RL = "ray-rl", "sb3-rl"
LITSERVE, BENTOML = "litserve", "bentoml"
#: The libraries that learn beside hpc.rllib, by the names that its probes take.
RL_PEERS = {RAY: RAY_RL, "sb3": SB3_RL}
PACKAGES = {
    RAY: ["ray[tune,serve]", "numpy"],
    DASK: ["distributed", "numpy"],
    PARSL: ["parsl", "numpy"],
    RAY_DATA: ["ray[data]", "numpy", "polars", "pillow", "torch"],
    RAY_RL: ["ray[rllib]", "numpy", "torch"],
    SB3_RL: ["stable-baselines3", "numpy", "torch"],
    LITSERVE: ["litserve", "numpy"],
    BENTOML: ["bentoml", "numpy"],
    OTHERS_DATA: [
        "dask[dataframe,distributed]", "polars", "duckdb", "daft", "datasets", "torch", "webdataset", "pillow", "numpy",
    ],
}  # fmt: skip
#: What is imported to see whether a peer is there, where it is not called as the peer is.
MODULES = {
    DASK: "distributed",
    RAY_DATA: "ray.data, polars, PIL, torch",
    RAY_RL: "ray.rllib, torch",
    SB3_RL: "stable_baselines3",
    OTHERS_DATA: "dask.dataframe, distributed, polars, duckdb, daft, datasets, torch, webdataset, PIL",
}
SHOWN = {
    HPC: ["hpc", "numpy", "pyzmq", "msgspec", "cloudpickle"],
    RAY: ["ray", "numpy"],
    DASK: ["distributed", "numpy"],
    PARSL: ["parsl", "numpy"],
    FUTURES: [],
    RAY_DATA: ["ray", "pyarrow"],
    RAY_RL: ["ray", "gymnasium", "torch"],
    SB3_RL: ["stable_baselines3", "torch"],
    LITSERVE: ["litserve"],
    BENTOML: ["bentoml"],
    OTHERS_DATA: ["dask", "polars", "duckdb", "daft", "datasets", "torch", "webdataset"],
}

ASK = """
import importlib.metadata as m, json, platform, sys
print(json.dumps({"python": platform.python_version(), **{n: m.version(n) for n in sys.argv[1:]}}))
"""


@dataclass(frozen=True)
class Peer:
    """Someone who is measured, and the interpreter to do it with."""

    name: str
    python: str
    versions: dict[str, str] = field(default_factory=dict)


class PeerError(Exception):
    """This peer cannot be measured here; the text says why."""


def find(name: str) -> Peer:
    """A peer that can be imported, installed first where it is missing; PeerError says why not."""
    if name not in PACKAGES:
        return Peer(name, sys.executable, versions(sys.executable, SHOWN[name]))
    python = str(FOLDER / name / "bin" / "python")
    if not imports(python, MODULES.get(name, name)):
        install(name)
        if not imports(python, MODULES.get(name, name)):
            raise PeerError(f"installed in {FOLDER.name}/{name}, but cannot be imported there")
    return Peer(name, python, versions(python, SHOWN[name]))


def imports(python: str, module: str) -> bool:
    """Whether a module can be imported by this interpreter."""
    if not os.path.exists(python):
        return False
    command = [python, "-c", f"import {module}, numpy"]
    return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=120).returncode == 0


def install(name: str) -> None:
    """Make .bench/<name>/ with the peer in it. PIP_ARGS of the environment goes to pip."""
    folder = FOLDER / name
    print(f"bench: installing {name} into {folder.relative_to(ROOT)}", file=sys.stderr, flush=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    pip += [*shlex.split(os.environ.get("PIP_ARGS", "")), *PACKAGES[name]]
    for command in ([sys.executable, "-m", "venv", "--clear", str(folder)], pip):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            raise PeerError(f"the installation did not end within {INSTALL_S:g} s") from None
        if done.returncode != 0:
            raise PeerError(f"cannot be installed: {reason(done.stderr or done.stdout)}")


def reason(said: str) -> str:
    """The line of pip's output that tells most."""
    said_lines = [text.strip() for text in said.splitlines() if text.strip()]
    errors = [text for text in said_lines if text.startswith("ERROR:")]
    return (errors or said_lines or ["no reason given"])[-1].removeprefix("ERROR: ")[:300]


def versions(python: str, packages: list[str]) -> dict[str, str]:
    """Versions of an interpreter and of packages in its environment."""
    done = subprocess.run([python, "-c", ASK, *packages], capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise PeerError(reason(done.stderr))
    found: dict[str, str] = json.loads(done.stdout)
    return found
