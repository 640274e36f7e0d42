"""The versions that must be equal on all nodes of a session: Python, this package and the libraries of the wire."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

from hpc._version import __version__


def own_versions() -> dict[str, str]:
    """What must be equal on all nodes: Python's minor version, hpc, and what the wire is made with."""
    import msgspec
    import zmq

    return {
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "hpc": __version__,
        "msgspec": msgspec.__version__,
        "zmq": zmq.__version__,
    }


def hello_versions(hello: Mapping[str, Any]) -> dict[str, str]:
    """The same, of a node that said hello."""
    python = ".".join(str(hello.get("python", "")).split(".")[:2])
    modules = {str(name): str(version) for name, version in dict(hello.get("modules") or {}).items()}
    return {"Python": python, "hpc": str(hello.get("hpc", "")), **modules}


def version_problem(hello: Mapping[str, Any], here: Mapping[str, str]) -> str:
    """How a node that said hello differs from `here`, in words; "" where it does not."""
    theirs = hello_versions(hello)
    return "; ".join(
        f"{name} {theirs.get(name) or 'missing'} there, {own} here"
        for name, own in here.items()
        if theirs.get(name) != own
    )
