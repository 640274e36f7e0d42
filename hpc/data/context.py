"""Settings of hpc.data: `DataContext`. A dataset takes a copy when it is made, and workers get that copy."""

from __future__ import annotations

import contextlib
import copy
import enum
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hpc.data.options import ExecutionOptions

MIB = 1024 * 1024
#: What object stores say when a further try may succeed.
PASSING_ERRORS = ("INTERNAL_FAILURE", "NETWORK_CONNECTION", "SLOW_DOWN", "UNKNOWN (HTTP status 503)")


class ShuffleStrategy(str, enum.Enum):
    """Ray's ways of exchanging rows. There is one here; all of them mean it."""

    SORT_SHUFFLE_PULL_BASED = "sort_shuffle_pull_based"
    SORT_SHUFFLE_PUSH_BASED = "sort_shuffle_push_based"
    HASH_SHUFFLE = "hash_shuffle"
    SHUFFLE_V2 = "shuffle_v2"
    GPU_SHUFFLE = "gpu_shuffle"


@dataclass
class AutoscalingConfig:
    """When pools of actors grow and shrink: by the calls for each actor, and how many actors come at a time."""

    actor_pool_util_upscaling_threshold: float = 1.75
    actor_pool_util_downscaling_threshold: float = 0.5
    actor_pool_max_upscaling_delta: int | None = None


#: Fields of Ray that nothing here reads. A value that is set has no effect, and a warning says so.
WITHOUT_EFFECT = frozenset(
    (
        "enable_pandas_block", "actor_prefetcher_enabled", "use_push_based_shuffle",
        "pipeline_push_based_shuffle_reduce_tasks", "hash_shuffle_reduce_batch_size",
        "hash_shuffle_reduce_get_timeout_s", "max_hash_shuffle_aggregators",
        "min_hash_shuffle_aggregator_wait_time_in_s", "hash_shuffle_aggregator_health_warning_interval_s",
        "max_hash_shuffle_finalization_batch_size", "join_operator_actor_num_cpus_override",
        "hash_shuffle_operator_actor_num_cpus_override", "hash_aggregate_operator_actor_num_cpus_override",
        "use_disk_based_hash_shuffle", "gpu_shuffle_num_actors", "gpu_shuffle_rmm_pool_size",
        "gpu_shuffle_spill_memory_limit", "gpu_shuffle_setup_timeout_s", "scheduling_strategy",
        "scheduling_strategy_large_args", "large_args_threshold", "use_legacy_dataset_ids", "min_parallelism",
        "use_datasource_v2", "use_arrow_tensor_v2", "trace_allocations", "use_ray_tqdm",
        "enable_get_object_locations_for_metrics", "write_file_retry_on_errors", "enable_per_node_metrics",
        "enable_stats_summary_collection", "dataset_logger_id", "enable_lineage_reconstruction_resource_accounting",
        "enable_dynamic_output_queue_size_backpressure", "object_store_reservation_overshoot_ratio",
        "object_store_memory_pressure_fraction", "s3_try_create_dir", "streaming_read_buffer_size",
        "shuffle_compression", "shuffle_input_batch_bytes", "use_polars", "decoding_size_estimation",
        "enable_tensor_extension_casting", "arrow_fixed_shape_tensor_format",
        "enable_fallback_to_arrow_object_ext_type", "enable_auto_log_stats", "verbose_stats_logs",
        "accurate_map_phase_timing", "per_stage_map_timing", "enable_rich_progress_bars",
        "warn_on_driver_memory_usage_bytes", "max_consecutive_actor_init_deaths", "retried_map_errors",
        "max_map_retries", "op_resource_reservation_enabled", "op_resource_reservation_ratio",
        "output_backpressure_guard_release_interval_s", "log_internal_stack_trace", "memory_usage_poll_interval_s",
        "isolate_read_workers", "downstream_capacity_backpressure_ratio", "enforce_schemas",
        "pandas_block_ignore_metadata", "enable_arrow_backed_pandas_conversion", "batch_to_block_arrow_format",
        "default_map_logical_memory_enabled", "checkpoint_config", "default_hash_shuffle_parallelism",
        "use_polars_sort",
    )
)  # fmt: skip


@dataclass
class DataContext:
    """Settings of the datasets that are made from now on: ``DataContext.get_current().max_errored_blocks = 3``.

    * Blocks: ``target_max_block_size`` (bytes; None: no limit), ``target_min_block_size``, ``read_op_min_num_blocks``.
    * Execution: ``execution_options``, ``execution_no_progress_timeout_s``,
      ``override_object_store_memory_limit_fraction``.
    * Pools of actors: ``autoscaling_config``, ``max_tasks_in_flight_per_actor``, ``wait_for_min_actors_s``.
    * Errors: ``max_errored_blocks`` (-1: any number), ``actor_task_retry_on_errors``, ``actor_init_max_retries``,
      ``retried_io_errors``, ``raise_original_map_exception``.
    * Progress: ``enable_progress_bars``, ``enable_operator_progress_bars``, ``enable_progress_bar_name_truncation``.

    A field that nothing here reads gives a warning when it gets another value than its first."""

    target_max_block_size: int | None = 128 * MIB
    target_min_block_size: int = MIB
    streaming_read_buffer_size: int = 32 * MIB
    enable_pandas_block: bool = True
    actor_prefetcher_enabled: bool = False
    autoscaling_config: AutoscalingConfig = field(default_factory=AutoscalingConfig)
    use_push_based_shuffle: bool = False
    _shuffle_strategy: ShuffleStrategy = ShuffleStrategy.SHUFFLE_V2
    pipeline_push_based_shuffle_reduce_tasks: bool = True
    default_hash_shuffle_parallelism: int = 200
    shuffle_compression: str = "zstd"
    hash_shuffle_reduce_batch_size: int = 16
    hash_shuffle_reduce_get_timeout_s: float = 1800.0
    shuffle_input_batch_bytes: int = 1024 * MIB
    max_hash_shuffle_aggregators: int | None = None
    min_hash_shuffle_aggregator_wait_time_in_s: int = 300
    hash_shuffle_aggregator_health_warning_interval_s: int = 30
    max_hash_shuffle_finalization_batch_size: int | None = None
    join_operator_actor_num_cpus_override: float | None = None
    hash_shuffle_operator_actor_num_cpus_override: float | None = None
    hash_aggregate_operator_actor_num_cpus_override: float | None = None
    use_disk_based_hash_shuffle: bool = False
    gpu_shuffle_num_actors: int | None = None
    gpu_shuffle_rmm_pool_size: int | str | None = None
    gpu_shuffle_spill_memory_limit: int | str | None = "auto"
    gpu_shuffle_setup_timeout_s: float = 120.0
    scheduling_strategy: Any = "SPREAD"
    scheduling_strategy_large_args: Any = "DEFAULT"
    large_args_threshold: int = 50 * MIB
    use_polars: bool = False
    use_polars_sort: bool = False
    use_legacy_dataset_ids: bool = False
    decoding_size_estimation: bool = True
    min_parallelism: int = 200
    read_op_min_num_blocks: int = 200
    use_datasource_v2: bool = True
    enable_tensor_extension_casting: bool = True
    arrow_fixed_shape_tensor_format: str = "v2"
    use_arrow_tensor_v2: bool = True
    enable_fallback_to_arrow_object_ext_type: bool | None = None
    enable_auto_log_stats: bool = False
    verbose_stats_logs: bool = False
    accurate_map_phase_timing: bool = False
    per_stage_map_timing: bool = False
    trace_allocations: bool = False
    execution_options: ExecutionOptions = field(default_factory=lambda: ExecutionOptions(preserve_order=True))
    use_ray_tqdm: bool = True
    enable_progress_bars: bool = True
    enable_operator_progress_bars: bool = True
    enable_progress_bar_name_truncation: bool = True
    enable_rich_progress_bars: bool = False
    enable_get_object_locations_for_metrics: bool = False
    write_file_retry_on_errors: tuple[str, ...] = tuple(f"AWS Error {word}" for word in PASSING_ERRORS)
    warn_on_driver_memory_usage_bytes: int = 2048 * MIB
    actor_task_retry_on_errors: bool | list[type[BaseException]] = False
    actor_init_retry_on_errors: bool = False
    actor_init_max_retries: int = 3
    max_consecutive_actor_init_deaths: int = 0
    retried_map_errors: bool | list[str] = False
    max_map_retries: int = 0
    op_resource_reservation_enabled: bool = True
    op_resource_reservation_ratio: float = 0.5
    output_backpressure_guard_release_interval_s: float | None = None
    max_errored_blocks: int = 0
    execution_no_progress_timeout_s: float = 1800
    log_internal_stack_trace: bool = False
    raise_original_map_exception: bool = False
    print_on_execution_start: bool = True
    s3_try_create_dir: bool = False
    wait_for_min_actors_s: int = -1
    max_tasks_in_flight_per_actor: int | None = None
    retried_io_errors: list[str] = field(
        default_factory=lambda: [f"AWS Error {word}" for word in (*PASSING_ERRORS, "SERVICE_UNAVAILABLE")]
    )
    enable_per_node_metrics: bool = False
    enable_stats_summary_collection: bool = False
    override_object_store_memory_limit_fraction: float | None = None
    memory_usage_poll_interval_s: float | None = 1
    dataset_logger_id: str | None = None
    isolate_read_workers: bool = False
    downstream_capacity_backpressure_ratio: float | None = 2.0
    enable_dynamic_output_queue_size_backpressure: bool = False
    enable_lineage_reconstruction_resource_accounting: bool = True
    enforce_schemas: bool = False
    pandas_block_ignore_metadata: bool = False
    enable_arrow_backed_pandas_conversion: bool = True
    batch_to_block_arrow_format: bool = True
    default_map_logical_memory_enabled: bool = False
    object_store_reservation_overshoot_ratio: float | None = None
    object_store_memory_pressure_fraction: float | None = None
    checkpoint_config: Any = None

    def __post_init__(self) -> None:
        self._kv_configs: dict[str, Any] = {}
        #: How often datasets with this copy have run: what is reseeded after an execution depends on it.
        self._execution_idx = 0
        #: The CPUs that a task takes where the user says nothing: none where ranks hold them all while they wait.
        self._task_cpus = 1.0

    def __setattr__(self, name: str, value: Any) -> None:
        if name in WITHOUT_EFFECT and value != getattr(type(self), name):
            warnings.warn(f"DataContext.{name} has no effect in hpc.data", UserWarning, stacklevel=2)
        object.__setattr__(self, name, value)

    @property
    def shuffle_strategy(self) -> ShuffleStrategy:
        """The strategy that was set. All of them mean the one exchange that is here."""
        return self._shuffle_strategy

    @shuffle_strategy.setter
    def shuffle_strategy(self, value: ShuffleStrategy | str) -> None:
        self._shuffle_strategy = ShuffleStrategy(value)

    @staticmethod
    def get_current() -> DataContext:
        """The settings of this process: those of the task that runs in a worker, or what the program has set."""
        with _lock:
            if not _current:
                _current.append(DataContext())
            return _current[0]

    @staticmethod
    @contextlib.contextmanager
    def current(context: DataContext) -> Iterator[DataContext]:
        """Take other settings inside of a ``with``."""
        before = DataContext.get_current()
        DataContext._set_current(context)
        try:
            yield context
        finally:
            DataContext._set_current(before)

    @staticmethod
    def _set_current(context: DataContext) -> None:
        with _lock:
            _current[:] = [context]

    def copy(self) -> DataContext:
        """A copy that shares nothing with this one."""
        return copy.deepcopy(self)

    def get_config(self, key: str, default: Any = None) -> Any:
        """A setting of the user's own."""
        return self._kv_configs.get(key, default)

    def set_config(self, key: str, value: Any) -> None:
        """Keep a setting of the user's own; functions read it in their worker by `get_config`."""
        self._kv_configs[key] = value

    def remove_config(self, key: str) -> None:
        """Forget a setting of the user's own."""
        self._kv_configs.pop(key, None)


_lock = threading.Lock()
_current: list[DataContext] = []

DatasetContext = DataContext
