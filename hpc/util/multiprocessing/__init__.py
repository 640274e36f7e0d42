"""The standard library's ``multiprocessing.Pool``, with processes on all nodes of the session."""

from __future__ import annotations

from multiprocessing import TimeoutError

from hpc.util.multiprocessing.joinable import JoinableQueue
from hpc.util.multiprocessing.pool import Pool
from hpc.util.multiprocessing.results import AsyncResult, ResultIterator

__all__ = ["AsyncResult", "JoinableQueue", "Pool", "ResultIterator", "TimeoutError"]
