"""`DataIterator`: rows and batches of a dataset, or of a part of one, as often as they are asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import pyarrow as pa

from hpc.data import prefetch
from hpc.data.block import batch
from hpc.data.block.schema import Schema
from hpc.data.collate_fn import format_of
from hpc.data.consume import batches as assembling
from hpc.data.consume.shuffle import LocalShuffle
from hpc.data.consume.times import COLLATE, CREATE, GET, Times
from hpc.data.context import DataContext
from hpc.data.methods import look
from hpc.data.packages import needs
from hpc.data.planned import Flow, Planned


class Again:
    """What may be iterated more than once: each time anew."""

    def __init__(self, begin: Callable[[], Iterator[Any]]) -> None:
        self._begin = begin

    def __iter__(self) -> Iterator[Any]:
        return self._begin()


class DataIterator:
    """Rows and batches of a dataset: each loop is another pass over the rows."""

    def _flow(self) -> Flow:
        """A new pass over the rows."""
        raise NotImplementedError

    def schema(self) -> Schema | None:
        """The columns."""
        raise NotImplementedError

    def stats(self) -> str:
        """Where the time of the last pass went."""
        raise NotImplementedError

    def get_context(self) -> DataContext:
        """The settings of the dataset."""
        raise NotImplementedError

    def materialize(self) -> Any:
        """All rows of a pass, as a dataset that is in the object store. It runs."""
        raise NotImplementedError

    #: Says the device that "auto" means, in the training function of a rank.
    device_of: Callable[[], Any] | None = None

    def _device(self) -> Any:
        """The device that "auto" means."""
        return "cpu" if self.device_of is None else self.device_of()

    def _batches(
        self,
        batch_format: str | None,
        finish: Callable[[Any], Any] | None,
        *,
        prefetch_batches: int,
        batch_size: int | None,
        drop_last: bool,
        local_shuffle_buffer_size: int | None,
        local_shuffle_seed: int | None,
    ) -> Iterable[Any]:
        """Batches of so many rows, each of which becomes what ``finish`` makes of it."""
        window = None
        if local_shuffle_buffer_size is not None:
            if not isinstance(local_shuffle_buffer_size, int) or local_shuffle_buffer_size < 1:
                raise ValueError(f"local_shuffle_buffer_size must be positive, not {local_shuffle_buffer_size!r}")
            window = LocalShuffle(local_shuffle_buffer_size, local_shuffle_seed)
        assembling.check(batch_size, batch_format, window)
        if not isinstance(prefetch_batches, int) or prefetch_batches < 0:
            raise ValueError(f"prefetch_batches must be a number that is not below 0, not {prefetch_batches!r}")

        def begin() -> Iterator[Any]:
            flow = self._flow()
            times = Times()
            flow.count(times)

            def pieces() -> Generator[Any, None, None]:
                with contextlib.closing(flow):
                    tables = times.within(GET, flow.tables)
                    found = assembling.assemble(tables, batch_size, batch_format, drop_last, window, times)
                    made = times.within(CREATE, found)
                    yield from made if finish is None else map(times.call(COLLATE, finish), made)

            return times.loop(passed(flow, pieces, prefetch_batches))

        return Again(begin)

    def iter_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int | None = 256,
        batch_format: str | None = "default",
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
    ) -> Iterable[Any]:
        """Batches of ``batch_size`` rows, the last of which may be shorter; None: of whole blocks.

        * ``prefetch_batches``: so many are made ahead, by a thread; 0: none.
        * ``batch_format``: "default" and "numpy" (a dict of arrays), "pandas", "pyarrow", "polars", None (a table).
        * ``local_shuffle_buffer_size``: rows are shuffled, at least so many at a time, by ``local_shuffle_seed``.

        Raises ValueError for another format, and for sizes below 0."""
        return self._batches(
            batch_format,
            None,
            prefetch_batches=prefetch_batches,
            batch_size=batch_size,
            drop_last=drop_last,
            local_shuffle_buffer_size=local_shuffle_buffer_size,
            local_shuffle_seed=local_shuffle_seed,
        )

    def iter_rows(self) -> Iterable[dict[str, Any]]:
        """The rows, as dicts."""

        def begin() -> Iterator[dict[str, Any]]:
            flow = self._flow()

            def tables() -> Generator[pa.Table, None, None]:
                with contextlib.closing(flow):
                    yield from flow.tables

            for table in passed(flow, tables, 1):
                yield from batch.rows(table)

        return Again(begin)

    def iter_torch_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int | None = 256,
        dtypes: Any = None,
        device: Any = "auto",
        collate_fn: Callable[[Any], Any] | None = None,
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
        pin_memory: bool = False,
    ) -> Iterable[Any]:
        """Batches as dicts of tensors on ``device`` ("auto": that of the rank in training, else the CPU).

        * ``dtypes``: the dtype of all columns, or a dict of them by name.
        * ``collate_fn``: makes a batch of a dict of arrays, or of what its class says (`hpc.data.collate_fn`).
        * ``pin_memory``: tensors lie in pinned memory, from which a GPU takes them faster.

        Raises ValueError where both ``collate_fn`` and ``dtypes`` are given."""
        from hpc.data.consume import torch as collating

        if collate_fn is not None and (dtypes is not None or pin_memory):
            raise ValueError("collate_fn cannot be used with dtypes or pin_memory: it makes the tensors")
        where = self._device() if isinstance(device, str) and device == "auto" else device
        moved = where is not None and str(where) != "cpu"

        def finish(made: Any) -> Any:
            made = collate_fn(made) if collate_fn else collating.collate(made, dtypes, pin_memory)
            return collating.to_device(made, where, pin_memory) if moved else made

        return self._batches(
            format_of(collate_fn),
            finish,
            prefetch_batches=prefetch_batches,
            batch_size=batch_size,
            drop_last=drop_last,
            local_shuffle_buffer_size=local_shuffle_buffer_size,
            local_shuffle_seed=local_shuffle_seed,
        )

    def iter_tf_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int | None = 256,
        dtypes: Any = None,
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
    ) -> Iterable[Any]:
        """Batches as dicts of tensors of TensorFlow. Raises ImportError where it is missing."""
        needs("tensorflow", "iter_tf_batches", "TensorFlow", "tensorflow")
        from hpc.data.consume import tf as collating

        return self._batches(
            "numpy",
            lambda made: collating.collate(made, dtypes),
            prefetch_batches=prefetch_batches,
            batch_size=batch_size,
            drop_last=drop_last,
            local_shuffle_buffer_size=local_shuffle_buffer_size,
            local_shuffle_seed=local_shuffle_seed,
        )

    def iter_jax_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int = 256,
        dtypes: Any = None,
        collate_fn: Callable[[Any], Any] | None = None,
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
        synchronize_batches: bool = False,
        paddings: Any = None,
    ) -> Iterable[Any]:
        """Batches of arrays of JAX, whose rows are shared out over the devices of all processes of the program.

        * ``batch_size``: rows of each process, a multiple of its devices.
        * ``dtypes``: the dtype of all columns, or a dict of them by name.
        * ``collate_fn``: makes an array of numpy, or a dict of arrays, of each batch (`hpc.data.collate_fn`).
        * ``paddings``: the last batch is filled up with this value, or with the value of each column by name.
        * ``synchronize_batches``: the processes tell each other their rows before each batch, and end together.

        Raises ImportError where JAX is missing, ValueError for batches that the devices cannot share equally."""
        jax = needs("jax", "iter_jax_batches", "JAX", "'hpc[jax]'")
        from hpc.data.consume import jax as collating

        collating.check(batch_size, jax.local_device_count())

        def finish(made: Any) -> Any:
            return collating.numeric(made if collate_fn is None else collating.checked(collate_fn(made)))

        batches = self._batches(
            format_of(collate_fn),
            finish,
            prefetch_batches=prefetch_batches,
            batch_size=batch_size,
            drop_last=drop_last,
            local_shuffle_buffer_size=local_shuffle_buffer_size,
            local_shuffle_seed=local_shuffle_seed,
        )

        def begin() -> Iterator[Any]:
            # Processes speak in the thread of the loop: what they say must not mix with what the training step says.
            found: Any = iter(batches)
            return collating.shared_out(found, batch_size, dtypes, paddings, drop_last, synchronize_batches)

        return Again(begin)

    def to_tf(
        self,
        feature_columns: str | list[str],
        label_columns: str | list[str],
        *,
        additional_columns: str | list[str] | None = None,
        prefetch_batches: int = 1,
        batch_size: int = 1,
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
        feature_type_spec: Any = None,
        label_type_spec: Any = None,
        additional_type_spec: Any = None,
    ) -> Any:
        """A ``tf.data.Dataset`` of pairs (features, labels), with a third part for ``additional_columns``.

        A part of one column is a tensor, one of a list of columns a dict of tensors. Types are those of the columns,
        or a ``tf.TypeSpec`` of yours (a dict of them for a list). Each loop over it is another pass.

        Raises ImportError where TensorFlow is missing, ValueError for a name that is no column."""
        needs("tensorflow", "to_tf", "TensorFlow", "tensorflow")
        from hpc.data.consume import tf as collating

        given = [(feature_columns, feature_type_spec), (label_columns, label_type_spec)]
        if additional_columns is not None:
            given.append((additional_columns, additional_type_spec))
        schema = self.schema() if any(spec is None for _, spec in given) else None
        known = pa.schema([]) if schema is None else schema.base_schema
        batches = self.iter_batches(
            prefetch_batches=prefetch_batches,
            batch_size=batch_size,
            batch_format="numpy",
            drop_last=drop_last,
            local_shuffle_buffer_size=local_shuffle_buffer_size,
            local_shuffle_seed=local_shuffle_seed,
        )
        return collating.dataset(
            batches,
            [(names, collating.specs_of(known, names) if spec is None else spec) for names, spec in given],
        )

    def to_torch(
        self,
        *,
        label_column: str | None = None,
        feature_columns: Any = None,
        label_column_dtype: Any = None,
        feature_column_dtypes: Any = None,
        batch_size: int = 1,
        prefetch_batches: int = 1,
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
        unsqueeze_label_tensor: bool = True,
        unsqueeze_feature_tensors: bool = True,
    ) -> Any:
        """A torch IterableDataset of pairs (features, label), for old programs: `iter_torch_batches` is simpler."""
        from hpc.data.consume import torch as collating
        from hpc.data.consume.iterable import IterableBatches

        return IterableBatches(
            self._batches(
                "numpy",
                lambda made: collating.features_and_label(
                    made,
                    label_column,
                    feature_columns,
                    label_column_dtype,
                    feature_column_dtypes,
                    unsqueeze_label_tensor,
                    unsqueeze_feature_tensors,
                ),
                prefetch_batches=prefetch_batches,
                batch_size=batch_size,
                drop_last=drop_last,
                local_shuffle_buffer_size=local_shuffle_buffer_size,
                local_shuffle_seed=local_shuffle_seed,
            )
        )


def passed(flow: Flow, pieces: Callable[[], Generator[Any, None, None]], number: int) -> Iterator[Any]:
    """What a pass gives, made ahead by a thread where that is wanted. The pass ends with the loop over it."""
    if number == 0:
        with contextlib.closing(pieces()) as found:
            yield from found
        return
    ahead = prefetch.Ahead(pieces, number, bytes_of, flow.stop)
    try:
        yield from ahead
    finally:
        ahead.close()


def bytes_of(made: Any) -> int:
    """About how many bytes a batch has."""
    if isinstance(made, tuple):
        return sum(map(bytes_of, made))
    if isinstance(made, dict):
        return sum(getattr(one, "nbytes", 64) for one in made.values())
    size = getattr(made, "nbytes", None)
    if isinstance(size, int):
        return size
    return 0 if isinstance(made, int) else prefetch.LEAST_BYTES


class WholeIterator(DataIterator):
    """The iterator of a whole dataset: each pass runs it."""

    def __init__(self, dataset: Planned) -> None:
        self._dataset = dataset

    def __repr__(self) -> str:
        return f"DataIterator({self._dataset!r})"

    def _flow(self) -> Flow:
        return self._dataset.flow()

    def schema(self) -> Schema | None:
        return look.schema(self._dataset)

    def stats(self) -> str:
        return look.stats(self._dataset)

    def get_context(self) -> DataContext:
        return self._dataset.context

    def materialize(self) -> Any:
        return self._dataset.kept(self._dataset.handles())


DatasetIterator = DataIterator
