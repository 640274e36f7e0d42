"""Files of experience as columns of arrays: rows of steps, or rows of episodes, in Parquet or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hpc.rllib.core.columns import Columns
from hpc.rllib.offline.packing import unpack_episode, unpack_text

#: The column of a file of episodes.
ITEM = "item"
#: Columns of steps; the value is the name in the file, which `input_read_schema` may change.
SCHEMA = {
    name: name
    for name in (
        Columns.EPS_ID, Columns.AGENT_ID, Columns.MODULE_ID, Columns.OBS, Columns.ACTIONS, Columns.REWARDS,
        Columns.INFOS, Columns.NEXT_OBS, Columns.TERMINATEDS, Columns.TRUNCATEDS, Columns.T, "dones",
    )
}  # fmt: skip
#: Endings of files by how they are read.
ENDINGS = {"read_parquet": (".parquet", ".pq"), "read_json": (".json", ".jsonl", ".ndjson")}


def files_of(paths: Any, endings: tuple[str, ...]) -> list[str]:
    """All files of these endings: those that are named, and those below folders that are."""
    found: list[str] = []
    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        one = Path(path)
        if one.is_dir():
            found += sorted(str(file) for file in one.rglob("*") if file.suffix in endings)
        elif one.exists():
            found.append(str(one))
        else:
            raise FileNotFoundError(f"there is no recorded data at {path}: see config.offline_data(input_=..)")
    if not found:
        raise FileNotFoundError(f"no file of {paths} ends in {' or '.join(endings)}")
    return found


def read_table(config: Any) -> Any:
    """The rows of all files of `config.input_`, as a table of pyarrow."""
    import pyarrow as pa

    method, settings = config.input_read_method, dict(config.input_read_method_kwargs)
    settings.pop("override_num_blocks", None)
    settings.pop("file_extensions", None)
    if config.input_filesystem is not None:
        raise ValueError("input_filesystem is not there: mount the storage, or copy the files first")
    if method == "read_parquet":
        import pyarrow.parquet as pq

        tables = [pq.read_table(file, **settings) for file in files_of(config.input_, ENDINGS[method])]
    elif method == "read_json":
        from pyarrow import json as pj

        tables = [pj.read_json(file, **settings) for file in files_of(config.input_, ENDINGS[method])]
    else:
        raise ValueError(f"input_read_method must be one of {', '.join(ENDINGS)}, not {method!r}")
    return pa.concat_tables(tables, promote_options="default")


def read_episodes(table: Any) -> list[Any]:
    """The episodes of a table whose rows are episodes."""
    if ITEM not in table.column_names:
        raise ValueError(
            f"the data has no column {ITEM!r}, so its rows are no episodes: set input_read_episodes=False. "
            f"It has {', '.join(table.column_names)}"
        )
    return [unpack_episode(item) for item in table[ITEM].to_pylist()]


def read_steps(table: Any, config: Any) -> dict[str, np.ndarray]:
    """The columns of a table whose rows are steps, as arrays [rows, ...]."""
    schema = {**SCHEMA, **config.input_read_schema}
    unknown = set(config.input_read_schema) - set(SCHEMA)
    if unknown:
        raise ValueError(f"input_read_schema has no {', '.join(sorted(unknown))}: it takes {', '.join(SCHEMA)}")
    names = set(table.column_names)
    needed = [Columns.OBS, Columns.ACTIONS]
    missing = [schema[name] for name in needed if schema[name] not in names]
    if missing:
        raise ValueError(
            f"the data has no column {', '.join(missing)}: say by input_read_schema which of "
            f"{', '.join(sorted(names))} it is"
        )
    out = {
        name: _array(table[column])
        for name, column in schema.items()
        if column in names and name not in (Columns.INFOS, Columns.AGENT_ID, Columns.MODULE_ID)
    }
    rows = table.num_rows
    if Columns.TERMINATEDS not in out:
        out[Columns.TERMINATEDS] = out.pop("dones", np.zeros(rows, bool))
    out.pop("dones", None)
    out[Columns.TERMINATEDS] = out[Columns.TERMINATEDS].astype(bool)
    out[Columns.TRUNCATEDS] = np.asarray(out.get(Columns.TRUNCATEDS, np.zeros(rows, bool)), bool)
    out[Columns.REWARDS] = np.asarray(out.get(Columns.REWARDS, np.zeros(rows)), np.float32)
    return out


def _array(column: Any) -> np.ndarray:
    """A column with rows of one shape; values that RLlib compressed are decompressed."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return np.asarray(column.to_numpy())
    values = column.to_pylist()
    if values and isinstance(values[0], (str, bytes)) and _is_packed(values[0]):
        values = [unpack_text(value) for value in values]
    found = np.asarray(values)
    if found.dtype == object:
        raise ValueError("rows of a column have different shapes: only spaces of one shape can be read")
    return found.astype(np.float32) if found.dtype == np.float64 else found


def _is_packed(value: str | bytes) -> bool:
    # The first bytes of an LZ4 frame (04 22 4d 18) in base64.
    head = value[:5] if isinstance(value, bytes) else value[:5].encode()
    return head.startswith(b"BCJNG")
