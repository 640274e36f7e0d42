"""Updates of 4 replicas under load, the last of which cannot begin: ``python -m bench.serve.updates``.

300 requests a second, GET and POST. A new version replaces the replicas with a surge of one; then comes one whose
constructor raises. No request fails, the second change stops by itself, and the version before it serves on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from bench.serve.client import Load
from bench.serve.programs import Finding, door, failed, main, one_node, said
from hpc import serve

KINDS, RATE = "get,post", 300


@serve.deployment(num_replicas=4, max_surge_percent=25, max_ongoing_requests=20, max_constructor_retry_count=3)
class Version:
    def __init__(self, version: str) -> None:
        if version.startswith("bad"):
            raise ValueError(f"there is no {version}")
        self.version = version

    async def __call__(self, request: Any) -> str:
        return self.version


def versions(outcome: dict[str, Any]) -> str:
    """How many answers each version has given."""
    found: Counter[str] = Counter()
    for kind in KINDS.split(","):
        found.update(outcome[kind]["answers"])
    return ", ".join(f"{version} {count:,}" for version, count in sorted(found.items()))


def check(quick: bool) -> Iterator[Finding]:
    """See the top of this file."""
    with one_node():
        serve.run(Version.bind("1"))
        with Load(door(), rate=RATE, connections=16, kinds=KINDS) as load:
            load.more(200)
            updates = 1 if quick else 5
            took = []
            for number in range(updates):
                began = time.monotonic()
                serve.run(Version.bind(f"{number + 2}"))
                took.append(time.monotonic() - began)
            load.more(200)
            outcome = load.end()
        figure = f"{said(outcome, KINDS)}; {max(took):.1f} s at most; answers of version {versions(outcome)}"
        yield Finding(f"{updates} updates of 4 replicas", figure, "failed=0", not failed(outcome, KINDS))
        with Load(door(), rate=RATE, connections=16, kinds=KINDS) as load:
            load.more(200)
            try:
                serve.run(Version.bind("bad"))
                error = ""
            except RuntimeError as raised:
                error = str(raised)
            load.more(300)
            outcome = load.end()
        status = serve.status().applications["default"].deployments["Version"]
        last = f"{updates + 1}"
        figure = f"{said(outcome, KINDS)}; {status.status.value}; answers of version {versions(outcome)}"
        is_kept = not failed(outcome, KINDS) and status.status == "DEPLOY_FAILED" and "there is no bad" in error
        answers = {text for kind in KINDS.split(",") for text in outcome[kind]["answers"]}
        yield Finding("an update that cannot begin", figure, "failed=0, it stops, the old one serves",
                      is_kept and answers == {last})  # fmt: skip


if __name__ == "__main__":
    main(check, __doc__)
