"""Errors of file systems that pass: reads go on where they were, and writes begin again."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass

import pyarrow as pa
import pytest
from io_reading import source, written
from test_data_io_write import names

from hpc.data.context import DataContext
from hpc.data.io import retrying
from hpc.data.io.binary_files import BinaryFormat
from hpc.data.io.errors import ReadError
from hpc.data.io.filesink import FileSink
from hpc.data.io.opened import FileOpener
from hpc.data.io.text_files import TextFormat
from hpc.data.io.writers import CsvWriter
from hpc.data.transform.base import TaskContext


@pytest.fixture
def waits(monkeypatch):
    """The seconds that are waited, which take none."""
    found = []
    monkeypatch.setattr(retrying.time, "sleep", found.append)
    return found


@pytest.fixture
def task():
    context = DataContext()
    context.retried_io_errors = ["link is down", "code 5[0-9]{2}"]
    return TaskContext(context=context)


@dataclass(frozen=True)
class Shaky(TextFormat):
    """Fails before some of the tables, counted over all attempts."""

    failures: tuple[object, ...] = ()

    def tables(self, file, piece, columns):
        for table in super().tables(file, piece, columns):
            for index in range(table.num_rows):
                error = next(self.failures[0])
                if error is not None:
                    raise error
                yield table.slice(index, 1)


def shaky(*errors):
    return Shaky(failures=(itertools.chain(errors, itertools.repeat(None)),))


def texts(found, task):
    return [row["text"] for one in found.tasks(1) for table in one.read(task) for row in table.to_pylist()]


def test_a_read_begins_again_and_gives_each_row_once(tmp_path, task, waits):
    written(tmp_path / "a.txt", "a\nb\nc\n")
    errors = [None, OSError("the link is down"), None, None, ValueError("code 503")]
    assert texts(source(shaky(*errors), str(tmp_path)), task) == ["a", "b", "c"]
    assert len(waits) == 2 and all(0.8 <= wait <= 1.2 for wait in waits)  # a row came in between


def test_other_errors_and_those_that_do_not_pass_are_raised(tmp_path, task, waits):
    written(tmp_path / "a.txt", "a\n")
    with pytest.raises(ReadError, match="no such thing"):
        texts(source(shaky(OSError("no such thing")), str(tmp_path)), task)
    assert not waits
    with pytest.raises(ReadError, match="link is down"):
        texts(source(shaky(*[OSError("the link is down")] * 10), str(tmp_path)), task)
    assert len(waits) == 9 and max(waits) <= 32 * 1.2 and waits[6] > 16


def test_a_pattern_may_be_in_what_lies_beneath_and_may_be_no_expression():
    error = ValueError("cannot read")
    error.__cause__ = OSError("socket [broken")
    assert retrying.passes(error, ["[broken"]) and retrying.passes(error, ["^OSError"])
    assert not retrying.passes(error, ["[other"]) and not retrying.passes(error, [])


def test_small_files_are_read_again(tmp_path, task, waits, monkeypatch):
    written(tmp_path / "a.bin", "x")
    written(tmp_path / "b.bin", "yy")
    failures = iter([OSError("code 500"), OSError("code 500")])

    def failing(plain):
        def value(*given):
            error = next(failures, None)
            if error is not None:
                raise error
            return plain(*given)

        return value

    monkeypatch.setattr(os, "readv", failing(os.readv))
    (table,) = [t for one in source(BinaryFormat(), str(tmp_path)).tasks(1) for t in one.read(task)]
    assert table["bytes"].to_pylist() == [b"x", b"yy"] and len(waits) == 2
    failures = iter([OSError("code 500"), OSError("code 500")])
    monkeypatch.setattr(BinaryFormat, "value", failing(BinaryFormat.value))
    monkeypatch.setattr(FileOpener, "gives_content", lambda self, paths: False)  # as with a codec, or an object store
    (table,) = [t for one in source(BinaryFormat(), str(tmp_path)).tasks(1) for t in one.read(task)]
    assert table["bytes"].to_pylist() == [b"x", b"yy"] and len(waits) == 4


def test_files_that_are_written_begin_again_and_get_their_names_again(tmp_path, task, waits, monkeypatch):
    from hpc.data.io.outputs import Output, OutputFolder

    for owner, name in ((OutputFolder, "begin"), (Output, "commit")):
        plain, failures = getattr(owner, name), iter([OSError("the link is down")])

        def again(self, *arguments, plain=plain, failures=failures):
            error = next(failures, None)
            if error is not None:
                raise error
            return plain(self, *arguments)

        monkeypatch.setattr(owner, name, again)
    sink = FileSink(tmp_path / "out", CsvWriter())
    sink.begin(None)
    list(sink.transform("w")(iter([pa.table({"x": [1, 2]})]), task))
    assert len(waits) == 2 and len(names(tmp_path / "out")) == 1
