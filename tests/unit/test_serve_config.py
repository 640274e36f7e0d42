"""Options of services: limits as under Ray, and errors that name the option."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpc import serve
from hpc.serve.config import AutoscalingConfig, HTTPOptions, LoggingConfig, ProxyLocation
from hpc.serve.deployments import build
from hpc.serve.schema import read_config


@serve.deployment
class One:
    """A deployment."""

    def __init__(self, *args: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_replicas": 0}, "num_replicas"),
        ({"num_replicas": -1}, "num_replicas"),
        ({"num_replicas": 2, "autoscaling_config": {}}, "num_replicas"),
        ({"max_ongoing_requests": 0}, "max_ongoing_requests"),
        ({"max_queued_requests": 0}, "max_queued_requests"),
        ({"ray_actor_options": {"name": "x"}}, "'name'"),
        ({"user_config": object()}, "JSON"),
        ({"max_replicas_per_node": 0}, "max_replicas_per_node"),
        ({"placement_group_strategy": "PACK"}, "placement_group_bundles"),
        ({"placement_group_bundles": [{"GPU": 1}]}, "num_cpus"),
        ({"health_check_period_s": 0}, "health_check_period_s"),
        ({"rolling_update_percentage": 1.5}, "rolling_update_percentage"),
        ({"max_surge_percent": 101}, "max_surge_percent"),
        ({"backpressure_config": {"status_code": 500}}, "status_code"),
        ({"logging_config": {"log_level": "loud"}}, "log_level"),
        ({"version": "1"}, "version"),
        ({"name": "a#b"}, "'#'"),
        ({"autoscaling_config": {"min_replicas": 3, "max_replicas": 2}}, "max_replicas"),
        ({"autoscaling_config": {"most": 2}}, "it has min_replicas"),
        ({"retry": "sometimes"}, "retry"),
    ],
)
def test_an_option_out_of_its_limits_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        One.options(**options)


def test_what_is_no_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="most"):
        One.options(most=1)
    with pytest.raises(RuntimeError, match="bind"):
        One()
    with pytest.raises(ValueError, match="multiple of gang_size"):
        One.options(gang_scheduling_config={"gang_size": 2})


def test_auto_is_autoscaling() -> None:
    config = One.options(num_replicas="auto")._config.autoscaling_config
    assert isinstance(config, AutoscalingConfig)
    assert (config.min_replicas, config.max_replicas, config.target) == (1, 100, 2.0)
    config = One.options(num_replicas="auto", autoscaling_config={"max_replicas": 7})._config.autoscaling_config
    assert config is not None and config.max_replicas == 7
    assert One.options(num_replicas="auto").options(num_replicas=2)._config.autoscaling_config is None


def test_a_door_on_tcp_is_there_where_it_was_asked_for() -> None:
    assert not HTTPOptions().is_tcp and HTTPOptions(port=0).is_tcp and HTTPOptions(host="127.0.0.1").is_tcp
    assert HTTPOptions(host=None).location is ProxyLocation.Disabled
    assert LoggingConfig(log_level=10).log_level == "DEBUG"


def test_the_same_code_has_the_same_version_in_each_process(tmp_path: Path) -> None:
    """A file that is deployed again, with another `user_config`, leaves the replicas."""
    text = """
import enum, typing
import hpc
from hpc import serve
from hpc.serve.config import DeploymentActorConfig
T = typing.TypeVar("T")
@hpc.remote
class Cache:
    kind = T
class Kind(enum.Enum):
    ONE = 1
class Inner(typing.Generic[T]):
    words = {"one", "two", "three", "four"}
    def __contains__(self, word):
        return word in {"a", "b", "c", "d", "e"}
@serve.deployment(deployment_actors=[DeploymentActorConfig(name="cache", actor_class=Cache)])
class One:
    number = NUMBER
    kind = Kind
    def __init__(self, inner, key):
        self.inner = Inner
app = One.bind(Inner(), "KEY")
"""
    program = "import versioned; from hpc.serve.deployments import build; "
    program += "print(build(versioned.app, 'app', seed='s').deployments[0].code_version)"

    def version() -> str:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
        ran = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60)
        assert not ran.returncode, ran.stderr
        return ran.stdout

    path = tmp_path / "versioned.py"
    numbers, keys = ("1", "10"), ("0123456789abcdef" * 2, "0123456789abcde0" * 2)
    found = {}
    for number, key in ((numbers[0], keys[0]), (numbers[1], keys[0]), (numbers[0], keys[1])):
        path.write_text(text.replace("NUMBER", number).replace("KEY", key))
        found[number, key] = version()
        assert version() == found[number, key]
    assert len(set(found.values())) == 3, "an argument may look as a random id does"


def test_a_graph_becomes_specs_that_others_use_first() -> None:
    inner = One.options(name="inner").bind()
    spec = build(One.bind([inner], {"x": inner}, One.bind()), "app")
    assert [(one.name, one.uses) for one in spec.deployments] == [
        ("inner", []),
        ("One", []),
        ("One_1", ["inner", "One"]),
    ]
    assert spec.ingress == "One_1"
    again = build(One.bind([inner], {"x": inner}, One.bind()), "app")
    assert [one.code_version for one in again.deployments] == [one.code_version for one in spec.deployments]
    other = build(One.options(ray_actor_options={"num_cpus": 2}).bind(), "app").deployments[0]
    assert other.code_version != build(One.bind(), "app").deployments[0].code_version
    same = build(One.options(user_config=1, num_replicas=3).bind(), "app").deployments[0]
    assert same.code_version == build(One.bind(), "app").deployments[0].code_version


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "applications"),
        ({"applications": [{}]}, "import_path"),
        ({"applications": [{"import_path": "x"}]}, "module:attribute"),
        ({"applications": [{"import_path": "a:b"}, {"import_path": "a:b"}]}, "default"),
        ({"applications": [{"import_path": "a:b", "name": "x"}, {"import_path": "a:b", "name": "y"}]}, "prefix"),
        ({"applications": [{"import_path": "a:b", "deployments": [{"name": "x", "num_replicas": 0}]}]}, "num_replicas"),
        ({"applications": [{"import_path": "a:b", "deployments": [{"name": "x", "most": 0}]}]}, "most"),
        ({"applications": [], "target_capacity": 101}, "target_capacity"),
        ({"applications": [], "proxy_location": "Here"}, "proxy_location"),
        ({"applications": [], "more": 1}, "more"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_config(given)
