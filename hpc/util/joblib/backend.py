"""The backend that joblib drives: batches of calls go to the processes of a `Pool`.

Large arrays among the arguments are stored once for each call of ``Parallel`` and shared by all batches. For its own
processes joblib does that by files. The pool lasts as long as the backend, so for all of a ``with`` block.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from joblib.parallel import (
    AutoBatchingMixin,
    BatchedCalls,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

import hpc
from hpc.util.multiprocessing import Pool

#: Arrays from this size on are stored once, as by joblib's own ``max_nbytes``.
SHARED_BYTES = 1 << 20


class HpcBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Chosen by ``parallel_config(backend="hpc")``. ``ray_remote_args``, as for `Pool`, can be given there, and for one
    call to ``Parallel``."""

    supports_retrieve_callback = True
    supports_sharedmem = False
    uses_threads = False
    default_n_jobs = -1

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        ray_remote_args: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._remote_args = ray_remote_args
        self._wanted: tuple[int, dict[str, Any] | None] = (0, None)  # what the pool has, or will have
        self._pool: Pool | None = None
        self._shared: dict[int, tuple[Any, hpc.ObjectRef[Any]]] = {}

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many processes are meant: -1 is as many as the session has CPUs, -2 one less."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        wanted = self.default_n_jobs if n_jobs is None else n_jobs
        if wanted > 0:
            return wanted
        return max(1, int(hpc.cluster_resources().get("CPU", 1)) + 1 + wanted)

    def configure(
        self,
        n_jobs: int | None = 1,
        parallel: Any = None,
        ray_remote_args: dict[str, Any] | None = None,
        **_options: Any,
    ) -> int:
        """Called by joblib before the first batch of a call."""
        count = self.effective_n_jobs(n_jobs)
        if count == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        wanted = (count, self._remote_args if ray_remote_args is None else ray_remote_args)
        if wanted != self._wanted:
            self._end_pool()
        self.parallel = parallel
        self._wanted = wanted
        return count

    def submit(self, func: Any, callback: Any = None) -> Any:
        """Run a batch; ``callback`` gets (True, results) or (False, what it raised)."""
        if self._pool is None:
            count, remote_args = self._wanted
            self._pool = Pool(count, ray_remote_args=remote_args)

        def returned(value: Any) -> None:
            callback((True, value))

        def raised(error: BaseException) -> None:
            callback((False, error))

        call = self._with_shared_arrays(func) if isinstance(func, BatchedCalls) else func
        told = callback is not None
        return self._pool.apply_async(call, (), None, returned if told else None, raised if told else None)

    def retrieve_result_callback(self, out: tuple[bool, Any]) -> Any:
        """The results of a batch from what its callback got."""
        done, value = out
        if done:
            return value
        raise value

    def stop_call(self) -> None:
        """The call is over: what it shared is not needed any more."""
        self._shared.clear()

    def terminate(self) -> None:
        """Called after each call of ``Parallel``. The pool stays for the next, and ends with the last who holds this
        backend: so this must not hold the one that holds it."""
        self._shared.clear()
        self.parallel = None

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """A call has raised: end the others."""
        self._end_pool()
        self._shared.clear()

    def _end_pool(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    def _with_shared_arrays(self, batch: Any) -> Any:
        refs: list[hpc.ObjectRef[Any]] = []

        def slot(value: Any) -> Any:
            if not isinstance(value, np.ndarray) or value.nbytes < SHARED_BYTES or value.dtype.hasobject:
                return value
            known = self._shared.get(id(value))
            if known is None:
                known = self._shared[id(value)] = (value, hpc.put(value))
            refs.append(known[1])
            return _Slot(len(refs) - 1)

        items = [
            (func, [slot(value) for value in args], {key: slot(value) for key, value in kwargs.items()})
            for func, args, kwargs in batch.items
        ]
        if not refs:
            return batch
        slim = copy.copy(batch)
        slim.items = items
        return _Filled(slim, refs)


class _Slot:
    """Stands for an array that is in the object store."""

    def __init__(self, index: int) -> None:
        self.index = index


class _Filled:
    """A batch and its arrays: where it is called, the arrays take the places of their slots."""

    def __init__(self, batch: Any, refs: list[hpc.ObjectRef[Any]]) -> None:
        self.batch = batch
        self.refs = refs

    def __call__(self) -> Any:
        arrays = hpc.get(self.refs)

        def value_of(value: Any) -> Any:
            return arrays[value.index] if isinstance(value, _Slot) else value

        self.batch.items = [
            (func, [value_of(value) for value in args], {key: value_of(value) for key, value in kwargs.items()})
            for func, args, kwargs in self.batch.items
        ]
        return self.batch()
