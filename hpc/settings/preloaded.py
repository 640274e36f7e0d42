"""The modules of libraries that every new worker of a session finds imported. They are named here, and nowhere below.

A node imports them once, when nothing has been asked of it for a moment, in the process that its workers are forked
from. They must start no threads and open no devices. A name is enough for that: importing this imports none of them.
"""

from __future__ import annotations

#: The actors of trials: an experiment may start a hundred a second. Replicas: a request waits for the first one.
#: Functions that use this library's names themselves: what these import takes 4 ms of each worker.
PRELOADED = ("hpc.tune.worker", "hpc.serve.calls.replica", "hpc.serve.specs", "hpc.api.remote")
