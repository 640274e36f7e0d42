"""Batches as arrays of JAX, whose rows are shared out over the devices of all processes.

Where several processes are one program, each of them must come to the same batches of the same shapes. An array of one
that waits for the others never ends. `in_step` sees to it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from typing import Any

import numpy as np

from hpc.data.consume.torch import numbers

#: One value for all columns, or one for each by name.
Paddings = Any
#: One array, or a dict of them.
Arrays = Any
#: What a process that has no batch left says in place of a number of rows.
ENDED = -1


def check(batch_size: Any, devices: int) -> None:
    """Raises ValueError for a batch whose rows cannot be shared out equally over the devices of this process."""
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1 or batch_size % devices:
        raise ValueError(
            f"batch_size must be a positive multiple of the {devices} devices of this process, not {batch_size!r}"
        )


def checked(made: Any) -> Arrays:
    """What a collate_fn has made: an array of numpy, or a dict of them. Raises TypeError for anything else."""
    cells = list(made.values()) if isinstance(made, Mapping) else [made]
    for one in cells:
        if not isinstance(one, np.ndarray):
            raise TypeError(f"collate_fn must return an array of numpy or a dict of them, not {type(one).__name__}")
    return made


def numeric(batch: Arrays) -> Arrays:
    """The batch with arrays of numbers alone. Raises TypeError and RuntimeError for what no array of JAX holds."""
    return _each(batch, lambda array, name: array if _is_number(array.dtype) else numbers(array, name or ""))


def _is_number(kind: np.dtype) -> bool:
    """Whether JAX has this dtype. Its own small floats are "V" for numpy, and have a name."""
    return kind.kind in "fiubc" or (kind.kind == "V" and kind.names is None and "float" in kind.name)


def pad(batch: Arrays, rows: int, paddings: Paddings) -> Arrays:
    """The batch with rows of padding behind its own, until it has so many.

    paddings: one value for all columns, or one for each by name. Raises KeyError for a column without a value.
    """

    def filled(array: np.ndarray, name: str | None) -> np.ndarray:
        value = _of(paddings, name, "paddings")
        if len(array) >= rows:
            return array
        whole = np.full((rows, *array.shape[1:]), value, dtype=array.dtype)
        whole[: len(array)] = array
        return whole

    return _each(batch, filled)


def _of(values: Any, name: str | None, word: str) -> Any:
    """The value of a column, of one array the only one. Raises KeyError where there is none."""
    if not isinstance(values, Mapping):
        return values
    if name is None and len(values) == 1:
        return next(iter(values.values()))
    if name not in values:
        raise KeyError(f"{word} has no value for {'one array' if name is None else f'the column {name!r}'}: {values}")
    return values[name]


def _each(batch: Arrays, function: Callable[[Any, str | None], Any]) -> Any:
    """The batch with what a function makes of each array and its name."""
    if isinstance(batch, Mapping):
        return {name: function(array, name) for name, array in batch.items()}
    return function(batch, None)


def rows_of(batch: Arrays) -> int:
    """How many rows a batch has."""
    return len(next(iter(batch.values()), ())) if isinstance(batch, Mapping) else len(batch)


def placed(batch: Arrays, sharding: Any, dtypes: Any = None) -> Any:
    """Arrays of JAX with the rows of the batches of all processes, in the order of their devices.

    dtypes: the dtype of all columns, or of some by their names. Raises KeyError for a name in it that is no column.
    """
    import jax

    of_all: Any = jax.make_array_from_process_local_data
    if isinstance(dtypes, Mapping) and isinstance(batch, Mapping):
        missing = [name for name in dtypes if name not in batch]
        if missing:
            raise KeyError(f"dtypes has {missing}, and the columns are {list(batch)}")

    def place(array: np.ndarray, name: str | None) -> Any:
        wanted = dtypes
        if isinstance(dtypes, Mapping):
            wanted = dtypes.get(name) if name is not None else _of(dtypes, None, "dtypes")
        kind = jax.dtypes.canonicalize_dtype(array.dtype if wanted is None else wanted)
        # JAX may keep what it is given on a CPU, and a view ends with its block.
        own = np.array(array, dtype=kind)
        whole = (len(own) * jax.process_count(), *own.shape[1:])
        return of_all(sharding, own, whole)

    return _each(batch, place)


def over_all_devices() -> Any:
    """The sharding of the rows of a batch over the devices of all processes, near ones beside each other."""
    import jax
    from jax.experimental import mesh_utils
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    spec: Any = PartitionSpec
    return NamedSharding(Mesh(mesh_utils.create_device_mesh((jax.device_count(),)), ("rows",)), spec("rows"))


def shared_out(
    batches: Generator[Arrays, None, None],
    batch_size: int,
    dtypes: Any,
    paddings: Paddings,
    drop_last: bool,
    synchronize: bool,
) -> Generator[Any, None, None]:
    """Arrays of JAX of the batches of this process and of the others.

    Raises ValueError for a batch whose rows the devices cannot share equally, and as `in_step` does.
    """
    import jax

    sharding, devices = over_all_devices(), jax.local_device_count()
    if synchronize and jax.process_count() > 1:
        batches = in_step(batches, _gather, drop_last, paddings is not None)
    with contextlib.closing(batches):
        for batch in batches:
            if paddings is not None:
                batch = pad(batch, batch_size, paddings)
            if rows_of(batch) % devices:
                raise ValueError(
                    f"a batch has {rows_of(batch)} rows, which the {devices} devices of this process cannot share "
                    "equally: leave the last one out with drop_last=True, or fill it up with paddings"
                )
            yield placed(batch, sharding, dtypes)


def _gather(rows: int) -> list[int]:
    """What all processes say."""
    from jax.experimental.multihost_utils import process_allgather

    return [int(one) for one in np.ravel(process_allgather(np.int32(rows)))]


def in_step(
    batches: Generator[Arrays, None, None], gather: Callable[[int], list[int]], drop_last: bool, is_padded: bool
) -> Generator[Arrays, None, None]:
    """The batches of this process, as many as all others have, of as many rows.

    gather: gives the numbers of all processes for that of this one. With padding a process that has no batch left gets
    one without rows until all have ended. One batch at a time is looked at, so that a position tells what was given.

    Raises ValueError in all processes alike: for batches of different sizes or numbers where nothing is padded. It
    does so for a process that never had a batch, too.
    """
    like: Arrays = None
    with contextlib.closing(batches):
        while True:
            batch = next(batches, None)
            said = gather(ENDED if batch is None else rows_of(batch))
            if all(one == ENDED for one in said):
                return
            if ENDED in said:
                if drop_last:
                    return
                if not is_padded:
                    raise ValueError(
                        f"some processes have batches left, and others have none (rows, {ENDED} at the end: {said}): "
                        "give drop_last=True or paddings"
                    )
                if like is None:  # it is None everywhere or nowhere
                    raise ValueError(
                        f"a process has no rows at all, and so no batch can be padded there (rows of each: {said}): "
                        "give drop_last=True, or each process some rows"
                    )
            elif not is_padded and len(set(said)) > 1:
                raise ValueError(f"the batches of the processes have different numbers of rows, {said}: give paddings")
            if batch is None:
                batch = _each(like, lambda array, name: array[:0])
            like = batch
            yield batch
