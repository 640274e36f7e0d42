"""The programs of a node's children: raylet, zygote and, on one node, the head. Tests put theirs in place."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import socket
from collections.abc import Callable

from hpc.core.node.spec import NodeSpec

ChildMain = Callable[[NodeSpec, socket.socket], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Children:
    """The programs of a node's children; tests put theirs in place.

    `modules` are imported before the fork, so that the children share them. They must start no threads.
    """

    raylet: ChildMain
    head: ChildMain
    zygote: ChildMain
    modules: tuple[str, ...] = ()

    def preload(self) -> None:
        """Import `modules`. A child that cannot import what it needs logs that and exits."""
        for module in self.modules:
            with contextlib.suppress(ImportError):
                importlib.import_module(module)


def _raylet(spec: NodeSpec, sock: socket.socket) -> None:
    from hpc.core.raylet.main import raylet_main

    raylet_main(spec, sock)


def _head(spec: NodeSpec, sock: socket.socket) -> None:
    from hpc.core.head.main import head_main

    head_main(spec, sock)


def _zygote(spec: NodeSpec, sock: socket.socket) -> None:
    from hpc.core.node.zygote import zygote_main

    zygote_main(spec, sock)


CHILDREN = Children(
    raylet=_raylet,
    head=_head,
    zygote=_zygote,
    modules=("hpc.core.raylet.main", "hpc.core.head.main"),
)
