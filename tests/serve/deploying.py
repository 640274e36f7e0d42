"""A service of a test: who serves, and how it stands."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hpc import serve
from hpc.serve.exceptions import ReplicaDiedError
from hpc.serve.messages import CONTROLLER_NAME
from hpc.util.state import list_actors

PATIENCE_S = 30.0


def until(is_so: Callable[[], Any], what: str = "") -> Any:
    """Wait for something that no event tells of; what it gives."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = is_so()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what or 'it'} did not come to be within {PATIENCE_S:.0f} s: {serve.status()}")


def pids(handle: Any, count: int) -> set[int]:
    """The processes of a deployment of which each call returns its own; so many of them."""

    def found() -> set[int] | None:
        some = [handle.remote() for _ in range(4 * count)]
        try:
            there = {response.result(timeout_s=PATIENCE_S) for response in some}
        except ReplicaDiedError:  # of requests that were on their way to it
            return None
        return there if len(there) == count else None

    return set(until(found, f"{count} replicas"))


def standing(name: str, app: str = "default") -> Any:
    """How a deployment stands."""
    return serve.status().applications[app].deployments[name]


def controller_pid() -> int:
    """The process of the controller."""

    def found() -> int | None:
        rows = [row for row in list_actors() if row["name"] == CONTROLLER_NAME and row["state"] == "ALIVE"]
        return int(rows[0]["pid"]) if rows and rows[0]["pid"] else None

    return int(until(found, "a controller"))


def kill(pid: int) -> None:
    """End a process as the kernel does."""
    os.kill(pid, signal.SIGKILL)


@contextmanager
def load(handle: Any, *args: Any) -> Iterator[list[Any]]:
    """Calls, one after the other, as long as the block runs; what each gave, or its error."""
    given: list[Any] = []
    is_over = threading.Event()

    def call() -> None:
        while not is_over.is_set():
            try:
                given.append(handle.remote(*args).result(timeout_s=PATIENCE_S))
            except Exception as error:
                given.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield given
    finally:
        is_over.set()
        thread.join(PATIENCE_S)


def failed(given: list[Any]) -> list[Any]:
    """The errors among what calls gave."""
    return [one for one in given if isinstance(one, BaseException)]


def three_of_each(contexts: dict[Any, Any]) -> tuple[dict[Any, int], dict[Any, Any]]:
    """A policy of an application."""
    return dict.fromkeys(contexts, 3), {}
