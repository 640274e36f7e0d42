"""Applications of a configuration file, as `hpc serve deploy` deploys them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hpc import serve
from hpc.serve import declared
from hpc.serve.schema import read_config, read_yaml
from tests.runtime.running import one_node
from tests.serve.deploying import until

pytest.importorskip("yaml")

FILE = """
proxy_location: Disabled
applications:
- name: one
  route_prefix: /one
  import_path: tests.serve.apps:app
  deployments:
  - name: Named
    num_replicas: 2
    user_config: {a: 1}
- name: two
  route_prefix: /two
  import_path: tests.serve.apps:build
  args: {name: built}
"""


@pytest.fixture(scope="module")
def service() -> Iterator[None]:
    with one_node(num_cpus=8):
        yield
        serve.shutdown()


def _answer(app: str) -> dict[str, Any]:
    answer: dict[str, Any] = serve.get_app_handle(app).remote().result(timeout_s=30)
    return answer


def test_a_file_says_what_there_is(service: None) -> None:
    config = read_yaml(FILE)
    declared.deploy(config)
    until(lambda: {one.status for one in serve.status().applications.values()} == {"RUNNING"})
    assert serve.status().applications["one"].deployments["Named"].replica_states == {"RUNNING": 2}
    assert _answer("one")["config"] == {"a": 1} and _answer("two")["name"] == "built"
    assert declared.deployed() == config
    first = _answer("two")["pid"]
    config.applications[1].deployments = [serve.schema.DeploymentSchema(name="Named", user_config={"b": 2})]
    del config.applications[0]
    declared.deploy(config)
    until(lambda: list(serve.status().applications) == ["two"] and _answer("two")["config"] == {"b": 2})
    assert _answer("two")["pid"] == first
    more = {"name": "three", "route_prefix": None, "import_path": "tests.serve.apps:app"}
    declared.deploy(read_config({"applications": [more]}), only=False)
    assert set(serve.status().applications) == {"two", "three"} and _answer("two")["pid"] == first
    assert [one.name for one in declared.deployed().applications] == ["two", "three"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"import_path": "tests.serve.apps:nothing"}, "nothing"),
        ({"import_path": "tests.serve.apps:app", "args": {"name": "x"}}, "takes no arguments"),
        ({"import_path": "tests.serve.apps:Named"}, "is neither an application"),
        ({"import_path": "tests.serve.apps:app", "deployments": [{"name": "Other"}]}, "no deployment Other"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(service: None, change: dict[str, Any], said: str) -> None:
    config = read_config({"proxy_location": "Disabled", "applications": [change]})
    with pytest.raises((ValueError, ImportError, TypeError), match=said):
        declared.deploy(config)
