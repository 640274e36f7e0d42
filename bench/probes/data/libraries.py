"""The libraries that are measured, each with two CPUs, started and ended around the work."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

CORES = 2
STORE = 6 << 30


@contextlib.contextmanager
def library(peer: str, store: int = STORE) -> Iterator[Any]:
    """The module of datasets under hpc and Ray; a pool of processes for the limit; the peer's own module else."""
    os.environ.setdefault("POLARS_MAX_THREADS", str(CORES))
    if peer == "hpc":
        import hpc

        hpc.init(address="local", num_cpus=CORES, object_store_memory=store)
        hpc.data.DataContext.get_current().enable_progress_bars = False
        warm(hpc.data)
        yield hpc.data
        hpc.shutdown()
    elif peer == "ray":
        ray: Any = importlib.import_module("ray")
        ray.init(
            address="local", num_cpus=CORES, include_dashboard=False, log_to_driver=False, object_store_memory=store
        )
        data = importlib.import_module("ray.data")
        data.DataContext.get_current().enable_progress_bars = False
        warm(data)
        yield data
        ray.shutdown()
    elif peer == "dask":
        distributed: Any = importlib.import_module("distributed")
        cluster = distributed.LocalCluster(n_workers=CORES, threads_per_worker=1, dashboard_address=None)
        with cluster, distributed.Client(cluster):
            yield importlib.import_module("dask.dataframe")
    elif peer == "limit":
        with ProcessPoolExecutor(CORES) as pool:
            list(pool.map(abs, range(CORES)))  # its processes are there
            yield pool
    elif peer == "duckdb":
        duckdb: Any = importlib.import_module("duckdb")
        yield duckdb.connect(config={"threads": CORES})
    elif peer == "daft":
        daft: Any = importlib.import_module("daft")
        daft.set_runner_native(num_threads=CORES)
        yield daft
    elif peer == "torch":
        torch: Any = importlib.import_module("torch")
        torch.set_num_threads(1)
        yield torch
    else:
        yield importlib.import_module(peer)


def warm(data: Any) -> None:
    """Workers are there, and have imported what they need."""
    data.range(1000, override_num_blocks=2 * CORES).map_batches(lambda batch: batch).take_all()


Parts = Iterator[tuple[str, Callable[[], Any]]]
