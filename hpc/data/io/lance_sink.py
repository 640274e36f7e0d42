"""Writes to Lance datasets: tasks write fragments, and the driver commits them as one version."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa

from hpc.data.block import promote
from hpc.data.io.datasink import WriteResult
from hpc.data.io.table_sinks import TableDatasink, conformed, gathered
from hpc.data.options import SaveMode
from hpc.data.packages import needs

MODES = (SaveMode.CREATE, SaveMode.APPEND, SaveMode.OVERWRITE)


class LanceDatasink(TableDatasink):
    """A Lance dataset. It needs the package pylance."""

    def __init__(
        self,
        uri: str,
        schema: pa.Schema | None = None,
        mode: SaveMode | str = SaveMode.CREATE,
        min_rows_per_file: int = 1024 * 1024,
        max_rows_per_file: int = 64 * 1024 * 1024,
        data_storage_version: str | None = None,
        storage_options: dict[str, Any] | None = None,
        ask: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__(MODES, mode, ask)
        needs("lance", "write_lance", "pylance")
        self.uri, self.schema = uri, schema
        self.min_rows, self.max_rows = min_rows_per_file, max_rows_per_file
        self.options = {"storage_options": storage_options}
        self.storage_version = data_storage_version
        self.version: int | None = None

    @property
    def min_rows_per_write(self) -> int | None:
        return self.min_rows

    def opened(self) -> Any:
        """The dataset. Raises ValueError if there is none."""
        return needs("lance", "write_lance", "pylance").dataset(self.uri, **self.options)

    def on_write_start(self, schema: pa.Schema | None = None) -> None:
        try:
            known = self.opened()
        except (ValueError, FileNotFoundError, OSError):
            known = None
        if known is not None and self.mode is SaveMode.CREATE:
            raise ValueError(f"{self.uri} exists. mode='append' adds to it, 'overwrite' replaces it")
        if known is None and self.mode is SaveMode.APPEND:
            raise ValueError(f"there is no Lance dataset {self.uri} to append to. mode='create' makes it")
        if known is not None and self.mode is SaveMode.APPEND:
            self.version = known.version
            self.schema = self.schema or known.schema
        self.schema = self.schema or self.columns(schema)
        if self.schema is not None and (bare := [one.name for one in self.schema if pa.types.is_null(one.type)]):
            raise ValueError(f"the columns {bare} begin with nulls alone: give their types by schema=")

    def write(self, blocks: Iterable[pa.Table], ctx: Any) -> list[bytes]:
        fragment = needs("lance.fragment", "write_lance", "pylance")
        tables = gathered(blocks)
        first = next(tables, None)
        if first is None:
            return []
        schema = self.schema or first.schema

        def batches() -> Any:
            table: pa.Table | None = first
            while table is not None:
                yield from conformed(table, schema, self.uri).to_batches()
                table = next(tables, None)

        reader = pa.RecordBatchReader.from_batches(schema, batches())
        found = fragment.write_fragments(
            reader,
            self.uri,
            schema,
            mode="overwrite" if self.mode is SaveMode.OVERWRITE else "append",
            max_rows_per_file=self.max_rows,
            data_storage_version=self.storage_version,
            **self.options,
        )
        return [pickle.dumps((one, schema)) for one in found]

    def on_write_complete(self, write_result: WriteResult[list[bytes]]) -> None:
        lance = needs("lance", "write_lance", "pylance")
        found = [pickle.loads(one) for returned in write_result.write_returns for one in returned]
        if not found:
            return
        self.committing = True
        fragments = [fragment for fragment, _ in found]
        if self.mode is SaveMode.APPEND:
            operation = lance.LanceOperation.Append(fragments)
        else:
            schema = promote.unify([schema for _, schema in found])
            if any(not schema.equals(one) for _, one in found):
                raise ValueError(f"tasks gave columns of several types, so that {self.uri} needs schema=: {schema}")
            operation = lance.LanceOperation.Overwrite(schema, fragments)
        lance.LanceDataset.commit(self.uri, operation, read_version=self.version, **self.options)
