"""Language models: tokens per second and the time to the first one, beside `transformers serve --continuous-batching`.

The model is a tiny one with random weights, so that what is measured is all that stands around a model. The toy has no
peer: it shows what the service itself takes.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from typing import Any

from bench.children import Children
from bench.metrics import HPC, Target
from bench.parts import Skipped, table
from bench.tune import Line, gathered, row

LIMIT_S = 300.0
TRANSFORMERS = "transformers"
CLIENTS = (1, 4, 16)
TOKENS = "64"
NEEDED = ("transformers", "torch", "fastapi", "uvicorn", "httptools")


def _lines(name: str, target: Target | None) -> list[Line]:
    lines, targets = [], () if target is None else (target,)
    for count in CLIENTS:
        what = f"{name}, {count} {'client' if count == 1 else 'clients'}"
        lines.append(Line(f"{what}: tokens/s", f"rate_{count}", targets, TRANSFORMERS, True))
        lines.append(Line(f"{what}: ms to the first token, p50", f"first_p50_ms_{count}", (), TRANSFORMERS))
        lines.append(Line(f"{what}: ms to the first token, p99", f"first_p99_ms_{count}", (), TRANSFORMERS))
    return lines


def llm(children: Children, quick: bool) -> dict[str, Any]:
    """The table: a model of transformers beside its own server, in turns, and the toy."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise Skipped(f"{missing[0]} is not installed: pip install 'hpc[llm,serve]' 'transformers[serving]'")
    rounds, seconds = (1, "1") if quick else (5, "3")
    found: dict[str, list[dict[str, Any]]] = {"toy": [], "hf": [], TRANSFORMERS: []}
    with tempfile.TemporaryDirectory(prefix="llm-", dir=children.folder) as folder:
        subprocess.run(
            [sys.executable, "examples/tiny_llama.py", folder], check=True, capture_output=True, timeout=LIMIT_S
        )
        for turn in range(rounds):
            names = list(found)
            for who in names[turn % len(names) :] + names[: turn % len(names)]:
                words = (who, folder, ",".join(map(str, CLIENTS)), TOKENS, seconds)
                found[who] += children.probe(sys.executable, "llm.py", *words, timeout_s=LIMIT_S).records
    values = {who: gathered(records) for who, records in found.items()}
    rows = [row(line, values["hf"], values[TRANSFORMERS]) for line in _lines("a Llama of 2 layers", Target(times=1.0))]
    rows += [row(line, values["toy"], {}) for line in _lines("the toy", None)]
    note = (
        f"The median of {rounds} rounds in turns (lowest…highest), {seconds} s for each number of clients, on the "
        f"same cores; streams of {TOKENS} tokens, each client asks again at once. One replica with one thread for the "
        "model, as many for the peer."
    )
    return table("Language models", note, ["what", HPC, TRANSFORMERS, "hpc better by", "target", "reached"], rows)
