"""Parquet files as a source: tasks of row groups, schemas and counts from footers, files left out by statistics."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import Any

import pyarrow as pa

from hpc.data.io.deleted import of_files
from hpc.data.io.errors import ReadError
from hpc.data.io.files import OPENED as FOOTERS
from hpc.data.io.files import FileSource, FileTask, Reading, ahead, merged
from hpc.data.io.grouping import Piece, Sizes, groups
from hpc.data.io.listing import Entry
from hpc.data.io.parquet_file import Footer, ParquetFormat
from hpc.data.io.source import Estimate, Source, SourceTask


class ParquetSource(FileSource):
    """The rows of parquet files."""

    reads_columns_alone = True

    @property
    def format(self) -> ParquetFormat:
        form = self.reading.format
        assert isinstance(form, ParquetFormat)
        return form

    def footer(self, entry: Entry) -> Footer | None:
        """The footer of a file; None for a file that cannot be read: its task says why."""
        cache: dict[str, Footer | None] = self.__dict__.setdefault("footers", {})
        if entry.path not in cache:
            try:
                found = self.format.footer(self.here.at(entry.path))
            except (ReadError, OSError):
                found = None
            if len(cache) >= 4 * FOOTERS:
                return found
            cache[entry.path] = found
        return cache[entry.path]

    def __copy__(self) -> ParquetSource:
        """The same, with what it knows of its files."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("footers", "first_schema")}

    def first_footers(self) -> list[Footer | None]:
        return list(self.footers_of(list(islice(self.entries(), FOOTERS))))

    def footers_of(self, entries: list[Entry]) -> Iterator[Footer | None]:
        """Their footers; by threads where some were not read yet."""
        known: dict[str, Footer | None] = self.__dict__.get("footers", {})
        there = all(entry.path in known for entry in entries)
        return map(self.footer, entries) if there else ahead(self.footer, entries)

    def estimate(self) -> Estimate:
        known = super().estimate()
        footers = [footer for footer in self.first_footers() if footer is not None]
        if not footers:
            return known
        rows, nbytes = sum(sum(footer.rows) for footer in footers), sum(sum(footer.nbytes) for footer in footers)
        exact = known.files <= FOOTERS and not self.reading.narrow.filters
        share = known.files / len(footers)
        return Estimate(rows if exact else None, int(nbytes * share), known.files)

    @cached_property
    def first_schema(self) -> pa.Schema | None:
        """The columns of the first files together, with those of their paths. Raises TypeError if they conflict."""
        first = next(self.entries(), None)
        if first is None:
            return None
        footers = [footer for footer in self.first_footers() if footer is not None]
        schemas = [footer.schema for footer in footers if len(footer.schema)]
        if not schemas:
            return self.format.schema(self.here.at(first.path)) if not footers else None
        schema = schemas[0] if len(schemas) == 1 else pa.unify_schemas(schemas, promote_options="permissive")
        added = [field for field in self.reading.added(first.path) if field.name not in schema.names]
        return pa.schema([*schema, *added])

    def count(self) -> int | None:
        """The rows of all files, from their footers. Raises ReadError for a file that has none."""
        if self.reading.narrow.filters or self.reading.narrow.limit is not None:
            return None

        def rows(entry: Entry) -> int:
            footer = self.footer(entry)
            return sum((footer or self.format.footer(self.here.at(entry.path))).rows)

        return sum(ahead(rows, self.entries()))

    def tasks(self, parallelism: int) -> Iterator[SourceTask]:
        sizes = Sizes(lambda entry: None)
        for group in groups(self.left(self.row_groups(sizes)), sizes, parallelism):
            yield FileTask(self.reading_of(group), merged(group), self.node)

    def reading_of(self, parts: list[Piece]) -> Reading:
        """What a task of these parts needs: the deleted rows of its own files alone."""
        if not self.format.deleted:
            return self.reading
        deleted = of_files(self.format.deleted, [part.path for part in parts])
        return replace(self.reading, format=replace(self.format, deleted=deleted))

    def row_groups(self, sizes: Sizes) -> Iterator[Piece]:
        """Row groups of the first files; whole files after that."""
        entries = self.ordered()
        first = list(islice(entries, FOOTERS))
        for entry, footer in zip(first, self.footers_of(first)):
            if footer is None:
                yield Piece(entry.path)
                continue
            sizes.known += 1
            sizes.total += sum(footer.nbytes)
            yield from footer.pieces(entry.path)
        yield from (Piece(entry.path) for entry in entries)

    def inner(self, part: Piece) -> list[Piece] | None:
        footer = self.footer(Entry(part.path))
        if footer is None:
            return None
        groups = range(part.first, len(footer.rows) if part.end is None else part.end)
        return [Piece(part.path, one, one + 1, footer.rows[one], footer.nbytes[one]) for one in groups]

    # -------------------------------------------------------------- what a plan moves here

    def with_columns(self, names: list[str]) -> Source | None:
        schema = self.schema()
        if schema is not None and (missing := [name for name in names if name not in schema.names]):
            raise ValueError(f"there are no columns {missing} in the parquet files; there are {schema.names}")
        return super().with_columns(names)

    def with_filter(self, expr: Any) -> Source | None:
        if not self.reading.narrow.filterable(expr):
            return None
        if self.by_path(expr):
            return super().with_filter(expr)
        form = replace(self.format, filters=(*self.format.filters, expr))
        other = copy(self)
        other.reading = replace(self.reading, format=form, narrow=self.reading.narrow.with_filter(expr))
        known = self.__dict__.get("footers", {})
        found = {path: None if footer is None else form.filtered(footer) for path, footer in known.items()}
        other.__dict__["footers"] = {path: footer for path, footer in found.items() if footer is not None}
        return other

    def with_dictionaries(self, names: list[str]) -> Source | None:
        narrow = self.reading.narrow
        looked_at = {name for expr in narrow.filters for name in expr.columns()}
        kept = tuple(name for name in names if name not in looked_at)
        if not kept:
            return None
        other = copy(self)
        other.reading = replace(self.reading, format=replace(self.format, encoded=kept))
        return other
