"""A large array from one node to another, each in a network namespace, and bare streams between the same two.

    python transfer.py BYTES ROUNDS [CONFIG_JSON]

First the bare streams (see stream.py), then a session with these two nodes: a task of one makes the array, a task of
the other is timed from its start until it has the array. The object is new in each round. CONFIG_JSON is the session's
flat configuration, for a second run with bulk encryption switched off.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[2]))

from bench import spaces  # noqa: E402

PORT = 19000
STREAM_S = 90.0


def certificate(folder: Path) -> Path | None:
    """A key and its certificate in one file, or None where openssl is not installed."""
    key, made = folder / "key.pem", folder / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=bench"]
    try:
        subprocess.run([*command, "-keyout", str(key), "-out", str(made)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    made.write_text(key.read_text() + made.read_text())
    return made


def bare(bed: Any, kind: str, size: int, port: int, more: list[str]) -> float:
    """GB/s of one bare stream from the first node to the second."""

    def command(role: str) -> list[str]:
        words = [sys.executable, str(HERE.with_name("stream.py")), role, kind, str(size)]
        return [*words, bed.address(bed.names[0]), str(port)]

    serving = subprocess.Popen(bed.inside(bed.names[0], [*command("serve"), *more]), stdout=subprocess.DEVNULL)
    try:
        done = subprocess.run(
            bed.inside(bed.names[1], command("fetch")), capture_output=True, text=True, timeout=STREAM_S, check=True
        )
    finally:
        serving.terminate()
        serving.wait(10)
    return float(json.loads(done.stdout.partition("@bench ")[2])["GB/s"])


def transfer(hpc: Any, size: int) -> float:
    """GB/s of one new object."""
    import numpy as np

    from hpc.util.scheduling_strategies import NodeAffinitySchedulingStrategy as Affinity

    @hpc.remote(scheduling_strategy=Affinity("1", soft=False))
    def make() -> Any:
        return np.full(size // 8, 7, dtype=np.int64)

    @hpc.remote(scheduling_strategy=Affinity("2", soft=False))
    def take(refs: list[Any]) -> tuple[float, int]:
        start = time.perf_counter()
        array = hpc.get(refs[0])
        return time.perf_counter() - start, int(array[-1]) * len(array)

    hpc.get(take.remote([hpc.put(b"x")]))
    ref = make.remote()
    hpc.wait([ref])
    took, check = hpc.get(take.remote([ref]), timeout=STREAM_S)
    assert check == 7 * (size // 8)
    return size / took / 1e9


def main() -> None:
    size, rounds = int(sys.argv[1]), int(sys.argv[2])
    config = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    with spaces.netbed().NetBed(["n1", "n2"]) as bed:
        pem = certificate(bed.scratch)
        kinds = {"tcp": [], "curve": [], **({"tls": [str(pem)]} if pem else {})}
        options = {"num_cpus": 2, "object_store_bytes": int(size * 2.6)}
        with spaces.session(bed, config=config, **options) as session:
            import hpc

            hpc.init(address=spaces.directory(session))
            try:
                for turn in range(rounds):
                    found = {
                        k: bare(bed, k, size, PORT + turn * len(kinds) + i, more)
                        for i, (k, more) in enumerate(kinds.items())
                    }
                    found["hpc"] = transfer(hpc, size)
                    print("@bench " + json.dumps(found), flush=True)
            finally:
                hpc.shutdown()


if __name__ == "__main__":
    main()
