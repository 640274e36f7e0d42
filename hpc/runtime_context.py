"""The public names for asking where a program runs: its job, node, task and actor.

Workers that ask need a few modules for it: what few of them ask for is imported then.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from hpc.api.connection import ensure_client, namespace_of
from hpc.core.accelerators.base import INSTANCE_RESOURCES
from hpc.core.idtypes import ActorID, JobID, NodeID, PlacementGroupID, TaskID
from hpc.core.process.context import function_name, process, running_task
from hpc.core.process.current import need_client
from hpc.core.process.ending import DrainNotice
from hpc.core.resources import from_units

if TYPE_CHECKING:
    from hpc.api.actors import ActorHandle
    from hpc.runtime_env import RuntimeEnv


class RuntimeContext:
    """The job, node, task and actor of the code that asks."""

    def get(self) -> dict[str, Any]:
        """The ids of the job, the node, and the task and the actor if there are some; and the namespace."""
        found = {"job_id": self.job_id, "node_id": self.node_id, "namespace": self.namespace}
        if running_task() is not None:
            found["task_id"] = self.task_id
        if process.actor:
            found["actor_id"] = ActorID(process.actor)
        return found

    @property
    def job_id(self) -> JobID:
        """The id of the job; older programs ask for it, `get_job_id` gives it as text."""
        return JobID.from_hex(self.get_job_id())

    @property
    def node_id(self) -> NodeID:
        """The id of this node; `get_node_id` gives it as text."""
        return NodeID.from_hex(self.get_node_id())

    @property
    def task_id(self) -> TaskID:
        """The id of the task or call that runs. Raises AssertionError in a driver; `get_task_id` gives None there."""
        context = running_task()
        assert context is not None, "task_id is for tasks and actors' methods: none runs in this thread"
        return TaskID(context.task)

    @property
    def actor_id(self) -> ActorID | None:
        """The id of the actor of this process, or None. Raises AssertionError in a driver, unlike `get_actor_id`."""
        assert process.lease, "actor_id is for tasks and actors: this process is a driver"
        return ActorID(process.actor) if process.actor else None

    @property
    def current_actor(self) -> ActorHandle:
        """A handle to the actor in which this runs. Raises RuntimeError outside of actors."""
        from hpc.api.actors import own_handle

        if not process.actor:
            raise RuntimeError("current_actor is for actors: this process is none")
        return own_handle(need_client())

    @property
    def current_placement_group_id(self) -> PlacementGroupID:
        """The id of the placement group in which this runs; outside of all groups the id of nothing."""
        return PlacementGroupID(process.group[0]) if process.group else PlacementGroupID.nil()

    def get_placement_group_id(self) -> str | None:
        """The id of the placement group in which this runs, as text; None outside of all groups."""
        return process.group[0].hex() if process.group else None

    @property
    def should_capture_child_tasks_in_placement_group(self) -> bool:
        """Whether what is submitted here goes into the placement group in which this runs."""
        return bool(process.group and process.group[1])

    def get_node_labels(self) -> dict[str, str]:
        """The labels of this node."""
        from hpc.state.gather import node_rows

        number = need_client().addr.node
        labels: dict[str, Any] = next((row["labels"] for row in node_rows() if row["node"] == number), {})
        return {str(key): str(value) for key, value in labels.items()}

    def get_session_name(self) -> str:
        """The session's name."""
        return need_client().registered.session

    def get_temp_dir(self) -> str:
        """Where the session has its files on this node."""
        return need_client().node_dir

    def get_task_function_name(self) -> str | None:
        """The function or method that runs, with its module; None in a driver. `get_task_name` gives the name that the
        options say."""
        context = running_task()
        return function_name(context) if context is not None else None

    def get_job_id(self) -> str:
        """The session's id."""
        return need_client().registered.session

    @property
    def namespace(self) -> str:
        """The namespace of actors' names."""
        return namespace_of(need_client())

    def get_node_id(self) -> str:
        """The number of this node."""
        return str(need_client().addr.node)

    def get_worker_id(self) -> str:
        """This process's address: node and process number."""
        return str(need_client().addr)

    def get_task_id(self) -> str | None:
        """The id of the task that runs, or None in a driver."""
        context = running_task()
        return context.task.hex() if context is not None else None

    def is_canceled(self) -> bool:
        """Whether `hpc.cancel` was called for the task or the actor's call that runs: one that runs on can end itself.
        Raises RuntimeError where neither runs, as in a driver."""
        context = running_task()
        if context is None:
            raise RuntimeError("is_canceled() is for tasks and actors' methods: none runs in this thread")
        return context.cancelled

    def get_task_name(self) -> str | None:
        """The name of the task that runs, or None in a driver."""
        context = running_task()
        return context.name if context is not None else None

    def get_actor_id(self) -> str | None:
        """The id of the actor of this process, or None."""
        return process.actor.hex() if process.actor else None

    def get_actor_name(self) -> str | None:
        """The name of the actor of this process, "" where it has none; None without an actor."""
        return process.actor_name if process.actor else None

    @property
    def runtime_env(self) -> RuntimeEnv:
        """The runtime environment of this code: the job's, merged with the task's or actor's. Directories are shown
        as the URIs that they were uploaded as."""
        from hpc.runtime_env import current as current_env

        return current_env()

    def get_runtime_env_string(self) -> str:
        """The runtime environment as JSON."""
        return json.dumps(self.runtime_env, sort_keys=True)

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Whether this actor has been restarted."""
        return process.incarnation > 0

    def get_assigned_resources(self) -> dict[str, float]:
        """What this worker holds for its task or actor."""
        return from_units(process.resources)

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """The ids of the accelerators that this worker may use, by resource; no ids for those of which it has none."""
        return {resource: list(process.instances.get(resource, ())) for resource in INSTANCE_RESOURCES}

    def get_resource_ids(self) -> dict[str, list[str]]:
        """The older name of `get_accelerator_ids`."""
        return self.get_accelerator_ids()

    def time_left_s(self) -> float | None:
        """Seconds until the scheduler ends the job of this node; None where there is no limit. It asks nobody and is
        cheap. A limit that is changed while the job runs is seen (see docs/walltime.md)."""
        return need_client().ending.left_s

    def get_traceparent(self) -> str:
        """W3C's trace context (`traceparent`) of the task that runs, in a driver that of the session. Spans that a
        program makes of its own below it stand below the task's span, as `hpc metrics --otlp` exports it."""
        from hpc.core.events import traces

        session, context = self.get_job_id(), running_task()
        trace = traces.trace_of(session, os.environ)
        if context is None:
            return traces.traceparent(trace, traces.session_span(session))
        return traces.traceparent(trace, traces.task_span(session, context.task.hex(), context.ran))

    def draining(self) -> DrainNotice | None:
        """The notice that this node ends soon, with its ``reason`` and ``left_s``; None until it drains. For loops that
        look now and then; `hpc.on_drain` calls back."""
        return need_client().ending.notice

    def get_scheduler(self) -> str | None:
        """The name, in small letters, of the scheduler in whose allocation the session runs; None outside any."""
        return _allocation().get("scheduler")

    def get_scheduler_job_id(self) -> str | None:
        """The scheduler's id of the job that the session runs in; None outside any."""
        return _allocation().get("job_id")

    @property
    def gcs_address(self) -> str:
        """The session's id (there is no global control store)."""
        return need_client().registered.session


#: Per session: the job that it runs in, as the head has it.
_allocations: dict[str, dict[str, Any]] = {}


def _allocation() -> dict[str, Any]:
    session = need_client().registered.session
    known = _allocations.get(session)
    if known is None:
        from hpc.state.gather import session_facts

        known = _allocations[session] = session_facts()
    return known


def get_runtime_context() -> RuntimeContext:
    """What is known about where this code runs. Connects to a session first where there is none."""
    ensure_client()
    return RuntimeContext()


def get_gpu_ids() -> list[Any]:
    """The ids of the GPUs that this worker may use: integers where they are numbers."""
    ids = process.instances.get("GPU", [])
    if not ids and not process.lease:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        ids = [part for part in visible.split(",") if part]
    return [int(i) if i.isdigit() else i for i in ids]
