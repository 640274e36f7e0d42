"""The datasets of a trainer, and each rank's part of them.

A dataset is what has rows: a list, a torch dataset, or any object that every rank can iterate over from its beginning.
Rank r of n gets the rows r, r + n, r + 2n, ... So each row goes to one rank, and none is dropped to make parts equal.
Datasets of `hpc.data` are another matter: they run once for all ranks.
"""

from __future__ import annotations

import importlib
import itertools
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

BATCH_SIZE = 256
FORMATS = ("default", "numpy", "pandas", "pyarrow")


class DataConfig:
    """datasets_to_split: the names of the datasets of which each rank gets a part, or "all"; of the others each rank
    gets all rows.

    The others are for datasets of `hpc.data`:

    * execution_options: limits of their runs, for all of them or in a dict by name.
    * deterministic: the rows of all ranks together come in an order that does not depend on the number of ranks. The
      `state_dict` of a shard says where they are. Otherwise blocks go to the rank that asks next.
    * shuffle_seed: that order is random, and another one in each epoch. None: the order of the files.
    * shuffle_window: pieces of files come in random order, and rows among as many neighbours.
    * equal: "drop" and True leave out fewer rows than there are ranks, so that all get as many. "pad" gives as few
      rows twice, so that none is left out. With False each row comes once, and ranks may have one batch more.
      For all datasets, or in a dict by name.
    * enable_shard_locality: a rank gets blocks of its own node first, where the order is not deterministic.

    A class of your own can have a `configure` that divides datasets in another way.
    """

    def __init__(
        self,
        datasets_to_split: str | list[str] = "all",
        execution_options: Any = None,
        enable_shard_locality: bool = True,
        *,
        deterministic: bool = True,
        shuffle_seed: int | None = None,
        shuffle_window: int = 8192,
        equal: Any = "drop",
    ) -> None:
        if datasets_to_split != "all" and not isinstance(datasets_to_split, list):
            raise TypeError(f'datasets_to_split must be "all" or a list of names, not {datasets_to_split!r}')
        if not isinstance(shuffle_window, int) or shuffle_window < 1:
            raise ValueError(f"shuffle_window must be a number of rows above 0, not {shuffle_window!r}")
        for one in execution_options.values() if isinstance(execution_options, dict) else [execution_options]:
            if one is not None and not hasattr(one, "resource_limits"):
                raise TypeError(f"execution_options must be hpc.data.ExecutionOptions, or a dict of them, not {one!r}")
        for one in equal.values() if isinstance(equal, dict) else [equal]:
            if not isinstance(one, bool) and one not in ("drop", "pad"):
                raise ValueError(f"equal must be True, False, 'drop' or 'pad', or a dict of them by name, not {one!r}")
        self.equal = equal
        self.execution_options = execution_options
        self.deterministic = deterministic
        self.shuffle_seed = shuffle_seed
        self.shuffle_window = shuffle_window
        self.datasets_to_split = datasets_to_split
        self.enable_shard_locality = enable_shard_locality

    def split(self, names: list[str]) -> frozenset[str]:
        """The datasets that are split. Raises ValueError for a name that there is not."""
        if self.datasets_to_split == "all":
            return frozenset(names)
        missing = [name for name in self.datasets_to_split if name not in names]
        if missing:
            raise ValueError(f"datasets_to_split has {missing}, and the datasets are {names}")
        return frozenset(self.datasets_to_split)

    def configure(
        self,
        datasets: dict[str, Any],
        world_size: int,
        worker_handles: list[Any] | None,
        worker_node_ids: list[str] | None,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """For each rank its datasets by name. One that a class of your own has is called by the driver whenever ranks
        have started, with the datasets themselves. It may return anything that has rows; it is sent to the rank."""
        split = self.split(list(datasets))
        streamed = {
            name: self._streamed(name, data, world_size, name in split, worker_node_ids)
            for name, data in datasets.items()
            if is_streamed(data)
        }
        return [
            {
                name: streamed[name][rank]
                if name in streamed
                else DatasetShard(data, rank if name in split else 0, world_size if name in split else 1)
                for name, data in datasets.items()
            }
            for rank in range(world_size)
        ]

    def _streamed(self, name: str, data: Any, ranks: int, split: bool, nodes: list[str] | None) -> list[Any]:
        """The iterators of a dataset of `hpc.data`."""
        from hpc.data.train import shards

        options = self.execution_options
        return list(
            shards(
                data,
                ranks,
                split=split,
                deterministic=self.deterministic,
                seed=self.shuffle_seed,
                window=self.shuffle_window,
                equal=self.equal.get(name, "drop") if isinstance(self.equal, dict) else self.equal,
                nodes=nodes if self.enable_shard_locality else None,
                options=options.get(name) if isinstance(options, dict) else options,
            )
        )


def is_streamed(data: Any) -> bool:
    """Whether it is a dataset of `hpc.data`. Nothing is imported for that."""
    home = sys.modules.get("hpc.data.dataset")
    return home is not None and isinstance(data, home.Dataset)


def check_dataset(name: str, data: Any) -> None:
    """Raises TypeError for what is no dataset."""
    if is_streamed(data):
        return
    where = f"datasets[{name!r}]"
    if isinstance(data, (str, bytes, Mapping)):
        raise TypeError(f"{where} is a {type(data).__name__}: a dataset has rows, as a list has")
    if hasattr(data, "__next__"):
        raise TypeError(
            f"{where} is an iterator, which can be read once only: give a list, or an object whose __iter__ begins anew"
        )
    if not hasattr(data, "__iter__") and not _is_sized(data):
        raise TypeError(
            f"{where} is a {type(data).__name__}, which has no rows: it can neither be iterated nor indexed"
        )


class DatasetShard:
    """The rows of a dataset that are this rank's.

    It can be iterated any number of times. Where the dataset has a length, it has one too, and rows by index: a torch
    DataLoader takes it.

    `state_dict` and `load_state_dict` let an iteration go on where a checkpoint says, also with other ranks. It tells
    how many rows all ranks have taken, where each has taken as many as this one.
    """

    def __init__(self, data: Any, rank: int, world: int, device: Callable[[], Any] | None = None) -> None:
        self._data = data
        self._device = device
        self._rank = rank
        self._world = world
        #: How often an iteration has come to the end of this rank's rows.
        self.epoch = 0
        self._from = self._done = 0  # rows of all ranks: where the next iteration begins, and those that are taken
        self._drawn = False  # at random: they are not the first ones

    def on(self, device: Callable[[], Any]) -> DatasetShard:
        """The same, whose tensors go to this device."""
        self._device = device
        return self

    def __len__(self) -> int:
        if not hasattr(self._data, "__len__"):
            raise TypeError("this dataset has no length")
        return len(range(self._rank, len(self._data), self._world))

    def __getitem__(self, index: int) -> Any:
        if not _is_sized(self._data):
            raise TypeError("this dataset has no rows by index: iterate over it")
        return self._data[range(self._rank, len(self._data), self._world)[index]]

    def __iter__(self) -> Iterator[Any]:
        return self.iter_rows()

    def iter_rows(self) -> Iterator[Any]:
        """The rows, as they are in the dataset."""
        return self._rows(drawn=False)

    def _rows(self, drawn: bool) -> Iterator[Any]:
        begin, self._from = self._from, 0
        self._done, self._drawn = begin, drawn
        first = begin + self._rank
        if _is_sized(self._data):
            rows: Iterator[Any] = (self._data[index] for index in range(first, len(self._data), self._world))
        else:
            rows = itertools.islice(iter(self._data), first, None, self._world)
        for row in rows:
            self._done += self._world
            yield row
        self.epoch, self._done, self._drawn = self.epoch + 1, 0, False

    def epochs(self, count: int) -> Iterator[int]:
        """The epochs from the present one to ``count`` - 1, each of which goes through the rows once.

        Raises RuntimeError where one has ended before its rows have."""
        while (now := self.epoch) < count:
            yield now
            if self.epoch == now:
                raise RuntimeError(f"epoch {now} ended before its rows did: go through all rows in each epoch")

    def state_dict(self) -> dict[str, int]:
        """Where the iteration is, for a checkpoint: ``epoch``, and ``rows`` of it that all ranks have taken.

        Raises ValueError in the middle of an iteration with local_shuffle_buffer_size: its rows are not the first ones.
        """
        if self._drawn and self._done:
            raise ValueError(
                "with local_shuffle_buffer_size an epoch cannot go on in its middle: shuffle the dataset, or use an "
                "ElasticSampler"
            )
        return {"epoch": self.epoch, "rows": self._done or self._from}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """The next iteration begins there. The number of ranks may be another one than it was."""
        self.epoch, self._from, self._done = int(state["epoch"]), int(state["rows"]), 0

    def iter_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int | None = BATCH_SIZE,
        batch_format: str | None = "default",
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
    ) -> Iterator[Any]:
        """Batches of this many rows, the last one of what is left; None: all rows in one.

        batch_format "default" and "numpy": of rows that are dicts, a dict of arrays; of tuples, a tuple of arrays; of
        others, an array. "pandas": a DataFrame; "pyarrow": a Table; both of dicts only. With
        local_shuffle_buffer_size each row is drawn at random from so many that come next. prefetch_batches makes no
        difference: rows are at hand.
        """
        del prefetch_batches
        if batch_format is not None and batch_format not in FORMATS:
            raise ValueError(f"batch_format must be one of {', '.join(FORMATS)} or None, not {batch_format!r}")
        if batch_size is not None and (isinstance(batch_size, bool) or batch_size < 1):
            raise ValueError(f"batch_size must be at least 1 or None, not {batch_size!r}")
        rows = self._rows(drawn=local_shuffle_buffer_size is not None)
        if local_shuffle_buffer_size is not None:
            rows = _shuffled(rows, local_shuffle_buffer_size, random.Random(local_shuffle_seed))
        return _batches(rows, batch_size, drop_last, lambda found: _format(found, batch_format))

    def iter_torch_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int | None = BATCH_SIZE,
        dtypes: Any = None,
        device: Any = "auto",
        collate_fn: Callable[[Any], Any] | None = None,
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
    ) -> Iterator[Any]:
        """Batches as `iter_batches` has them, of tensors on a device: this rank's for "auto".

        dtypes: of all tensors, or by name where rows are dicts. collate_fn: makes the batch, of the batch of arrays.
        """
        if collate_fn is not None and dtypes is not None:
            raise ValueError("dtypes are not used with a collate_fn: it makes the tensors")
        if isinstance(device, str) and device == "auto":
            device = self._device() if self._device is not None else "cpu"
        batches = self.iter_batches(
            prefetch_batches=prefetch_batches,
            batch_size=batch_size,
            drop_last=drop_last,
            local_shuffle_buffer_size=local_shuffle_buffer_size,
            local_shuffle_seed=local_shuffle_seed,
        )
        return (collate_fn(one) if collate_fn is not None else _tensors(one, dtypes, device) for one in batches)


def _is_sized(data: Any) -> bool:
    return hasattr(data, "__len__") and hasattr(data, "__getitem__")


def _batches(rows: Iterator[Any], size: int | None, drop_last: bool, make: Callable[[list[Any]], Any]) -> Iterator[Any]:
    while found := list(itertools.islice(rows, size)):
        if size is None or len(found) == size or not drop_last:
            yield make(found)


def _shuffled(rows: Iterator[Any], size: int, chance: random.Random) -> Iterator[Any]:
    if size < 1:
        raise ValueError(f"local_shuffle_buffer_size must be at least 1, not {size!r}")
    waiting = list(itertools.islice(rows, size))
    for row in rows:
        index = chance.randrange(len(waiting))
        waiting[index], row = row, waiting[index]
        yield row
    chance.shuffle(waiting)
    yield from waiting


def _format(rows: list[Any], batch_format: str | None) -> Any:
    if batch_format is None:
        return rows
    if batch_format in ("pandas", "pyarrow") and not all(isinstance(row, dict) for row in rows):
        raise TypeError(f'batch_format="{batch_format}" needs rows that are dicts, not {type(rows[0]).__name__}')
    if batch_format == "pandas":
        return importlib.import_module("pandas").DataFrame(rows)
    if batch_format == "pyarrow":
        import pyarrow

        return pyarrow.Table.from_pylist(rows)
    return _columns(rows)


def _columns(rows: list[Any]) -> Any:
    first = rows[0]
    if isinstance(first, dict):
        return {key: _columns([row[key] for row in rows]) for key in first}
    if isinstance(first, tuple):
        return tuple(_columns([row[index] for row in rows]) for index in range(len(first)))
    return _array(rows)


def _array(values: list[Any]) -> Any:
    """The values in an array, along a new first axis; of shapes that differ, and of bytes, one of objects."""
    import numpy as np

    arrays = [np.asarray(value) for value in values]
    if all(one.shape == arrays[0].shape and one.dtype.kind not in "SO" for one in arrays):
        return np.stack(arrays)
    found = np.empty(len(values), dtype=object)
    found[:] = [value if one.ndim == 0 else one for value, one in zip(values, arrays)]
    return found


def _tensors(batch: Any, dtypes: Any, device: Any) -> Any:
    import torch

    if isinstance(batch, dict):
        by_name = dtypes if isinstance(dtypes, dict) else dict.fromkeys(batch, dtypes)
        return {key: _tensors(one, by_name.get(key), device) for key, one in batch.items()}
    if isinstance(batch, tuple):
        return tuple(_tensors(one, dtypes, device) for one in batch)
    if batch.dtype.kind in "OUSV":
        raise TypeError(f"values of type {batch.dtype} make no tensor: give a collate_fn")
    return torch.as_tensor(batch, dtype=dtypes, device=device)
