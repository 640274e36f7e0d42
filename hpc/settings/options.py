"""The ONE table of all options of hpc-launch: flags, type, environment variable, TOML key, default, help. The parser,
--help, --dry-run and docs/cli.md are all made from it. What is asked of a scheduler has the name of a field of
`launchers.scheduler.Request`. Each scheduler says by a column of its own what becomes of it.

A value comes from the command line, else HPC_<NAME>, else ./hpc.toml, else ~/.config/hpc/config.toml, else the site
profile, else the default; each keeps its origin. `python -m hpc.cli.manual` writes docs/cli.md.
Rejected: argparse, which takes abbreviations, and whose usage errors cannot name the fix. Rejected too: click, a
dependency that takes longer to import than everything else that hpc-launch does before the nodes start.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from hpc.core.node.settings import check, unknown
from hpc.launchers import registry
from hpc.launchers.containers import RUNTIMES
from hpc.launchers.runtimes import table as runtimes
from hpc.launchers.scheduler import BadAllocation, Request
from hpc.settings import foreign, sites
from hpc.settings.errors import CliError
from hpc.settings.files import ConfigFile, config_files, user_config_dir
from hpc.settings.values import READERS, OptionKind, show_value

#: The options that are asked of a scheduler.
REQUESTED = tuple(field.name for field in fields(Request))
#: The schedulers' own commands, where people are told of them.
SUBMITTERS = " or ".join(scheduler.submits_with for scheduler in registry.SCHEDULERS.values())
STARTERS = " or ".join(s.starts_with for s in registry.SCHEDULERS.values() if s.starts_with)


@dataclass(frozen=True)
class Option:
    """One row. `scope` says where it means something: to the scheduler, while nodes run, or both."""

    name: str
    flags: tuple[str, ...]
    kind: OptionKind
    help: str
    group: str
    default: Any = None
    metavar: str = ""
    repeat: bool = False
    bare: str = ""  # the value of the flag without one; a value then comes by `=` alone
    adds: bool = False  # what the user says comes after what the site profile says, not in its place
    scope: Literal["submit", "run", "both"] = "both"
    configurable: bool = True
    hidden: bool = False
    local: str = ""  # what it means on local nodes, when that differs

    @property
    def env(self) -> str:
        return f"HPC_{self.name.upper()}"

    @property
    def long(self) -> str:
        return self.flags[-1]

    @property
    def is_switch(self) -> bool:
        return self.kind == "switch"


def _job(name: str, flags: str, kind: OptionKind, metavar: str, help: str, **more: Any) -> Option:
    return Option(name, tuple(flags.split()), kind, help, "What to ask the scheduler for", metavar=metavar, **more)


def _run(name: str, flags: str, kind: OptionKind, metavar: str, help: str, **more: Any) -> Option:
    return Option(name, tuple(flags.split()), kind, help, "How to run", metavar=metavar, **more)


def _show(name: str, flags: str, help: str, **more: Any) -> Option:
    more = {"configurable": False, "default": False, **more}
    return Option(name, tuple(flags.split()), "switch", help, "What to show", **more)


TABLE: tuple[Option, ...] = (
    _job("nodes", "-N --nodes", "nodes", "N|MIN-MAX",
         "how many nodes; MIN-MAX begins with MIN, and grows and shrinks with the work (docs/elastic.md)",
         default=(1, 1)),
    _job("time", "-t --time", "walltime", "TIME",
         "time limit: 30m, 2h, 90:00, 1-02:03:04 (a bare number is minutes)", scope="submit"),
    _job("partition", "-p --partition", "text", "NAME", "partition", scope="submit"),
    _job("account", "-A --account", "text", "NAME", "account to charge", scope="submit"),
    _job("qos", "-q --qos", "text", "NAME", "quality of service", scope="submit"),
    _job("constraint", "-C --constraint", "text", "LIST", "features that nodes must have", scope="submit"),
    _job("job_name", "-J --job-name", "text", "NAME", "name of the job (default: the script's name)", scope="submit"),
    _job("output", "-o --output", "text", "FILE",
         "where the job's output goes (%j: job id, %x: job name, %u: user); default: driver.log in the job's folder",
         scope="submit"),
    _job("dependency", "-d --dependency", "text", "LIST", "jobs to wait for, e.g. afterok:4711", scope="submit"),
    _job("gpus", "-G --gpus", "text", "N", "GPUs for the whole job", scope="submit"),
    _job("gpus_per_node", "--gpus-per-node", "gpus", "[TYPE:]N", "GPUs on each node",
         local="the GPUs that each local node has"),
    _job("cpus_per_task", "-c --cpus-per-task", "count", "N", "CPUs on each node (one task of ours runs on each)",
         local="the CPUs that each local node has"),
    _job("mem", "--mem", "memory", "SIZE", "memory on each node, e.g. 16G",
         local="the memory that each local node has"),
    _job("exclusive", "--exclusive", "switch", "", "whole nodes, shared with no other job", default=False,
         scope="submit"),
    _job("reservation", "--reservation", "text", "NAME", "reservation", scope="submit"),
    _job("signal", "--signal", "text", "[B:]SIG[@SEC]", "signal to send ahead of the time limit; B: reaches the script",
         scope="submit"),
    _job("mail_type", "--mail-type", "text", "LIST", "when to send mail", scope="submit"),
    _job("requeue", "--requeue", "switch", "",
         "start the job again, with what it saved, when its time is over or its nodes are taken, until the script has "
         "ended by itself", default=False, scope="both"),
    _job("submit_arg", "--submit-arg", "text", "RAW", f"an argument for {SUBMITTERS} as it is; may be repeated",
         repeat=True, scope="submit"),
    _run("scheduler", "--scheduler", "scheduler", "|".join(registry.names()),
         "where to run; default: the allocation that we are in, else the "
         "scheduler of this login node, else local nodes on this machine"),
    _run("hosts", "--hosts", "text", "FILE|A,B,...",
         "machines without a scheduler, this one among them: the line to be given on each of the others is shown "
         "(docs/sessions.md)", scope="run", configurable=False),
    _run("site", "--site", "text", "NAME[/KIND]",
         "the machine, whose profile has defaults (`hpc site list`); found by itself where it gives a sign; none: no "
         "profile"),
    _run("min_nodes", "--min-nodes", "count", "K",
         "start when K nodes are ready (default: all); a scheduler that can is asked for K to N nodes", scope="run"),
    _run("grow_after", "--grow-after", "duration", "TIME",
         "with --nodes=MIN-MAX: work has to wait so long before further nodes are asked for (default: 10s)",
         scope="run"),
    _run("shrink_after", "--shrink-after", "duration", "TIME",
         "with --nodes=MIN-MAX: nodes have to be idle so long before they are given back (default: 5m)", scope="run"),
    _run("grow_by", "--grow-by", "count", "N",
         "with --nodes=MIN-MAX: the nodes of each further job (default: an eighth of what may be added)", scope="run"),
    _run("start_timeout", "--start-timeout", "duration", "TIME", "how long nodes may take to come up", default=120.0,
         scope="run"),
    _run("interface", "--interface", "text", "NAME", "network interface, or address, that nodes talk over",
         scope="run"),
    _run("bulk_encryption", "--bulk-encryption", "switch", "",
         "encrypt the bytes of objects between nodes; --no-bulk-encryption is faster, and whoever is on the wire can "
         "read and change them (docs/security.md)", default=True, scope="run"),
    _run("runtime", "--runtime", "runtime", "|".join(runtimes.NAMES),
         "what runs on the nodes: hpc; a Ray or Dask cluster, which the script finds; or the script itself on all of "
         "them, under torchrun or as an MPI program (docs/runtimes.md)", default=runtimes.OWN, scope="run"),
    _run("runtime_arg", "--runtime-arg", "text", "RAW",
         "an argument for ray start, torchrun or what starts MPI programs, as it is; may be repeated", repeat=True,
         scope="run"),
    _run("ranks_per_node", "--ranks-per-node", "count", "R",
         "run the script R times on each node, with torchrun's environment, instead of once as a driver; under "
         "torchrun and MPI: how many processes a node has (default: one, or one for each GPU)", scope="run"),
    _run("max_restarts", "--max-restarts", "count", "K",
         "with --ranks-per-node: when a rank fails, start all of them again, up to K times (torchrun's "
         "TORCHELASTIC_RESTART_COUNT says how often); a lost node ends the run", scope="run"),
    _run("preflight", "--preflight", "preflight", "report|exclude",
         "measure the network between the nodes, and their GPUs, before the script begins, and name what is slow or "
         "broken; --preflight=exclude leaves such nodes out, down to --min-nodes (docs/fabric.md)", bare="report",
         scope="run"),
    _run("as_module", "-m --as-module", "switch", "", "SCRIPT is the name of a module, as in python -m", default=False,
         scope="run", configurable=False),
    _run("env", "--env", "env", "KEY[=VALUE]",
         "set a variable for the script and the workers; may be repeated", repeat=True, scope="run"),
    _run("module", "--module", "text", "NAME",
         "an environment module to load ahead of all else, after those of the site profile; may be repeated",
         repeat=True, adds=True),
    _run("module_purge", "--module-purge", "switch", "", "unload all modules ahead of that", default=False),
    _run("stage", "--stage", "text", "PATH",
         "pack the environment once and bring it to each node's own disk (--stage alone: this Python's; --stage=PATH: "
         "that one, or a further folder); may be repeated", repeat=True, bare="auto", scope="run"),
    _run("stage_dir", "--stage-dir", "path", "DIR",
         "where on each node (default: --tmpdir, the scheduler's folder for a job, $TMPDIR, /tmp)", scope="run"),
    _run("cache", "--cache", "path", "DIR",
         "begin with the kernels that earlier jobs have compiled, and add those of this one: an archive in DIR, on a "
         "file system that the nodes share (docs/fabric.md)", scope="run"),
    _run("container", "--container", "text", "IMAGE", "run the nodes, the workers and the script inside this image",
         scope="run"),
    _run("container_runtime", "--container-runtime", "container", "NAME",
         f"one of {', '.join(RUNTIMES)} (default: apptainer or singularity)", scope="run"),
    _run("container_python", "--container-python", "text", "PROGRAM", "the image's Python (default: python3)",
         scope="run"),
    _run("container_bind", "--container-bind", "path", "DIR",
         "a further folder that is there inside too, at the same path; may be repeated", repeat=True, scope="run"),
    _run("setup", "--setup", "text", "CMD",
         "a line for the job script ahead of ours (module load ...); may be repeated", repeat=True, scope="submit"),
    _run("step_arg", "--step-arg", "text", "RAW", f"an argument for our one {STARTERS} as it is; may be repeated",
         repeat=True, scope="run"),
    _run("job_dir", "--job-dir", "path", "DIR", "where the folders of jobs are, on a file system that all nodes share",
         default="~/.hpc/jobs"),
    _run("carry", "--carry", "path", "PATH",
         "the nodes share no file system with this machine: carry the script and this file or folder to them; may be "
         "repeated", repeat=True, scope="submit", configurable=False),
    _run("tmpdir", "--tmpdir", "path", "DIR", "node-local folder for sockets and logs (default: $TMPDIR, else /tmp)",
         scope="run"),
    _run("grace", "--grace", "duration", "TIME", "how long processes may take to end after they were asked to",
         default=5.0, scope="run"),
    _run("drain", "--drain", "duration", "TIME",
         "so long before the time limit nothing new begins, callbacks run and actors save (default: a fifth of the "
         "limit, at most 60s; 0s: never)", scope="run"),
    _run("drain_signal", "--drain-signal", "text", "SIG",
         "a signal that begins the draining, like USR1; --signal=B:USR1@300 alone does so too", scope="run"),
    _run("state_dir", "--state-dir", "path", "DIR",
         "where states are saved for the next job (default: in the job's folder)", scope="run"),
    _run("poll_interval", "--poll-interval", "duration", "TIME",
         "how often to ask the scheduler about a submitted job; less often the longer it lasts",
         default=30.0, scope="submit"),
    _run("time_poll", "--time-poll", "duration", "TIME",
         "how often a running job asks its scheduler whether its time limit was changed", default=60.0, scope="run"),
    _run("chain", "--chain", "count", "K",
         "up to K jobs, one after the other, until the script has ended by itself: each begins with the states that "
         "were saved before it", scope="submit"),
    _show("detach", "--detach", "print the job's id and leave, instead of following it", scope="submit"),
    _show("dry_run", "--dry-run", "print what would be submitted and run, and where each value came from"),
    _show("test_only", "--test-only", "like --dry-run, with the scheduler's estimate of the start", scope="submit"),
    _show("estimate", "--estimate",
          "when the job would start, what it would cost, and which smaller one would start earlier; submits nothing",
          scope="submit"),
    _show("json", "--json", "machine-readable answers on stdout"),
    _show("quiet", "-Q --quiet", "no status lines; errors only", configurable=True, scope="both"),
    _show("verbose", "-v --verbose", "show what the nodes and the scheduler say", configurable=True, scope="both"),
    _show("help", "-h --help", "print this and leave"),
    _show("version", "--version", "print the version and leave"),
    Option("job", ("--job",), "path", "the job's folder, given inside a submitted job", "hidden", configurable=False,
           hidden=True),
    Option("chain_link", ("--chain-link",), "text", "which job of a chain this is", "hidden", configurable=False,
           hidden=True),
)  # fmt: skip

BY_NAME: dict[str, Option] = {option.name: option for option in TABLE}


@dataclass(frozen=True)
class Value:
    """A value and where it came from; `origin` is "default", "--nodes", "HPC_NODES", "./hpc.toml" ..."""

    value: Any
    origin: str


@dataclass
class Settings:
    """Every option's value with its origin, the script and its arguments, and the [runtime] table of the TOML files."""

    values: dict[str, Value]
    script: str | None = None
    args: list[str] = field(default_factory=list)
    runtime: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.values[name].value

    def origin(self, name: str) -> str:
        return self.values[name].origin

    def given(self, name: str) -> bool:
        return self.values[name].origin != "default"


def parse_words(table: Sequence[Option], argv: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Read options up to the first word that is none; the rest belongs to the script. CliError for a bad one."""
    flags = {flag: option for option in table for flag in option.flags}
    found: dict[str, Any] = {}
    words = list(argv)
    while words and words[0].startswith("-") and words[0] != "-":
        word = words.pop(0)
        if word == "--":
            break
        option, text = _match(flags, word)
        if option.is_switch:
            found[option.name] = read_value(option, "yes" if text is None else text, word.split("=")[0])
            continue
        if text is None and option.bare:
            text = option.bare
        if text is None:
            if not words:
                raise CliError("USAGE", f"{word} needs a value ({option.metavar})", fix=f"{word} {option.metavar}")
            text = words.pop(0)
        value = read_value(option, text, word.split("=")[0])
        found[option.name] = [*found.get(option.name, []), value] if option.repeat else value
    return found, words


def _match(flags: Mapping[str, Option], word: str) -> tuple[Option, str | None]:
    name, equals, text = word.partition("=")
    if word.startswith("--"):
        if name in flags:
            return flags[name], text if equals else None
        if name.startswith("--no-") and flags.get("--" + name[5:], _NONE).is_switch and not equals:
            return flags["--" + name[5:]], "no"
    elif word[:2] in flags:
        rest = word[2:].removeprefix("=")
        option = flags[word[:2]]
        if not (option.is_switch and rest):
            return option, rest or None
    import difflib

    near = difflib.get_close_matches(name, flags, 1)
    raw = f"if it is one of {SUBMITTERS}'s: --submit-arg={word}" if "--submit-arg" in flags and not near else ""
    raise CliError("USAGE", f"no such option: {name}", fix=foreign.instead(word) or (near[0] if near else raw))


_NONE = Option("", ("",), "text", "", "")


def read_value(option: Option, text: str, where: str) -> Any:
    """One value from its text; CliError naming the flag, variable or file where it stands."""
    try:
        return READERS[option.kind](text)
    except ValueError as error:
        code = "USAGE" if where.startswith("-") else "CONFIG"
        raise CliError(code, f"{where}: {error}", where=where, fix=f"{option.long} {option.metavar}".strip()) from None


def _from_env(option: Option, text: str) -> Any:
    if not option.repeat:
        return read_value(option, text, option.env)
    parts = text.splitlines() if option.name == "setup" else shlex.split(text)
    return [read_value(option, part, option.env) for part in parts]


def _from_toml(option: Option, raw: Any, where: str) -> Any:
    items = raw if isinstance(raw, list) else [raw]
    if isinstance(raw, dict) and option.kind == "env":
        items = [f"{k}={v}" for k, v in raw.items()]
    texts = [("yes" if item else "no") if isinstance(item, bool) else str(item) for item in items]
    values = [read_value(option, text, f"{where}: {option.name}") for text in texts]
    if not option.repeat and len(values) != 1:
        raise CliError("CONFIG", f"{where}: {option.name} takes one value", where=where)
    return values if option.repeat else values[0]


def resolve(
    given: Mapping[str, Any], env: Mapping[str, str], files: Iterable[tuple[str, Mapping[str, Any]]]
) -> dict[str, Value]:
    """Put the sources together: flags, environment, then files in the order of their rank."""
    tables = list(files)
    for where, content in tables:
        _check_keys(where, content)
    values: dict[str, Value] = {}
    for option in TABLE:
        default = [] if option.repeat and option.default is None else option.default
        values[option.name] = Value(default, "default")
        if option.name in given:
            values[option.name] = Value(given[option.name], option.long)
        elif option.configurable and env.get(option.env, "") != "":
            values[option.name] = Value(_from_env(option, env[option.env]), option.env)
        elif option.configurable:
            for where, content in tables:
                key = next((k for k in content if k.replace("-", "_") == option.name), None)
                if key is not None:
                    values[option.name] = Value(_from_toml(option, content[key], where), where)
                    break
    return values


def _check_keys(where: str, content: Mapping[str, Any]) -> None:
    for key in content:
        option = BY_NAME.get(key.replace("-", "_"))
        if option is None or not option.configurable:
            import difflib

            near = difflib.get_close_matches(key, [o.name for o in TABLE if o.configurable], 1)
            raise CliError(
                "CONFIG", f"no such option in {where}: {key}", where=where, fix=f"{near[0]} = ..." if near else ""
            )


def load(argv: Sequence[str], env: Mapping[str, str] | None = None, *, submits: bool = False) -> Settings:
    """The options from all sources. submits: on a login node a job would be submitted (`hpc.init` never does)."""
    env = os.environ if env is None else env
    given, words = parse_words(TABLE, argv)
    files = config_files(env)
    site = sites.here(user_config_dir(env), env, _wanted_site(given, env, files))
    if site is not None:
        files.append(_of_site(site, given, env, files, submits))
    values = resolve(given, env, [(f.where, f.launch) for f in files])
    if site is not None:
        _add_to_site(values, site.where, files[-1].launch)
        values["site"] = Value(f"{site.name}/{site.kind}" if site.kind else site.name, site.where)
    runtime: dict[str, Any] = {}
    for f in reversed(files):
        for name, near in unknown(f.runtime).items():
            fix = f"{near} = ..." if near else "see docs/cli.md"
            raise CliError("CONFIG", f"no such option under [runtime] in {f.where}: {name}", where=f.where, fix=fix)
        runtime.update(f.runtime)
    try:
        check(runtime, env)
    except ValueError as error:
        raise CliError("CONFIG", "an option of the runtime has a wrong value", why=str(error)) from None
    return Settings(values, words[0] if words else None, words[1:], runtime)


def _add_to_site(values: dict[str, Value], where: str, of_site: Mapping[str, Any]) -> None:
    """Options that add to those of the site profile come after them."""
    for option in TABLE:
        key = next((k for k in of_site if option.adds and k.replace("-", "_") == option.name), None)
        if key is not None and values[option.name].origin != where:
            first, own = _from_toml(option, of_site[key], where), values[option.name]
            values[option.name] = Value([*first, *own.value], f"{where}, then {own.origin}")


def _wanted_site(given: Mapping[str, Any], env: Mapping[str, str], files: Sequence[ConfigFile]) -> str | None:
    named = given.get("site") or env.get(BY_NAME["site"].env)
    return named or next((str(f.launch["site"]) for f in files if "site" in f.launch), None)


def _of_site(
    site: sites.Site, given: Mapping[str, Any], env: Mapping[str, str], files: Sequence[ConfigFile], submits: bool
) -> ConfigFile:
    """The profile as one more file, with the tables that count where we are."""
    tables = [(f.where, f.launch) for f in files] + [(site.where, site.options(job=False, submits=False))]
    wanted = resolve(given, env, tables)["scheduler"].value
    try:
        place = registry.find_place(env, wanted)
    except BadAllocation:  # `begin` says it
        return ConfigFile(site.where)
    job = place.kind == "allocation" or (place.kind == "login" and submits)
    if job and site.scheduler and place.source.name != site.scheduler:
        if site.found_by:
            return ConfigFile(site.where)
        what = f"{site.title} has {site.scheduler}, and here is {place.source.title}"
        raise CliError("CONFIG", what, where=site.where, fix=f"--site={sites.NONE}")
    chosen = site.options(job=job, submits=job and place.kind == "login")
    return ConfigFile(site.where, chosen, site.tables["runtime"])


def runtime_config(settings: Settings) -> dict[str, Any]:
    """The session's flat configuration: the [runtime] tables, and options of this table that raylets read."""
    found = dict(settings.runtime)
    if settings.given("bulk_encryption"):
        found["bulk_encryption"] = settings["bulk_encryption"]
    if settings["state_dir"]:
        found["state_dir"] = os.path.abspath(os.path.expanduser(settings["state_dir"]))
    if settings["cache"]:
        found["cache_dir"] = os.path.abspath(os.path.expanduser(settings["cache"]))
    return found


#: What a job knows without being told, or does in its script.
_NOT_PASSED_ON = ("scheduler", "job_dir", "dry_run", "json", "module", "module_purge")


def pass_on(settings: Settings) -> list[str]:
    """The flags for the hpc-launch inside the job: what was set, from whatever source, and matters there.

    The site profile is one of them: the job would find its own by what its nodes show, or none. Nodes that share no
    files may lack a profile of the user's; they are told of "none" alone.
    """
    words: list[str] = []
    for option in TABLE:
        if option.hidden or option.scope == "submit" or not settings.given(option.name):
            continue
        if option.name in _NOT_PASSED_ON or option.name in REQUESTED:
            continue
        value = settings[option.name]
        if option.name == "site" and settings["carry"] and value != sites.NONE:
            continue
        if option.is_switch:
            words.append(option.long if value else f"--no-{option.long[2:]}")
            continue
        for item in value if option.repeat else [value]:
            words.append(f"{option.long}={show_value(option.kind, item)}")
    return words


def request_of(settings: Settings) -> Request:
    """What a scheduler is asked for."""
    return Request(**{name: settings[name] for name in REQUESTED})
