"""`Dataset`: a plan of what its rows are, and the methods that add to the plan or run it.

The methods are functions in `hpc.data.methods`, one file for each kind; this class brings them together.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import pyarrow as pa

from hpc.data import facts, running, shown
from hpc.data.context import DataContext
from hpc.data.methods import (
    aggregates,
    columns,
    combine,
    consume,
    convert,
    look,
    order,
    rows,
    shuffles,
    splitting,
    staging,
    writes,
)
from hpc.data.plan import nodes
from hpc.data.plan.nodes import BlockHandle, Node
from hpc.data.planned import Planned

if TYPE_CHECKING:
    from hpc.data.compute import ComputeStrategy
    from hpc.data.io.source import Source


class Dataset(Planned):
    """Rows that come from files, other sources or objects, and what is to be done with them.

    Nothing runs before rows are asked for, and each time that they are asked for it runs anew: `materialize` keeps what
    comes out. Methods return new datasets. A dataset is sent to tasks and actors as its plan, with references to the
    blocks that it has.
    """

    # -------------------------------------------------------------- what the methods are made of

    def derived(self, plan: Node) -> Dataset:
        """A dataset with another plan and these settings."""
        return Dataset(plan, self._context)

    def kept(self, handles: Iterable[BlockHandle]) -> MaterializedDataset:
        """The materialized dataset of blocks, with these settings."""
        return MaterializedDataset(nodes.Blocks(tuple(handles)), self._context)

    # -------------------------------------------------------------- name, settings, text

    @property
    def name(self) -> str | None:
        """The name that progress and statistics show."""
        return self._name

    def set_name(self, name: str | None) -> None:
        """Give it a name, for progress and statistics."""
        self._name = name

    @staticmethod
    def copy(ds: Dataset, _deep_copy: bool = False, _as: type | None = None) -> Dataset:
        """Another dataset with the same plan and name."""
        made: Dataset = object.__new__(_as or type(ds))
        made.__dict__.update(ds.__dict__)
        if _deep_copy:
            made._context = ds._context.copy()
        return made

    def __repr__(self) -> str:
        schema = facts.schema_of(self.plan)
        if schema is None:
            return shown.of_plan(self.plan, self._name)
        text = shown.of_rows(schema, facts.rows_of(self.plan), None, None)
        return text if self._name is None else f"name: {self._name}\n{text}"

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> NoReturn:
        raise AttributeError(
            "Use `ds.count()` to compute the length of a distributed Dataset. This may be an expensive operation."
        )

    def __iter__(self) -> NoReturn:
        raise TypeError(
            "`Dataset` objects aren't iterable. To iterate records, call `ds.iter_rows()` or `ds.iter_batches()`."
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stats": None, "_times": None, "_run": None}

    # -------------------------------------------------------------- on its way to elsewhere

    def has_serializable_lineage(self) -> bool:
        """Whether another session could make it anew: whether it has no block of this session."""
        return not any(isinstance(node, nodes.Blocks) for node in nodes.walk(self.plan))

    def serialize_lineage(self) -> bytes:
        """What it is made of, for another session. Raises ValueError for one that has blocks of this session."""
        if not self.has_serializable_lineage():
            raise ValueError(
                "this dataset has blocks in the object store of this session, which no other session can read: "
                "make it from files, or write it to files"
            )
        from hpc import cloudpickle

        data: bytes = cloudpickle.dumps(self)
        return data

    @staticmethod
    def deserialize_lineage(serialized_ds: bytes) -> Dataset:
        """The dataset that another session has serialized."""
        found = pickle.loads(serialized_ds)
        if not isinstance(found, Dataset):
            raise TypeError(f"these bytes are no dataset but a {type(found).__name__}")
        return found

    # -------------------------------------------------------------- the methods

    map = rows.map
    flat_map = rows.flat_map
    filter = rows.filter
    map_batches = rows.map_batches

    with_column = columns.with_column
    with_columns = columns.with_columns
    add_column = columns.add_column
    drop_columns = columns.drop_columns
    select_columns = columns.select_columns
    rename_columns = columns.rename_columns

    randomize_block_order = order.randomize_block_order
    random_sample = order.random_sample
    limit = order.limit

    sort = shuffles.sort
    random_shuffle = shuffles.random_shuffle
    repartition = shuffles.repartition
    join = shuffles.join

    groupby = aggregates.groupby
    aggregate = aggregates.aggregate
    sum = aggregates.sum
    min = aggregates.min
    max = aggregates.max
    mean = aggregates.mean
    std = aggregates.std
    unique = aggregates.unique
    summary = aggregates.summary

    union = combine.union
    zip = combine.zip
    mix = combine.mix

    split = splitting.split
    split_at_indices = splitting.split_at_indices
    split_proportionately = splitting.split_proportionately
    train_test_split = splitting.train_test_split
    streaming_train_test_split = splitting.streaming_train_test_split
    streaming_split = splitting.streaming_split

    take = look.take
    take_all = look.take_all
    take_batch = look.take_batch
    show = look.show
    count = look.count
    schema = look.schema
    num_blocks = look.num_blocks
    size_bytes = look.size_bytes
    input_files = look.input_files
    stats = look.stats
    explain = look.explain
    get_stats_summary = look.get_stats_summary
    get_dataset_id = look.get_dataset_id

    iterator = consume.iterator
    iter_rows = consume.iter_rows
    iter_batches = consume.iter_batches
    iter_torch_batches = consume.iter_torch_batches
    iter_jax_batches = consume.iter_jax_batches
    iter_tf_batches = consume.iter_tf_batches
    to_tf = consume.to_tf
    materialize = consume.materialize
    iter_internal_ref_bundles = consume.iter_internal_ref_bundles
    get_internal_block_refs = consume.get_internal_block_refs

    to_pandas = convert.to_pandas
    to_pandas_refs = convert.to_pandas_refs
    to_numpy_refs = convert.to_numpy_refs
    to_arrow_refs = convert.to_arrow_refs
    to_dask = convert.to_dask
    to_daft = convert.to_daft
    to_modin = convert.to_modin
    to_spark = convert.to_spark

    write_parquet = writes.write_parquet
    write_csv = writes.write_csv
    write_json = writes.write_json
    write_orc = writes.write_orc
    write_numpy = writes.write_numpy
    write_images = writes.write_images
    write_tfrecords = writes.write_tfrecords
    write_webdataset = writes.write_webdataset
    write_sql = writes.write_sql
    write_lance = writes.write_lance
    write_delta = writes.write_delta
    write_iceberg = writes.write_iceberg
    write_datasink = writes.write_datasink
    write_to = writes.write_to
    columns = look.columns  # the last: above, the name is a module's


class MaterializedDataset(Dataset):
    """A dataset whose blocks are in the object store, as long as it is there."""

    plan: nodes.Blocks

    def __repr__(self) -> str:
        schema, count = facts.schema_of(self.plan), facts.rows_of(self.plan) or 0
        if schema is None or not count:
            return shown.of_nothing(self.plan)
        whole = count <= shown.ROWS
        first = self._ends(shown.ROWS if whole else shown.HALF)
        text = shown.of_rows(schema, count, first, None if whole else self._ends(-shown.HALF))
        return text if self._name is None else f"name: {self._name}\n{text}"

    def _ends(self, number: int) -> pa.Table:
        """The first rows, or the last where the number is below 0."""
        found: list[pa.Table] = []
        wanted = abs(number)
        for handle in self.plan.blocks if number > 0 else reversed(self.plan.blocks):
            if wanted and handle.meta.rows:
                table = running.get(handle)
                table = table.slice(0, wanted) if number > 0 else table.slice(max(0, table.num_rows - wanted))
                wanted -= table.num_rows
                found.append(table)
        return staging.together(found if number > 0 else found[::-1])


def from_source(
    source: Source,
    *,
    parallelism: int = -1,
    context: DataContext | None = None,
    compute: ComputeStrategy | None = None,
    concurrency: int | None = None,
    ray_remote_args: Mapping[str, Any] | None = None,
    **how: Any,
) -> Dataset:
    """The dataset of a source. ``parallelism``: into so many blocks at least (-1: by its size). ``how`` has options of
    its tasks, as the parameters of `Dataset.map` name them."""
    most = concurrency if concurrency is not None else getattr(compute, "size", None)
    options = staging.options(most, remote=ray_remote_args, **how)
    return Dataset(nodes.Read(source, options, parallelism), context)


def from_blocks(
    blocks: Iterable[Any], *, label: str = "Blocks", context: DataContext | None = None
) -> MaterializedDataset:
    """The dataset of tables, or of references to tables: a block for each."""
    handles = [running.put(one) if isinstance(one, pa.Table) else running.described(one) for one in blocks]
    return from_handles(handles, label=label, context=context)


def from_handles(
    handles: Iterable[BlockHandle], *, label: str = "Blocks", context: DataContext | None = None
) -> MaterializedDataset:
    """The dataset of blocks of which everything is known."""
    return MaterializedDataset(nodes.Blocks(tuple(handles), label), context)
