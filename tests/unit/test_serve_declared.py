"""Services out of files: import paths, builders, options of the file, and files for what code says."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hpc
from hpc.cli import serve as command
from hpc.cli.serve_gateway import BATCH, GATEWAY
from hpc.cli.words import parse_mixed
from hpc.serve import declared
from hpc.serve.exceptions import RayServeException
from hpc.serve.http import door
from hpc.serve.schema import read_config
from hpc.settings.errors import CliError

CODE = """
from hpc import serve

@serve.deployment
class Price:
    def __call__(self, number): return number

@serve.deployment(max_ongoing_requests=7, user_config={"a": 1})
class Shop:
    def __init__(self, price, text=""): self.text = text
    async def __call__(self, request): return self.text

app = Shop.bind(Price.bind())

def build(args):
    return Shop.bind(Price.bind(), args["text"])

def none(args):
    return 7

def plain():
    return app
"""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "a_shop.py").write_text(CODE)
    yield declared.look_in(str(tmp_path))
    sys.path.remove(str(tmp_path))
    sys.modules.pop("a_shop", None)


def test_an_import_path_names_an_application_or_its_builder(shop: str) -> None:
    assert declared.application("a_shop:app", {})._bound_deployment.name == "Shop"
    assert declared.application("a_shop.app", {})._bound_deployment.name == "Shop"
    assert declared.application("a_shop:build", {"text": "x"})._bound_deployment.init_args[1] == "x"
    assert declared.application("a_shop:plain", {})._bound_deployment.name == "Shop"
    for path, args, error, match in (
        ("a_shop:app", {"a": 1}, TypeError, "takes no arguments"),
        ("a_shop:none", {}, TypeError, "returned int"),
        ("a_shop:missing", {}, ImportError, "has no 'missing'"),
        ("a_shop:Shop", {}, TypeError, "neither an application"),
    ):
        with pytest.raises(error, match=match):
            declared.application(path, args)


def test_options_of_the_file_hold_instead_of_the_codes(shop: str) -> None:
    given = {"import_path": "a_shop:app", "deployments": [{"name": "Shop", "num_replicas": 3, "user_config": {"a": 2}}]}
    (one,) = read_config({"applications": [given]}).applications
    spec = declared._spec(one, [shop])
    options = {each.name: each.config for each in spec.deployments}
    assert spec.source == "declarative" and set(options) == {"Price", "Shop"}
    assert (options["Shop"].num_replicas, options["Shop"].user_config) == (3, {"a": 2})
    assert options["Shop"].max_ongoing_requests == 7 and options["Price"].num_replicas == 1
    assert options["Price"].ray_actor_options["runtime_env"]["env_vars"]["PYTHONPATH"] == shop
    given["deployments"] = [{"name": "Other"}]
    (one,) = read_config({"applications": [given]}).applications
    with pytest.raises(ValueError, match=r"no deployment Other: it has Price, Shop"):
        declared._spec(one, [])


def test_paths_go_before_those_that_there_are() -> None:
    assert declared.with_paths({"env_vars": {"PYTHONPATH": "/a", "B": "1"}}, ["/x"]) == {
        "env_vars": {"PYTHONPATH": "/x:/a", "B": "1"}
    }
    assert declared.with_paths({"pip": ["x"]}, []) == {"pip": ["x"]}


def test_a_file_is_written_that_can_be_read(shop: str) -> None:
    found = declared.described(["a_shop:app"])
    (one,) = found["applications"]
    assert (one["import_path"], one["route_prefix"]) == ("a_shop:app", "/")
    assert one["deployments"] == [
        {"name": "Price"},
        {"name": "Shop", "max_ongoing_requests": 7, "user_config": {"a": 1}},
    ]
    again = read_config(found)
    assert read_config(again.plain()) == again
    two = declared.described(["a_shop:app", "a_shop:plain"])["applications"]
    assert [each["route_prefix"] for each in two] == ["/app1", "/app2"]


def test_a_door_that_was_not_asked_for_is_not_written_down(shop: str) -> None:
    config = read_config({"http_options": {"request_timeout_s": 3}, "applications": [{"import_path": "a_shop:app"}]})
    assert not config.http_options.is_tcp  # type: ignore[union-attr]
    again = read_config(config.plain())
    assert not again.http_options.is_tcp and again.http_options.request_timeout_s == 3  # type: ignore[union-attr]


def test_another_environment_makes_new_replicas(shop: str) -> None:
    def version(value: str, *paths: str) -> str:
        env = {"env_vars": {"MODE": value}} if value else {}
        one = read_config({"applications": [{"import_path": "a_shop:app", "runtime_env": env}]}).applications[0]
        return declared._spec(one, paths).deployments[0].code_version

    assert version("a") == version("a") and version("") == version("")
    assert len({version("a"), version("b"), version(""), version("", "/x"), version("", "/y")}) == 5


def test_words_of_the_command(shop: str, capsys: pytest.CaptureFixture[str]) -> None:
    config, paths = command._config({"app_dir": shop, "port": 0, "name": "n"}, ["a_shop:build", "text=a=b"])
    assert config.applications[0].args == {"text": "a=b"} and config.applications[0].name == "n"
    assert config.http_options.is_tcp and config.http_options.port == 0 and paths == [shop]
    for rest in ([], ["a_shop:build", "text"], ["x.yaml", "a=b"]):
        with pytest.raises(CliError):
            command._config({"app_dir": shop}, rest)
    assert parse_mixed(command.COMMANDS["run"][1], ["--port", "0"])[0]["port"] == 0
    assert parse_mixed(BATCH, ["--retries=0", "in", "out"]) == ({"retries": 0}, ["in", "out"])
    with pytest.raises(CliError, match="from 0"):
        parse_mixed(GATEWAY, ["--port", "-1"])
    assert command.run(["serve", "deploy", "--help"]) == 0
    assert "--app-dir" in capsys.readouterr().out
    with pytest.raises(CliError, match="no such command"):
        command.run(["serve", "what"])
    assert command.run(["serve", "build", "a_shop:app", f"--app-dir={shop}"]) == 0
    assert "max_ongoing_requests: 7" in capsys.readouterr().out


def test_the_line_of_ssh_leads_to_the_node_of_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    own = socket.gethostname()
    rows = [{"NodeID": "0", "NodeManagerHostname": own}, {"NodeID": "1", "NodeManagerHostname": "far"}]
    monkeypatch.setattr(hpc, "nodes", lambda: rows)
    monkeypatch.setattr(door, "told", lambda: {"0": ["unix:/a"], "1": ["unix:/b"]})
    lines = command.where()
    assert any("on this machine: " in line and "/a" in line for line in lines)
    assert any("on far: " in line and "/b" in line for line in lines)
    assert [line.rsplit("@")[-1] for line in lines if "ssh -N" in line] == [own, "far"]


def test_what_a_service_refuses_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(given: object, rest: object) -> int:
        raise RayServeException("a gateway runs already")

    monkeypatch.setitem(command.COMMANDS, "config", (refuses, ()))
    with pytest.raises(CliError, match="a gateway runs already"):
        command.run(["serve", "config"])
