"""The programs of a node's children: raylet, zygote and, on one node, the head. Tests put theirs in place."""

from __future__ import annotations

import contextlib
import importlib
import socket
from collections.abc import Callable

from msgspec import Struct

from hpc.core.node.imports import uncollected
from hpc.core.node.spec import NodeSpec

ChildMain = Callable[[NodeSpec, socket.socket], None]


class Children(Struct, frozen=True):
    """The programs of a node's children; tests put theirs in place.

    `modules` are imported before the fork, so that the children share them, and `head_modules` where there is a head.
    They must start no threads.
    """

    raylet: ChildMain
    head: ChildMain
    zygote: ChildMain
    modules: tuple[str, ...] = ()
    head_modules: tuple[str, ...] = ()

    def preload(self, head: bool) -> None:
        """Import what the children need. A child that cannot import what it needs logs that and exits."""
        with uncollected():
            for module in self.modules + (self.head_modules if head else ()):
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
    modules=("hpc.core.raylet.main",),
    head_modules=("hpc.core.head.main",),
)
