"""Ranks of collectives as processes of a test: they meet through pipes, and no session is needed."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from hpc.collective.shm.group import NODE_VARIABLE, ShmGroup

TIMEOUT_S = 60.0
Program = Callable[[ShmGroup], Any]


class PipeMeeting:
    """The meeting of one rank: a pipe to the test, which passes on what all have given."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def exchange(self, data: bytes) -> list[bytes]:
        self._pipe.send(("exchange", data))
        found: list[bytes] = self._pipe.recv()
        return found

    def close(self) -> None:
        pass


def _rank(pipe: Connection, rank: int, size: int, node: str, program: Program, timeout_s: float) -> None:
    os.environ[NODE_VARIABLE] = node
    try:
        group = ShmGroup(PipeMeeting(pipe), rank, size, "127.0.0.1", timeout_s)
        try:
            pipe.send(("done", program(group)))
        finally:
            group.close()
    except BaseException as error:
        traceback.print_exc()
        pipe.send(("raised", (type(error).__name__, str(error))))


def run(nodes: Sequence[int], program: Program, timeout_s: float = 20.0) -> list[Any]:
    """Run a program on ranks of nodes with so many ranks each. Returns what each gives: its value, or the name and text
    of what it raises as a tuple, or None if its process died."""
    places = [str(node) for node, count in enumerate(nodes) for _ in range(count)]
    context = multiprocessing.get_context("fork")
    pipes, processes = [], []
    for rank, node in enumerate(places):
        mine, theirs = context.Pipe()
        arguments = (theirs, rank, len(places), node, program, timeout_s)
        processes.append(context.Process(target=_rank, args=arguments, daemon=True))
        processes[-1].start()
        theirs.close()
        pipes.append(mine)
    try:
        return _serve(pipes)
    finally:
        for process in processes:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()
        for pipe in pipes:
            pipe.close()


def _serve(pipes: list[Connection]) -> list[Any]:
    found: dict[int, Any] = {}
    given: dict[int, bytes] = {}
    while len(found) < len(pipes):
        ready = wait([pipe for rank, pipe in enumerate(pipes) if rank not in found], TIMEOUT_S)
        assert ready, f"ranks {sorted(set(range(len(pipes))) - found.keys())} did not end"
        for pipe in ready:
            rank = pipes.index(pipe)  # type: ignore[arg-type]
            try:
                kind, value = pipe.recv()  # type: ignore[union-attr]
            except EOFError:
                kind, value = "done", None
            if kind == "exchange":
                given[rank] = value
            else:
                found[rank] = value
        if len(given) == len(pipes):
            values = [given[rank] for rank in range(len(pipes))]
            given.clear()
            for pipe in pipes:
                pipe.send(values)
    return [found[rank] for rank in range(len(pipes))]
