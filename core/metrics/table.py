"""THE table of the runtime's own metrics: what each is called, what it counts, in which unit, and where it is shown.

docs/metrics.md, the dashboard's panels and the boards for Grafana are made of it. A name begins with ``hpc_``, has its
base unit (seconds, bytes, a ratio from 0 to 1), and ends in ``_total`` if it only grows.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from hpc.core.metrics.sample import Kind

Panel = Literal["tasks", "workers", "nodes", "gpus", "objects", "network", "runs", "session", "runtime"]


class Metric(Struct, frozen=True):
    """One of them. ``unit``: a base unit, or "" of a plain number. ``labels``: their names."""

    name: str
    kind: Kind
    unit: Literal["", "seconds", "bytes", "ratio", "watts"]
    labels: tuple[str, ...]
    panel: Panel
    text: str


#: The upper ends of the ranges of running times, in seconds.
TASK_BOUNDS_S = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 600.0, 3600.0)

TASKS_FINISHED = "hpc_tasks_finished_total"
TASK_SECONDS = "hpc_task_seconds"
TASKS_UNFINISHED = "hpc_tasks_unfinished"
WORKERS = "hpc_workers"
WORKERS_ENDED = "hpc_workers_ended_total"
WORKERS_WANTED = "hpc_workers_wanted"
USED_RATIO = "hpc_resource_used_ratio"
RESOURCES = "hpc_resources"
CPUS = "hpc_cpus"
CPU_RATIO = "hpc_node_cpu_ratio"
CPU_SECONDS = "hpc_node_cpu_seconds_total"
MEMORY = "hpc_node_memory_bytes"
MEMORY_RATIO = "hpc_node_memory_ratio"
GPU_RATIO = "hpc_gpu_util_ratio"
GPU_MEMORY = "hpc_gpu_memory_bytes"
GPU_MEMORY_RATIO = "hpc_gpu_memory_ratio"
GPU_POWER = "hpc_gpu_power_watts"
STORE = "hpc_object_store_bytes"
STORE_RATIO = "hpc_object_store_ratio"
OBJECTS = "hpc_objects"
MOVED = "hpc_object_moved_bytes_total"
NET = "hpc_net_bytes_total"
TIME_LEFT = "hpc_walltime_left_seconds"
NODES = "hpc_nodes"
RUNTIME_CPU = "hpc_runtime_cpu_seconds_total"
RUN_NUMBERS = "hpc_run_numbers"
DROPPED = "hpc_metrics_dropped_total"

TABLE = (
    Metric(
        TASKS_FINISHED, "counter", "", ("name", "outcome"), "tasks",
        "Tasks and actors' calls that have ended, by name; the outcome is ok or failed.",
    ),
    Metric(
        TASK_SECONDS, "histogram", "seconds", ("name",), "tasks",
        "How long the code of tasks and actors' calls ran, by name.",
    ),
    Metric(
        TASKS_UNFINISHED, "gauge", "", (), "tasks",
        "Tasks and calls that were submitted and have not ended, in each process that submits.",
    ),
    Metric(WORKERS, "gauge", "", ("state",), "workers", "Workers of each node: starting, idle, task, actor, blocked."),
    Metric(WORKERS_ENDED, "counter", "", ("cause",), "workers", "Workers that have ended, by cause."),
    Metric(WORKERS_WANTED, "gauge", "", (), "workers", "Workers that are waited for at each node."),
    Metric(
        USED_RATIO, "gauge", "ratio", ("resource",), "nodes",
        "What tasks, actors and placement groups hold of each node's resources.",
    ),
    Metric(
        RESOURCES, "gauge", "", ("kind", "resource"), "nodes",
        "CPUs and GPUs of each node: total, and used, which tasks, actors and placement groups hold.",
    ),
    Metric(CPUS, "gauge", "", (), "nodes", "CPUs that each node was granted."),
    Metric(CPU_RATIO, "gauge", "ratio", (), "nodes", "How busy the CPUs are that each node was granted."),
    Metric(CPU_SECONDS, "counter", "seconds", (), "nodes", "Seconds of CPU that were used on all nodes, by anything."),
    Metric(MEMORY, "gauge", "bytes", ("kind",), "nodes", "Memory of each node: used, and limit, which there may be."),
    Metric(MEMORY_RATIO, "gauge", "ratio", (), "nodes", "Memory in use of what there may be on each node."),
    Metric(GPU_RATIO, "gauge", "ratio", (), "gpus", "How busy each GPU is, as NVML says."),
    Metric(GPU_MEMORY, "gauge", "bytes", ("kind",), "gpus", "Memory of each GPU: used, and total."),
    Metric(GPU_MEMORY_RATIO, "gauge", "ratio", (), "gpus", "Memory in use of each GPU's."),
    Metric(GPU_POWER, "gauge", "watts", (), "gpus", "What each GPU draws."),
    Metric(
        STORE, "gauge", "bytes", ("kind",), "objects",
        "Each node's object store: used and capacity of its memory, and what lies in the overflow and on disk.",
    ),
    Metric(STORE_RATIO, "gauge", "ratio", (), "objects", "Each node's object store: what is used of its memory."),
    Metric(OBJECTS, "gauge", "", (), "objects", "Objects in each node's store."),
    Metric(
        MOVED, "counter", "bytes", ("how",), "objects",
        "Bytes of objects that were moved: spilled to disk, restored, sent to other nodes, received.",
    ),
    Metric(
        NET, "counter", "bytes", ("direction",), "network",
        "Bytes on the nodes' network interfaces, by anything: sent, received.",
    ),
    Metric(
        RUN_NUMBERS, "gauge", "", ("kind", "name", "number"), "runs",
        "What trainings, searches and datasets count: reports and what was reported last, trials by state, rows.",
    ),
    Metric(TIME_LEFT, "gauge", "seconds", (), "session", "Time until the scheduler ends each node, where it does."),
    Metric(NODES, "gauge", "", ("state",), "session", "Nodes: alive, dead, and silent, from which no metrics come."),
    Metric(
        RUNTIME_CPU, "counter", "seconds", ("process",), "runtime", "Seconds of CPU of the runtime: raylet, head."
    ),
    Metric(
        DROPPED, "counter", "", (), "runtime",
        "Samples that were no numbers or had no room: these count under labels that all say other, or not at all.",
    ),
)  # fmt: skip

BY_NAME = {metric.name: metric for metric in TABLE}
#: The gauges that are told of each node by itself.
HEAT = (CPU_RATIO, MEMORY_RATIO, GPU_RATIO, GPU_MEMORY_RATIO, STORE_RATIO)
