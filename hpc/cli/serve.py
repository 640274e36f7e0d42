"""`hpc serve run | deploy | status | config | build | shutdown | tunnel | gateway | batch`: services of hpc.serve.

Thin: all that they do is `hpc.serve`. They join a session as a guest; `run` begins one where there is none.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpc.cli.helping import help_text
from hpc.cli.serve_gateway import BATCH, GATEWAY, serve_batch, serve_gateway
from hpc.cli.serve_reload import follow, forget
from hpc.cli.session import connected, is_there
from hpc.cli.words import ADDRESS, HELP, JSON, parse_mixed
from hpc.settings.errors import CliError
from hpc.settings.options import Option

USAGE = """\
hpc serve run FILE | MODULE:APP [NAME=VALUE ...] [options]      deploy, and serve until Ctrl-C
       hpc serve deploy FILE | MODULE:APP [NAME=VALUE ...] [options]   deploy into a session that goes on
       hpc serve status | config | shutdown [options]
       hpc serve build MODULE:APP ... [-o FILE]                        write a configuration file
       hpc serve tunnel [options]                                      the line of ssh that leads to the service
       hpc serve gateway [REGISTRY] [options]                          a stable address before the services of jobs
       hpc serve batch IN OUT [options]                                answer a file of requests, line by line"""

#: What a configuration file ends in. It says all that there shall be of files; an import path says one application.
FILES = (".yaml", ".yml", ".json")
_APP_DIR = Option("app_dir", ("--app-dir",), "path", "where the module is (default: this directory)", "", metavar="DIR")
_NAME = Option("name", ("--name",), "text", "the application's name (default: default)", "", metavar="NAME")
_PREFIX = Option(
    "route_prefix", ("--route-prefix",), "text", "below which it gets requests (default: /)", "", metavar="PATH"
)
_PORT = Option("port", ("--port",), "number", "listen on this port of 127.0.0.1 too (0: any free one)", "", metavar="N")
_RELOAD = Option(
    "reload", ("--reload",), "switch", "deploy again when a file below --app-dir changes", "", default=False
)
_OUT = Option("output", ("-o", "--output-path"), "path", "the file (default: print it)", "", metavar="FILE")
_YES = Option("yes", ("-y", "--yes"), "switch", "do not ask", "", default=False)
_LOGIN = Option("login", ("--login",), "text", "the machine by which ssh reaches this one", "", metavar="HOST")
_LOCAL = Option("port", ("--port",), "count", "the port on your own machine (default: 8000)", "", metavar="N")
_ENV = Option(
    "runtime_env_json", ("--runtime-env-json",), "text", "runtime_env of the deployments, as JSON", "", metavar="JSON"
)


def run(words: list[str]) -> int:
    """`hpc serve ...`; returns the exit code."""
    name = words[1] if len(words) > 1 else ""
    if name not in COMMANDS:
        raise CliError("USAGE", f"no such command: hpc serve {name}".rstrip(), fix="hpc serve --help")
    command, table = COMMANDS[name]
    if any(word in HELP.flags for word in words[2:]):
        sys.stdout.write(help_text(usage_of(name), table))
        return 0
    given, rest = parse_mixed(table, words[2:])
    try:
        return command(given, rest)
    except (ValueError, TypeError, ImportError, NotImplementedError) as error:
        raise CliError("USAGE", str(error)) from error
    except RuntimeError as error:
        raise CliError("REFUSED", str(error)) from error
    except Exception as error:
        from hpc.serve.exceptions import RayServeException

        if not isinstance(error, RayServeException):
            raise
        raise CliError("REFUSED", str(getattr(error, "cause", error))) from error


def usage_of(name: str) -> str:
    """How one of these commands is called."""
    rest = {
        "run": "FILE | MODULE:APP [NAME=VALUE ...] [options]",
        "build": "MODULE:APP ... [-o FILE]",
        "gateway": "[REGISTRY] [options]",
        "batch": "IN OUT [options]",
    }
    rest["deploy"] = rest["run"]
    return f"hpc serve {name} {rest.get(name, '[options]')}"


# ---------------------------------------------------------------- what is deployed


def _config(given: dict[str, Any], rest: list[str]) -> tuple[Any, list[str]]:
    """The configuration that the words mean, and where its modules are."""
    from hpc.serve import declared
    from hpc.serve.schema import read_config, read_yaml

    if not rest:
        raise CliError("USAGE", "a file or an import path is needed", fix="hpc serve run app.yaml, or module:app")
    place = declared.look_in(given.get("app_dir") or ".")
    what, words = rest[0], rest[1:]
    if what.endswith(FILES):
        if words:
            raise CliError("USAGE", "a file has the arguments of its applications in it: args")
        return read_yaml(Path(what).read_text()), [place]
    one: dict[str, Any] = {"import_path": what, "args": _args(words), "name": given.get("name") or "default"}
    if given.get("route_prefix"):
        one["route_prefix"] = given["route_prefix"]
    if given.get("runtime_env_json"):
        one["runtime_env"] = json.loads(given["runtime_env_json"])
    config: dict[str, Any] = {"applications": [one]}
    if given.get("port") is not None:
        config["http_options"] = {"host": "127.0.0.1", "port": given["port"]}
    return read_config(config), [place]


def _args(words: list[str]) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    wrong = [name for name, equals, _ in pairs if not equals or not name]
    if wrong:
        raise CliError("USAGE", f"arguments of a builder are NAME=VALUE, and {wrong[0]!r} is not")
    return {name: value for name, _, value in pairs}


def serve_run(given: dict[str, Any], rest: list[str]) -> int:
    """Deploy, say where the service is, and wait for Ctrl-C."""
    import threading

    import hpc
    from hpc import serve
    from hpc.serve import declared

    if given.get("reload"):  # bytecode tells the seconds of its source alone: a second change within one was not seen
        sys.dont_write_bytecode = True
    config, paths = _config(given, rest)
    address = given.get("address")
    hpc.init(address=address or ("auto" if is_there() else None))
    try:
        declared.deploy(config, paths=paths, only=rest[0].endswith(FILES))
        for line in where():
            print(line, flush=True)
        print("Ctrl-C ends the service", flush=True)
        if given.get("reload"):
            files = [rest[0]] if rest[0].endswith(FILES) else []
            follow([*paths, *files], lambda: _run_again(given, rest, paths), threading.Event())
        threading.Event().wait()
    except KeyboardInterrupt:
        print("the service ends", flush=True)
    finally:
        serve.shutdown()
        hpc.shutdown()
    return 0


def _run_again(given: dict[str, Any], rest: list[str], paths: list[str]) -> None:
    """Import the modules anew, and deploy what has changed."""
    from hpc.serve import declared

    for place in paths:
        forget(place)
    config, _ = _config(given, rest)
    declared.deploy(config, paths=paths, only=rest[0].endswith(FILES))


def serve_deploy(given: dict[str, Any], rest: list[str]) -> int:
    """Deploy into a session that runs."""
    from hpc.serve import declared

    config, paths = _config(given, rest)
    with connected(given.get("address")):
        declared.deploy(config, paths=paths, only=rest[0].endswith(FILES))
        for line in where():
            print(line)
    return 0


def where(local_port: int = 8000, login: str = "") -> list[str]:
    """What a user is told of the doors."""
    import hpc
    from hpc.serve.http import door

    lines = []
    hosts = {row["NodeID"]: row["NodeManagerHostname"] for row in hpc.nodes()}
    for node, doors in sorted(door.told().items()):
        host = hosts.get(node) or socket.gethostname()
        there = "this machine" if host == socket.gethostname() else host
        lines.append(f"service on node {node} ({host}):")
        for one in doors:
            if one.startswith("unix:"):
                path = one.removeprefix("unix:")
                lines.append(f"  {f'on {there}:':24}curl --unix-socket {path} http://localhost/")
                line = door.ssh_line(path, host, login=login, port=local_port)
                lines.append(f"  from your own machine:  {line}")
                lines.append(f"  then:                   curl http://localhost:{local_port}/")
            else:
                lines.append(f"  address:                {one}")
    return lines or ["no node has a door: there is no application with a route, or HTTP is disabled"]


# ---------------------------------------------------------------- what is there


def serve_status(given: dict[str, Any], rest: list[str]) -> int:
    """Show how the service stands; 1 where an application does not run."""
    from hpc import serve
    from hpc.serve.schema import as_plain

    with connected(given.get("address")):
        found = as_plain(serve.status())
    if given.get("json"):
        print(json.dumps(found, indent=2))
    else:
        _show(found)
    return 0 if all(app["status"] == "RUNNING" for app in found["applications"].values()) else 1


def _show(found: dict[str, Any]) -> None:
    from hpc.cli.table import show_table

    rows: list[tuple[Any, ...]] = [("APPLICATION", "DEPLOYMENT", "STATUS", "REPLICAS", "MESSAGE")]
    for name, app in found["applications"].items():
        rows.append((name, "", app["status"], "", _line(app["message"])))
        for deployment, one in app["deployments"].items():
            states = ", ".join(f"{count} {state}" for state, count in one["replica_states"].items())
            rows.append(("", deployment, one["status"], states, _line(one["message"])))
    if len(rows) == 1:
        print("no application is deployed")
        return
    show_table(rows)
    for node, status in found["proxies"].items():
        print(f"proxy of node {node}: {status}")


def _line(text: str) -> str:
    return text.strip().splitlines()[-1][:100] if text and text.strip() else ""


def serve_config(given: dict[str, Any], rest: list[str]) -> int:
    """Print the configuration that was deployed last."""
    from hpc.serve import declared

    with connected(given.get("address")):
        found = declared.deployed()
    if found is None:
        raise CliError("USAGE", "no configuration was deployed in this session", fix="hpc serve deploy FILE")
    print(_yaml(found.plain()), end="")
    return 0


def serve_build(given: dict[str, Any], rest: list[str]) -> int:
    """Write a configuration file for applications."""
    from hpc.serve import declared

    if not rest:
        raise CliError("USAGE", "an import path is needed", fix="hpc serve build module:app -o serve.yaml")
    declared.look_in(given.get("app_dir") or ".")
    text = "# hpc serve deploy FILE\n\n" + _yaml(declared.described(rest))
    if given.get("output"):
        Path(given["output"]).write_text(text)
    else:
        sys.stdout.write(text)
    return 0


def _yaml(value: Any) -> str:
    try:
        import yaml
    except ImportError:
        raise ImportError("a configuration in YAML needs pyyaml: pip install 'hpc[serve]'") from None
    text: str = yaml.safe_dump(value, sort_keys=False)
    return text


def serve_shutdown(given: dict[str, Any], rest: list[str]) -> int:
    """End the service, once the user has said so."""
    from hpc import serve

    with connected(given.get("address")):
        names = list(serve.status().applications)
        if names and not given.get("yes"):
            if not sys.stdin.isatty():
                raise CliError("USAGE", "this ends " + ", ".join(names), fix="hpc serve shutdown -y")
            if input(f"End the service with {', '.join(names)}? [y/N] ").strip().lower() not in ("y", "yes"):
                return 1
        serve.shutdown()
    print("the service has ended" if names else "no application was deployed")
    return 0


def serve_tunnel(given: dict[str, Any], rest: list[str]) -> int:
    """Print the line of ssh that leads to the service."""
    port = given.get("port")
    with connected(given.get("address")):
        for line in where(8000 if port is None else port, given.get("login") or os.environ.get("HPC_LOGIN", "")):
            print(line)
    return 0


COMMANDS: dict[str, tuple[Callable[[dict[str, Any], list[str]], int], tuple[Option, ...]]] = {
    "run": (serve_run, (ADDRESS, _APP_DIR, _NAME, _PREFIX, _PORT, _ENV, _RELOAD)),
    "deploy": (serve_deploy, (ADDRESS, _APP_DIR, _NAME, _PREFIX, _PORT, _ENV)),
    "status": (serve_status, (ADDRESS, JSON)),
    "config": (serve_config, (ADDRESS,)),
    "build": (serve_build, (_APP_DIR, _OUT)),
    "shutdown": (serve_shutdown, (ADDRESS, _YES)),
    "tunnel": (serve_tunnel, (ADDRESS, _LOCAL, _LOGIN)),
    "gateway": (serve_gateway, GATEWAY),
    "batch": (serve_batch, BATCH),
}
