"""A job hands its service over to the next one, through a gateway: ``python -m bench.serve.handover``.

Two sessions stand for two jobs of a chain. The gateway has 200 requests a second, GET and POST, and ten streams, while
the first job leaves and ends. No request fails, all streams are whole, and no moment is without an answer.
`tests/schedulers/test_slurm_serve.py` has the same with jobs of Slurm.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench import spaces
from bench.serve.client import Load
from bench.serve.leaving import GAP_S, STREAMS, Streams, during
from bench.serve.programs import Finding, failed, gateway, main, said

KINDS, RATE = "get,post", 200
#: The longest time without an answer that is no gap of the service.
GAP_MS = 250.0
NOTICE_S = 1.2


def job(name: str, folder: str) -> None:
    """Serve until a line comes, then leave."""
    import hpc
    from hpc import serve

    hpc.init(num_cpus=4, object_store_memory=128 << 20)
    serve.run(Streams.options(num_replicas=2).bind())
    serve.announce(folder, name=name)
    print("up", flush=True)
    sys.stdin.readline()
    serve.withdraw(NOTICE_S)
    serve.shutdown()
    hpc.shutdown()
    print("down", flush=True)


class Job:
    """A job in a process of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        command = [sys.executable, "-m", "bench.serve.handover", name, str(folder)]
        self.process = subprocess.Popen(
            command, cwd=spaces.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._line("up")

    def _line(self, wanted: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip() == wanted:
                return
        raise SystemExit(f"a job has not come so far that it is {wanted}")

    def leave(self) -> None:
        """Have it leave, and wait until it has ended."""
        assert self.process.stdin is not None
        self.process.stdin.write("leave\n")
        self.process.stdin.flush()
        self._line("down")
        self.process.wait(60)

    def close(self) -> None:
        """End what is left."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def check(quick: bool) -> Iterator[Finding]:
    """See the top of this file."""
    changes, count = (1, int(5 / GAP_S)) if quick else (4, int(20 / GAP_S))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "r")
        folder.mkdir(mode=0o700)
        jobs = [Job("job-0", folder)]
        try:
            with gateway(folder) as address, Load(address, rate=RATE, connections=16, kinds=KINDS) as load:
                load.more(100)
                broken, longest_s = 0, 0.0
                for number in range(1, changes + 1):
                    first = jobs[-1]

                    def change(number: int = number, first: Job = first) -> None:
                        jobs.append(Job(f"job-{number}", folder))
                        asyncio.run(asyncio.sleep(NOTICE_S))  # both serve
                        first.leave()

                    began = time.monotonic()
                    bad, _, _ = during(address, count, change)
                    broken, longest_s = broken + bad, max(longest_s, time.monotonic() - began)
                load.more(200)
                outcome = load.end()
            for one in jobs[-1:]:
                one.leave()
        finally:
            for one in jobs:
                one.close()
    figure = f"{said(outcome, KINDS)}; streams: failed={broken} of {STREAMS * changes}; "
    figure += f"longest time without an answer {outcome['gap_ms']:.0f} ms"
    is_kept = not failed(outcome, KINDS) and not broken and (quick or outcome["gap_ms"] <= GAP_MS)
    wanted = "failed=0, both" if quick else f"failed=0, both; gap <= {GAP_MS:g} ms"
    yield Finding(f"{changes} hand-overs between jobs", figure, wanted, is_kept)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        job(*sys.argv[1:])
    else:
        main(check, __doc__)
