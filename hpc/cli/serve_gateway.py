"""`hpc serve gateway` and `hpc serve batch`: a stable address before the services of jobs, and a file of requests."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any

from hpc.cli.session import connected
from hpc.cli.words import ADDRESS, JOB_DIR, jobs_folder
from hpc.settings.errors import CliError
from hpc.settings.options import Option

GATEWAY = (
    Option("host", ("--host",), "text", "listen on TCP too, at this address (0.0.0.0: all)", "", metavar="HOST"),
    Option("port", ("--port",), "number", "listen on TCP too, at this port (0: any free one)", "", metavar="N"),
    Option("api_keys", ("--api-keys-file",), "path", "keys of which a request on TCP has one", "", metavar="FILE"),
    Option("ssl_cert", ("--ssl-certfile",), "path", "the certificate of the door on TCP", "", metavar="FILE"),
    Option("ssl_key", ("--ssl-keyfile",), "path", "its key", "", metavar="FILE"),
    Option("allowed", ("--allowed-host",), "text", "a name by which it is reached; may be repeated", "", metavar="NAME",
           repeat=True),
    Option("socket", ("--socket",), "path", "the path of its socket (default: in the registry)", "", metavar="PATH"),
    Option("lead", ("--lead",), "duration", "leave a job this long before its end (default: 2min)", "", metavar="TIME"),
    Option("wait", ("--wait",), "duration", "how long requests wait while no job serves (1min)", "", metavar="TIME"),
    Option("drain", ("--drain",), "duration", "what runs may take at its own end (10min)", "", metavar="TIME"),
    Option("next", ("--next",), "text", "the command that submits the next job, in time", "", metavar="COMMAND"),
    Option("next_lead", ("--next-lead",), "duration", "submit it this long before the last one's end (15min)", "",
           metavar="TIME"),
    Option("login", ("--login",), "text", "the machine by which ssh reaches this one", "", metavar="HOST"),
    JOB_DIR,
)  # fmt: skip
BATCH = (
    ADDRESS,
    Option("app", ("--name",), "text", "the application (default: default)", "", metavar="NAME"),
    Option("deployment", ("--deployment",), "text", "a deployment of it (default: its ingress)", "", metavar="NAME"),
    Option("method", ("--method",), "text", "the method (default: the call itself)", "", metavar="NAME"),
    Option("stream", ("--stream",), "switch", "the method is a generator: its items become a list", "", default=False),
    Option("at_once", ("--at-once",), "count", "requests that run at a time (default: 64)", "", metavar="N"),
    Option("retries", ("--retries",), "number", "how often a line is tried again (default: 2)", "", metavar="N"),
)


def serve_gateway(given: dict[str, Any], rest: list[str]) -> int:
    """Run a gateway until SIGTERM or Ctrl-C; 1 where requests were cut off at its end."""
    from hpc.serve.config import HTTPOptions
    from hpc.serve.gateway.process import GatewayOptions, serve_until_told
    from hpc.serve.gateway.registry import RegistryError
    from hpc.serve.http import door
    from hpc.serve.http.gate import KeyFileError

    if len(rest) > 1:
        raise CliError("USAGE", "a gateway has one registry", fix=f"hpc serve gateway {rest[0]}")
    fields = {"host": "host", "port": "port", "api_keys": "api_keys_file", "ssl_cert": "ssl_certfile",
              "ssl_key": "ssl_keyfile", "allowed": "allowed_hosts"}  # fmt: skip
    http = HTTPOptions(**{field: given[name] for name, field in fields.items() if given.get(name) is not None})
    times = {"lead": "lead_s", "wait": "wait_s", "drain": "drain_s", "next_lead": "next_lead_s"}
    more = {field: given[name] for name, field in times.items() if given.get(name) is not None}
    options = GatewayOptions(
        registry=rest[0] if rest else "default",
        http=http,
        socket=given.get("socket") or "",
        next_command=given.get("next") or "",
        waits=_waits(jobs_folder({"job_dir": given.get("job_dir")})) if given.get("next") else None,
        **more,
    )

    def say(doors: list[str]) -> None:
        for one in doors:
            if one.startswith("unix:"):
                path = one.removeprefix("unix:")
                print(f"on this machine:        curl --unix-socket {path} http://localhost/")
                line = door.ssh_line(path, socket.gethostname(), login=given.get("login") or "")
                print(f"from your own machine:  {line}")
            else:
                print(f"address:                {one}")
        print("Ctrl-C ends the gateway, once what runs has its answer", flush=True)

    logging.basicConfig(format="%(asctime)s %(message)s")
    try:
        return 0 if asyncio.run(serve_until_told(options, say)) else 1
    except (door.DoorError, KeyFileError, RegistryError, OSError) as error:
        raise CliError("REFUSED", str(error)) from None


def _waits(folder: Path) -> Any:
    """Whether a job that `hpc-launch --detach` has submitted still waits or runs."""
    from hpc.launch.standing import recent

    def waits(scheduler_id: str) -> bool:
        rows = [row for row in recent(folder, everything=True) if row["scheduler_id"] == scheduler_id]
        return not rows or rows[-1]["state"] not in ("ended", "lost")

    return waits


def serve_batch(given: dict[str, Any], rest: list[str]) -> int:
    """Answer a file of requests; 1 where lines have an error."""
    from hpc import serve
    from hpc.serve.offline import LedgerError

    if len(rest) != 2:
        raise CliError("USAGE", "a file of requests and one for the answers are needed", fix="hpc serve batch IN OUT")
    app = given.get("app") or "default"
    with connected(given.get("address")):
        if given.get("deployment"):
            handle: Any = serve.get_deployment_handle(given["deployment"], app)
        else:
            handle = serve.get_app_handle(app)
        handle = handle.options(method_name=given.get("method") or "__call__", stream=bool(given.get("stream")))
        more = {name: given[name] for name in ("at_once", "retries") if given.get(name) is not None}
        try:
            done = serve.answer_file(handle, rest[0], rest[1], **more)
        except (LedgerError, OSError) as error:
            raise CliError("REFUSED", str(error)) from None
    print(f"{done.lines} lines, {done.errors} with an error, {done.before} of an earlier run: {rest[1]}")
    return 1 if done.errors else 0
