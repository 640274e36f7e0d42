"""Dask, Parsl and concurrent.futures behind the few names of Ray's API that operations of micro.py use.

The thinnest wrapper that works: what each has is called directly, and what it lacks is not imitated.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any


class Futures:
    """concurrent.futures.ProcessPoolExecutor."""

    def init(self, num_cpus: int) -> None:
        from concurrent.futures import ProcessPoolExecutor

        self.pool = ProcessPoolExecutor(num_cpus)

    def shutdown(self) -> None:
        self.pool.shutdown()

    def remote(self, function: Callable[..., Any]) -> Any:
        submit = self.pool.submit

        class Task:
            @staticmethod
            def remote(*args: Any) -> Any:
                return submit(function, *args)

        return Task

    @staticmethod
    def get(futures: Any) -> Any:
        return [f.result() for f in futures] if type(futures) is list else futures.result()


class Parsl(Futures):
    """Parsl's HighThroughputExecutor on this machine."""

    def init(self, num_cpus: int) -> None:
        # Its programs are found by PATH, and its environment may not be active.
        os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", "")
        import parsl
        from parsl.executors import HighThroughputExecutor
        from parsl.providers import LocalProvider

        self.parsl = parsl
        executor = HighThroughputExecutor(
            label="htex", address="127.0.0.1", max_workers_per_node=num_cpus, worker_debug=False,
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )  # fmt: skip
        parsl.load(parsl.Config(executors=[executor], strategy="none", run_dir=os.path.abspath("parsl")))

    def shutdown(self) -> None:
        self.parsl.dfk().cleanup()
        self.parsl.clear()

    def remote(self, function: Callable[..., Any]) -> Any:
        app = self.parsl.python_app(function)

        class Task:
            remote = staticmethod(app)

        return Task


class Dask:
    """Dask's distributed with one process per CPU."""

    def init(self, num_cpus: int) -> None:
        from distributed import Client

        self.client = Client(
            n_workers=num_cpus,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            local_directory=os.getcwd(),
        )

    def shutdown(self) -> None:
        self.client.shutdown()

    def remote(self, *function: Any, **options: Any) -> Any:
        if not function:
            return self.remote  # num_cpus and the like: an actor of Dask has none
        client, call = self.client, function[0]

        class Task:
            @staticmethod
            def remote(*args: Any) -> Any:
                if isinstance(call, type):
                    return Handle(client.submit(call, *args, actor=True).result())
                return client.submit(call, *args, pure=False)

        return Task

    def get(self, found: Any) -> Any:
        if type(found) is list:
            return self.client.gather(found) if hasattr(found[0], "key") else [f.result() for f in found]
        return found.result()

    def put(self, value: Any) -> Any:
        return self.client.scatter(value, hash=False)


class Handle:
    """Methods of an actor by ``.remote``."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._actor, name)

        class Method:
            remote = staticmethod(method)

        return Method


OTHERS = {"futures": Futures, "parsl": Parsl, "dask": Dask}
