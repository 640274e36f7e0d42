"""Settings of data that were written before: reading them, and writing them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc.rllib.algorithms.config.given import NotProvided, section
from hpc.rllib.core.columns import Columns

if TYPE_CHECKING:
    from typing_extensions import Self


class OfflineSection:
    """offline_data."""

    if TYPE_CHECKING:

        def _take(self, given: dict[str, Any]) -> Self: ...

    def _offline_defaults(self) -> None:
        self._input_defaults()
        self._output_defaults()
        self._is_online = True

    def _input_defaults(self) -> None:
        self.input_: Any = "sampler"
        self.offline_data_class: Any = None
        self.input_read_method: Any = "read_parquet"
        self.input_read_method_kwargs: dict[str, Any] = {}
        self.input_read_schema: dict[str, str] = {}
        self.input_read_episodes = False
        self.input_read_batch_size: int | None = None
        self.input_filesystem: Any = None
        self.input_filesystem_kwargs: dict[str, Any] = {}
        self.input_compress_columns: list[str] = [Columns.OBS, Columns.NEXT_OBS]
        self.input_spaces_jsonable = True
        self.materialize_data = False
        self.materialize_mapped_data = True
        self.map_batches_kwargs: dict[str, Any] = {}
        self.iter_batches_kwargs: dict[str, Any] = {}
        self.ignore_final_observation = False
        self.prelearner_class: Any = None
        self.prelearner_buffer_class: Any = None
        self.prelearner_buffer_kwargs: dict[str, Any] = {}
        self.prelearner_module_synch_period = 10
        self.prelearner_use_recorded_module_states = False
        self.dataset_num_iters_per_learner: int | None = None

    def _output_defaults(self) -> None:
        self.output: Any = None
        self.output_compress_columns: list[str] = [Columns.OBS, Columns.NEXT_OBS]
        self.output_max_file_size: float = 64 * 1024 * 1024
        self.output_max_rows_per_file: int | None = None
        self.output_write_remaining_data = False
        self.output_write_method = "write_parquet"
        self.output_write_method_kwargs: dict[str, Any] = {}
        self.output_filesystem: Any = None
        self.output_filesystem_kwargs: dict[str, Any] = {}
        self.output_write_episodes = True

    @section
    def offline_data(
        self,
        *,
        input_: Any = NotProvided,
        offline_data_class: Any = NotProvided,
        input_read_method: Any = NotProvided,
        input_read_method_kwargs: dict[str, Any] = NotProvided,
        input_read_schema: dict[str, str] = NotProvided,
        input_read_episodes: bool = NotProvided,
        input_read_batch_size: int | None = NotProvided,
        input_filesystem: Any = NotProvided,
        input_filesystem_kwargs: dict[str, Any] = NotProvided,
        input_compress_columns: list[str] = NotProvided,
        input_spaces_jsonable: bool = NotProvided,
        materialize_data: bool = NotProvided,
        materialize_mapped_data: bool = NotProvided,
        map_batches_kwargs: dict[str, Any] = NotProvided,
        iter_batches_kwargs: dict[str, Any] = NotProvided,
        ignore_final_observation: bool = NotProvided,
        prelearner_class: Any = NotProvided,
        prelearner_buffer_class: Any = NotProvided,
        prelearner_buffer_kwargs: dict[str, Any] = NotProvided,
        prelearner_module_synch_period: int = NotProvided,
        prelearner_use_recorded_module_states: bool = NotProvided,
        dataset_num_iters_per_learner: int | None = NotProvided,
        output: Any = NotProvided,
        output_compress_columns: list[str] = NotProvided,
        output_max_file_size: float = NotProvided,
        output_max_rows_per_file: int | None = NotProvided,
        output_write_remaining_data: bool = NotProvided,
        output_write_method: str = NotProvided,
        output_write_method_kwargs: dict[str, Any] = NotProvided,
        output_filesystem: Any = NotProvided,
        output_filesystem_kwargs: dict[str, Any] = NotProvided,
        output_write_episodes: bool = NotProvided,
    ) -> Self:
        """Set where data for training come from, and where samples are written.

        input_: a path, or a list of paths; "sampler": from environments. input_read_method: a reader of hpc.data.
        input_read_episodes: a row is an episode, as output writes them. input_read_schema: for each column of RLlib
        the column that has it. dataset_num_iters_per_learner: minibatches of one iteration; None: the whole data.
        output: a path, to which runners write their samples; output_write_episodes: as episodes.
        output_max_rows_per_file, output_max_file_size (bytes): when a new file begins.
        """
        return self._take(locals())
