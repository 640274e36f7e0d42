"""`hpc start` and `hpc stop`: a session that outlives the command, and its end.

The options of a node have Ray's names. What is not given comes from HPC_<NAME> and the TOML files, as for hpc-launch.
`hpc stop` names its session by the directory that the host keeps locked, never by a list of processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from hpc.host.find import HostInfo, bases, find_host
from hpc.settings import errors
from hpc.settings.errors import CliError
from hpc.settings.node import FIELDS, overrides
from hpc.settings.options import Option, load, parse_words, runtime_config

END_S = 5.0  # between the last word of a host and its end
_NODE = (
    Option("num_cpus", ("--num-cpus",), "text", "CPUs that the node offers (default: what there is)", "", metavar="N"),
    Option("num_gpus", ("--num-gpus",), "text", "GPUs that the node offers (default: what there is)", "", metavar="N"),
    Option("resources", ("--resources",), "text", "other resources, e.g. '{\"disk\": 2}'", "", metavar="JSON"),
    Option("labels", ("--labels",), "text", 'labels, e.g. \'{"zone": "a"}\', or zone=a,rack=3', "", metavar="JSON"),
    Option("memory", ("--memory",), "text", "bytes of memory", "", metavar="BYTES"),
    Option("object_store_memory", ("--object-store-memory",), "text", "bytes of object store", "", metavar="BYTES"),
    Option("block", ("--block",), "switch", "stay; the end of this command is the end", "", default=False),
    Option("json", ("--json",), "switch", "machine-readable answer on stdout", "", default=False),
    Option("help", ("-h", "--help"), "switch", "print this and leave", "", default=False),
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
_START = (*_HEAD, _ADDRESS, _JOIN, *_NODE)
_STOP = (
    Option("session", ("--session",), "text", "the session's id (default: the only one)", "", metavar="ID"),
    Option("node", ("--node",), "count", "end this node only", "", metavar="N"),
    Option("grace", ("--grace",), "duration", "how long processes may take to end (5s)", "", metavar="TIME"),
    Option("help", ("-h", "--help"), "switch", "print this and leave", "", default=False),
)


def run(words: list[str]) -> int:
    """`hpc start ...` or `hpc stop ...`; returns the exit code."""
    table = _START if words[0] == "start" else _STOP
    given, rest = parse_words(table, words[1:])
    if given.get("help"):
        sys.stdout.write(help_text(words[0]))
        return 0
    if rest:
        raise CliError("USAGE", f"hpc {words[0]} takes no word {rest[0]!r}", fix=f"hpc {words[0]} --help")
    return start(given) if words[0] == "start" else stop(given)


def help_text(command: str) -> str:
    """The usage of a command, from its table of options."""
    usage = {
        "start": "hpc start --head [options]\n       hpc start --address=ADDR [options]",
        "stop": "hpc stop [options]",
    }
    lines = [f"usage: {usage[command]}", ""]
    for option in _START if command == "start" else _STOP:
        flags = f"{', '.join(option.flags)} {option.metavar}".strip()
        lines.append(f"  {flags:<30} {option.help}")
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------- start


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
    from hpc.host.wishes import wanted_of_each

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


def _host(address: str | None) -> HostInfo:
    try:
        return find_host(address)
    except ConnectionError as error:
        raise CliError("NO-SESSION", str(error)) from None


def _add(given: Mapping[str, Any]) -> int:
    from hpc.host.talk import HostError, Talk

    info = _host(given["address"])
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
    from hpc.host.joiner import join_session
    from hpc.host.joinfile import JoinFileError, read_join_file

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
    wishes = {"overrides": node_overrides(given), "interface": interface}
    timeout_s = given.get("start_timeout") or settings["start_timeout"]
    as_json = bool(given.get("json"))
    if not given.get("block"):
        _tell_join(in_background(lambda tell: join_session(join, wishes, tell, timeout_s, quiet=True)), as_json)
        return 0
    heard: list[CliError] = []

    def tell(news: dict[str, Any]) -> None:
        try:
            _tell_join(news, as_json)
        except CliError as error:
            heard.append(error)

    code = join_session(join, wishes, tell, timeout_s)
    if heard:
        raise heard[0]
    return code


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


# ---------------------------------------------------------------- stop


def stop(given: Mapping[str, Any]) -> int:
    """End a session that `hpc start` began, or one of its nodes."""
    import select

    from hpc.core.node.process import open_pidfd
    from hpc.host.talk import HostError, ask_host

    info = _host(given.get("session") or "auto")
    grace_s = given.get("grace", 5.0)
    request = {"op": "stop", "grace_s": grace_s}
    if "node" in given:
        request = {"op": "remove_node", "node": given["node"], "grace_s": grace_s}
    try:
        ended = None
        with contextlib.suppress(ProcessLookupError):  # a host in another container, say
            ended = open_pidfd(info.pid)
        ask_host(info, request, timeout_s=2 * grace_s + 60.0)
        if ended is not None and "node" not in given:
            select.select([ended], [], [], END_S)
    except (HostError, ConnectionError) as error:
        raise CliError("REFUSED", f"session {info.session} was not stopped: {error}") from None
    print(
        f"node {given['node']} has left session {info.session}" if "node" in given else f"session {info.session} ended"
    )
    return 0
