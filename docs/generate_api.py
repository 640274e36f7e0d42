"""Writes docs/api.md from the code: signatures and docstrings of the public names, and the one table of options.

    python docs/generate_api.py            write docs/api.md
    python docs/generate_api.py --check    exit with 1 if docs/api.md is not what the code says

Ray's names are listed in ray_names.py; whether this package has them is found out by importing them.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import ray_names

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import hpc
from compat import running
from hpc import actor, exceptions, runtime_context
from hpc.api import actors, options
from hpc.api.init import Context
from hpc.core import idtypes, variables
from hpc.core.node import settings
from hpc.core.owner.ref import ObjectRef
from hpc.util import scheduling_strategies

TARGET = Path(__file__).with_name("api.md")

LIFECYCLE = ("init", "shutdown", "is_initialized")
WORK = ("remote", "method", "get", "put", "wait", "cancel", "kill", "get_actor")
STATES = ("on_drain", "save_state", "saved_state")
VIEWS = ("nodes", "cluster_resources", "available_resources", "get_gpu_ids", "get_runtime_context", "timeline")
MADE = (
    "LoggingConfig",
    "RemoteFunction",
    "ActorClass",
    "ActorHandle",
    "ObjectRef",
    "ObjectRefGenerator",
    "DynamicObjectRefGenerator",
)
#: Ids have a type, and `hex`, `binary`, `from_hex`, `from_binary`, `is_nil` and `nil`.
IDS = (
    "ActorClassID", "ActorID", "FunctionID", "JobID", "NodeID", "ObjectID", "PlacementGroupID", "TaskID", "UniqueID",
    "WorkerID",
)  # fmt: skip
#: In the table of Ray's names only: what its programs compare with, and what `cross_language` has too.
IN_TABLE = ("Language", "SCRIPT_MODE", "WORKER_MODE", "java_actor_class", "java_function")
MODULES = {
    "actor": "`exit_actor`, and the classes behind `remote` and `method`",
    "cloudpickle": "the library of that name",
    "cluster_utils": "`Cluster`: several nodes on one machine, for tests",
    "collective": "allreduce and other operations of actors and tasks, see [collectives.md](collectives.md)",
    "cross_language": "names for functions of Java and C++, and what to do instead",
    "data": "datasets that stream through tasks and actors, see [data.md](data.md)",
    "exceptions": "the exceptions above",
    "internal": "`free(refs)`: give up values by hand",
    "job_config": "`JobConfig`: a runtime environment and a namespace as one object",
    "job_submission": "`JobSubmissionClient` and its classes, see [sessions.md](sessions.md)",
    "mpi": "gangs of MPI ranks: `gang`, `remote`, `per_rank`, `state`, see [mpi.md](mpi.md)",
    "remote_function": "the class behind `remote`",
    "runtime_context": "the class behind `get_runtime_context`",
    "runtime_env": "`RuntimeEnv` and `RuntimeEnvConfig`, see [runtime_env.md](runtime_env.md)",
    "spi": "for libraries: identity, keys and their changes, places of objects, buffers, channels, actors that end "
    "together: see [libraries.md](libraries.md)",
    "train": "see [train.md](train.md) and [checkpoints.md](checkpoints.md)",
    "rllib": "see [rllib.md](rllib.md)",
    "serve": "see [serve.md](serve.md)",
    "tune": "see [tune.md](tune.md)",
    "util": "placement groups and strategies ([scheduling.md](scheduling.md)), `state` "
    "([observability.md](observability.md)), pools, queues and more ([helpers.md](helpers.md))",
}
#: Where a name is there and does less, or something else, than Ray's.
DIFFERENCES = (
    """Keywords of `init` that it does not know are accepted and ignored, as are `logging_level`, `configure_logging`
    (the runtime has no logger in a driver) and `include_dashboard`.""",
    """Lines of workers at the driver have `node=2` where Ray has an address, and colours on terminals only. Of a line
    with carriage returns the last state is shown, text without an end of line after a second. What C code or another
    program writes has no name in front of it where its task is shorter than 0.2 s and has not printed before. Lines of
    a job whose LoggingConfig says JSON are never folded, so that each is one record.""",
    """`init()` inside a Slurm allocation starts the session on all of its nodes. On a login node it starts one on the
    login node itself; `hpc-launch` submits a job there.""",
    """`kill`, restarts and the end of an actor are the business of the process that created it. When that process ends,
    the actor ends, unless it is detached.""",
    """A call that may have begun when its actor died, and is not retried, gives ActorUnavailableError while the actor
    is being restarted and ActorDiedError when it is dead.""",
    """`nodes()` leaves out the gateway (a node without resources, for a driver that runs outside the allocation).""",
    """torch's CPU tensors come out of the store without a copy and can be written to: what is written is private.""",
    """`NodeID` is a small number; `get_job_id()` and `gcs_address` are the session's id.""",
)


def one_line(text: str) -> str:
    """The text with all white space between words as one space."""
    return " ".join(text.split())


def signature(value: Any, name: str) -> str:
    """`name(...)` as one would call it; one parameter a line where it is long."""
    parts = [shown(p) for p in parameters(value)]
    star = next((i for i, p in enumerate(parameters(value)) if p.kind is p.KEYWORD_ONLY), None)
    if star is not None and not any(p.kind is p.VAR_POSITIONAL for p in parameters(value)):
        parts.insert(star, "*")
    line = f"{name}({', '.join(parts)})"
    return line if len(line) <= 100 else f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + ")"


def shown(parameter: inspect.Parameter) -> str:
    """A parameter as in the source: annotations are strings there, and need no quotes here."""
    if parameter.annotation in ("Any", inspect.Parameter.empty):
        return str(parameter.replace(annotation=inspect.Parameter.empty))
    bare = parameter.replace(annotation=inspect.Parameter.empty, default=inspect.Parameter.empty)
    default = "" if parameter.default is inspect.Parameter.empty else f" = {parameter.default!r}"
    return f"{bare}: {parameter.annotation}{default}"


def parameters(value: Any) -> list[inspect.Parameter]:
    """The parameters, without self and without annotations that only repeat themselves."""
    found = inspect.signature(value).parameters.values()
    return [p for p in found if p.name not in ("self", "_ignored", "_exiting_interpreter")]


def described(value: Any, name: str) -> list[str]:
    text = inspect.getdoc(value) or ""
    first, _, rest = (part.strip() for part in text.partition("\n\n"))
    lines = [f"### `{name}`", "", "```python", signature(value, f"hpc.{name}"), "```", "", first]
    if rest:
        lines += ["", "```text", rest, "```"]
    return [*lines, ""]


def members(cls: type) -> list[str]:
    """A list of the public methods and properties of a class."""
    lines = []
    for name, member in vars(cls).items():
        if name.startswith("_"):
            continue
        text = one_line(inspect.getdoc(member) or "")
        if isinstance(member, property):
            lines.append(f"* `.{name}`: {text}")
        elif callable(member):
            lines.append(f"* `.{signature(member, name)}`: {text}")
    return lines


def option_rows(kind: str) -> list[str]:
    rows = ["| option | default | what it is | |", "|---|---|---|---|"]
    for option in options.OPTIONS:
        if getattr(option, kind):
            state = ray_names.OPTION_REMARKS.get(option.name, "")
            rows.append(f"| `{option.name}` | `{option.default!r}` | {option.help} | {state} |")
    return rows


def exception_rows() -> list[str]:
    rows = ["| exception | is also | meaning |", "|---|---|---|"]
    for name in exceptions.__all__:
        kind = getattr(exceptions, name)
        if kind.__name__ != name:
            rows.append(f"| `{name}` | | the same class as `{kind.__name__}` |")
            continue
        bases = ", ".join(f"`{base.__name__}`" for base in kind.__bases__)
        rows.append(f"| `{name}` | {bases} | {one_line(inspect.getdoc(kind) or '')} |")
    return rows


def resolve(name: str) -> Any:
    """This package's twin of a name of Ray's, or None."""
    parts = ["hpc", *name.split(".")[1:]]
    for cut in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:cut]))
            for attribute in parts[cut:]:
                value = getattr(value, attribute)
        except (ImportError, AttributeError):
            continue
        return value
    return None


def tested_rows() -> list[str]:
    """The lines that programs print otherwise here, on purpose."""
    rows = ["| Ray's name | under Ray | here | why |", "|---|---|---|---|"]
    for row in sorted(running.differences(), key=lambda row: (row.name, row.program, row.ray)):
        ray, here = (one_line(text).replace("|", "\\|") for text in (row.ray, row.hpc))
        rows.append(f"| `{row.name}` | {ray} | {here or '(nothing)'} | {one_line(row.why)} |")
    return rows


def variable_rows() -> list[str]:
    """Variables of Ray's that are read, ours for each, and those that mean nothing here."""
    rows = ["| variable | Ray's name | what |", "|---|---|---|"]
    rows += [f"| `{one.name}` | `{one.ray}` | {one.what} |" for one in variables.VARIABLES]
    for name, known in settings.SETTINGS.items():
        if known.ray:
            unit = f" (in Ray's name 1 is {known.ray_unit:g})" if known.ray_unit != 1.0 else ""
            rows.append(f"| `HPC_{name.upper()}` | `{known.ray}` | {known.takes.allowed()}{unit} |")
    rows += [f"| as Ray's | `{name}` | {what} |" for name, what in variables.TAKEN_AS_THEY_ARE.items()]
    for pattern, why in variables.NOT_TAKEN.items():
        rows.append(f"| no | `{pattern}` | {why} |")
    return rows


def ray_rows() -> list[str]:
    """What becomes of each of Ray's names. Stops where the list and the code do not agree."""
    rows = ["| Ray's name | here | |", "|---|---|---|"]
    for name in ray_names.NAMES:
        there = resolve(name) is not None
        if there == (name in ray_names.NO):
            raise SystemExit(f"docs/ray_names.py and the code do not agree on {name}")
        state = "no" if not there else "differs" if name in ray_names.DIFFERS else "yes"
        rows.append(f"| `{name}` | {state} | {ray_names.NO.get(name) or ray_names.DIFFERS.get(name, '')} |")
    known = {option.name for option in options.OPTIONS}
    for kind, names in (("task", ray_names.TASK_OPTIONS), ("actor", ray_names.ACTOR_OPTIONS)):
        for name in names:
            if name not in known:
                raise SystemExit(f"the option {name} of Ray's {kind}s is not in the table of options")
            remark = ray_names.OPTION_REMARKS.get(name, "")
            state = "no" if remark.startswith("no:") else "differs" if remark else "yes"
            rows.append(f"| option `{name}` of {kind}s | {state} | {remark.removeprefix('no: ')} |")
    return rows


def page() -> str:
    """The whole of docs/api.md."""
    unknown = set(hpc.__all__) - {*LIFECYCLE, *WORK, *STATES, *VIEWS, *MADE, *IDS, *IN_TABLE, *MODULES, "__version__"}
    if unknown:
        raise SystemExit(f"docs/generate_api.py has no place for {', '.join(sorted(unknown))}")
    lines = [
        "# API",
        "",
        "<!-- Generated by docs/generate_api.py: change that, or the docstrings, and run it again. -->",
        "",
        "The names and meanings are Ray's: `import hpc as ray`. Where nothing else is said here, Ray's documentation",
        "of a name holds for it, apart from the [differences](#differences-from-ray). The last table has",
        "[each of Ray's names](#rays-names).",
        "",
        "## Session",
        "",
    ]
    for names, title in (
        (LIFECYCLE, ""),
        (WORK, "## Tasks, actors, objects"),
        (STATES, "## Before the end"),
        (VIEWS, "## Views"),
    ):
        lines += [title, ""] if title else []
        for name in names:
            lines += described(getattr(hpc, name), name)
    lines += ["### What `init` returns", "", inspect.getdoc(Context) or "", "", *members(Context), ""]
    lines += ["### `RuntimeContext`", "", inspect.getdoc(runtime_context.RuntimeContext) or "", ""]
    lines += [*members(runtime_context.RuntimeContext), "", "## Classes", ""]
    for name, cls in (
        ("LoggingConfig", hpc.LoggingConfig),
        ("RemoteFunction", hpc.RemoteFunction),
        ("ActorClass", hpc.ActorClass),
        ("ActorHandle", hpc.ActorHandle),
        ("hpc.actor.ActorMethod", actor.ActorMethod),
        ("ObjectRef", ObjectRef),
        ("ObjectRefGenerator", hpc.ObjectRefGenerator),
        ("DynamicObjectRefGenerator", hpc.DynamicObjectRefGenerator),
    ):
        lines += [f"### `{name}`", "", inspect.getdoc(cls) or "", "", *members(cls), ""]
    lines += ["### Ids", "", ", ".join(f"`{name}`" for name in IDS if name != "ObjectID") + ":", ""]
    lines += [*members(idtypes.BaseID), "", "`ObjectID` is the older name of `ObjectRef`.", ""]
    lines += ["Every actor also has the methods " + ", ".join(f"`{name}`" for name in actors.BUILT_IN) + ".", ""]
    lines += ["## Options of tasks", "", "For `@hpc.remote(...)` and `.options(...)`.", "", *option_rows("task"), ""]
    lines += ["## Options of actors", "", *option_rows("actor"), ""]
    lines += ["Methods (`@hpc.method(...)`, `handle.method.options(...)`) take: "]
    lines[-1] += ", ".join(f"`{name}`" for name in actors.METHOD_OPTIONS)
    lines[-1] += "."
    strategy = scheduling_strategies.NodeAffinitySchedulingStrategy
    lines += [
        "",
        "## Scheduling strategies",
        "",
        'See [scheduling.md](scheduling.md). `"DEFAULT"` stays on the submitter\'s node while it has room, then fills',
    ]
    lines += [
        'nodes one after the other, those with most room first. `"SPREAD"` deals out one by one over the nodes.',
        "",
    ]
    lines += ["```python", signature(strategy, "hpc.util.scheduling_strategies." + strategy.__name__), "```", ""]
    lines += [
        (inspect.getdoc(strategy) or ""),
        "",
        "## Exceptions",
        "",
        "In `hpc.exceptions`.",
        "",
        *exception_rows(),
        "",
    ]
    lines += ["## Modules", ""] + [f"* `hpc.{name}`: {what}" for name, what in MODULES.items()]
    lines += ["", "## Differences from Ray", ""] + [f"* {one_line(text)}" for text in DIFFERENCES]
    lines += ["", "### Variables of the environment", ""]
    lines += ["Where both names are set ours counts. `init` warns of those that are set and mean nothing here.", ""]
    lines += variable_rows()
    lines += ["", "### Lines that are other ones here", ""]
    lines += ["Programs print the same under Ray and here ([tests/compat](../tests/compat/README.md)), but for:", ""]
    lines += [*tested_rows(), "", "## Ray's names", ""]
    lines += ["Made by importing each under this package's name.", "", *ray_rows()]
    return "\n".join(lines) + "\n"


def main() -> int:
    text = page()
    if "--check" not in sys.argv:
        TARGET.write_text(text)
        return 0
    old = TARGET.read_text() if TARGET.exists() else ""
    sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), text.splitlines(True), "docs/api.md", "the code"))
    return int(old != text)


if __name__ == "__main__":
    sys.exit(main())
