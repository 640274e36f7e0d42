"""Applications that a configuration file names."""

from __future__ import annotations

import os
from typing import Any

from hpc import serve


@serve.deployment
class Named:
    """Says its name and its config."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.config: Any = None

    def reconfigure(self, config: Any) -> None:
        self.config = config

    def __call__(self, request: Any = None) -> dict[str, Any]:
        return {"name": self.name, "config": self.config, "pid": os.getpid()}


app = Named.bind("plain")


def build(args: dict[str, Any]) -> serve.Application:
    return Named.bind(args["name"])
