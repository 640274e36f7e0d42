"""Record files of TensorFlow with ``tf.train.Example`` in them; checksums are checked."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block import batch
from hpc.data.io import tf_example
from hpc.data.io.formats import Format
from hpc.data.io.grouping import Piece
from hpc.data.io.opened import OpenFile
from hpc.data.io.tf_example import BYTES, FLOATS, INTS
from hpc.data.io.writers import Writer, Written
from hpc.util.crc32c import masked

#: Records that become one table, and their bytes.
RECORDS = 4096
TABLE = 8 << 20
KINDS = {BYTES: pa.binary(), FLOATS: pa.float32(), INTS: pa.int64(), 0: pa.null()}
WORDS = {BYTES: "bytes", FLOATS: "floats", INTS: "ints"}


@dataclass(frozen=True)
class TFRecordFormat(Format):
    """``schema``: kinds of features by name (BYTES, FLOATS, INTS), all of which are lists then.

    Without one, a feature of which each record of a table has a single value is a column of values.
    """

    features: tuple[tuple[str, int], ...] | None = None

    name = "TFRecord"

    def tables(self, file: OpenFile, piece: Piece, columns: list[str] | None) -> Iterator[pa.Table]:
        waiting: list[dict[str, tuple[int, list[Any]]]] = []
        size = done = 0
        lists = {name for name, _ in self.features or ()}
        with file.stream() as stream:
            for data in self.records(file, stream):
                try:
                    waiting.append(self.checked(tf_example.decode(data)))
                except ValueError as error:
                    raise file.error(error, (done + len(waiting), done + len(waiting) + 1)) from error
                size += len(data)
                if len(waiting) >= RECORDS or size >= TABLE:
                    yield table(file, waiting, lists, done)
                    done += len(waiting)
                    waiting, size = [], 0
        if waiting:
            yield table(file, waiting, lists, done)

    def checked(self, example: dict[str, tuple[int, list[Any]]]) -> dict[str, tuple[int, list[Any]]]:
        if self.features is None:
            return example
        known = dict(self.features)
        for name, (kind, values) in example.items():
            if name not in known:
                raise ValueError(f"the feature {name!r} is not in the schema, which has {sorted(known)}")
            if kind and kind != known[name]:
                raise ValueError(f"the feature {name!r} has {WORDS[kind]}, and the schema says {WORDS[known[name]]}")
            example[name] = (known[name], values)
        return example

    def records(self, file: OpenFile, stream: Any) -> Iterator[bytes]:
        """The contents of the records. Raises ReadError that names the record."""
        source = io.BufferedReader(stream, 1 << 20)
        row = 0
        while True:
            head = source.read(12)
            if not head:
                return
            if len(head) < 12 or struct.unpack("<I", head[8:])[0] != masked(head[:8]):
                raise file.error("this is no record: its length is corrupt", (row, row + 1))
            length = struct.unpack("<Q", head[:8])[0]
            data, check = source.read(length), source.read(4)
            if len(data) < length or len(check) < 4:
                raise file.error("the file ends within a record", (row, row + 1))
            if struct.unpack("<I", check)[0] != masked(data):
                raise file.error("a record is corrupt: its checksum differs", (row, row + 1))
            yield data
            row += 1


def table(file: OpenFile, examples: list[dict[str, tuple[int, list[Any]]]], lists: set[str], first: int) -> pa.Table:
    """The features of records as columns. ``lists`` has the columns of lists so far, and gets more."""
    names = dict.fromkeys(name for example in examples for name in example)
    empty: tuple[int, list[Any]] = (0, [])
    columns = []
    for name in names:
        features = [example.get(name, empty) for example in examples]
        kinds = sorted({kind for kind, _ in features if kind})
        if len(kinds) > 1:
            words = " and ".join(WORDS[kind] for kind in kinds)
            raise file.error(f"the feature has {words}", (first, first + len(examples)), name)
        kind = KINDS[kinds[0] if kinds else 0]
        if name not in lists and all(len(values) == 1 for _, values in features):
            columns.append(pa.array([values[0] for _, values in features], kind))
        else:
            lists.add(name)
            columns.append(pa.array([values for _, values in features], pa.list_(kind)))
    return pa.Table.from_arrays(columns, list(names))


@dataclass
class TFRecordWriter(Writer):
    """Rows as Examples. ``features``: kinds by name, as a reader takes them."""

    features: tuple[tuple[str, int], ...] | None = None

    name = "TFRecord"
    extension = "tfrecords"
    mixed = True

    def begin(self, file: pa.NativeFile, schema: pa.Schema) -> Written:
        return _RecordFile(file, None if self.features is None else dict(self.features))


class _RecordFile(Written):
    def __init__(self, file: pa.NativeFile, known: dict[str, int] | None) -> None:
        self.file = file
        self.known = known

    def write(self, table: pa.Table) -> None:
        if self.known is not None and (more := [name for name in table.column_names if name not in self.known]):
            raise ValueError(f"the columns {more} are not in the schema, which has {sorted(self.known)}")
        kinds = {field.name: kind_of(field, (self.known or {}).get(field.name)) for field in table.schema}
        for row in batch.rows(table):
            data = tf_example.encode({name: (kinds[name], values(value)) for name, value in row.items()})
            head = struct.pack("<Q", len(data))
            sums = struct.pack("<I", masked(head)), struct.pack("<I", masked(data))
            self.file.write(b"".join((head, sums[0], data, sums[1])))


def kind_of(field: pa.Field, known: int | None) -> int:
    """The kind of feature that a column is. Raises ValueError for a type that Examples do not have."""
    kind = field.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    if isinstance(field.type, pa.BaseExtensionType):
        found = BYTES
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        found = INTS
    elif pa.types.is_floating(kind):
        found = FLOATS
    elif pa.types.is_binary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        found = BYTES
    elif pa.types.is_null(kind):
        if known is None:
            raise ValueError(f"the column {field.name!r} has no values yet that tell its type: give tf_schema")
        return known
    else:
        raise ValueError(f"the column {field.name!r} of {field.type} is no feature: those are bytes, floats and ints")
    if known is not None and known != found:
        raise ValueError(f"the column {field.name!r} has {WORDS[found]}, and the schema says {WORDS[known]}")
    return found


def values(value: Any) -> list[Any]:
    """A cell as the values of a feature."""
    if value is None:
        return []
    if isinstance(value, np.ndarray):
        return [tf_example.tensor(value)] if value.ndim else [value[()]]
    several = value if isinstance(value, list) else [value]
    return [one.encode() if isinstance(one, str) else one for one in several]


def features_of(schema: Any) -> tuple[tuple[str, int], ...] | None:
    """The features of a schema of TensorFlow Metadata: anything with ``feature``, of a ``name`` and a ``type``."""
    if schema is None:
        return None
    kinds = {1: BYTES, 2: INTS, 3: FLOATS}  # The numbers of schema_pb2.FeatureType.
    return tuple((feature.name, kinds[int(feature.type)]) for feature in schema.feature)
