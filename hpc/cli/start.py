"""`hpc start`: a session that outlives the command, or one more node of it.

The options of a node have Ray's names. What is not given comes from HPC_<NAME> and the TOML files, as for hpc-launch.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Mapping
from typing import Any

from hpc.cli.session import host_named
from hpc.cli.words import parse_alone
from hpc.host.find import bases
from hpc.launchers.workstations import own_place
from hpc.settings import errors
from hpc.settings.errors import CliError
from hpc.settings.node import FIELDS, overrides
from hpc.settings.options import Option, load, runtime_config

_NODE = (
    Option("num_cpus", ("--num-cpus",), "text", "CPUs that the node offers (default: what there is)", "", metavar="N"),
    Option("num_gpus", ("--num-gpus",), "text", "GPUs that the node offers (default: what there is)", "", metavar="N"),
    Option("resources", ("--resources",), "text", "other resources, e.g. '{\"disk\": 2}'", "", metavar="JSON"),
    Option("labels", ("--labels",), "text", 'labels, e.g. \'{"zone": "a"}\', or zone=a,rack=3', "", metavar="JSON"),
    Option("memory", ("--memory",), "text", "bytes of memory", "", metavar="BYTES"),
    Option("object_store_memory", ("--object-store-memory",), "text", "bytes of object store", "", metavar="BYTES"),
    Option("block", ("--block",), "switch", "stay; the end of this command is the end", "", default=False),
    Option("json", ("--json",), "switch", "machine-readable answer on stdout", "", default=False),
)
_HEAD = (
    Option("head", ("--head",), "switch", "begin a session, with its first node", "", default=False),
    Option("namespace", ("--namespace",), "text", "namespace of drivers that name none", "", metavar="NAME"),
    Option("interface", ("--interface",), "text", "network interface, or address", "", metavar="NAME"),
    Option("tmpdir", ("--tmpdir",), "path", "folder for sockets and logs", "", metavar="DIR"),
    Option("start_timeout", ("--start-timeout",), "duration", "how long it may take", "", metavar="TIME"),
    Option("bulk_encryption", ("--bulk-encryption",), "switch", "--no-bulk-encryption: see docs/security.md", ""),
)
_ADDRESS = Option("address", ("--address",), "text", "add a node to this session (or auto)", "", metavar="ADDR")
_JOIN = Option(
    "join_file", ("--join-file",), "path", "with --head: write here what other machines join by", "", metavar="FILE"
)
TABLE = (*_HEAD, _ADDRESS, _JOIN, *_NODE)
USAGE = """\
hpc start --head [options]
       hpc start --address=ADDR [options]
       hpc start --join-file=FILE [options]"""


def run(words: list[str]) -> int:
    """Begin a session, or add a node to one; returns the exit code."""
    return start(parse_alone("start", TABLE, words))


def start(given: Mapping[str, Any]) -> int:
    """Begin a session, or add a node to one."""
    joins = "address" in given or ("join_file" in given and not given.get("head"))
    if bool(given.get("head")) == joins:
        raise CliError(
            "USAGE", "one of --head (begin a session), --address and --join-file (add a node to one) is needed",
            fix="hpc start --head",
        )  # fmt: skip
    if given.get("head"):
        return _begin(given)
    if "join_file" in given:
        return _join(given)
    wrong = [option.long for option in _HEAD if option.name in given]
    if wrong:
        raise CliError("USAGE", f"{', '.join(wrong)} belongs to the session's start: only with --head")
    return _add(given)


def node_overrides(given: Mapping[str, Any]) -> dict[str, Any]:
    """The node's part of a start message from its options; CliError for a value that is none."""
    asked = {name: given[name] for name in FIELDS if name in given}
    for name, kind in (("num_cpus", float), ("num_gpus", float), ("memory", int), ("object_store_memory", int)):
        if name in asked:
            asked[name] = _number(f"--{name.replace('_', '-')}", asked[name], kind)
    if "resources" in asked:
        asked["resources"] = _mapping("--resources", asked["resources"], (int, float))
    if "labels" in asked:
        asked["labels"] = _labels(asked["labels"])
    try:
        return overrides(asked)
    except ValueError as error:
        raise CliError("USAGE", str(error)) from None


def _number(flag: str, text: str, kind: type) -> Any:
    try:
        value = kind(text)
        if value < 0 or value != value:
            raise ValueError
    except ValueError:
        raise CliError("USAGE", f"{flag}: not a number from 0: {text!r}") from None
    return value


def _mapping(flag: str, text: str, kinds: tuple[type, ...]) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise CliError("USAGE", f"{flag}: not JSON: {text!r}", why=str(error)) from None
    fits = isinstance(value, dict) and all(isinstance(v, kinds) and not isinstance(v, bool) for v in value.values())
    if not fits:
        raise CliError("USAGE", f"{flag}: not a JSON object of names and {'numbers' if float in kinds else 'texts'}")
    return dict(value)


def _labels(text: str) -> dict[str, str]:
    if text.lstrip().startswith("{"):
        return _mapping("--labels", text, (str,))
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(equals and name for name, equals, _value in pairs):
        raise CliError("USAGE", f"--labels: neither JSON nor NAME=VALUE,...: {text!r}")
    return {name: value for name, _equals, value in pairs}


def _begin(given: Mapping[str, Any]) -> int:
    from hpc.host.daemon import Begin, serve, serve_in_background
    from hpc.launch.for_init import wanted_of_each
    from hpc.launch.warning_signal import signal_number

    settings = load([])
    os.environ.update(dict(item.split("=", 1) for item in settings["env"]))
    config = runtime_config(settings)
    if "bulk_encryption" in given:
        config["bulk_encryption"] = given["bulk_encryption"]
    begin = Begin(
        overrides=wanted_of_each(settings, node_overrides(given)),
        config=config,
        interface=given.get("interface") or settings["interface"],
        base_dir=given.get("tmpdir") or settings["tmpdir"],
        namespace=given.get("namespace", ""),
        start_timeout_s=given.get("start_timeout") or settings["start_timeout"],
        join_path=os.path.abspath(given["join_file"]) if "join_file" in given else None,
        time_poll_s=settings["time_poll"],
        drain_s=settings["drain"],
        drain_signal=signal_number(settings["drain_signal"]),
        job_dir=settings["job_dir"],
    )
    as_json = bool(given.get("json"))
    if not given.get("block"):
        _tell_start(serve_in_background(begin), as_json)
        return 0
    heard: list[CliError] = []

    def tell(news: dict[str, Any]) -> None:
        try:
            _tell_start(news, as_json)
        except CliError as error:
            heard.append(error)

    code = serve(begin, tell, log_to_file=False)
    if heard:
        raise heard[0]
    return code


def _tell_start(news: Mapping[str, Any], as_json: bool) -> None:
    if not news["ok"]:
        lines = str(news["why"]).splitlines() or ["no reason is known"]
        raise CliError("TOO-FEW-NODES", f"the session did not start: {lines[0]}", why="\n".join(lines[1:]))
    if as_json:
        print(json.dumps({key: value for key, value in news.items() if key != "ok"}), flush=True)
        return
    first = news["nodes"][0]
    found_by_id = os.path.dirname(str(news["dir"])) in bases()  # else --tmpdir has put it where nobody looks
    address = news["session"] if found_by_id else first["dir"]
    print(
        f"session {news['session']} runs: {_describe(first)}, host process {news['pid']}\n"
        f'  connect   hpc.init(address="{address}"), or HPC_ADDRESS={address}\n'
        f"  a node    hpc start --address={address} --num-cpus=N\n"
        f"  a job     hpc job submit --address={address} -- python script.py\n"
        f"  logs      {news['dir']}/logs/host.log, {first['dir']}/logs\n"
        f"  stop      hpc stop --session={address}",
        flush=True,
    )


def _describe(row: Mapping[str, Any]) -> str:
    gpus = f", {row['gpus']} GPUs" if row["gpus"] else ""
    return f"node {row['node']} with {float(row['cpus'] or 0):g} CPUs{gpus}"


def _add(given: Mapping[str, Any]) -> int:
    from hpc.host.talk import HostError, Talk

    info = host_named(given["address"])
    stay = bool(given.get("block"))
    timeout_s = load([])["start_timeout"]
    try:
        with Talk(info, timeout_s) as talk:
            talk.send({"op": "add_node", "overrides": node_overrides(given), "stay": stay})
            answer = talk.reply()
            if answer is None:
                raise HostError("the host ended")
            row = answer["node"]
            if given.get("json"):
                print(json.dumps({"session": info.session, "node": row}), flush=True)
            else:
                print(f"{_describe(row)} joined session {info.session}; logs: {row['dir']}/logs", flush=True)
            return _stay(talk, row["node"]) if stay else 0
    except (HostError, ConnectionError) as error:
        lines = str(error).splitlines()
        raise CliError("REFUSED", f"no node was added: {lines[0]}", why="\n".join(lines[1:])) from None


def _join(given: Mapping[str, Any]) -> int:
    """Add a node on this machine to a session that was begun on another."""
    from hpc.host.daemon import in_background
    from hpc.launchers.joiner import join_session
    from hpc.launchers.joinfile import JoinFileError, read_join_file

    try:
        join = read_join_file(given["join_file"])
    except JoinFileError as error:
        raise CliError("NO-SESSION", str(error)) from None
    if given.get("address") not in (None, "auto", join.session):
        raise CliError("USAGE", f"the join file is that of session {join.session}, not of {given['address']}")
    wrong = [option.long for option in _HEAD if option.name in given and option.name in ("namespace", "tmpdir")]
    if wrong:
        raise CliError("USAGE", f"{', '.join(wrong)} does not go with --join-file")
    settings = load([])
    interface = given.get("interface") or settings["interface"]
    wishes: dict[str, Any] = {"overrides": node_overrides(given), "interface": interface}
    rank = 0
    if join.hosts:
        rank = _rank_here(join.hosts.split(","), given)
        wishes = {"rank": rank}
    timeout_s = given.get("start_timeout") or settings["start_timeout"]
    as_json = bool(given.get("json"))
    if not given.get("block"):
        _tell_join(
            in_background(lambda tell: join_session(join, wishes, tell, timeout_s, quiet=True, rank=rank)), as_json
        )
        return 0
    heard: list[CliError] = []

    def tell(news: dict[str, Any]) -> None:
        try:
            _tell_join(news, as_json)
        except CliError as error:
            heard.append(error)

    code = join_session(join, wishes, tell, timeout_s, rank=rank)
    if heard:
        raise heard[0]
    return code


def _rank_here(hosts: list[str], given: Mapping[str, Any]) -> int:
    """Which node this machine is of a session whose machines are named (`hpc-launch --hosts`)."""
    own = own_place(hosts)
    if own is None:
        what = f"this machine, {socket.gethostname()}, is none of those that are waited for: {', '.join(hosts[:8])}"
        raise CliError("REFUSED", what)
    if own == 0:
        raise CliError("REFUSED", f"the session's first node, on {hosts[0]}, is there already")
    wrong = [f"--{name.replace('_', '-')}" for name in (*FIELDS, "interface") if name in given]
    if wrong:
        raise CliError("USAGE", f"{', '.join(wrong)}: what each node has was said to hpc-launch")
    return own


def _tell_join(news: Mapping[str, Any], as_json: bool) -> None:
    if not news["ok"]:
        lines = str(news["why"]).splitlines() or ["no reason is known"]
        raise CliError("REFUSED", f"no node was added: {lines[0]}", why="\n".join(lines[1:]))
    if as_json:
        print(json.dumps({key: value for key, value in news.items() if key != "ok"}), flush=True)
    else:
        where = f'hpc.init(address="{news["session"]}")'
        print(
            f"node {news['node']} joined session {news['session']}; here: {where}; logs: {news['dir']}/logs", flush=True
        )


def _stay(talk: Any, node: int) -> int:
    """Until the node ends, or a signal has this command leave: the node then leaves too."""
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.default_int_handler)
    talk.sock.settimeout(None)
    try:
        talk.reply()
    except KeyboardInterrupt:
        return 0
    errors.note(f"node {node} has ended")
    return 1
