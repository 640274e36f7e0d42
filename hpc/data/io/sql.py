"""Rows of databases, through connections of Python's DB-API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from hpc.data.block import batch, build
from hpc.data.io.sink import RESULT, Sink
from hpc.data.io.source import Source, SourceTask
from hpc.data.transform.base import TaskContext, Transform

#: Rows that become one table, and rows that are inserted at a time.
ROWS = 10_000
INSERTED = 128
#: A shard has at least so many rows.
SHARD = 50


@contextmanager
def connected(factory: Callable[[], Any]) -> Iterator[Any]:
    """A cursor of a new connection: what it did is committed at the end, and taken back after an error."""
    connection = factory()
    for name in ("close", "commit", "cursor"):
        if not hasattr(connection, name):
            raise ValueError(f"connection_factory gave a {type(connection).__name__} without {name}: the DB-API has it")
    try:
        cursor = connection.cursor()
        yield cursor
        connection.commit()
    except BaseException:
        try:
            connection.rollback()
        except Exception:
            pass  # Some databases have no transactions; the first error counts.
        raise
    finally:
        connection.close()


def run(cursor: Any, sql: str, params: Any) -> None:
    if params is None:
        cursor.execute(sql)
    else:
        cursor.execute(sql, params)


@dataclass
class SqlTask(SourceTask):
    """One query."""

    sql: str
    factory: Callable[[], Any]
    params: Any

    def __post_init__(self) -> None:
        self.key = f"sql {self.sql} {self.params!r}"

    def read(self, task: TaskContext) -> Iterator[pa.Table]:
        task.ranges = self.ranges
        task.source = f"the query {self.sql!r}"
        with connected(self.factory) as cursor:
            run(cursor, self.sql, self.params)
            names = [column[0] for column in cursor.description]
            while rows := cursor.fetchmany(ROWS):
                yield pa.Table.from_arrays([build.column(list(cells)) for cells in zip(*rows)], names)


class SqlSource(Source):
    """The rows of a query; with shard keys in several tasks, where the database can hash."""

    name = "SQL"

    def __init__(
        self, sql: str, factory: Callable[[], Any], params: Any, shard_keys: list[str] | None, hash_fn: str
    ) -> None:
        self.sql, self.factory, self.params = sql, factory, params
        keys = list(shard_keys or ())
        self.shard_key = f"CONCAT({','.join(keys)})" if len(keys) > 1 else keys[0] if keys else None
        self.hash_fn = hash_fn

    def tasks(self, parallelism: int) -> Iterator[SourceTask]:
        count = self.shards(parallelism)
        for index in range(count):
            sql = self.shard(index, count, "*") if count > 1 else self.sql
            yield SqlTask(sql, self.factory, self.params)

    def shard(self, index: int, count: int, what: str) -> str:
        """The query of one shard. The first has the rows whose keys are null, too."""
        place = f"MOD(ABS({self.hash_fn}({self.shard_key})), {count})"
        where = f"{place} = {index}" if index else f"{place} = 0 OR {place} IS NULL"
        return f"SELECT {what} FROM ({self.sql}) as T WHERE {where}"

    def shards(self, parallelism: int) -> int:
        """How many queries there will be: one, unless the database counts the rows of a shard."""
        if self.shard_key is None or parallelism <= 1:
            return 1
        try:
            with connected(self.factory) as cursor:
                run(cursor, self.shard(0, parallelism, "COUNT(1)"), self.params)
        except Exception:
            return 1  # Its functions are others: the query itself will say what else is wrong.
        with connected(self.factory) as cursor:
            run(cursor, f"SELECT COUNT(*) FROM ({self.sql}) as T", self.params)
            rows = cursor.fetchone()[0]
        return max(1, min(parallelism, -(-rows // SHARD)))


class SqlSink(Sink):
    """An INSERT for each row, with a transaction for each task.

    A task whose worker is killed after the commit runs again: its rows are inserted at least once.
    """

    name = "SQL"

    def __init__(self, sql: str, factory: Callable[[], Any]) -> None:
        self.sql, self.factory = sql, factory

    def transform(self, write_id: str) -> Transform:
        return InsertRows(self.sql, self.factory)


class InsertRows:
    """The last transform of a task that writes to a database."""

    name = "WriteSQL"
    keeps_rows = False

    def __init__(self, sql: str, factory: Callable[[], Any]) -> None:
        self.sql, self.factory = sql, factory

    def __call__(self, tables: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        rows = nbytes = 0
        with connected(self.factory) as cursor:
            for table in tables:
                values = [tuple(row.values()) for row in batch.rows(table)]
                for first in range(0, len(values), INSERTED):
                    cursor.executemany(self.sql, values[first : first + INSERTED])
                rows += table.num_rows
                nbytes += table.nbytes
        yield pa.Table.from_pylist([{"path": None, "rows": rows, "bytes": nbytes, "returned": None}], RESULT)
