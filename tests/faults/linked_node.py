"""The node program for sessions whose links go through a `linkbed`: the real one, but each dial asks the bed first."""

from __future__ import annotations

import socket

import msgspec
from linkbed import way

from hpc.core.net.links import Links
from hpc.core.node import programs, supervisor
from hpc.core.node.spec import NodeSpec
from hpc.core.raylet.main import raylet_main


def raylet(spec: NodeSpec, sock: socket.socket) -> None:
    path, dial = str(spec.config["link_bed"]), Links.dial

    def dial_the_bed(links: Links, node: int, endpoint: str, key: str | bytes) -> None:
        dial(links, node, way(path, links.node, node, endpoint), key)

    Links.dial = dial_the_bed  # type: ignore[method-assign]
    raylet_main(spec, sock)


if __name__ == "__main__":
    supervisor.main(children=msgspec.structs.replace(programs.CHILDREN, raylet=raylet))
