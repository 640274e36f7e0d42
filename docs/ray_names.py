"""Ray's public Core names, and what becomes of each here; docs/generate_api.py makes a table of it.

A name without a remark must exist under the same path in this package: the generator imports it and fails where it does
not. ``DIFFERS`` says how one that exists is different, ``NO`` why one does not exist.
"""

from __future__ import annotations

NAMES: tuple[str, ...] = (
    # lifecycle
    "ray.init", "ray.shutdown", "ray.is_initialized", "ray.job_config.JobConfig", "ray.LoggingConfig", "ray.client",
    # tasks
    "ray.remote", "ray.remote_function.RemoteFunction.options", "ray.remote_function.RemoteFunction.bind", "ray.cancel",
    "ray.ObjectRefGenerator", "ray.DynamicObjectRefGenerator", "ray.method",
    # actors
    "ray.actor.ActorClass", "ray.actor.ActorClass.options", "ray.actor.ActorHandle", "ray.actor.ActorMethod",
    "ray.actor.exit_actor", "ray.get_actor", "ray.kill", "ray.util.list_named_actors",
    # objects
    "ray.get", "ray.put", "ray.wait", "ray.ObjectRef", "ray.internal.free", "ray.util.register_serializer",
    "ray.util.deregister_serializer", "ray.util.inspect_serializability", "ray.cloudpickle",
    # placement
    "ray.util.placement_group.placement_group", "ray.util.placement_group.PlacementGroup",
    "ray.util.placement_group.remove_placement_group", "ray.util.placement_group.placement_group_table",
    "ray.util.placement_group.get_placement_group", "ray.util.placement_group.get_current_placement_group",
    "ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy",
    "ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy",
    "ray.util.scheduling_strategies.NodeLabelSchedulingStrategy",
    # introspection
    "ray.nodes", "ray.cluster_resources", "ray.available_resources", "ray.timeline", "ray.get_gpu_ids",
    "ray.get_runtime_context", "ray.runtime_context.RuntimeContext",
    "ray.util.state.list_actors", "ray.util.state.list_jobs", "ray.util.state.list_nodes",
    "ray.util.state.list_objects",
    "ray.util.state.list_placement_groups", "ray.util.state.list_runtime_envs", "ray.util.state.list_tasks",
    "ray.util.state.list_workers", "ray.util.state.get_actor", "ray.util.state.get_node", "ray.util.state.get_task",
    "ray.util.state.get_worker", "ray.util.state.get_objects", "ray.util.state.get_placement_group",
    "ray.util.state.summarize_actors", "ray.util.state.summarize_objects", "ray.util.state.summarize_tasks",
    "ray.util.state.get_log", "ray.util.state.list_logs",
    "ray.util.metrics.Counter", "ray.util.metrics.Gauge", "ray.util.metrics.Histogram",
    # helpers
    "ray.util.ActorPool", "ray.util.queue.Queue", "ray.util.queue.Empty", "ray.util.queue.Full",
    "ray.util.multiprocessing.Pool", "ray.util.joblib.register_ray", "ray.util.as_completed", "ray.util.map_unordered",
    "ray.util.collective", "ray.cluster_utils.Cluster", "ray.runtime_env.RuntimeEnv",
    "ray.job_submission.JobSubmissionClient", "ray.job_submission.JobStatus", "ray.job_submission.JobInfo",
    "ray.util.accelerators", "ray.util.debugpy", "ray.util.tpu", "ray.cross_language.java_function", "ray.dag",
    # exceptions
    "ray.exceptions.RayError", "ray.exceptions.RayTaskError", "ray.exceptions.RayActorError",
    "ray.exceptions.ActorDiedError", "ray.exceptions.ActorUnavailableError", "ray.exceptions.ActorUnschedulableError",
    "ray.exceptions.TaskUnschedulableError", "ray.exceptions.TaskCancelledError", "ray.exceptions.GetTimeoutError",
    "ray.exceptions.WorkerCrashedError", "ray.exceptions.NodeDiedError", "ray.exceptions.OutOfMemoryError",
    "ray.exceptions.ObjectLostError", "ray.exceptions.ObjectStoreFullError", "ray.exceptions.ObjectFetchTimedOutError",
    "ray.exceptions.ObjectReconstructionFailedError", "ray.exceptions.OwnerDiedError",
    "ray.exceptions.ObjectFreedError", "ray.exceptions.PendingCallsLimitExceeded",
    "ray.exceptions.RuntimeEnvSetupError", "ray.exceptions.CrossLanguageError",
)  # fmt: skip
