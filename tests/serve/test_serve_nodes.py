"""A service on several nodes: where its replicas are."""

from __future__ import annotations

import pytest

pytest.importorskip("httptools", reason="the doors of Serve need httptools")

import hpc
from hpc import serve
from hpc.util.state import list_actors
from runtime.running import eventually, local_nodes


def places(prefix: str) -> list[str]:
    """The nodes of the actors that live, by the beginning of their names."""
    rows = [row for row in list_actors() if row["name"].startswith(prefix) and row["state"] == "ALIVE"]
    return sorted(str(row["node_id"]) for row in rows)


@serve.deployment(num_replicas=2, max_replicas_per_node=1)
class Where:
    def __call__(self) -> str:
        return str(hpc.get_runtime_context().get_node_id())


def test_a_node_has_no_more_replicas_than_it_may_and_each_has_a_proxy() -> None:
    with local_nodes(2, num_cpus=4):
        handle = serve.run(Where.bind())
        assert places("SERVE_REPLICA") == ["1", "2"]
        eventually(lambda: places("SERVE_PROXY") == ["1", "2"])
        assert {handle.remote().result(timeout_s=30) for _ in range(40)} == {"1", "2"}
        serve.shutdown()
