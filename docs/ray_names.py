"""Ray's public Core names, and what becomes of each here; docs/generate_api.py makes a table of it.

A name without a remark must exist under the same path in this package: the generator imports it and fails where it does
not, or where one that is said to be missing is there. ``DIFFERS`` says how one that exists is different, ``NO`` why one
does not exist.
"""

from __future__ import annotations

#: A class that is there to be named in an except clause.
NEVER = "is never raised"
#: As under Ray without a runtime of those languages.
FOREIGN = "its `remote` raises ValueError: workers are processes of Python"

NAMES: tuple[str, ...] = (
    # lifecycle
    "ray.init", "ray.shutdown", "ray.is_initialized", "ray.job_config.JobConfig", "ray.LoggingConfig", "ray.client",
    "ray.ClientBuilder", "ray.util.client", "ray.util.connect", "ray.util.disconnect",
    # tasks
    "ray.remote", "ray.remote_function.RemoteFunction.options", "ray.remote_function.RemoteFunction.bind", "ray.cancel",
    "ray.ObjectRefGenerator", "ray.DynamicObjectRefGenerator", "ray.method",
    # actors
    "ray.actor.ActorClass", "ray.actor.ActorClass.options", "ray.actor.ActorHandle", "ray.actor.ActorMethod",
    "ray.actor.exit_actor", "ray.get_actor", "ray.kill", "ray.util.list_named_actors",
    # objects
    "ray.get", "ray.put", "ray.wait", "ray.ObjectRef", "ray.ObjectID", "ray.TaskID", "ray.ActorID", "ray.JobID",
    "ray.NodeID", "ray.WorkerID", "ray.PlacementGroupID", "ray.UniqueID", "ray.FunctionID", "ray.ActorClassID",
    "ray.internal.free", "ray.util.register_serializer",
    "ray.util.deregister_serializer", "ray.util.inspect_serializability", "ray.cloudpickle",
    # placement
    "ray.util.placement_group.placement_group", "ray.util.placement_group.PlacementGroup",
    "ray.util.placement_group.remove_placement_group", "ray.util.placement_group.placement_group_table",
    "ray.util.placement_group.get_placement_group", "ray.util.placement_group.validate_placement_group",
    "ray.util.placement_group.check_placement_group_index", "ray.util.placement_group.get_current_placement_group",
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
    "ray.util.get_node_instance_id", "ray.util.get_node_ip_address",
    "ray.util.log_once", "ray.util.disable_log_once_globally", "ray.util.enable_periodic_logging",
    "ray.util.collective", "ray.cluster_utils.Cluster", "ray.runtime_env.RuntimeEnv",
    "ray.job_submission.JobSubmissionClient", "ray.job_submission.JobErrorType",
    "ray.job_submission.JobStatus", "ray.job_submission.JobInfo",
    "ray.util.accelerators", "ray.util.debugpy", "ray.util.tpu", "ray.cross_language.java_function",
    "ray.util.tpu.SlicePlacementGroup", "ray.util.tpu.SubslicePlacementGroup", "ray.util.tpu.dispatch",
    "ray.util.tpu.get_current_pod_name", "ray.util.tpu.get_current_pod_worker_count",
    "ray.util.tpu.get_num_ready_tpu_slices", "ray.util.tpu.get_num_tpu_chips_on_node",
    "ray.util.tpu.get_num_tpu_slices", "ray.util.tpu.get_tpu_coordinator_env_vars",
    "ray.util.tpu.get_tpu_nodes_for_slice", "ray.util.tpu.get_tpu_num_slices_for_workers",
    "ray.util.tpu.get_tpu_slice_name_from_node", "ray.util.tpu.get_tpu_version_from_type",
    "ray.util.tpu.get_tpu_worker_resources", "ray.util.tpu.init_jax_profiler", "ray.util.tpu.run_on_slice",
    "ray.util.tpu.slice_placement_group", "ray.util.tpu.subslice_placement_group",
    "ray.cross_language.java_actor_class", "ray.cross_language.cpp_function", "ray.java_function",
    "ray.java_actor_class", "ray.util.state.exception.RayStateApiException",
    "ray.Language", "ray.SCRIPT_MODE", "ray.WORKER_MODE", "ray.dag",
    # training with frameworks
    "ray.train.BackendConfig", "ray.train.backend.Backend", "ray.train.data_parallel_trainer.DataParallelTrainer",
    "ray.train.v2.jax.JaxTrainer", "ray.train.v2.jax.JaxConfig",
    "ray.train.torch.TorchTrainer", "ray.train.torch.TorchConfig", "ray.train.torch.TorchCheckpoint",
    "ray.train.torch.prepare_model", "ray.train.torch.prepare_data_loader", "ray.train.torch.get_device",
    "ray.train.torch.get_devices", "ray.train.torch.enable_reproducibility", "ray.train.torch.accelerate",
    "ray.train.torch.prepare_optimizer", "ray.train.torch.backward", "ray.train.huggingface",
    # exceptions
    "ray.exceptions.RayError", "ray.exceptions.RayTaskError", "ray.exceptions.RayActorError",
    "ray.exceptions.ActorDiedError", "ray.exceptions.ActorUnavailableError", "ray.exceptions.ActorUnschedulableError",
    "ray.exceptions.TaskUnschedulableError", "ray.exceptions.TaskCancelledError", "ray.exceptions.GetTimeoutError",
    "ray.exceptions.WorkerCrashedError", "ray.exceptions.NodeDiedError", "ray.exceptions.OutOfMemoryError",
    "ray.exceptions.ObjectLostError", "ray.exceptions.ObjectStoreFullError", "ray.exceptions.ObjectFetchTimedOutError",
    "ray.exceptions.ObjectReconstructionFailedError", "ray.exceptions.OwnerDiedError",
    "ray.exceptions.ObjectFreedError", "ray.exceptions.PendingCallsLimitExceeded",
    "ray.exceptions.RuntimeEnvSetupError", "ray.exceptions.RaySystemError", "ray.exceptions.OutOfDiskError",
    "ray.exceptions.LocalRayletDiedError", "ray.exceptions.ActorAlreadyExistsError",
    "ray.exceptions.UnserializableException", "ray.exceptions.ReferenceCountingAssertionError",
    "ray.exceptions.TaskPlacementGroupRemoved", "ray.exceptions.ActorPlacementGroupRemoved",
    "ray.exceptions.ActorHandleNotFoundError", "ray.exceptions.AsyncioActorExit", "ray.exceptions.AuthenticationError",
    "ray.exceptions.CrossLanguageError", "ray.exceptions.ObjectRefStreamEndOfStreamError",
    "ray.exceptions.OufOfBandObjectRefSerializationException", "ray.exceptions.PlasmaObjectNotAvailable",
    "ray.exceptions.RayCgraphCapacityExceeded", "ray.exceptions.RayChannelError",
    "ray.exceptions.RayChannelTimeoutError", "ray.exceptions.RayDirectTransportError", "ray.exceptions.RpcError",
    "ray.exceptions.StreamingGeneratorReplayInconsistentError", "ray.exceptions.UserCodeException",
)  # fmt: skip

#: Names that exist and do less, or something else, than Ray's.
DIFFERS: dict[str, str] = {
    "ray.util.tpu.init_jax_profiler": "no dashboard is told of the port",
    "ray.util.tpu.SubslicePlacementGroup": "was tried with a stand-in for libtpu",
    "ray.train.torch.TorchCheckpoint": "`get_model(model)` loads weights only; no preprocessor is kept",
    "ray.train.torch.prepare_model": "FSDP on CPUs too, and fully_shard as `fsdp2`; ranks begin with rank 0's weights",
    "ray.train.torch.prepare_data_loader": "refuses a batch_sampler, whose batches Ray drops",
    "ray.train.torch.accelerate": "works, with `dtype`; Ray's raises DeprecationWarning",
    "ray.train.torch.prepare_optimizer": "works; Ray's raises DeprecationWarning",
    "ray.train.torch.backward": "works; Ray's raises DeprecationWarning",
    "ray.train.backend.Backend": "`on_shutdown` is not called after a failure; all GPUs of a node's ranks are visible",
    "ray.job_config.JobConfig": "a runtime environment and a namespace; `metadata` is sent nowhere",
    "ray.JobID": "is the session's name: `hex` is that text",
    "ray.NodeID": "is the node's number: `hex` is that text",
    "ray.WorkerID": "is the number of the node and of the process: `hex` is that text",
    "ray.runtime_env.RuntimeEnv": "has no py_executable, nsight, rocprof_sys and plugins",
    "ray.job_submission.JobErrorType": "is always JOB_ENTRYPOINT_COMMAND_ERROR: the others are of Ray's own services",
    "ray.ObjectRef": "`task_id` of another return value than the first is not the task's",
    "ray.client": "raises NotImplementedError: init joins a session, through a gateway node where needed",
    "ray.ClientBuilder": "raises NotImplementedError, as `ray.client` does",
    "ray.util.connect": "raises NotImplementedError, as `ray.client` does",
    "ray.util.disconnect": "raises NotImplementedError, as `ray.client` does",
    "ray.cross_language.java_function": FOREIGN,
    "ray.cross_language.java_actor_class": FOREIGN,
    "ray.cross_language.cpp_function": FOREIGN,
    "ray.java_function": FOREIGN,
    "ray.java_actor_class": FOREIGN,
    "ray.init": "options of Ray's own services are accepted and mean nothing; values also come from hpc.toml and HPC_*",
    "ray.remote_function.RemoteFunction.bind": "raises NotImplementedError: task graphs (ray.dag) are not supported",
    "ray.nodes": "a node's id is a small number; a driver's gateway is left out",
    "ray.ObjectRefGenerator": "stays in the process that submitted the task",
    "ray.internal.free": "`local_only` has no effect: all copies go",
    "ray.timeline": "shows what living workers ran, the newest 10,000 of each, and the last 100 of those that ended",
    "ray.util.state.summarize_objects": "`task_state_counts` has the objects' own states; attempts are not counted",
    "ray.util.state.list_tasks": "finished ones as far as workers remember them, or said when they ended",
    "ray.util.state.get_log": "of tasks shorter than 0.2 ms the part of the log is shown that they share",
    "ray.util.state.list_logs": "there are no log files of an agent or a dashboard",
    "ray.util.metrics.Counter": "brought together by name and tags: no label tells the process ([metrics](metrics.md))",
    "ray.util.metrics.Gauge": "a band over all processes ([metrics](metrics.md))",
    "ray.util.metrics.Histogram": "brought together by name and tags ([metrics](metrics.md))",
    "ray.job_submission.JobSubmissionClient": "speaks to sessions of `hpc start` on this machine",
    "ray.exceptions.ObjectFetchTimedOutError": "is never raised: a fetch ends with a value or with ObjectLostError",
    "ray.exceptions.AsyncioActorExit": NEVER,
    "ray.exceptions.AuthenticationError": NEVER,
    "ray.exceptions.CrossLanguageError": NEVER,
    "ray.exceptions.ObjectRefStreamEndOfStreamError": NEVER,
    "ray.exceptions.OufOfBandObjectRefSerializationException": NEVER,
    "ray.exceptions.PlasmaObjectNotAvailable": NEVER,
    "ray.exceptions.RayCgraphCapacityExceeded": NEVER,
    "ray.exceptions.RayChannelError": NEVER,
    "ray.exceptions.RayChannelTimeoutError": NEVER,
    "ray.exceptions.RayDirectTransportError": NEVER,
    "ray.exceptions.RpcError": NEVER,
    "ray.exceptions.UserCodeException": NEVER,
    "ray.exceptions.OutOfDiskError": NEVER,
    "ray.exceptions.StreamingGeneratorReplayInconsistentError": NEVER,
    "ray.exceptions.NodeDiedError": "is never raised: what a node's death ends says so in its own error",
}

IDS = tuple(
    f"ray.{name}"
    for name in (
        "ActorID.of", "ObjectID.from_random", "ObjectID.nil", "ObjectRef.from_random",
        "ObjectRef.nil", "PlacementGroupID.of", "TaskID.for_actor_creation_task",
        "TaskID.for_actor_task", "TaskID.for_driver_task", "TaskID.for_fake_task", "TaskID.for_normal_task",
    )
)  # fmt: skip
CLIENT = ("ray.ClientBuilder.connect", "ray.ClientBuilder.env", "ray.ClientBuilder.namespace")

#: Names that do not exist, and why. One of a module or class holds for what is in it.
NO: dict[str, str] = {
    "ray.train.v2.jax.JaxTrainer": "is `hpc.train.jax.JaxTrainer`; connects ranks on CPUs too, which Ray leaves alone",
    "ray.train.v2.jax.JaxConfig": "is `hpc.train.jax.JaxConfig`",
    "ray.util.state.list_runtime_envs": "environments are per node, on its disk; there is no list of them",
    "ray.util.debugpy": "`hpc stack` shows where processes are; attach a debugger by process id",
    "ray.dag": "task graphs are not supported",
    "ray.client_builder": "`ray.client` and `ray.ClientBuilder` are at the top, and say what to do instead",
    "ray.util.client_connect": "`ray.util.connect` says what to do instead",
    "ray.cluster_utils.AutoscalingCluster": "nodes are those of the batch job: none come or go by load",
    "ray.cluster_utils.Cluster.remaining_processes_alive": "a process that ends is seen by its node",
    **dict.fromkeys(IDS, "an id is given by what it is the id of; those of a session are made by its owners alone"),
    **dict.fromkeys(("ray.JobID.from_int", "ray.JobID.int"), "a job is its session, which has a name and no number"),
    "ray.TaskID.actor_id": "a task's id says its owner, not its actor: `ray.util.state.get_task` says that",
    **dict.fromkeys(CLIENT, "making a `ray.ClientBuilder` says what to do instead"),
    "ray.actor.T": "is a variable of Ray's annotations",
    "ray.util.common": "serves Ray's own code",
    "ray.autoscaler": "nodes are those of the batch job: none come or go by load",
    "ray.experimental": "is not part of Ray's stable interface",
    "ray.widgets": "notebooks show plain text",
    "ray.job_submission.DriverInfo": "a job is its entrypoint: drivers that join by hand are no jobs",
    "ray.job_submission.JobType.DRIVER": "a job is its entrypoint: drivers that join by hand are no jobs",
    "ray.job_submission.JobDetails.model_config": "belongs to a library that is not used here",
    "ray.job_submission.JobInfo.driver_agent_http_address": "nodes have no agent that speaks HTTP",
    "ray.runtime_env.RuntimeEnv.pip_uri": "nodes name what they have installed by its content; `pip_config` has it",
    "ray.runtime_env.RuntimeEnv.uv_uri": "nodes name what they have installed by its content; `uv_config` has it",
    "ray.runtime_env.RuntimeEnvConfig.build_proto_runtime_env_config": "there are no protocol buffers here",
    "ray.runtime_env.RuntimeEnvConfig.from_proto": "there are no protocol buffers here",
    "ray.runtime_env.runtime_env": "the classes are in `ray.runtime_env`",
    "ray.util.iter": "is deprecated in Ray; `as_completed`, `map_unordered` and generators of tasks go over results",
    "ray.util.iter_metrics": "goes with `ray.util.iter`, which is deprecated in Ray",
    "ray.util.pdb": "`hpc stack` shows where processes are; attach a debugger by process id",
    "ray.util.rpdb": "`hpc stack` shows where processes are; attach a debugger by process id",
    "ray.util.ray_debugpy": "`hpc stack` shows where processes are; attach a debugger by process id",
    "ray.util.serialization_addons": "serves Ray's own serialization",
    "ray.util.timer": "serves Ray's own libraries",
    "ray.util.tracing": "`ray.timeline` shows what ran",
    "ray.util.state.StateApiClient": "the functions of `ray.util.state` ask the session",
    "ray.util.state.api": "the functions are in `ray.util.state`",
    "ray.util.state.common": "rows are plain dicts",
}

#: Options of Ray's tasks and actors; each must be in the table of options.
TASK_OPTIONS: tuple[str, ...] = (
    "num_cpus", "num_gpus", "memory", "resources", "accelerator_type", "label_selector", "fallback_strategy",
    "placement_group", "placement_group_bundle_index", "placement_group_capture_child_tasks",
    "num_returns", "max_retries",
    "retry_exceptions", "max_calls", "runtime_env", "name", "scheduling_strategy",
    "enable_task_events", "_metadata", "_generator_backpressure_num_objects",
)  # fmt: skip
ACTOR_OPTIONS: tuple[str, ...] = (
    "num_cpus", "num_gpus", "memory", "resources", "accelerator_type", "label_selector", "fallback_strategy",
    "object_store_memory", "max_restarts", "max_task_retries", "max_pending_calls", "max_concurrency",
    "concurrency_groups", "allow_out_of_order_execution", "runtime_env", "name", "namespace", "get_if_exists",
    "lifetime", "scheduling_strategy", "placement_group", "placement_group_bundle_index",
    "placement_group_capture_child_tasks", "enable_task_events", "_metadata",
)  # fmt: skip
OPTION_REMARKS: dict[str, str] = {
    "enable_task_events": "accepted; HPC_TASK_EVENTS=0 switches the record off for a session",
    "_metadata": "accepted and not used",
    "memory": "reserved, and not enforced for a single task",
    "object_store_memory": "no: the object store belongs to the node",
}
