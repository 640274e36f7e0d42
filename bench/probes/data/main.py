"""One work of the data benchmark under one library.

    python main.py prepare WORK FOLDER SIZE          makes the input files, if they are not there
    python main.py run WORK PEER FOLDER SIZE [memory]   does the work, and prints ``@bench {...}``

SIZE is "quick" or "full". PEER is hpc, ray, dask, polars, duckdb, daft, datasets, torch, webdataset or limit: what bare
processes need for the same without any library around. Sessions are started, and warmed by a small work of the same
kind, before the clock runs. With "memory" the largest proportional set size of all processes is sampled; its seconds
do not count.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from measuring import Memory, cpu_s


def main(verb: str, name: str, *rest: str) -> None:
    work = importlib.import_module(f"work_{name}")
    if verb == "prepare":
        folder, size = rest
        work.prepare(Path(folder), work.SIZES[size])
        print(f"@bench {json.dumps({'prepared': name})}", flush=True)
        return
    peer, folder, size, *more = rest
    record = run(work, peer, Path(folder), work.SIZES[size], memory="memory" in more)
    print(f"@bench {json.dumps(record)}", flush=True)


def run(work: Any, peer: str, folder: Path, size: Any, memory: bool) -> dict[str, Any]:
    """Each part of the work, timed: ``{part: seconds, part_cpu: of all processes}``, and what it says itself."""
    record: dict[str, Any] = {}
    with work.library(peer) as library:
        for part, do in work.parts(peer, library, folder, size):
            with Memory(memory) as used:
                cpu, began = cpu_s(), time.perf_counter()
                said = do()
                took = time.perf_counter() - began
            record |= {part: took, f"{part}_cpu": cpu_s() - cpu, **(said if isinstance(said, dict) else {})}
            if memory:
                record[f"{part}_mb"] = used.peak_mb
    return record


if __name__ == "__main__":
    main(*sys.argv[1:])
