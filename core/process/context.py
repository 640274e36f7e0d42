"""What the code that runs in this process can ask about itself: its task, its actor, its lease, its node.

A thread of a task's own making sees the process's last values; threads of the runtime have their own.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct, field

from hpc.core.accelerators.base import Device


class TaskContext(msgspec.Struct, eq=False):
    """The task or call that runs."""

    task: bytes = b""
    attempt: int = 0
    name: str = ""
    depth: int = 0
    #: what it runs, as the id of the code; empty for an actor's calls
    fn: bytes = b""
    #: class and method of a call that has another name than these
    method: str = ""
    cancelled: bool = False
    consumed: int = 0
    #: how often it has begun before: what people know as its attempt
    ran: int = 0
    on_consumed: Callable[[], None] | None = None


class ProcessContext(Struct):
    """What all tasks of the process share."""

    actor: bytes = b""
    #: ends the actor that this process hosts, once its calls that run have ended
    exit_actor: Callable[[], None] | None = None
    actor_name: str = ""
    #: what its creator says of it: concurrency, handles
    actor_options: dict[str, Any] = field(default_factory=dict)
    #: the id of its class, and functions and classes by their ids
    actor_class: bytes = b""
    code: dict[bytes, Any] = field(default_factory=dict)
    namespace: str = ""
    incarnation: int = 0
    lease: int = 0
    instances: dict[str, list[str]] = field(default_factory=dict)
    #: the accelerators of its node
    devices: tuple[Device, ...] = ()
    resources: dict[str, int] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=dict)
    job_bytes: bytes = b""
    #: what its tasks and actors inherit: its own runtime environment (see runenv.spec), in a driver the job's
    env: dict[str, str] = field(default_factory=dict)
    working_dir: str = ""
    paths: list[str] = field(default_factory=list)
    #: the placement group of the lease and whether children belong there too; empty without one
    group: tuple[Any, ...] = ()


def function_name(context: TaskContext) -> str:
    """The function or method that a task runs, with its module; that of a program is the name of its file."""
    code = process.code[context.fn or process.actor_class]
    if isinstance(code, type):
        return f"{_module(code)}.{code.__name__}.{(context.method or context.name).rpartition('.')[2]}"
    return f"{_module(code[0])}.{code_name(context.fn, context.name)}"


def code_name(code_of: bytes | str, name: str) -> str:
    """How the function with this id, or a method with this name, is called where it is defined. The task itself has the
    ``name`` that it was given."""
    if isinstance(code_of, str):
        return code_of or name
    code = process.code.get(code_of)
    return str(getattr(code[0], "__name__", name)) if type(code) is tuple else name


def _module(code: Any) -> str:
    name = str(code.__module__)
    return str(process.job.get("program") or name) if name == "__main__" else name


#: What runs that is no task or call of the runtime: a library tells it of its own work, for those who ask.
beside: list[Callable[[], TaskContext | None]] = []


def running_task() -> TaskContext | None:
    """What runs here, for code that asks what it is: a task, a call, or a library's own work. None in a driver."""
    found = current_task.get()
    if found is None:
        found = next((made for told in beside if (made := told()) is not None), None)
    return found


current_task: contextvars.ContextVar[TaskContext | None] = contextvars.ContextVar("hpc_task", default=None)
process = ProcessContext()
